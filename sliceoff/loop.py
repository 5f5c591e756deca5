"""Algorithm 1: for every long slot predict, slice, then for every short slot allocate and earn.

Money. A long slot lasts far longer than the short slots simulated in it (an hour against 20 of 0.5 s by default). The
simulated ones are a sample of the long slot: their revenue is scaled up by `long_slot_s / (slots * short_slot_s)`, so
that revenue, rent and profit are all money per long slot.
"""

import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any, NamedTuple, TypeVar

import polars
import torch
from jaxtyping import Float
from torch import Tensor

from sliceoff.data import TrafficDataModule
from sliceoff.errors import InputError
from sliceoff.predictor import Forecaster
from sliceoff.region import Allocator, Outcome, RegionEnvironment, RegionState, Scenario, Tasks, utilisation
from sliceoff.signals import deferred
from sliceoff.slicing import (
    ForecastErrors,
    Foresight,
    Quantiles,
    Rental,
    Slicer,
    SlicingRequest,
    TaskStatistics,
    check_rental,
)

_BAND = torch.tensor((0.1, 0.9), dtype=torch.float64)
STATE_LAYOUT = 4  # of what a stopped simulation has saved, its bound too; counts the changes
NO_FORECAST = "no number forecast for some region: its last users"


@dataclass(frozen=True)
class Stack:
    """One way to run the provider: the slicer that rents, and the allocator that serves."""

    name: str
    slicer: Slicer
    allocator: Allocator


class Forecasts:
    """Forecasts of the next long slot along a trace, each computed once and shared by all stacks."""

    def __init__(self, forecaster: Forecaster, windows: TrafficDataModule):
        self.forecaster, self.windows = forecaster, windows
        self._made: dict[int, Float[Tensor, "regions outputs"]] = {}

    def at(self, period: int) -> Float[Tensor, "regions outputs"]:
        """The forecast for the trace's step `period` from the steps before it, in the trace's units."""
        if period not in self._made:
            self._made[period] = self.forecaster.forecast(self.windows.history_until(period))[0, 0]
        return self._made[period]


def users_per_unit(train_values: Float[Tensor, "time regions"], mean_users: float) -> float:
    """Users per short slot for one unit of the trace: `mean_users` on average over the training part's regions."""
    return mean_users / float(train_values.double().mean())


def revenue_scale(long_slot_s: float, slots: int, short_slot_s: float) -> float:
    """The factor from the revenue of the simulated short slots to that of the whole long slot."""
    return long_slot_s / (slots * short_slot_s)


class Tally(NamedTuple):
    """Sums over the short slots of one long slot, one entry per region."""

    revenue: Float[Tensor, " regions"]
    tasks: Float[Tensor, " regions"]
    done: Float[Tensor, " regions"]
    dropped: Float[Tensor, " regions"]
    bandwidth_utilisation: Float[Tensor, " regions"]
    vm_utilisation: Float[Tensor, " regions"]

    @classmethod
    def empty(cls, n_regions: int) -> "Tally":
        """A tally whose sums are all zero."""
        return cls(*(torch.zeros(n_regions) for _ in cls._fields))

    def add(self, scenario: Scenario, states: RegionState, outcomes: Outcome) -> None:
        """Add the sums of some short slots, (slots, regions, ...)."""
        bandwidth, vms = utilisation(scenario, states, outcomes)
        for total, slots in (
            (self.revenue, outcomes.revenue.sum(-1)),
            (self.tasks, states.tasks.present.sum(-1)),
            (self.done, outcomes.on_time.sum(-1)),
            (self.dropped, outcomes.dropped.sum(-1)),
            (self.bandwidth_utilisation, bandwidth),
            (self.vm_utilisation, vms),
        ):
            for slot in slots:  # one by one: a sum over slots would round differently in other batches
                total += slot


Joined = TypeVar("Joined", Tally, Tasks)


