"""Comparison of stacks: money with its uncertainty, and the share of tasks done in time."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import polars
from jaxtyping import Float

from sliceoff.report.intervals import bootstrap_interval, resampled
from sliceoff.report.stacks import by_stack, main_stack

BOUND = "clairvoyant bound"
_FEWEST_DAYS = 4


class Blocks(NamedTuple):
    """Money by block of time, in order of time.

    Attributes:
        kind: what a block is, `day` or `long slot`.
        profit: by stack, in the table's order.
        most: the bound's profit; None without a bound.
    """

    kind: str
    profit: Mapping[str, Float[np.ndarray, " blocks"]]
    most: Float[np.ndarray, " blocks"] | None


def comparison(table: polars.DataFrame, bound: polars.DataFrame | None = None) -> list[dict[str, Any]]:
    """One row per stack, in the table's order: money over all long slots and regions, and tasks done in time.

    Intervals are 95 % bootstraps over blocks of time (`profit_blocks`); stacks are paired, as they get the same tasks.

    Args:
        table: `Simulation.table` of several stacks.
        bound: what `clairvoyant` returns for the same long slots; adds its row and every stack's share of it.
    """
    _, profits, most = profit_blocks(table, bound)
    main = next(iter(profits))
    rows = []
    for name, part in by_stack(table).items():
        profit = profits[name]
        sums = part.select(polars.col("profit", "revenue", "rent", "tasks", "done").sum()).row(0, named=True)
        ends = bootstrap_interval(profit)
        row: dict[str, Any] = {
            "stack": name,
            "profit": sums["profit"],
            "95 %": f"{ends[0]:,.0f} to {ends[1]:,.0f}" if ends else "",
            f"{main} against it": "" if name == main else gain(profits[main], profit),
        }
        if most is not None:
            row["of the bound"] = share(profit, most)
        row |= {
            "revenue": sums["revenue"],
            "rent": sums["rent"],
            "done in time": f"{100 * sums['done'] / max(sums['tasks'], 1):.1f} %",
        }
        rows.append(row)
    if bound is not None:
        rows.append({name: "" for name in rows[0]} | {"stack": BOUND, "profit": float(bound["bound"].sum())})
    return rows


def headline(table: polars.DataFrame, bound: polars.DataFrame | None = None) -> str:
    """The main stack's profit in one sentence, compared with the best alternative without foresight, and the bound."""
    _, profits, most = profit_blocks(table, bound)
    profit = next(iter(profits.values()))
    text = f"Profit {profit.sum():,.0f}"
    if ends := bootstrap_interval(profit):
        text += f" ({ends[0]:,.0f} to {ends[1]:,.0f})"
    if (best := best_alternative(table)) is not None:
        text += f", {gain(profit, profits[best])} against {best}, the best alternative"
    if most is not None and (part := share(profit, most)):
        text += f"; {part} of the clairvoyant bound"
    return text + "."


def best_alternative(table: polars.DataFrame) -> str | None:
    """The alternative that the first stack is compared with: the one without foresight that earns most."""
    others = table.filter(polars.col("stack") != main_stack(table), ~polars.col("foresight"))
    earned = others.group_by("stack", maintain_order=True).agg(polars.col("profit").sum())
    return max(earned.iter_rows(), key=lambda row: row[1], default=(None,))[0]


def profit_blocks(table: polars.DataFrame, bound: polars.DataFrame | None = None) -> Blocks:
    """Profit per block of time: a day, or a long slot where there are fewer than four days.

    Consecutive long slots have correlated traffic, so intervals over long slots are less accurate.

    Args:
        table, bound: as in `comparison`.
    """
    time = polars.col("time")
    kind = "day" if table["time"].dt.truncate("1d").n_unique() >= _FEWEST_DAYS else "long slot"
    block = time.dt.truncate("1d") if kind == "day" else time

    def sums(rows: polars.DataFrame, column: str) -> Float[np.ndarray, " blocks"]:
        return rows.group_by(block).agg(polars.col(column).sum()).sort("time")[column].to_numpy()

    profit = {stack: sums(rows, "profit") for stack, rows in by_stack(table).items()}
    return Blocks(kind, profit, None if bound is None else sums(bound, "bound"))


def share(profit: Float[np.ndarray, " blocks"], most: Float[np.ndarray, " blocks"]) -> str:
    """The share of `most` that was earned, with a paired 95 % interval; "" if there was nothing to earn."""
    if most.sum() <= 0:
        return ""
    text, sums = f"{100 * profit.sum() / most.sum():.1f} %", resampled(np.stack([profit, most], 1))
    if len(profit) < 2 or (sums[:, 1] <= 0).any():
        return text
    low, high = np.quantile(100 * sums[:, 0] / sums[:, 1], (0.025, 0.975))
    return f"{text} ({low:.1f} to {high:.1f})"


def gain(main: Float[np.ndarray, " blocks"], other: Float[np.ndarray, " blocks"]) -> str:
    """How much more `main` earned [%], with a paired 95 % interval; in money where `other` may earn nothing or less."""
    sums = resampled(np.stack([main, other], 1))
    if (sums[:, 1] <= 0).any():
        return f"{main.sum() - other.sum():+,.0f} money"
    low, high = np.quantile(100 * (sums[:, 0] / sums[:, 1] - 1), (0.025, 0.975))
    return f"{100 * (main.sum() / other.sum() - 1):+.1f} % ({low:+.1f} to {high:+.1f})"
