"""How every benchmark reports: a table for people, then one last line of JSON for machines."""

import json
from collections.abc import Mapping, Sequence

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