class Simulation:
    """Algorithm 1, one long slot at a time; `state_dict` holds all that is needed to resume it.

    Two stacks simulated with the same `seed` get the same users and tasks, independent of what they rent and allocate.
    `run` runs it to its end; who calls `step` calls `close` after the last one.

    Args:
        forecasts: for the trace that brings the users; several stacks may share it.
        unit_users: users per short slot for one unit of the trace (`users_per_unit`).
        periods: the long slots, indices into the trace.
        slots_per_period: short slots simulated in each.
        regions_per_batch: regions whose slots are served together; None: all, or each worker's part.
        workers: processes, forked here, that serve batches of regions in parallel; 1: this process only. Like
            `regions_per_batch`, this changes the time taken, not the results.

    Attributes:
        period: the long slot that comes next.
        seconds: wall time so far spent to predict, slice and serve.
    """

    def __init__(
        self,
        stack: Stack,
        forecasts: Forecasts,
        scenario: Scenario,
        *,
        unit_users: float,
        periods: range,
        slots_per_period: int,
        seed: int,
        regions_per_batch: int | None = None,
        workers: int = 1,
    ):
        self.stack, self.period, windows = stack, periods.start, forecasts.windows
        self._forecasts, self._windows, self._scenario, self._slots = forecasts, windows, scenario, slots_per_period
        self._periods, self._unit = periods, unit_users
        self._users = torch.from_numpy(windows.trace.values).float() * unit_users
        self._statistics = TaskStatistics.prior(scenario, windows.n_regions)
        self._errors = ForecastErrors.none_yet(windows.n_regions)
        self._rental: Rental | None = None
        self.seconds = {"predict": 0.0, "slice": 0.0, "serve": 0.0}
        self._rows: list[dict[str, Any]] = []
        ids = torch.arange(windows.n_regions)
        self._batches = [
            RegionEnvironment(scenario, 0.0, len(part), seed, copy_ids=part)
            for part in ids.split(regions_per_batch or ceil(len(ids) / workers))
        ]
        self._map: Callable[..., Iterable[Any]]
        self._pool = _forked(stack.allocator, workers) if workers > 1 else None
        if self._pool is None:
            self._map, self._serve = map, partial(_serve, stack.allocator, slots_per_period)
        else:
            self._map, self._serve = self._pool.map, partial(_serve_adopted, slots_per_period)

    @property
    def ended(self) -> bool:
        """Whether all long slots have been run."""
        return self.period >= self._periods.stop

    def run(self) -> polars.DataFrame:
        """Run all long slots that are left, and return the `table`."""
        with closing(self):
            while not self.ended:
                self.step()
        return self.table()

    def close(self) -> None:
        """End the workers; no long slot can be run after that."""
        if self._pool is not None:
            # Python takes a thread that Ctrl-C kept it from joining for ended, and would then wait for it at exit.
            with deferred():
                self._pool.shutdown(cancel_futures=True)

    def step(self) -> None:
        """Run one long slot."""
        begun = time.perf_counter()
        users = self._users[self.period]
        forecast, quantiles, instead = self._predict()
        request = SlicingRequest(
            forecast=forecast,
            last=self._users[self.period - 1],
            truth=users,
            statistics=self._statistics,
            previous=self._rental,
            quantiles=quantiles,
            errors=self._errors,
        )
        predicted = time.perf_counter()
        self._rental = rental = self.stack.slicer.rent(request)
        check_rental(rental, self._windows.n_regions)
        sliced = time.perf_counter()
        served = self._map(partial(self._serve, users, forecast, rental), self._batches)
        batches, tallies, tasks = zip(*served, strict=True)
        self._batches, tally = list(batches), _joined(tallies)
        self._statistics = self._statistics.updated(self._scenario, _joined(tasks))
        revenue = tally.revenue * revenue_scale(self._windows.trace.step_s, self._slots, self._scenario.short_slot_s)
        low, high = request.users_at(_BAND).float().unbind(-1)
        self._errors = self._errors.forecasting(forecast).observed(users)
        self._rows.append(
            {
                "users": users,
                "users_forecast": forecast,
                "users_low": low,
                "users_high": high,
                "forecast_error": forecast - users,
                "bandwidth_hz": rental.bandwidth_hz,
                "n_vms": rental.n_vms,
                "capacity_users": self._statistics.capacity_users(
                    rental.bandwidth_hz, rental.n_vms, self._scenario.short_slot_s
                ),
                "uncovered": rental.uncovered,
                "rent": rental.rent,
                "revenue": revenue,
                "profit": revenue - rental.rent,
                "tasks": tally.tasks,
                "done": tally.done,
                "late": tally.tasks - tally.done - tally.dropped,
                "dropped": tally.dropped,
                "bandwidth_utilisation": tally.bandwidth_utilisation / self._slots,
                "vm_utilisation": tally.vm_utilisation / self._slots,
                "backlog_s": torch.cat([environment.backlog_s.sum(-1) for environment in self._batches]),
                "status": rental.status,
                "fallback": "; ".join(filter(None, (instead, rental.fallback))),
            }
        )
        self.period += 1
        ended = time.perf_counter()
        for part, seconds in (("predict", predicted - begun), ("slice", sliced - predicted), ("serve", ended - sliced)):
            self.seconds[part] += seconds

    def table(self) -> polars.DataFrame:
        """The results of the long slots run so far.

        Returns:
            One row per long slot and region: `stack, foresight` (whether its slicer knows the true users),
            `period, time, region`; `users, users_forecast, forecast_error` [per short slot]; `users_low, users_high`
            (10 % and 90 % quantiles; for a point forecast, from its recent errors);
            `bandwidth_hz, n_vms, capacity_users, uncovered, status, fallback`; `rent, revenue, profit` [money per
            long slot]; `tasks, done, late, dropped` [in the simulated slots]; `bandwidth_utilisation, vm_utilisation`
            [0-1]; `backlog_s` [s, all VMs together at the long slot's end].
        """
        trace = self._windows.trace
        frames = [
            polars.DataFrame(
                {"region": list(trace.regions)}
                | {name: value.numpy() for name, value in row.items() if isinstance(value, Tensor)}
            ).with_columns(
                polars.lit(self.stack.name).alias("stack"),
                polars.lit(isinstance(self.stack.slicer, Foresight)).alias("foresight"),
                polars.lit(period).alias("period"),
                polars.lit(trace.times[period]).alias("time"),
                *(polars.lit(value).alias(name) for name, value in row.items() if not isinstance(value, Tensor)),
            )
            for period, row in zip(self._periods, self._rows, strict=False)
        ]
        keys = ("stack", "foresight", "period", "time", "region")
        return polars.concat(frames).select(*keys, polars.exclude(*keys))

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain containers from which `load_state_dict` resumes exactly here."""
        return {
            "layout": STATE_LAYOUT,
            "period": self.period,
            "seconds": dict(self.seconds),
            "rows": _columns(self._rows),
            "statistics": vars(self._statistics),
            "errors": vars(self._errors),
            "rental": self._rental and vars(self._rental),
            "regions": _one_state([environment.state_dict() for environment in self._batches]),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from the `state_dict` of a simulation with the same arguments; batches and workers may differ.

        Raises:
            InputError: another version wrote it.
        """
        if state.get("layout") != STATE_LAYOUT:
            raise InputError("the simulation to resume was written by another version of SliceOff; start a new run")
        names, columns = state["rows"].keys(), state["rows"].values()
        self._rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        self.period, self.seconds = state["period"], dict(state["seconds"])
        self._statistics = TaskStatistics(**state["statistics"])
        self._errors = ForecastErrors(**state["errors"])
        self._rental = state["rental"] and Rental(**state["rental"])
        for environment in self._batches:
            part = environment.copy_ids
            environment.load_state_dict(
                {name: value[part] if isinstance(value, Tensor) else value for name, value in state["regions"].items()}
            )

    def _predict(self) -> tuple[Float[Tensor, " regions"], Quantiles | None, str]:
        """Users forecast for this long slot, their quantiles if the forecaster has any, and which fallback was used."""
        forecaster = self._forecasts.forecaster
        outputs = self._forecasts.at(self.period) * self._unit
        known = outputs.isfinite().all(-1, keepdim=True)
        outputs = outputs.where(known, self._users[self.period - 1].unsqueeze(-1)).clamp_min(0)
        instead = "" if known.all() else NO_FORECAST
        point = outputs[:, forecaster.n_outputs // 2]
        if forecaster.n_outputs == 1:
            return point, None, instead
        return point, Quantiles(torch.tensor(forecaster.levels, dtype=torch.float64), outputs.double()), instead


_adopted: Allocator | None = None  # in a worker: inherited by the fork, so that it need not be picklable


def _forked(allocator: Allocator, workers: int) -> ProcessPoolExecutor:
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _adopt, (allocator,))
    with warnings.catch_warnings():
        # Since Python 3.12, forking a process with threads warns about locks they may hold; workers need none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        pool.submit(int).result()  # the first call forks them all
    return pool


