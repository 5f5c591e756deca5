"""Figures of a run: functions from the tidy results table to a matplotlib figure.

They use the object-oriented interface, so that nothing touches pyplot's global state and no display is needed.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any, Literal

import numpy as np
import polars
from matplotlib import dates
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sliceoff.region.picture import DONE, DROPPED, LATE
from sliceoff.report.comparison import BOUND, best_alternative, profit_blocks
from sliceoff.report.intervals import bootstrap_interval
from sliceoff.report.stacks import by_stack, main_stack, of_main

# Okabe and Ito's colours, which colour-blind readers can distinguish. The main stack always has the first.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
PALE = "#9db8c9"
_NAMED = 25  # largest number of regions with names on the map
_ROOM = 400  # largest number of circles of full size on it; more are smaller, and one picture instead of a shape each
_LINES = 12  # largest number of stacks' lines in one panel


def profit_by_stack(table: polars.DataFrame, bound: polars.DataFrame | None = None) -> Figure:
    """Profit of every stack with its interval, and the clairvoyant bound as a line."""
    kind, profits, _ = profit_blocks(table)
    figure, (axis,) = stacked(1, height=0.9 + 0.38 * len(profits))
    for place, profit in enumerate(profits.values()):
        axis.barh(place, profit.sum(), color=COLOURS[0] if place == 0 else PALE)
        if ends := bootstrap_interval(profit):
            axis.plot(ends, [place, place], color="#333333", lw=1.4, marker="|")
    axis.set_yticks(range(len(profits)), list(profits))
    if bound is not None:
        axis.axvline(float(bound["bound"].sum()), color=COLOURS[5], lw=1.4, ls="--", label=BOUND)
        axis.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1))
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(f"profit [money]; lines: 95 %, over {kind}s")
    return figure


def profit_over_time(table: polars.DataFrame, bound: polars.DataFrame | None = None) -> Figure:
    """Cumulative profit of all regions, one line per stack; below, the main stack's revenue and rent."""
    figure, (total, flows) = stacked(2, height=5.6)
    _stack_lines(total, table, lambda sums: np.cumsum(sums["profit"]))
    if bound is not None:
        total.plot(bound["time"], np.cumsum(bound["bound"]), color="#333333", lw=1.2, ls="--", label=BOUND)
    total.set_ylabel("profit so far [money]")
    _legend(total)
    sums, main = _per_slot(of_main(table)), main_stack(table)
    flows.plot(sums["time"], sums["revenue"], color=COLOURS[0], label=f"revenue ({main})")
    flows.plot(sums["time"], sums["rent"], color=COLOURS[5], label=f"rent ({main})")
    flows.set_ylabel("money per long slot")
    _legend(flows)
    _time_axis(flows)
    return figure


