"""How every benchmark reports: a table for people, then one last line of JSON for machines."""

import json
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from rich.console import Console
from rich.table import Table


def table(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Print `rows` (all with the same keys, in column order) as a table."""
    view = Table(title=title, title_justify="left")
    for column in rows[0]:
        view.add_column(column, justify="right" if isinstance(rows[0][column], int | float) else "left")
    for row in rows:
        view.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(width=160).print(view)


def finish(results: Mapping[str, float]) -> None:
    """Print the results as the benchmark's last line: one flat JSON object of numbers."""
    print(json.dumps(dict(results)))


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 % interval (Student's t), infinite for a single value."""
    if len(values) < 2:
        return fmean(values), float("inf")
    # 0.975 quantiles for 1 to 9 degrees of freedom; the one for ten, a little wide, beyond.
    t = dict(enumerate((12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262), 2)).get(len(values), 2.23)
    return fmean(values), t * stdev(values) / len(values) ** 0.5
