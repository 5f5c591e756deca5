"""How every benchmark reports: a table for people, then one last line of JSON for machines."""

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from statistics import fmean, stdev

from rich.console import Console
from rich.table import Table
from scipy.stats import t


def table(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Print `rows` (all with the same keys, in column order) as a table."""
    view = Table(title=title, title_justify="left")
    for column in rows[0]:
        view.add_column(column, justify="right" if isinstance(rows[0][column], int | float) else "left")
    for row in rows:
        view.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(width=160).print(view)


def finish(results: Mapping[str, float]) -> None:
    """Print the results as the benchmark's last line: one flat JSON object of numbers, without what is not finite."""
    print(json.dumps({name: value for name, value in results.items() if isfinite(value)}, allow_nan=False))


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 % interval (Student's t), infinite for a single value."""
    if len(values) < 2:
        return fmean(values), float("inf")
    return fmean(values), float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5
