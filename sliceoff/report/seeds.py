"""The report of repeated runs: means over seeds with their intervals, and differences seed by seed."""

from collections.abc import Mapping
from math import floor, log10
from textwrap import fill

import polars
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sliceoff.report.figures import COLOURS, PALE, tidy
from sliceoff.report.intervals import t_interval
from sliceoff.report.page import page

TELLING = ("main/profit_money", "test/real_mae", "val/revenue", "val/loss")
"""The main metrics of jobs: the first of these that the runs have is shown by default."""

Numbers = Mapping[str, float | None]
"""A run's numbers by metric; None if not finite."""

_SCHEMA = {
    "group": polars.String,
    "metric": polars.String,
    "seeds": polars.Int64,
    "missing": polars.Int64,
    "mean": polars.Float64,
    "half_width_95": polars.Float64,
    "paired_seeds": polars.Int64,
    "difference": polars.Float64,
    "difference_half_width_95": polars.Float64,
}


def means_over_seeds(groups: Mapping[str, Mapping[int, Numbers]]) -> polars.DataFrame:
    """Every group's mean of every metric that all its runs have, and the paired difference to the first group's.

    Paired, because a seed draws the same traffic and tasks for all groups. Half widths are those of 95 % intervals by
    Student's t over seeds, null for a single seed. If a metric is not finite in some runs, its mean is over the others.

    Args:
        groups: label -> seed -> metric -> number.

    Returns:
        One row per group and metric: `group, metric, seeds, missing` (runs where it is not finite), `mean,
        half_width_95, paired_seeds` (seeds that this and the first group have), `difference,
        difference_half_width_95`; the last three are null for the first group.
    """
    first = next(iter(groups.values()))
    finite = {name for runs in groups.values() for run in runs.values() for name in run if run[name] is not None}
    rows = []
    for place, (label, runs) in enumerate(groups.items()):
        for metric in next(iter(runs.values())):
            if metric in finite and all(metric in run for run in runs.values()):
                here, there = _of_seeds(runs, metric), _of_seeds(first, metric)
                mean, half = t_interval(list(here.values()))
                row = {"group": label, "metric": metric, "seeds": len(here), "missing": len(runs) - len(here)}
                row |= {"mean": mean, "half_width_95": half}
                if place > 0:
                    paired = [here[seed] - there[seed] for seed in here if seed in there]
                    difference, half = t_interval(paired)
                    row |= {"paired_seeds": len(paired), "difference": difference, "difference_half_width_95": half}
                rows.append(row)
    return polars.DataFrame(rows, schema=_SCHEMA)


def telling(table: polars.DataFrame) -> str:
    """The metric to show by default: the first of `TELLING`, preferably among those that all groups have."""
    shared = table.group_by("metric", maintain_order=True).len().filter(polars.col("len") == table["group"].n_unique())
    metrics = (shared if len(shared) else table)["metric"].to_list()
    return next((name for name in TELLING if name in metrics), metrics[0])


def flat(table: polars.DataFrame) -> dict[str, float | None]:
    """The table as `GROUP/METRIC/STATISTIC: number`, without differences for the first group."""
    statistics = table.columns[2:]
    return {
        f"{row['group']}/{row['metric']}/{name}": row[name]
        for row in table.iter_rows(named=True)
        for name in (statistics if row["paired_seeds"] is not None else statistics[:4])
    }


def shown(table: polars.DataFrame, metric: str) -> list[dict[str, object]]:
    """A metric's rows formatted for display: one per group, `mean ± half width`."""
    rows = []
    for row in table.filter(polars.col("metric") == metric).iter_rows(named=True):
        missing = f" ({row['missing']} without)" if row["missing"] else ""
        cells: dict[str, object] = {"group": row["group"], "seeds": f"{row['seeds']}{missing}"}
        cells["mean"] = plus_minus(row["mean"], row["half_width_95"])
        if table["paired_seeds"].is_not_null().any():
            difference = plus_minus(row["difference"], row["difference_half_width_95"], "+", row["mean"])
            cells["difference to the first, paired"] = difference
            cells["pairs"] = "" if row["paired_seeds"] is None else str(row["paired_seeds"])
        rows.append(cells)
    return rows


