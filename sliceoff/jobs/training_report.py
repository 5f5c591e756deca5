"""What a fitting job reports: the log it wrote, and a page with its curves."""

from collections.abc import Mapping

import polars

from sliceoff import checkpoint
from sliceoff.report import learning_curves, page
from sliceoff.run_directory import Results, RunDirectory, logs_of


def learned(module: str, directory: RunDirectory, measured: Mapping[str, float] | None = None) -> Results:
    """Report the module's learning log.

    Args:
        measured: metrics of the fitted module, such as its test metrics.

    Returns:
        Summary: `measured`, and the last value of everything logged up to the epoch of `best.ckpt`. Table: the log, one
        row per logged step.
    """
    log = logs_of(directory.path).get(module, polars.DataFrame({"epoch": []}))
    best = checkpoint.read(directory.checkpoints() / "best.ckpt")["epoch"]
    until = log.filter(polars.col("epoch") <= best)
    values = {name: until[name].drop_nulls() for name in log.columns if "/" in name}
    summary = {name: float(value[-1]) for name, value in values.items() if len(value)} | dict(measured or {})
    rows = [{"quantity": name, "value": f"{value:.5g}"} for name, value in summary.items()]
    curves = learning_curves({module: log})
    report = page(
        title=f"SliceOff: the {module} learning",
        about=str(directory.path),
        headline=f"{len(log)} log lines, {log['epoch'].n_unique()} epochs; the values are those of the best one.",
        rows=rows or [{"quantity": "nothing to learn", "value": ""}],
        sections=[("Learning", "Validation results and losses; results.csv has all that was logged.", curves)],
    )
    return Results(summary, log, report, {"Learning": curves})
