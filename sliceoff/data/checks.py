"""Checks of what a file holds; every message names file, column and line and says how to mend it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars
from jaxtyping import Bool, Float

from sliceoff.errors import InputError, near_miss

Gaps = Literal["interpolate", "zero", "error"]
Negative = Literal["error", "allow", "zero"]


@dataclass(frozen=True)
class Source:
    """Where a table came from, for messages. Row 0 stands on line `first_line` of the file."""

    path: Path
    first_line: int

    def at(self, row: int, column: str | None = None) -> str:
        """`file, column 'x', line 12`."""
        where = f"{self.path}, " + (f"column '{column}', " if column is not None else "")
        return f"{where}line {self.first_line + row}"


def check_columns(source: Source, present: list[str], wanted: list[str], key: str) -> None:
    """Every wanted column must be there."""
    for column in wanted:
        if column not in present:
            raise InputError(
                f"{source.path} has no column '{column}'{near_miss(column, present)} "
                f"(it has {', '.join(present[:12])}); set {key}"
            )


def numbers(source: Source, column: polars.Series) -> Float[np.ndarray, " rows"]:
    """A column as float64, NaN where it is empty.

    Raises:
        InputError: a cell holds text or infinity.
    """
    if column.dtype == polars.String:
        stripped = column.str.strip_chars()
        empty = stripped.is_null() | (stripped == "") | stripped.str.to_lowercase().is_in(["nan", "na", "null", "none"])
        parsed = stripped.cast(polars.Float64, strict=False)
        if bad := _first((parsed.is_null() & ~empty).to_numpy()):
            raise InputError(
                f"{source.at(bad - 1, column.name)}: '{column[bad - 1]}' is no number; mend the cell, or choose other "
                f"columns with data.columns"
            )
        column = parsed.fill_nan(None)
    elif not column.dtype.is_numeric():
        raise InputError(f"{source.path}: column '{column.name}' holds {column.dtype}, not numbers; set data.columns")
    values = column.cast(polars.Float64).to_numpy().astype(np.float64)
    if bad := _first(np.isinf(values)):
        raise InputError(f"{source.at(bad - 1, column.name)}: the value is infinite; mend the cell")
    return values


def parse_times(source: Source, column: polars.Series) -> np.ndarray:
    """A column of times as `datetime64[s]`: ISO text (with or without zone, then UTC), dates, epoch seconds or ms.

    Raises:
        InputError: a cell is no time.
    """
    if column.dtype == polars.String:
        text = column.str.strip_chars()
        as_number = text.cast(polars.Int64, strict=False)
        if len(text) and as_number.is_not_null().all():
            return parse_times(source, as_number.alias(column.name))
        parsed = text.str.to_datetime(time_unit="us", strict=False, time_zone="UTC", exact=True)
        for form in ("%Y-%m-%d %H:%M", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%d.%m.%Y %H:%M"):
            if parsed.null_count() < len(parsed):
                break
            parsed = text.str.to_datetime(form, time_unit="us", strict=False, time_zone="UTC")
        if bad := _first(parsed.is_null().to_numpy()):
            raise InputError(
                f"{source.at(bad - 1, column.name)}: '{column[bad - 1]}' is no time; write 2024-01-31 12:00:00, or set "
                f"data.time_column"
            )
        return parsed.dt.replace_time_zone(None).to_numpy().astype("datetime64[s]")
    if bad := _first(column.is_null().to_numpy()):
        raise InputError(f"{source.at(bad - 1, column.name)}: the time is missing; fill it in or drop the line")
    if column.dtype.is_integer():
        stamps = column.to_numpy().astype(np.int64)
        milliseconds = len(stamps) > 0 and np.abs(stamps).max() > 100_000_000_000  # after the year 5138 in seconds
        return stamps.astype("datetime64[ms]" if milliseconds else "datetime64[s]").astype("datetime64[s]")
    if column.dtype.is_temporal():
        return column.cast(polars.Datetime("us")).to_numpy().astype("datetime64[s]")
    raise InputError(f"{source.path}: column '{column.name}' holds {column.dtype}, no times; set data.time_column")


def check_signs(
    source: Source, values: Float[np.ndarray, "rows regions"], regions: list[str], policy: Negative
) -> Float[np.ndarray, "rows regions"]:
    """Traffic is not negative, unless the user says that it may be."""
    if policy not in ("error", "allow", "zero"):
        raise InputError(f"data.negative={policy!r} is none of error, allow, zero")
    below = values < 0
    if policy == "error" and below.any():
        row, column = np.argwhere(below)[0]
        raise InputError(
            f"{source.at(int(row), regions[column])}: {values[row, column]:g} is negative; mend it, or set "
            f"data.negative=zero, or allow if it is no traffic"
        )
    return np.where(below, 0.0, values) if policy == "zero" else values


def check_order(source: Source, times: np.ndarray) -> int:
    """Times must rise, one step apart or whole steps where some are missing; returns the step [s].

    Raises:
        InputError: duplicate, unsorted or unevenly spaced times, or fewer than two.
    """
    if len(times) < 2:
        raise InputError(f"{source.path} has {len(times)} row(s) of data; a trace needs at least two times")
    steps = np.diff(times).astype("timedelta64[s]").astype(np.int64)
    if bad := _first(steps == 0):
        raise InputError(f"{source.at(bad)}: the time {times[bad]} is there twice; drop one of the lines")
    if bad := _first(steps < 0):
        raise InputError(f"{source.at(bad)}: the time {times[bad]} comes after {times[bad - 1]}; sort the file by time")
    lengths, counts = np.unique(steps, return_counts=True)
    step = int(lengths[counts.argmax()])
    if bad := _first(steps % step != 0):
        raise InputError(
            f"{source.at(bad)}: {times[bad]} is {steps[bad - 1]} s after the line before, but the file's step is "
            f"{step} s; put it on one time grid"
        )
    return step


def fill_gaps(
    source: Source,
    times: np.ndarray,
    values: Float[np.ndarray, "rows regions"],
    regions: list[str],
    step_s: int,
    policy: Gaps,
) -> tuple[np.ndarray, Float[np.ndarray, "time regions"]]:
    """Put the rows on the full time grid and fill missing times and empty cells by `policy`."""
    if policy not in ("interpolate", "zero", "error"):
        raise InputError(f"data.gaps={policy!r} is none of interpolate, zero, error")
    place = ((times - times[0]).astype("timedelta64[s]").astype(np.int64)) // step_s
    advice = "fill it in, or set data.gaps=interpolate or zero"
    if policy == "error":
        if bad := _first(np.diff(place) > 1):
            raise InputError(f"{source.at(bad)}: no data between {times[bad - 1]} and {times[bad]}; {advice}")
        if np.isnan(values).any():
            row, column = np.argwhere(np.isnan(values))[0]
            raise InputError(f"{source.at(int(row), regions[column])}: the cell is empty; {advice}")
    full = np.full((place[-1] + 1, values.shape[1]), np.nan)
    full[place] = values
    grid = np.arange(len(full))
    for column, region in enumerate(regions):
        missing: Bool[np.ndarray, " time"] = np.isnan(full[:, column])
        if missing.all():
            raise InputError(f"{source.path}: column '{region}' is empty throughout; leave it out with data.columns")
        if policy == "zero":
            full[missing, column] = 0.0
        else:
            full[missing, column] = np.interp(grid[missing], grid[~missing], full[~missing, column])
    return times[0] + grid * np.timedelta64(step_s, "s"), full


def _first(bad: Bool[np.ndarray, " rows"]) -> int:
    """One plus the index of the first True, 0 if there is none."""
    return int(np.argmax(bad)) + 1 if bad.any() else 0
