"""Parse the times in files."""

import logging

import numpy as np
import polars

from sliceoff.data.checks import Source, first
from sliceoff.errors import InputError

log = logging.getLogger(__name__)

_NAMES = ("time", "timestamp", "datetime", "date", "ds")
_YEAR_FIRST = r"^\d{4}[-/]\d{1,2}[-/]\d"
_GERMAN = ("%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y")
# Up to these magnitudes an epoch number counts s, ms, us; beyond them ns. 1e11 s is the year 5138, 1e11 ms 1973.
_EPOCH_UNITS = ((1e11, "s"), (1e14, "ms"), (1e17, "us"), (np.inf, "ns"))
_EARLIEST, _LATEST = np.datetime64("1990-01-01", "s"), np.datetime64("2100-01-01", "s")


def parse_times(source: Source, column: polars.Series) -> np.ndarray:
    """A column of times as `datetime64[s]`; times with a zone or an offset are converted to UTC.

    Accepted are ISO 8601 text and its usual variants (space or T, slashes, no seconds, no time of day, Z or an offset),
    `31.12.2024 23:00` or `31.12.2024`, date and datetime columns, and epoch numbers in s, ms, us or ns, recognised by
    magnitude. Other orders of day and month are ambiguous and refused. Numbers that start at 0 have no known origin;
    they are read as counted from Thursday, 1970-01-01, with a warning.

    Raises:
        InputError: a time is missing or cannot be read.
    """
    if (row := first(column.is_null().to_numpy())) is not None:
        raise InputError(f"{source.at(row, column.name)}: the time is missing; fill it in, or drop the line")
    if column.dtype == polars.String:
        text = column.str.strip_chars()
        counts = text.cast(polars.Float64, strict=False)
        if counts.is_not_null().all():
            return _from_epoch(source, counts.alias(column.name))
        return _from_text(source, text)
    if column.dtype.is_numeric():
        return _from_epoch(source, column)
    if column.dtype.is_temporal() and column.dtype not in (polars.Time, polars.Duration):
        if isinstance(column.dtype, polars.Datetime) and column.dtype.time_zone is not None:
            column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return column.cast(polars.Datetime("us")).to_numpy().astype("datetime64[s]")
    raise InputError(f"{source.path}: column '{column.name}' holds {column.dtype}, no times; set data.time_column")


def find_time_column(head: polars.DataFrame) -> str | None:
    """The column of times: one called time, timestamp, datetime, date or ds; else the first that begins with a time.

    Args:
        head: the table's first rows.
    """
    by_name = {name.lower(): name for name in reversed(head.columns)}
    named = next((by_name[name] for name in _NAMES if name in by_name), None)
    return named or next((series.name for series in head if looks_like_times(series)), None)


def looks_like_times(column: polars.Series) -> bool:
    """Whether a column begins with a time, as date or as text."""
    column = column.drop_nulls().head(1)
    if column.dtype == polars.String:
        return bool(_parsed(column.str.strip_chars()).is_not_null().any())
    return column.dtype.is_temporal() and column.dtype not in (polars.Time, polars.Duration)


def _from_text(source: Source, text: polars.Series) -> np.ndarray:
    parsed = _parsed(text)
    if (row := first(parsed.is_null().to_numpy())) is not None:
        raise InputError(
            f"{source.at(row, text.name)}: '{text[row][:40]}' is no time; write 2024-12-31 23:00:00, or choose the "
            f"column of times with data.time_column"
        )
    return parsed.to_numpy().astype("datetime64[s]")


def _parsed(text: polars.Series) -> polars.Series:
    """Times in UTC, null where the text is not a time."""
    parsed = polars.Series(text.name, [None], polars.Datetime("us")).new_from_index(0, len(text))
    rest = text.str.contains(_YEAR_FIRST).arg_true()
    while len(rest):  # polars takes the format from the first cell; a file may mix a few
        some = _naive(text.gather(rest).str.to_datetime(time_unit="us", time_zone="UTC", strict=False))
        if some[0] is None:
            break
        parsed = parsed.scatter(rest, some)
        rest = rest.filter(some.is_null())
    rest = text.str.contains(r"^\d{1,2}\.\d{1,2}\.\d{4}( |$)").arg_true()
    for form in _GERMAN if len(rest) else ():
        read = text.gather(rest).str.to_datetime(form, time_unit="us", strict=False)
        parsed = parsed.scatter(rest, parsed.gather(rest).fill_null(read))
    return parsed


def _naive(times: polars.Series) -> polars.Series:
    return times.dt.replace_time_zone(None)


def _from_epoch(source: Source, column: polars.Series) -> np.ndarray:
    counts = column.cast(polars.Float64).to_numpy()
    if (row := first(~np.isfinite(counts))) is not None:
        raise InputError(f"{source.at(row, column.name)}: the time is missing; fill it in, or drop the line")
    largest = np.abs(counts).max(initial=0.0)
    unit = next(unit for limit, unit in _EPOCH_UNITS if largest < limit)
    # Whole numbers of any size go without rounding; in float64, epoch times are exact to well below a second.
    whole = column.cast(polars.Int64).to_numpy() if column.dtype.is_integer() else counts.astype(np.int64)
    times = whole.astype(f"datetime64[{unit}]").astype("datetime64[s]")
    outside = (times < _EARLIEST) | (times >= _LATEST)
    if len(counts) and counts[0] == 0:
        log.warning(
            "%s: times count from 0 and are read as [%s] from Thursday, 1970-01-01, on; write dates if they count "
            "something else, such as rows",
            source.path,
            unit,
        )
    elif (row := first(outside)) is not None:
        raise InputError(
            f"{source.at(row, column.name)}: {column[row]:.0f} as epoch time [{unit}] is {times[row]}, hardly right; "
            f"write 2024-12-31 23:00:00, or choose the column of times with data.time_column"
        )
    return times
