"""`job=simulate`: Algorithm 1 on the trace's held-out end, beside the rivals."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import polars
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sliceoff.errors import InputError
from sliceoff.jobs.fit_allocator import is_trained
from sliceoff.loggers import finish, log_figures
from sliceoff.loop import simulate
from sliceoff.report import fates, forecast, learning_curves, page, profit_over_time, tasks_done
from sliceoff.run_directory import RunDirectory

if TYPE_CHECKING:
    from sliceoff.run import Parts


@dataclass(frozen=True)
class Simulate:
    """Fit what has no checkpoint, then run every stack over the held-out end and compare.

    Args:
        periods: long slots to simulate from the start of the held-out end; None: all of it.
        slots_per_period: short slots simulated per long slot.
    """

    name: str
    periods: int | None
    slots_per_period: int

    def __post_init__(self) -> None:
        for key in ("periods", "slots_per_period"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise InputError(f"job.{key}={value} must be at least 1; set job.{key}=N")

    def __call__(self, parts: "Parts", directory: RunDirectory) -> tuple[dict[str, Any], polars.DataFrame]:
        """Run; returns the summary and one row per stack, long slot and region."""
        windows, stacks = parts.datamodule, parts.stacks  # builds everything before anything is fitted
        if not parts.has_checkpoint("predictor"):
            parts.fit("predictor", directory, "predictor")
        if is_trained(parts.allocator) and not parts.has_checkpoint("allocator"):
            parts.fit("allocator", directory, "allocator")
        start, end = windows.heldout_start, windows.heldout_end
        periods = range(start, end if self.periods is None else min(start + self.periods, end))

        stacks = parts.stacks
        with Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), transient=True
        ) as progress:
            tables = []
            for stack in stacks:
                task = progress.add_task(f"simulate {stack.name}", total=len(periods))
                advance = partial(progress.advance, task)
                tables.append(
                    simulate(
                        stack,
                        windows,
                        parts.scenario,
                        unit_users=parts.users_per_unit,
                        periods=periods,
                        slots_per_period=self.slots_per_period,
                        seed=parts.seed,
                        on_period=advance,
                    )
                )
        table = polars.concat(tables)
        summary = summarise(table)
        self._report(summary, table, parts, directory)
        return summary, table

    def _report(
        self, summary: dict[str, Any], table: polars.DataFrame, parts: "Parts", directory: RunDirectory
    ) -> None:
        figures = {
            "profit over time": profit_over_time(table),
            "forecast": forecast(table),
            "tasks done": tasks_done(table),
            "fates": fates(table),
        }
        curves = learning_curves(directory.logs())
        rows = comparison(table)
        main, *rest = rows
        best = max(rest, key=lambda row: row["profit"], default=None)
        about = (
            f"{table['period'].n_unique()} long slots of {parts.trace.step_s} s in {table['region'].n_unique()} "
            f"regions, {table['time'][0]} to {table['time'][-1]}; {self.slots_per_period} short slots simulated "
            f"in each; seed {parts.seed}."
        )
        directory.write_text(
            "report.html",
            page(
                title="SliceOff simulation",
                about=about,
                headline=_headline(main, best),
                rows=rows,
                sections=[
                    (
                        "Profit",
                        "Money earned so far by every stack, all regions together.",
                        figures["profit over time"],
                    ),
                    (
                        "Forecast and rented capacity",
                        "Where the shaded area lies under the black line, the slice cannot carry the users; "
                        "where it lies far above, rent is wasted.",
                        figures["forecast"],
                    ),
                    (
                        "Tasks done in time",
                        "Share of all offloaded tasks that met their deadline.",
                        figures["tasks done"],
                    ),
                    ("What became of the tasks", "Dropped: refused on arrival, hopeless already.", figures["fates"]),
                    ("Learning", "What the fitted modules logged while they learned.", curves),
                ],
            ),
        )
        loggers = parts.logger("summary", directory)
        for logger in loggers:
            logger.log_metrics({name: value for name, value in summary.items() if isinstance(value, int | float)})
        log_figures(loggers, figures)
        finish(loggers)


_SUMS = ("profit", "revenue", "rent", "tasks", "done", "late", "dropped")
_MEANS = ("uncovered", "bandwidth_utilisation", "vm_utilisation")


def comparison(table: polars.DataFrame) -> list[dict[str, Any]]:
    """One row per stack: money over all simulated long slots and regions, and what became of the tasks."""
    sums = table.group_by("stack", maintain_order=True).agg(
        polars.col("profit", "revenue", "rent").sum(),
        (100 * polars.col("rent").sum() / polars.col("revenue").sum()).alias("rent [% of revenue]"),
        (100 * polars.col("done").sum() / polars.col("tasks").sum()).alias("done in time [%]"),
        (100 * polars.col("uncovered").mean()).alias("uncovered [%]"),
    )
    return sums.to_dicts()


def summarise(table: polars.DataFrame) -> dict[str, Any]:
    """Flat `name: number` results; names carry the stack and the unit."""
    summary: dict[str, Any] = {}
    for key, rows in table.group_by("stack", maintain_order=True):
        sums, means = (moment.row(0, named=True) for moment in (rows.select(_SUMS).sum(), rows.select(_MEANS).mean()))
        tasks = max(sums["tasks"], 1)
        results = {f"{name}_money": sums[name] for name in ("profit", "revenue", "rent")}
        results |= {f"tasks_{fate}_share": sums[fate] / tasks for fate in ("done", "late", "dropped")}
        results |= {f"{name}_share": mean for name, mean in means.items()}
        summary |= {f"{key[0]}/{name}": value for name, value in results.items()}
    error = table.filter(polars.col("stack") == table["stack"][0])["forecast_error"]
    summary["forecast/mae_users"] = error.abs().mean()
    summary["forecast/bias_users"] = error.mean()
    return summary


def _headline(main: dict[str, Any], best: dict[str, Any] | None) -> str:
    text = f"Profit {main['profit']:,.0f}"
    if best is None:
        return text + "."
    if best["profit"] <= 0:
        return f"{text}; the best rival, {best['stack']}, earned {best['profit']:,.0f}."
    return f"{text}, {100 * (main['profit'] / best['profit'] - 1):+.1f} % against the best rival, {best['stack']}."
