"""A picture of one slot: users' positions, their bandwidth and uploads, and every VM's work."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from sliceoff.region.scenario import Scenario
from sliceoff.region.state import Allocation, Outcome, RegionState

# What becomes of tasks, in reports as well: told apart by colour-blind readers (Okabe and Ito).
DONE, LATE, DROPPED = "#009E73", "#E69F00", "#D55E00"
_BACKLOG = "#999999"


def draw_slot(
    scenario: Scenario, state: RegionState, allocation: Allocation, outcome: Outcome, *, row: int = 0
) -> Figure:
    """Draw one row of a batch: the cell, the bandwidth and uploads, and the VMs' queues.

    Args:
        state: the state at the start of the slot that `allocation` and `outcome` belong to.
        row: which region of the batch.
    """
    present = state.tasks.present[row].nonzero().flatten()
    users = {
        name: value[row, present].double().numpy(force=True)
        for name, value in (
            ("distance", state.tasks.distance_m),
            ("priority", state.tasks.priority),
            ("share", allocation.share),
            ("vm", allocation.vm),
            ("upload", outcome.upload_s),
            ("wait", outcome.wait_s),
            ("execution", outcome.execution_s),
        )
    }
    colours = np.full(len(present), LATE, dtype=object)
    colours[outcome.on_time[row, present].numpy(force=True)] = DONE
    colours[outcome.dropped[row, present].numpy(force=True)] = DROPPED
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    cell, bandwidth, queues = figure.subplots(1, 3, width_ratios=[1, 1.25, 1.5])
    _draw_cell(cell, scenario, users, colours)
    _draw_uploads(bandwidth, scenario, users, colours, float(state.bandwidth_hz[row]))
    n_vms = int(state.n_vms[row])
    _draw_queues(queues, scenario, users, colours, state.backlog_s[row, :n_vms].double().numpy(force=True))
    revenue, asked = float(outcome.revenue[row].sum()), scenario.price * float(users["priority"].sum())
    figure.suptitle(
        f"{len(present)} tasks, {int(outcome.on_time[row].sum())} on time, revenue {revenue:.3g} of {asked:.3g}",
        x=0.01,
        ha="left",
    )
    figure.legend(
        handles=[
            *(
                Line2D([], [], color=colour, marker="o", linestyle="", label=label)
                for colour, label in ((DONE, "on time"), (LATE, "late or given up"), (DROPPED, "dropped"))
            ),
            Patch(color=_BACKLOG, label="earlier slots' work"),
        ],
        loc="outside upper right",
        ncols=4,
        frameon=False,
    )
    return figure


def rgb(figure: Figure) -> NDArray[np.uint8]:
    """The figure's pixels, (height, width, 3)."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _draw_cell(axes: Axes, scenario: Scenario, users: dict[str, np.ndarray], colours: np.ndarray) -> None:
    # Only distances are modelled; the golden angle spreads the users around.
    angle = np.arange(len(colours)) * np.pi * (3 - np.sqrt(5))
    axes.add_patch(Circle((0, 0), scenario.cell_radius_m, fill=False, color="0.7"))
    axes.scatter([0], [0], marker="^", s=90, color="black")
    axes.scatter(
        users["distance"] * np.cos(angle),
        users["distance"] * np.sin(angle),
        s=25 * users["priority"],
        c=list(colours),
        alpha=0.9,
    )
    for number, (distance, phi) in enumerate(zip(users["distance"], angle, strict=True)):
        axes.annotate(
            str(number), (distance * np.cos(phi), distance * np.sin(phi)), (5, 4), textcoords="offset points", size=7
        )
    axes.set(aspect="equal", title="users around the base station\n(size: priority)", xlabel="m")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_uploads(
    axes: Axes, scenario: Scenario, users: dict[str, np.ndarray], colours: np.ndarray, bandwidth_hz: float
) -> None:
    """Draw a bar per user: its height is the bandwidth, its length the upload time."""
    mhz = users["share"] * bandwidth_hz / 1e6
    bottom = np.concatenate(([0.0], np.cumsum(mhz)))
    until = np.minimum(users["upload"], scenario.deadline_s * 1.15)
    axes.barh(bottom[:-1], until, mhz, align="edge", color=list(colours), edgecolor="white", linewidth=0.6, alpha=0.9)
    for number in np.flatnonzero(mhz > 0.02 * bandwidth_hz / 1e6):
        axes.text(0.01 * scenario.deadline_s, bottom[number] + mhz[number] / 2, str(number), va="center", size=7)
    _mark_times(axes, scenario)
    axes.set(title="uploads\n(height: bandwidth given)", ylabel="MHz", ylim=(0, max(bandwidth_hz / 1e6, 1e-9)))


def _draw_queues(
    axes: Axes, scenario: Scenario, users: dict[str, np.ndarray], colours: np.ndarray, backlog_s: np.ndarray
) -> None:
    """Draw a line per VM: its backlog, then its tasks when they ran."""
    axes.barh(np.arange(len(backlog_s)), backlog_s, 0.8, color=_BACKLOG)
    ran = (users["upload"] <= scenario.deadline_s) & (colours != DROPPED)
    start = users["upload"] + users["wait"]
    for number in np.flatnonzero(ran):
        axes.barh(
            users["vm"][number],
            users["execution"][number],
            0.8,
            left=start[number],
            color=colours[number],
            edgecolor="white",
            linewidth=0.6,
            alpha=0.9,
        )
        middle = start[number] + users["execution"][number] / 2
        narrow = users["execution"][number] < 0.05 * scenario.deadline_s
        axes.text(
            middle,
            users["vm"][number],
            str(number),
            ha="center",
            va="center",
            size=6 if narrow else 7,
            rotation=90 if narrow else 0,
            color="white",
        )
    _mark_times(axes, scenario)
    axes.set(title="VMs\n(a bar per task, where it ran)", ylabel="VM", ylim=(-0.6, max(len(backlog_s), 1) - 0.4))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def _mark_times(axes: Axes, scenario: Scenario) -> None:
    axes.axvline(scenario.short_slot_s, color="0.6", linestyle=":", linewidth=1)
    axes.axvline(scenario.deadline_s, color="black", linestyle="--", linewidth=1)
    axes.set(xlim=(0, scenario.deadline_s * 1.15), xlabel="s (dotted: next slot, dashed: deadline)")
    axes.spines[["top", "right"]].set_visible(False)
