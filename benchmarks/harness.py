"""Common to all benchmarks: options, results that are kept in files, and reports.

A report is a table, then a last line of JSON.
"""

import argparse
import json
import resource
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

import lightning.pytorch as pl
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sliceoff.files import write_whole
from sliceoff.report.intervals import t_interval
from sliceoff.report.seeds import plus_minus


def options(description: str | None) -> argparse.ArgumentParser:
    """A command line parser whose help starts with the benchmark's docstring."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def kept(path: Path, measure: Callable[[], Any]) -> Any:
    """The content of the JSON file `path`; if it is missing, it is measured and written first."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        found = json.dumps(measure())
        write_whole(path, found.encode())
    return json.loads(path.read_text())


def bare_trainer(**options: Any) -> pl.Trainer:
    """A trainer without progress bar, logger and checkpoints."""
    return pl.Trainer(
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def rounding_error(device: torch.device) -> float:
    """The largest error of a float32 matrix product with torch's current settings, over its largest entry.

    Below 1e-6 in single precision, about 3e-3 where bfloat16 is multiplied.
    """
    left, right = torch.randn(2, 512, 512, generator=torch.Generator().manual_seed(0)).to(device)
    exact = left.double() @ right.double()
    return float(((left @ right).double() - exact).abs().max() / exact.abs().max())


def resident_mib() -> float:
    """Resident memory of this process now (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def table(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Print `rows` (all with the same keys, in column order) as a table."""
    view = Table(title=escape(title), title_justify="left")  # rich takes `[ms]` for markup
    for column in rows[0]:
        view.add_column(escape(column), justify="right" if isinstance(rows[0][column], int | float) else "left")
    for row in rows:
        view.add_row(*(escape(f"{value:.4g}" if isinstance(value, float) else str(value)) for value in row.values()))
    Console(width=160).print(view)


def finish(results: Mapping[str, float]) -> None:
    """Print the results as the benchmark's last line, a flat JSON object; numbers that are not finite are left out."""
    print(json.dumps({name: value for name, value in results.items() if isfinite(value)}, allow_nan=False))


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 % interval (Student's t), infinite for a single value."""
    _, half = t_interval(values)
    return fmean(values), float("inf") if half is None else half


def shown(values: Sequence[float], sign: str = "") -> str:
    """`interval` as text, in the reports' format; `sign="+"` shows the sign."""
    return plus_minus(*t_interval(values), sign)