def _adopt(allocator: Allocator) -> None:
    global _adopted
    _adopted = allocator
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the pool ends its workers with it
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit when the parent has ended: a worker whose parent was killed would wait for work forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "not a worker"
    parent.join()
    os._exit(1)


def _serve(
    allocator: Allocator,
    slots: int,
    users: Float[Tensor, " regions"],
    forecast: Float[Tensor, " regions"],
    rental: Rental,
    environment: RegionEnvironment,
) -> tuple[RegionEnvironment, Tally, Tasks]:
    """Serve all short slots of one batch of regions.

    Returns:
        The environment after them, their tally, and their tasks (batch, slots * users).
    """
    part = environment.copy_ids
    environment.traffic(users[part], forecast[part])
    environment.rent(rental.bandwidth_hz[part], rental.n_vms[part])
    tally, tasks = Tally.empty(len(part)), []
    for states, outcomes in environment.run(allocator, slots):
        tally.add(environment.scenario, states, outcomes)
        tasks += [Tasks(*slot) for slot in zip(*states.tasks, strict=True)]
    return environment, tally, _joined(tasks, -1)


def _serve_adopted(*arguments: Any) -> tuple[RegionEnvironment, Tally, Tasks]:
    """`_serve` in a worker, with the allocator that it inherited."""
    assert _adopted is not None, "not a worker"
    return _serve(_adopted, *arguments)


def _one_state(batches: list[dict[str, Any]]) -> dict[str, Any]:
    """The `state_dict` of an environment with the regions of all batches."""
    return {
        name: torch.cat([batch[name] for batch in batches]) if isinstance(value, Tensor) else value
        for name, value in batches[0].items()
    }


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows as columns, of tensors stacked or lists: a checkpoint of thousands of small tensors takes seconds."""
    columns = {name: [row[name] for row in rows] for name in rows[0]} if rows else {}
    return {name: torch.stack(each) if isinstance(each[0], Tensor) else each for name, each in columns.items()}


def _joined(parts: Sequence[Joined], dim: int = 0) -> Joined:
    """Concatenate named tuples of tensors field by field."""
    return type(parts[0])(*(torch.cat(fields, dim) for fields in zip(*parts, strict=True)))
