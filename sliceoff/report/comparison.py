"""Stacks side by side: money with its uncertainty, and what became of the tasks."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars

from sliceoff.report.figures import BOUND

_RESAMPLES, _SEED = 2000, 0


def comparison(table: polars.DataFrame, bound: polars.DataFrame | None = None) -> list[dict[str, Any]]:
    """One row per stack, the first one first: money over all long slots and regions, and what became of the tasks.

    Intervals are 95 % bootstraps over days, the stacks paired: they face the same tasks.

    Args:
        table: what `simulate` returns, of several stacks.
        bound: what `clairvoyant` returns for the same long slots; adds its row and everyone's share of it.
    """
    days = daily_profit(table)
    main = days.columns[1]
    most = None if bound is None else float(bound["bound"].sum())
    rows = []
    for stack, part in table.group_by("stack", maintain_order=True):
        name = str(stack[0])
        sums = part.select(polars.col("profit", "revenue", "rent", "tasks", "done").sum()).row(0, named=True)
        row: dict[str, Any] = {
            "stack": name,
            "profit": sums["profit"],
            "95 %": interval(days[name].to_numpy()),
            f"{main} against it": "" if name == main else gain(days[main].to_numpy(), days[name].to_numpy()),
        }
        if most is not None:
            row["of the bound"] = f"{100 * sums['profit'] / most:.1f} %"
        row |= {
            "revenue": sums["revenue"],
            "rent": sums["rent"],
            "done in time": f"{100 * sums['done'] / max(sums['tasks'], 1):.1f} %",
        }
        rows.append(row)
    if most is not None:
        rows.append({name: "" for name in rows[0]} | {"stack": BOUND, "profit": most})
    return rows


def headline(table: polars.DataFrame, bound: polars.DataFrame | None = None) -> str:
    """The main stack's profit in one sentence, against the best alternative that knows no more, and the bound."""
    days = daily_profit(table)
    main, *others = days.columns[1:]
    total = float(days[main].sum())
    text = f"Profit {total:,.0f}"
    others = [name for name in others if not name.startswith("oracle")]
    if others:
        best = max(others, key=lambda name: float(days[name].sum()))
        text += f", {gain(days[main].to_numpy(), days[best].to_numpy())} against {best}, the best alternative"
    if bound is not None:
        text += f"; {100 * total / float(bound['bound'].sum()):.1f} % of the clairvoyant bound"
    return text + "."


def differences(configs: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The keys in which runs' configs differ, one row each, one column per run; the places of files left out."""
    flat = {label: dict(_flat(config)) for label, config in configs.items()}
    keys = dict.fromkeys(key for config in flat.values() for key in config if not key.startswith(("run_dir", "init.")))
    rows = [{"config key": key} | {label: str(config.get(key, "")) for label, config in flat.items()} for key in keys]
    return [row for row in rows if len({value for name, value in row.items() if name != "config key"}) > 1]


def daily_profit(table: polars.DataFrame) -> polars.DataFrame:
    """Profit per day (`time` truncated) and stack, one column per stack; per long slot where there are few days."""
    blocks = table.with_columns(block=polars.col("time").dt.truncate("1d"))
    if blocks["block"].n_unique() < 4:
        blocks = table.with_columns(block=polars.col("time"))
    return blocks.pivot("stack", index="block", values="profit", aggregate_function="sum").sort("block")


def interval(blocks: np.ndarray) -> str:
    """95 % bootstrap interval of the sum."""
    low, high = np.quantile(_resampled(blocks[:, None])[:, 0], (0.025, 0.975))
    return f"{low:,.0f} to {high:,.0f}" if len(blocks) > 1 else ""


def gain(main: np.ndarray, other: np.ndarray) -> str:
    """How much more `main` earned in all [%], with a paired 95 % interval; money where a share means nothing."""
    sums = _resampled(np.stack([main, other], 1))
    if (sums[:, 1] <= 0).any():
        return f"{main.sum() - other.sum():+,.0f} money"
    low, high = np.quantile(100 * (sums[:, 0] / sums[:, 1] - 1), (0.025, 0.975))
    return f"{100 * (main.sum() / other.sum() - 1):+.1f} % ({low:+.1f} to {high:+.1f})"


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _resampled(blocks: np.ndarray) -> np.ndarray:
    """Sums over blocks drawn with replacement, (resamples, columns)."""
    chosen = np.random.default_rng(_SEED).integers(len(blocks), size=(_RESAMPLES, len(blocks)))
    return blocks[chosen].sum(1)
