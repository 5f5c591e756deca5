"""Long tables: a line for every time and region."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars
from jaxtyping import Float, Int

from sliceoff.data.checks import Source, check_columns, check_order, check_regions, first, parsed_numbers
from sliceoff.data.grid import Policy, check_cells, to_trace
from sliceoff.data.readers.table import Table, scan_csv, scan_parquet
from sliceoff.data.times import parse_times
from sliceoff.data.trace import Trace
from sliceoff.errors import InputError


def read_long_csv(
    path: str | Path,
    time_column: str | None = None,
    region_column: str = "region",
    value_column: str = "value",
    columns: Sequence[str | int] | str | None = None,
    gaps: str = "interpolate",
    negative: str = "error",
    resample_s: int | None = None,
) -> Trace:
    """Read a CSV with a line for every time and region: time, region, value.

    Lines may be ordered by time or by region; those of each region must be in time order. A missing line is a gap, like
    an empty cell.

    Args:
        path: the file.
        time_column: as for `read_wide_csv`.
        region_column, value_column: the other columns' names.
        columns: the regions to use, in this order; None: all, in the order of their first lines.
        gaps, negative, resample_s: see `sliceoff.data.grid.Policy`.

    Raises:
        InputError: the file is wrong; names file, column and line.
    """
    policy = Policy(gaps, negative, resample_s)
    return _read(scan_csv(path), time_column, region_column, value_column, columns, policy)


def read_long_parquet(
    path: str | Path,
    time_column: str | None = None,
    region_column: str = "region",
    value_column: str = "value",
    columns: Sequence[str | int] | str | None = None,
    gaps: str = "interpolate",
    negative: str = "error",
    resample_s: int | None = None,
) -> Trace:
    """As `read_long_csv`, from Parquet; messages count rows from 1."""
    policy = Policy(gaps, negative, resample_s)
    return _read(scan_parquet(path), time_column, region_column, value_column, columns, policy)


def pivot(
    source: Source,
    times: np.ndarray,
    series: Int[np.ndarray, " rows"],
    values: Float[np.ndarray, " rows"],
    n_series: int,
) -> tuple[Source, np.ndarray, Float[np.ndarray, "times series"]]:
    """Reshape rows of (time, series, value) to one row per time; NaN where there is no value.

    Args:
        source, times, series, values: the rows; each pair of time and series occurs at most once.

    Returns:
        The source of each time's first row, the times in order, and the values.
    """
    whens, rows, place = np.unique(times, return_index=True, return_inverse=True)
    wide = np.full((len(whens), n_series), np.nan)
    wide[place, series] = values
    return source.pick(rows), whens, wide


def _read(
    table: Table,
    time_column: str | None,
    region_column: str,
    value_column: str,
    columns: Sequence[str | int] | str | None,
    policy: Policy,
) -> Trace:
    time_column = table.time_column(time_column)
    check_columns(table.path, table.columns, [region_column], "data.region_column")
    check_columns(table.path, table.columns, [value_column], "data.value_column")
    if len({time_column, region_column, value_column}) < 3:
        raise InputError(
            f"{table.path}: time, region and value must be three columns, not '{time_column}', '{region_column}', "
            f"'{value_column}'; set data.time_column, data.region_column, data.value_column"
        )
    source, cells = table.read([time_column, region_column, value_column])
    names = cells[region_column].cast(polars.String)
    if (row := first(names.is_null().to_numpy())) is not None:
        raise InputError(f"{source.at(row, region_column)}: the region is missing; fill it in, or drop the line")
    known = names.unique(maintain_order=True).to_list()
    regions = known if columns is None else check_regions(columns)
    check_columns(table.path, known, regions, "data.columns")
    if columns is not None:
        chosen = names.is_in(regions)
        source, cells, names = source.pick(chosen.to_numpy()), cells.filter(chosen), names.filter(chosen)
    series = names.replace_strict(regions, list(range(len(regions))), return_dtype=polars.Int64).to_numpy()
    times = parse_times(source, cells[time_column])
    values = parsed_numbers(source, cells[value_column])
    check_order(source, times, series)
    values = check_cells(source, values[:, None], [value_column], policy)[:, 0]
    return to_trace(*pivot(source, times, series, values, len(regions)), regions, policy)
