"""`job=simulate`: Algorithm 1 on the trace's held-out end, with the rivals and the clairvoyant bound."""

import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import polars
import torch
from torch import nn

from sliceoff import checkpoint
from sliceoff.checks import count, flag, not_negative, optional
from sliceoff.clairvoyant import clairvoyant
from sliceoff.data import Trace
from sliceoff.errors import InputError
from sliceoff.jobs.progress import progress_bar
from sliceoff.loop import STATE_LAYOUT, Forecasts, Simulation, Stack
from sliceoff.parts import Parts
from sliceoff.region import Scenario, draws
from sliceoff.report import figures_of, forecast_errors, simulation_figures, simulation_page, summarise
from sliceoff.report.stacks import of_main
from sliceoff.run_directory import Results, RunDirectory, logs_of


@dataclass(frozen=True)
class Simulate:
    """Fit what has no checkpoint, then run every stack over the held-out end and compare them.

    A resumed run continues with the long slot after the last checkpoint, and ends with the same table; if predictor or
    allocator were fitted further since, it simulates from the start.

    Args:
        periods: largest number of long slots to simulate, from the start of the held-out end; None: all of it.
        slots_per_period: short slots simulated per long slot.
        regions_per_batch: regions whose short slots are served together; None: all, or each worker's part.
        workers: processes that serve batches of regions in parallel.
        bound: whether to compute the clairvoyant bound.
        checkpoint_s: wall seconds between two checkpoints of a simulation.
    """

    name: str
    periods: int | None
    slots_per_period: int
    regions_per_batch: int | None = None
    workers: int = 1
    bound: bool = True
    checkpoint_s: float = 20.0

    def __post_init__(self) -> None:
        for key in ("slots_per_period", "workers"):
            count(key, getattr(self, key))
        for key in ("periods", "regions_per_batch"):
            optional(count, key, getattr(self, key))
        flag("bound", self.bound)
        not_negative("checkpoint_s", self.checkpoint_s)

    def __call__(self, parts: Parts, directory: RunDirectory) -> Results:
        """Run; returns the summary and one row per stack, long slot and region."""
        parts.init_serves("predictor", "allocator")
        parts.check_simulation(self.slots_per_period)
        windows = parts.datamodule
        if self.bound and (queue := parts.scenario.queue) != "lindley":
            raise InputError(f"job.bound=true is for region.queue=lindley, not {queue}; set job.bound=false")
        seconds = parts.fit_missing(directory)
        periods = range(windows.heldout_start, windows.heldout_end)[: self.periods]
        arguments: dict[str, Any] = {
            "unit_users": parts.users_per_unit,
            "periods": periods,
            "slots_per_period": self.slots_per_period,
            "seed": parts.seed,
        }
        with progress_bar() as progress:

            def shown(text: str) -> Callable[..., None]:
                task = progress.add_task(text, total=len(periods))
                return lambda done=1: progress.advance(task, done)

            tables, forecasts = [], Forecasts(parts.forecaster, windows)
            for stack in parts.stacks():
                advance = shown(f"simulate {stack.name}")
                table, spent = self._simulate(stack, forecasts, parts.scenario, arguments, directory, advance)
                tables.append(table)
                seconds |= {f"{stack.name}: {part}": value for part, value in spent.items()}
            bound = None
            if self.bound:
                advance = shown("clairvoyant bound")
                begun = time.perf_counter()
                bound = self._bound(parts, arguments, directory, advance)
                seconds["clairvoyant bound"] = time.perf_counter() - begun
        table = _with_coordinates(polars.concat(tables), parts.trace)
        turned_away = {"users_turned_away_share": _turned_away(table, parts.scenario)}
        summary = summarise(table, bound) | forecast_errors(table) | turned_away
        return self._results(summary, table, bound, seconds, parts, directory)

    def _simulate(
        self,
        stack: Stack,
        forecasts: Forecasts,
        scenario: Scenario,
        arguments: dict[str, Any],
        directory: RunDirectory,
        advance: Callable,
    ) -> tuple[polars.DataFrame, dict[str, float]]:
        """Run one stack, from its checkpoint if the run is resumed; returns its table and wall seconds by part."""
        file = directory.checkpoints("simulation") / f"{stack.name}.ckpt"
        saved = torch.load(file, weights_only=True) if directory.resume and file.is_file() else None
        learned = [module for module in (forecasts.forecaster, stack.allocator) if isinstance(module, nn.Module)]
        modules = checkpoint.fingerprint(*learned)
        if saved and (saved["modules"] != modules or saved.get("layout") != STATE_LAYOUT):
            saved = None  # the modules were fitted further since, or another version wrote it
        parallel: dict[str, Any] = {"regions_per_batch": self.regions_per_batch, "workers": self.workers}
        last = time.perf_counter()
        try:
            with closing(Simulation(stack, forecasts, scenario, **arguments, **parallel)) as simulation:
                if saved:
                    simulation.load_state_dict(saved)
                    advance(saved["period"] - arguments["periods"].start)
                while not simulation.ended:
                    simulation.step()
                    if time.perf_counter() - last > self.checkpoint_s or simulation.ended:
                        state = simulation.state_dict() | {"modules": modules}
                        checkpoint.AtomicCheckpointIO().save_checkpoint(state, file)
                        last = time.perf_counter()
                    advance()
        except InputError as error:
            raise InputError(f"stack {stack.name}: {error}") from error
        return simulation.table(), simulation.seconds

    def _bound(
        self, parts: Parts, arguments: dict[str, Any], directory: RunDirectory, advance: Callable
    ) -> polars.DataFrame:
        """Compute the clairvoyant bound, from its checkpoint if the run is resumed: it can take longer than a stack."""
        file = directory.checkpoints("simulation") / "bound.ckpt"  # no stack has this name
        saved = torch.load(file, weights_only=True) if directory.resume and file.is_file() else {}
        known: list[float] = saved["bounds"] if saved.get("layout") == STATE_LAYOUT else []
        advance(done := len(known))
        last = time.perf_counter()

        def keep(bounds: list[float]) -> None:
            nonlocal done, last
            if time.perf_counter() - last > self.checkpoint_s or len(bounds) == len(arguments["periods"]):
                checkpoint.AtomicCheckpointIO().save_checkpoint({"layout": STATE_LAYOUT, "bounds": bounds}, file)
                last = time.perf_counter()
            advance(len(bounds) - done)
            done = len(bounds)

        windows, scenario, offers = parts.datamodule, parts.scenario, parts.offers
        return clairvoyant(windows, scenario, offers, **arguments, known=known, on_batch=keep)

    def _results(
        self,
        summary: dict[str, Any],
        table: polars.DataFrame,
        bound: polars.DataFrame | None,
        seconds: dict[str, float],
        parts: Parts,
        directory: RunDirectory,
    ) -> Results:
        about = (
            f"{table['period'].n_unique()} long slots of {parts.trace.step_s} s in {table['region'].n_unique()} "
            f"regions, {table['time'][0]} to {table['time'][-1]}; {self.slots_per_period} short slots simulated "
            f"in each; seed {parts.seed}."
        )
        if (turned_away := 100 * summary["users_turned_away_share"]) >= 0.1:
            about += (
                f" {turned_away:.1f} % of the users were turned away, because their region already had "
                f"region.max_users={parts.scenario.max_users} users in that short slot."
            )
        if bound is not None:
            directory.write_table("bound.parquet", bound)
        sections = simulation_figures(table, bound, logs_of(directory.path), seconds)
        page = simulation_page("SliceOff simulation", about, table, bound, sections)
        directory.write_text("timings.json", json.dumps(seconds, indent=2) + "\n")
        return Results(summary, table, page, figures_of(sections))


def _turned_away(table: polars.DataFrame, scenario: Scenario) -> float:
    """The expected share of all users that are turned away, because their short slot already has `max_users`."""
    asked = served = 0.0
    # All stacks meet the same users.
    for rows in of_main(table).partition_by("period"):  # one by one: each region needs a table of max_users numbers
        users = torch.from_numpy(rows["users"].to_numpy().astype("float64"))
        served += float(draws.poisson_mean(draws.poisson_table(users, scenario.max_users)).sum())
        asked += float(users.sum())
    return 1 - served / asked if asked > 0 else 0.0


def _with_coordinates(table: polars.DataFrame, trace: Trace) -> polars.DataFrame:
    if trace.coordinates is None:
        return table
    places = polars.DataFrame(
        {"region": list(trace.regions), "x": trace.coordinates[:, 0], "y": trace.coordinates[:, 1]}
    )
    return table.join(places, on="region", how="left", maintain_order="left")