def money_by_hour(table: polars.DataFrame) -> Figure:
    """The first stack's mean profit by region and hour of the day, and its lead over the best alternative.

    The lead is shown only if there is an alternative without foresight.
    """
    main, best = main_stack(table), best_alternative(table)
    regions = table["region"].unique(maintain_order=True).to_list()
    panels = [(f"profit of {main}", _by_hour(table, main, regions))]
    if best is not None:
        panels.append((f"{main} less {best}", panels[0][1] - _by_hour(table, best, regions)))
    height = min(0.9 + 0.28 * len(regions), 9.0)
    figure = Figure(figsize=(9, height * len(panels)), layout="constrained")
    for axis, (title, values) in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True):
        most = float(np.nanmax(np.abs(values))) or 1.0
        image = axis.imshow(values, aspect="auto", cmap="RdBu", vmin=-most, vmax=most, interpolation="nearest")
        axis.set_title(f"{title} [money per long slot]", fontsize=9, loc="left")
        axis.set_xticks(range(0, 24, 3))
        shown = range(0, len(regions), -(-len(regions) // 25))
        axis.set_yticks(list(shown), [regions[place] for place in shown])
        axis.tick_params(labelsize=8)
        axis.spines[:].set_visible(False)
        figure.colorbar(image, ax=axis, fraction=0.03, pad=0.01).ax.tick_params(labelsize=8)
    figure.supxlabel("hour of the day", fontsize=9)
    return figure


def money_map(table: polars.DataFrame) -> Figure | None:
    """The first stack's profit at the regions' coordinates; None where the trace has none."""
    if "x" not in table.columns:
        return None
    rows = of_main(table).group_by("region", maintain_order=True)
    sums = rows.agg(polars.col("profit").mean(), polars.col("users").mean(), polars.col("x", "y").first())
    figure, (axis,) = stacked(1, height=4.6)
    most = float(np.abs(sums["profit"].to_numpy()).max()) or 1.0
    shrink = min(1.0, _ROOM / len(sums))
    size = shrink * (30 + 270 * (sums["users"] / (sums["users"].max() or 1)).to_numpy())
    points = axis.scatter(sums["x"], sums["y"], s=size, c=sums["profit"], cmap="RdBu", vmin=-most, vmax=most)
    points.set(edgecolor="#555555", linewidth=1.5 * shrink, rasterized=shrink < 1)
    figure.colorbar(points, ax=axis, fraction=0.04, pad=0.02)
    if len(sums) <= _NAMED:
        for name, x, y in sums.select("region", "x", "y").iter_rows():
            axis.annotate(name, (x, y), xytext=(0, -14), textcoords="offset points", ha="center", va="top", fontsize=8)
    axis.set_title("profit [money per long slot]; size: users", fontsize=9, loc="left")
    figure.axes[-1].tick_params(labelsize=8)
    axis.set_aspect("equal", adjustable="datalim")
    axis.margins(0.15)
    return figure


def forecast(table: polars.DataFrame) -> Figure:
    """Users per short slot: the forecast with its 10 % to 90 % band, the true ones, and the rented slice's capacity.

    One panel per region, the six with most users.
    """
    main = of_main(table)
    regions = busiest(main, "users")
    figure, axes = stacked(len(regions), height=0.9 + 1.35 * len(regions))
    for axis, region in zip(axes, regions, strict=True):
        rows = main.filter(polars.col("region") == region)
        axis.fill_between(
            rows["time"], 0, rows["capacity_users"], step="post", color="#dbe7f0", label="rented slice carries at most"
        )
        if (rows["users_high"] > rows["users_low"]).any():
            fan = (rows["users_low"], rows["users_high"])
            axis.fill_between(rows["time"], *fan, color=COLOURS[5], alpha=0.25, lw=0, label="10 % to 90 % of forecast")
        axis.plot(rows["time"], rows["users"], color="#333333", lw=1.2, label="true users")
        axis.plot(rows["time"], rows["users_forecast"], color=COLOURS[5], lw=1.2, label="forecast")
        axis.set_ylabel(region)
    _legend(axes[0])
    _time_axis(axes[-1])
    figure.supylabel("users per short slot", fontsize=9)
    return figure


def fates_over_time(table: polars.DataFrame) -> Figure:
    """Shares of the first stack's tasks done, late and dropped, all regions together; below, the work in the queues."""
    sums = _per_slot(of_main(table))
    figure, (shares, queue) = stacked(2, height=4.6)
    tasks = sums["tasks"].clip(lower_bound=1)
    parts = {name: 100 * sums[name] / tasks for name in ("done", "late", "dropped")}
    shares.stackplot(sums["time"], *parts.values(), labels=list(parts), colors=(DONE, LATE, DROPPED), lw=0)
    # The shares change near the top only.
    shares.set_ylim(max(0.0, float(parts["done"].to_numpy().min()) - 5), 100)
    shares.set_ylabel("share of tasks [%]")
    _legend(shares)
    queue.plot(sums["time"], sums["backlog_s"], color=COLOURS[0], lw=1.2)
    queue.set_ylabel("VM time queued [s]")
    _time_axis(queue)
    return figure


def wall_time(seconds: Mapping[str, float]) -> Figure | None:
    """Wall seconds by part of the run, the longest first; None if nothing was timed."""
    parts = sorted(((name, value) for name, value in seconds.items() if value > 0), key=lambda part: -part[1])[:12]
    if not parts:
        return None
    figure, (axis,) = stacked(1, height=0.7 + 0.3 * len(parts))
    bars = axis.barh([name for name, _ in parts], [value for _, value in parts], color=PALE)
    axis.bar_label(bars, fmt="%.1f s", fontsize=8, padding=3)
    axis.grid(axis="y", visible=False)
    axis.invert_yaxis()
    axis.set_xlabel("wall seconds")
    return figure


def tasks_done(table: polars.DataFrame) -> Figure:
    """Share of tasks done in time over time, one line per stack, all regions together."""
    figure, (axis,) = stacked(1, height=3.0)
    _stack_lines(axis, table, lambda sums: 100 * (sums["done"] / sums["tasks"].clip(lower_bound=1)))
    axis.set_ylabel("tasks done in time [%]")
    _legend(axis)
    _time_axis(axis)
    return figure


def fates(table: polars.DataFrame) -> Figure:
    """Shares of every stack's tasks: done in time, late, dropped."""
    sums = table.group_by("stack", maintain_order=True).agg(polars.col("tasks", "done", "late", "dropped").sum())
    figure, (axis,) = stacked(1, height=0.9 + 0.38 * len(sums))
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
    """The validation results and losses that fitted modules logged, one panel per quantity; None if nothing was fitted.

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
        axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        tidy(axis)
    for axis in list(figure.axes)[len(panels) :]:
        axis.remove()
    figure.supxlabel("epoch", fontsize=9)
    return figure


def _curves(log: polars.DataFrame) -> list[str]:
    """The quantities to plot, of those logged more than once: validation results, then training losses."""
    wanted = [name for name in log.columns if not name.endswith("_step") and log[name].drop_nulls().len() > 1]
    results = [name for name in wanted if name.startswith("val/")]
    losses = [name for name in wanted if name.startswith("train/") and name.endswith("loss")]
    return [*results, *losses]


def _by_hour(table: polars.DataFrame, stack: str, regions: Sequence[str]) -> np.ndarray:
    """Mean profit by region and hour, (regions, 24); NaN for hours without rows."""
    values, place = np.full((len(regions), 24), np.nan), {region: row for row, region in enumerate(regions)}
    rows = table.filter(polars.col("stack") == stack).group_by("region", polars.col("time").dt.hour().alias("hour"))
    for region, hour, profit in rows.agg(polars.col("profit").mean()).iter_rows():
        values[place[region], hour] = profit
    return values


def _per_slot(rows: polars.DataFrame) -> polars.DataFrame:
    """One stack's sums over regions, a row per long slot."""
    columns = ("profit", "revenue", "rent", "tasks", "done", "late", "dropped", "backlog_s")
    return rows.group_by("time", maintain_order=True).agg(polars.col(columns).sum())


def _stack_lines(axis: Axes, table: polars.DataFrame, value: Callable[[polars.DataFrame], Any]) -> None:
    """Draw one line per stack over time, the main one's thicker: `value` of the stack's sums per long slot.

    Of many stacks, the main one and those that earn most.
    """
    stacks, main = by_stack(table), main_stack(table)
    ranked = sorted(stacks, key=lambda stack: (stack != main, -stacks[stack]["profit"].sum()))
    shown = [stack for stack in stacks if stack in ranked[:_LINES]]
    for colour, stack in zip(cycle(COLOURS), shown, strict=False):
        sums = _per_slot(stacks[stack])
        axis.plot(sums["time"], value(sums), color=colour, label=stack, lw=2.2 if stack == main else 1.2)
    if len(shown) < len(stacks):
        text = f"{main} and the {len(shown) - 1} of {len(stacks) - 1} others that earn most"
        axis.set_title(text, loc="right", fontsize=8)


def busiest(rows: polars.DataFrame, column: str) -> list[str]:
    """The six regions with the largest sum of a column, in the order of the rows."""
    sums = rows.group_by("region", maintain_order=True).agg(polars.col(column).sum())
    most = set(sums.top_k(6, by=column)["region"])
    return [name for name in sums["region"] if name in most]


def stacked(rows: int, height: float, across: Literal["x", "y"] = "y") -> tuple[Figure, list[Axes]]:
    """A figure of `height` inches with one tidy axis above the other; they share what is across."""
    figure = Figure(figsize=(9, height), layout="constrained")
    axes = list(figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0])
    for axis in axes:
        tidy(axis, across)
    return figure, axes


def tidy(axis: Axes, across: Literal["x", "y"] = "y") -> None:
    """Style an axis: no frame at top and right, small ticks, and a pale grid at the ticks of one axis."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis=across, color="#e6e6e6", lw=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=8)
    axis.yaxis.label.set_fontsize(9)


def _legend(axis: Axes) -> None:
    axis.legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)


def _time_axis(axis: Axes) -> None:
    locator = dates.AutoDateLocator()
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
