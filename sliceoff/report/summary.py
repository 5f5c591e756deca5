"""A simulation's results as a flat summary of numbers."""

from typing import Any

import polars

from sliceoff.report.stacks import by_stack, of_main

_SUMS = ("profit", "revenue", "rent", "tasks", "done", "late", "dropped")
_MEANS = ("uncovered", "bandwidth_utilisation", "vm_utilisation")


def summarise(table: polars.DataFrame, bound: polars.DataFrame | None = None) -> dict[str, Any]:
    """Flat `name: number` results; names carry the stack and the unit."""
    summary: dict[str, Any] = {}
    most = None if bound is None else float(bound["bound"].sum())
    if most is not None:
        summary["bound/profit_money"] = most
    for stack, rows in by_stack(table).items():
        sums, means = (moment.row(0, named=True) for moment in (rows.select(_SUMS).sum(), rows.select(_MEANS).mean()))
        tasks = max(sums["tasks"], 1)
        results = {f"{name}_money": sums[name] for name in ("profit", "revenue", "rent")}
        if most is not None and most > 0:
            results["profit_of_bound_share"] = sums["profit"] / most
        results |= {f"tasks_{fate}_share": sums[fate] / tasks for fate in ("done", "late", "dropped")}
        results |= {f"{name}_share": mean for name, mean in means.items()}
        results["fallback_share"] = (rows["fallback"] != "").mean()
        summary |= {f"{stack}/{name}": value for name, value in results.items()}
    return summary


def forecast_errors(table: polars.DataFrame) -> dict[str, Any]:
    """Mean absolute error and bias [users] of the forecast, which all stacks of a run share."""
    error = of_main(table)["forecast_error"]
    return {"forecast/mae_users": error.abs().mean(), "forecast/bias_users": error.mean()}
