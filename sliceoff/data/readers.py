"""Readers: a file becomes a `Trace`, or one clear error.

All readers share these arguments:

    gaps: what missing times and empty cells become: `interpolate` (in time), `zero`, or `error`.
    negative: what negative values are: `error`, `allow` (not traffic), or `zero`.
    resample_s: mean over this many seconds instead of the file's own step, a multiple of it.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars
from jaxtyping import Float

from sliceoff.data.checks import (
    Gaps,
    Negative,
    Source,
    check_columns,
    check_order,
    check_signs,
    fill_gaps,
    numbers,
    parse_times,
)
from sliceoff.data.trace import Trace
from sliceoff.errors import InputError, near_miss

_TIME_NAMES = ("time", "timestamp", "date", "datetime", "ds")
_MILAN = ("square", "time", "country", "sms_in", "sms_out", "call_in", "call_out", "internet")


def read_wide_csv(
    path: str | Path,
    time_column: str | None = None,
    columns: Sequence[str] | None = None,
    gaps: Gaps = "interpolate",
    negative: Negative = "error",
    resample_s: int | None = None,
) -> Trace:
    """Read a CSV with one column of times and one per region.

    Args:
        path: the file.
        time_column: its name; None: the first called time, timestamp, date, datetime or ds, else the first column.
        columns: the regions to use; None: every other column.

    Raises:
        InputError: the file is wrong; names file, column and line.
    """
    return _wide(*_csv(path), time_column, columns, gaps, negative, resample_s)


def read_wide_parquet(
    path: str | Path,
    time_column: str | None = None,
    columns: Sequence[str] | None = None,
    gaps: Gaps = "interpolate",
    negative: Negative = "error",
    resample_s: int | None = None,
) -> Trace:
    """As `read_wide_csv`, from Parquet; lines in messages count rows from 1."""
    return _wide(*_parquet(path), time_column, columns, gaps, negative, resample_s)


def read_long_csv(
    path: str | Path,
    time_column: str | None = None,
    region_column: str = "region",
    value_column: str = "value",
    columns: Sequence[str] | None = None,
    gaps: Gaps = "interpolate",
    negative: Negative = "error",
    resample_s: int | None = None,
) -> Trace:
    """Read a CSV with one line per time and region: time, region, value.

    Args:
        path: the file.
        time_column, region_column, value_column: the columns' names.
        columns: the regions to use; None: all.

    Raises:
        InputError: the file is wrong; names file, column and line.
    """
    return _long(*_csv(path), time_column, region_column, value_column, columns, gaps, negative, resample_s)


def read_long_parquet(
    path: str | Path,
    time_column: str | None = None,
    region_column: str = "region",
    value_column: str = "value",
    columns: Sequence[str] | None = None,
    gaps: Gaps = "interpolate",
    negative: Negative = "error",
    resample_s: int | None = None,
) -> Trace:
    """As `read_long_csv`, from Parquet; lines in messages count rows from 1."""
    return _long(*_parquet(path), time_column, region_column, value_column, columns, gaps, negative, resample_s)


def read_npz(
    path: str | Path,
    columns: Sequence[str] | None = None,
    gaps: Gaps = "interpolate",
    negative: Negative = "error",
    resample_s: int | None = None,
) -> Trace:
    """Read a NumPy archive: `values` (time, regions), `times` (datetime64 or epoch seconds), optionally `regions`
    (names) and `coordinates` (regions, 2).

    Raises:
        InputError: the archive is wrong; names file, array and row.
    """
    source = _source(path, first_line=1)
    try:
        with np.load(source.path, allow_pickle=False) as archive:
            arrays = dict(archive)
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{source.path} is no .npz archive ({error}); write it with numpy.savez") from error
    check_columns(source, list(arrays), ["values", "times"], "the arrays' names when saving")
    values, times = np.asarray(arrays["values"]), np.asarray(arrays["times"])
    if values.ndim != 2 or len(values) != len(times) or not np.issubdtype(values.dtype, np.number):
        raise InputError(
            f"{source.path}: values {values.shape} must be numbers, (time, regions), for {len(times)} times"
        )
    regions = [str(name) for name in arrays.get("regions", np.arange(values.shape[1]))]
    if len(regions) != values.shape[1]:
        raise InputError(f"{source.path}: {len(regions)} regions are named, but values have {values.shape[1]} columns")
    chosen = regions if columns is None else [str(name) for name in columns]
    check_columns(source, regions, chosen, "data.columns")
    index = [regions.index(name) for name in chosen]
    stamps = parse_times(source, polars.Series("times", times))
    coordinates = arrays["coordinates"][index].astype(np.float64) if "coordinates" in arrays else None
    picked = np.stack([numbers(source, polars.Series(regions[column], values[:, column])) for column in index], axis=1)
    return _trace(source, stamps, picked, chosen, gaps, negative, resample_s, coordinates)


def read_milan(
    path: str | Path,
    columns: Sequence[str] | None = None,
    activity: str = "internet",
    gaps: Gaps = "zero",
    negative: Negative = "error",
    resample_s: int | None = None,
) -> Trace:
    """Read raw Telecom Italia Milan files: tab-separated square id, interval start [ms], country code, SMS in and out,
    call in and out, internet; one row per country, which are summed. An absent row or cell is no activity.

    Args:
        path: one file, or a folder of daily files (`*.txt`).
        columns: the squares to use; None: all.
        activity: sms_in, sms_out, call_in, call_out or internet.

    Raises:
        InputError: a file is wrong; names file, column and line.
    """
    if activity not in _MILAN[3:]:
        raise InputError(f"data.activity={activity!r} is none of {', '.join(_MILAN[3:])}{near_miss(activity, _MILAN)}")
    folder = Path(path)
    files = sorted(folder.glob("*.txt")) if folder.is_dir() else [folder]
    if not files:
        raise InputError(f"{folder} holds no .txt file of the Milan data; set data.path to the files' folder")
    parts = []
    for file in files:
        source = _source(file, first_line=1)
        table = _read(source, lambda p: polars.read_csv(p, separator="\t", has_header=False, infer_schema=False))
        if table.width != len(_MILAN):
            raise InputError(f"{file} has {table.width} columns, the Milan files have {len(_MILAN)}, tab-separated")
        table = table.rename(dict(zip(table.columns, _MILAN, strict=True)))
        if columns is not None:
            table = table.with_row_index("row").filter(polars.col("square").is_in([str(name) for name in columns]))
        parts.append(
            polars.DataFrame(
                {
                    "time": parse_times(source, table["time"]),
                    "region": table["square"],
                    "value": numbers(source, table[activity]),
                }
            )
        )
    whole = polars.concat(parts)
    sums = whole.group_by("time", "region").agg(polars.col("value").fill_nan(0.0).sum()).sort("time", "region")
    chosen = sorted(sums["region"].unique(), key=lambda name: (len(name), name)) if columns is None else columns
    return _pivot(Source(folder, 1), sums, [str(name) for name in chosen], gaps, negative, resample_s)


def _wide(
    source: Source,
    table: polars.DataFrame,
    time_column: str | None,
    columns: Sequence[str] | None,
    gaps: Gaps,
    negative: Negative,
    resample_s: int | None,
) -> Trace:
    time_column = _time_column(source, table, time_column)
    regions = [name for name in table.columns if name != time_column] if columns is None else list(columns)
    check_columns(source, table.columns, regions, "data.columns")
    if not regions:
        raise InputError(f"{source.path} has no column beside '{time_column}'; a wide file has one per region")
    times = parse_times(source, table[time_column])
    values = np.stack([numbers(source, table[name]) for name in regions], axis=1)
    return _trace(source, times, values, regions, gaps, negative, resample_s)


def _long(
    source: Source,
    table: polars.DataFrame,
    time_column: str | None,
    region_column: str,
    value_column: str,
    columns: Sequence[str] | None,
    gaps: Gaps,
    negative: Negative,
    resample_s: int | None,
) -> Trace:
    time_column = _time_column(source, table, time_column)
    check_columns(source, table.columns, [region_column], "data.region_column")
    check_columns(source, table.columns, [value_column], "data.value_column")
    cells = polars.DataFrame(
        {
            "time": parse_times(source, table[time_column]),
            "region": table[region_column].cast(polars.String),
            "value": numbers(source, table[value_column]),
        }
    )
    check_signs(source, cells.select("value").to_numpy(), [value_column], negative)
    again = cells.select(~polars.struct("time", "region").is_first_distinct()).to_series()
    if again.any():
        row = int(again.arg_max() or 0)
        raise InputError(
            f"{source.at(row)}: {cells['time'][row]} is there twice for region '{cells['region'][row]}'; drop one"
        )
    known = cells["region"].unique(maintain_order=True).to_list()
    chosen = known if columns is None else [str(name) for name in columns]
    check_columns(source, known, chosen, "data.columns")
    return _pivot(
        source, cells.filter(polars.col("region").is_in(chosen)).sort("time"), chosen, gaps, negative, resample_s
    )


def _pivot(
    source: Source,
    cells: polars.DataFrame,
    regions: Sequence[str],
    gaps: Gaps,
    negative: Negative,
    resample_s: int | None,
) -> Trace:
    """Cells (time, region, value), each once, to a trace."""
    times, row = np.unique(cells["time"].to_numpy().astype("datetime64[s]"), return_inverse=True)
    place = {name: column for column, name in enumerate(regions)}
    values = np.full((len(times), len(regions)), np.nan)
    values[row, cells["region"].replace_strict(place, return_dtype=polars.Int64).to_numpy()] = cells["value"].to_numpy()
    return _trace(source, times, values, list(regions), gaps, negative, resample_s)


def _trace(
    source: Source,
    times: np.ndarray,
    values: Float[np.ndarray, "rows regions"],
    regions: Sequence[str],
    gaps: Gaps,
    negative: Negative,
    resample_s: int | None,
    coordinates: np.ndarray | None = None,
) -> Trace:
    names = [str(name) for name in regions]
    step = check_order(source, times)
    values = check_signs(source, values, names, negative)
    times, values = fill_gaps(source, times, values, names, step, gaps)
    if resample_s is not None:
        if resample_s < step or resample_s % step:
            raise InputError(f"data.resample_s={resample_s} is no multiple of the step of {source.path}, {step} s")
        factor = resample_s // step
        whole = len(values) // factor * factor
        values = values[:whole].reshape(-1, factor, values.shape[1]).mean(1)
        times, step = times[:whole:factor], resample_s
    return Trace(values, times, tuple(names), step, coordinates)


def _source(path: str | Path, first_line: int) -> Source:
    path = Path(path)
    if not path.is_file():
        beside = [file.name for file in path.parent.glob("*")] if path.parent.is_dir() else []
        raise InputError(f"there is no file {path}{near_miss(path.name, beside)}; set data.path")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; give a file with data")
    return Source(path, first_line)


def _csv(path: str | Path) -> tuple[Source, polars.DataFrame]:
    source = _source(path, first_line=2)
    # Everything as text first: a cell that is no number can then be named by its line.
    table = _read(source, lambda file: polars.read_csv(file, infer_schema=False))
    return source, table.rename({name: name.strip() for name in table.columns})


def _parquet(path: str | Path) -> tuple[Source, polars.DataFrame]:
    source = _source(path, first_line=1)
    return source, _read(source, polars.read_parquet)


def _read(source: Source, reader) -> polars.DataFrame:
    try:
        table = reader(source.path)
    except (polars.exceptions.PolarsError, OSError) as error:
        raise InputError(
            f"{source.path} cannot be read: {' '.join(str(error).split())[:200]}; check its format"
        ) from None
    if table.height == 0:
        raise InputError(f"{source.path} has a header but is otherwise empty; give a file with data")
    return table


def _time_column(source: Source, table: polars.DataFrame, name: str | None) -> str:
    if name is not None:
        check_columns(source, table.columns, [name], "data.time_column")
        return name
    return next((column for column in table.columns if column.lower() in _TIME_NAMES), table.columns[0])
