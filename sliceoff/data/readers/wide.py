"""Wide tables: a column of times, and one per region."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sliceoff.data.checks import check_columns, check_order, check_regions, parsed_numbers
from sliceoff.data.grid import Policy, check_cells, to_trace
from sliceoff.data.readers.table import Table, scan_csv, scan_parquet
from sliceoff.data.times import parse_times
from sliceoff.data.trace import Trace
from sliceoff.errors import InputError


def read_wide_csv(
    path: str | Path,
    time_column: str | None = None,
    columns: Sequence[str | int] | str | None = None,
    gaps: str = "interpolate",
    negative: str = "error",
    resample_s: int | None = None,
) -> Trace:
    """Read a CSV with one column of times and one per region.

    Args:
        path: the file.
        time_column: the column of times (`sliceoff.data.times` says what it may hold); None: the one called time,
            timestamp, datetime, date or ds, else the first that looks like times.
        columns: the regions to use; None: every column but the times that has a name (row numbers often have none).
        gaps, negative, resample_s: see `sliceoff.data.grid.Policy`.

    Raises:
        InputError: the file is wrong; names file, column and line.
    """
    return _read(scan_csv(path), time_column, columns, Policy(gaps, negative, resample_s))


def read_wide_parquet(
    path: str | Path,
    time_column: str | None = None,
    columns: Sequence[str | int] | str | None = None,
    gaps: str = "interpolate",
    negative: str = "error",
    resample_s: int | None = None,
) -> Trace:
    """As `read_wide_csv`, from Parquet; messages count rows from 1."""
    return _read(scan_parquet(path), time_column, columns, Policy(gaps, negative, resample_s))


def _read(table: Table, time_column: str | None, columns: Sequence[str | int] | str | None, policy: Policy) -> Trace:
    time_column = table.time_column(time_column)
    others = [name for name in table.columns if name != time_column]
    regions = [name for name in others if name] if columns is None else check_regions(columns)
    check_columns(table.path, others, regions, "data.columns")
    if not regions:
        raise InputError(f"{table.path} has no column beside '{time_column}'; a wide table has one per region")
    source, cells = table.read([time_column, *regions])
    times = parse_times(source, cells[time_column])
    values = np.stack([parsed_numbers(source, cells[name]) for name in regions], axis=1)
    check_order(source, times)
    return to_trace(source, times, check_cells(source, values, regions, policy), regions, policy)
