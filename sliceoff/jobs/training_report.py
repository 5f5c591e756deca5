"""What a fitting job reports: the log it wrote, and a page with its curves."""

from typing import Any

import polars

from sliceoff.report import learning_curves, page
from sliceoff.run_directory import RunDirectory


def learned(module: str, directory: RunDirectory) -> tuple[dict[str, Any], polars.DataFrame]:
    """Read the module's learning log and write `report.html`.

    Returns:
        The last value of everything logged, and the log itself, one row per logged step.
    """
    log = directory.logs().get(module, polars.DataFrame({"epoch": []}))
    last = {name: log[name].drop_nulls() for name in log.columns if "/" in name}
    summary = {name: float(values[-1]) for name, values in last.items() if len(values)}
    rows = [{"quantity": name, "last value": f"{value:.5g}"} for name, value in summary.items()]
    directory.write_text(
        "report.html",
        page(
            title=f"SliceOff: the {module} learning",
            about=str(directory.path),
            headline=f"{len(log)} log lines, {log['epoch'].n_unique()} epochs.",
            rows=rows or [{"quantity": "nothing to learn", "last value": ""}],
            sections=[("Learning", "One panel per logged quantity.", learning_curves({module: log}))],
        ),
    )
    return summary, log