def plus_minus(mean: float | None, half: float | None, sign: str = "", scale: float | None = None) -> str:
    """`mean ± half` with two digits of the half width, and the mean to the same decimal; "-" if there is no mean.

    Args:
        sign: "+" shows the sign of a positive mean.
        scale: size of the numbers whose difference the mean is: it limits the digits; None: the mean itself.
    """
    if mean is None:
        return "-"
    largest = max(abs(mean), abs(scale or 0))
    size = floor(log10(largest)) if largest else 4
    digits = max(0, min(1 - floor(log10(half)), 6 - size) if half else 4 - size)
    text = f"{mean:{sign},.{digits}f}"
    return text if half is None else f"{text} ± {half:,.{digits if half else 0}f}"


def seeds_page(table: polars.DataFrame, metric: str, figure: Figure, about: str) -> str:
    """The report as an HTML page: the metric's means, then those with the same prefix, such as all of the main stack.

    Args:
        table: what `means_over_seeds` returns.
    """
    family = metric.rpartition("/")[0]
    beside = [name for name in table["metric"].unique(maintain_order=True) if name.rpartition("/")[0] == family]
    return page(
        title="SliceOff: means over seeds",
        about=about,
        headline=_headline(table, metric),
        rows=shown(table, metric),
        details=[
            {"metric": "" if number else name} | row
            for name in beside
            if name != metric
            for number, row in enumerate(shown(table, name))
        ],
        sections=[(metric, _TEXT, figure)],
    )


_TEXT = (
    "Points are means over seeds, lines their 95 % intervals (Student's t), small points the runs. Differences are "
    "taken seed by seed, so that variation which a seed causes in all groups cancels; where a line crosses zero, these "
    "seeds do not distinguish the group from the first."
)


def _headline(table: polars.DataFrame, metric: str) -> str:
    first, *others = table.filter(polars.col("metric") == metric).iter_rows(named=True)
    plural = "" if first["seeds"] == 1 else "s"
    value = plus_minus(first["mean"], first["half_width_95"])
    text = f"{metric} {value} over {first['seeds']} seed{plural} with {first['group']}."
    told = [row for row in others if row["difference_half_width_95"] is not None]
    if told:
        apart = sum(abs(row["difference"]) > row["difference_half_width_95"] for row in told)
        text += f" These seeds tell {apart or 'none'} of {len(told)} other group{'s' * (len(told) > 1)} from it."
    return text


def seeds_figure(table: polars.DataFrame, metric: str, runs: Mapping[str, Mapping[int, Numbers]]) -> Figure:
    """Means with intervals, one line per group, and the single runs; beside them the paired differences."""
    rows = table.filter(polars.col("metric") == metric).to_dicts()
    panels = [("mean", "half_width_95", metric)]
    if any(row["difference"] is not None for row in rows):
        panels.append(("difference", "difference_half_width_95", "difference to the first, paired"))
    names = [fill(row["group"], 36, break_long_words=False, break_on_hyphens=False) for row in rows]
    figure = Figure(figsize=(9, 0.9 + sum(0.3 + 0.14 * name.count("\n") for name in names)), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (mean, half, title) in zip(axes, panels, strict=True):
        for place, row in enumerate(rows):
            if row[mean] is not None:
                axis.errorbar(row[mean], place, xerr=row[half], color=COLOURS[0], marker="o", lw=1.6, capsize=3)
        axis.set_title(title, fontsize=9, loc="left")
        tidy(axis, across="x")
        axis.xaxis.set_major_locator(MaxNLocator(5))
    for place, row in enumerate(rows):
        values = list(_of_seeds(runs[row["group"]], metric).values())
        axes[0].plot(values, [place + 0.25] * len(values), "o", color=PALE, ms=3)
    for axis in axes[1:]:
        axis.axvline(0, color="#999999", lw=0.8)
    axes[0].set_yticks(range(len(rows)), names)
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    return figure


def _of_seeds(runs: Mapping[int, Numbers], metric: str) -> dict[int, float]:
    """The metric's finite numbers by seed."""
    return {seed: value for seed, run in runs.items() if (value := run.get(metric)) is not None}
