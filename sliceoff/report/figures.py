"""Figures of a run: functions from the tidy results table to a matplotlib figure.

They use the object-oriented interface, so that nothing touches pyplot's global state and no display is needed.
"""

from collections.abc import Mapping

import numpy as np
import polars
from matplotlib import dates
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colours: told apart by colour-blind readers. The main stack is always the first.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
DONE, LATE, DROPPED = "#009E73", "#E69F00", "#D55E00"


def profit_over_time(table: polars.DataFrame) -> Figure:
    """Profit of all regions together so far, one line per stack; below, the main stack's revenue and rent."""
    figure, (total, flows) = _figure(rows=2, height=5.6)
    for colour, (stack, rows) in zip(COLOURS, _by_stack(table), strict=False):
        per_slot = rows.group_by("time", maintain_order=True).agg(polars.col("profit").sum())
        total.plot(
            per_slot["time"],
            np.cumsum(per_slot["profit"]),
            color=colour,
            label=stack,
            lw=2.2 if stack == "main" else 1.2,
        )
    total.set_ylabel("profit so far [money]")
    _legend(total)
    main = table.filter(polars.col("stack") == "main").group_by("time", maintain_order=True)
    sums = main.agg(polars.col("revenue", "rent").sum())
    flows.plot(sums["time"], sums["revenue"], color=COLOURS[0], label="revenue (main)")
    flows.plot(sums["time"], sums["rent"], color=COLOURS[5], label="rent (main)")
    flows.set_ylabel("money per long slot")
    _legend(flows)
    _time_axis(flows)
    return figure


def forecast(table: polars.DataFrame) -> Figure:
    """Users per short slot, forecast and true, with the most that the rented slice carries, one panel per region."""
    main = table.filter(polars.col("stack") == "main")
    regions = main["region"].unique(maintain_order=True).to_list()[:6]
    figure, axes = _figure(rows=len(regions), height=0.9 + 1.35 * len(regions))
    for axis, region in zip(axes, regions, strict=True):
        rows = main.filter(polars.col("region") == region)
        axis.fill_between(
            rows["time"], 0, rows["capacity_users"], step="post", color="#dbe7f0", label="rented slice carries at most"
        )
        axis.plot(rows["time"], rows["users"], color="#333333", lw=1.2, label="true users")
        axis.plot(rows["time"], rows["users_forecast"], color=COLOURS[5], lw=1.2, label="forecast")
        axis.set_ylabel(region)
    _legend(axes[0])
    _time_axis(axes[-1])
    figure.supylabel("users per short slot", fontsize=9)
    return figure


def tasks_done(table: polars.DataFrame) -> Figure:
    """Share of tasks done in time over time, one line per stack, all regions together."""
    figure, (axis,) = _figure(rows=1, height=3.0)
    for colour, (stack, rows) in zip(COLOURS, _by_stack(table), strict=False):
        share = rows.group_by("time", maintain_order=True).agg(
            (polars.col("done").sum() / polars.col("tasks").sum().clip(lower_bound=1)).alias("share")
        )
        axis.plot(share["time"], 100 * share["share"], color=colour, label=stack, lw=2.2 if stack == "main" else 1.2)
    axis.set_ylabel("tasks done in time [%]")
    _legend(axis)
    _time_axis(axis)
    return figure


def fates(table: polars.DataFrame) -> Figure:
    """What became of the tasks under each stack: done in time, late, dropped."""
    sums = table.group_by("stack", maintain_order=True).agg(polars.col("tasks", "done", "late", "dropped").sum())
    figure, (axis,) = _figure(rows=1, height=0.9 + 0.38 * len(sums))
    left = np.zeros(len(sums))
    for fate, colour in (("done", DONE), ("late", LATE), ("dropped", DROPPED)):
        share = 100 * (sums[fate] / sums["tasks"].clip(lower_bound=1)).to_numpy()
        axis.barh(sums["stack"], share, left=left, color=colour, label=fate)
        left += share
    axis.invert_yaxis()
    axis.set_xlabel("share of tasks [%]")
    axis.legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def learning_curves(logs: Mapping[str, polars.DataFrame]) -> Figure | None:
    """What every fitted module logged about its learning, one panel per quantity; None when nothing was fitted.

    Args:
        logs: module name -> its metrics table (columns `epoch` and the logged names).
    """
    panels = [
        (module, name, log.select("epoch", name).drop_nulls().group_by("epoch", maintain_order=True).mean())
        for module, log in logs.items()
        for name in _curves(log)
    ]
    if not panels:
        return None
    columns = 2
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(9, 0.6 + 2.1 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, (module, name, curve) in zip(axes, panels, strict=False):
        axis.plot(curve["epoch"] + 1, curve[name], color=COLOURS[0], marker="o", ms=3)
        axis.set_title(f"{module}: {name}", fontsize=9, loc="left")
        _tidy(axis)
    for axis in list(figure.axes)[len(panels) :]:
        axis.remove()
    figure.supxlabel("epoch", fontsize=9)
    return figure


def _curves(log: polars.DataFrame) -> list[str]:
    """The quantities worth a panel: validation results and training losses or returns, logged more than once."""
    wanted = [name for name in log.columns if name.split("/")[0] in ("train", "val") and not name.endswith("_step")]
    return [name for name in wanted if log[name].drop_nulls().len() > 1][:6]


def _by_stack(table: polars.DataFrame) -> list[tuple[str, polars.DataFrame]]:
    return [(str(key[0]), rows) for key, rows in table.group_by("stack", maintain_order=True)]


def _figure(rows: int, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(9, height), layout="constrained")
    axes = list(figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0])
    for axis in axes:
        _tidy(axis)
    return figure, axes


def _tidy(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="#e6e6e6", lw=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=8)
    axis.yaxis.label.set_fontsize(9)


def _legend(axis: Axes) -> None:
    axis.legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)


def _time_axis(axis: Axes) -> None:
    locator = dates.AutoDateLocator()
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
