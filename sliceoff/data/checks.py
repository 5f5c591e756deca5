"""Checks of a trace file's content: every message names file, column and line, and says how to fix it.

All checks work on whole columns; none loops over rows.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars
from jaxtyping import Bool, Float, Int

from sliceoff.errors import InputError, OptionError, near_miss

_EMPTY = ("", "nan", "na", "n/a", "null", "none", "-")


@dataclass(frozen=True)
class Source:
    """Where the rows of a table came from, for messages.

    Args:
        path: the file.
        lines: every row's line number, from 1; or another label, as `unit` says.
        unit: what the labels are: `line`, `row` or `time`.
    """

    path: Path
    lines: np.ndarray
    unit: str = "line"

    def at(self, row: int, column: str | None = None) -> str:
        """Where a row is, as in `file, column 'x', line 12`."""
        where = f", column '{column}'" if column is not None else ""
        return f"{self.path}{where}, {self.unit} {self.lines[row]}"

    def pick(self, rows: np.ndarray) -> "Source":
        """The source of a table made of these rows (indices or a mask)."""
        return Source(self.path, self.lines[rows], self.unit)


def check_columns(path: Path, present: Sequence[str], wanted: Iterable[str], key: str) -> None:
    """Refuse a file that lacks a wanted column, array or region; `key` is the config key that named it."""
    known = set(present)
    for name in map(str, wanted):
        if name not in known:
            shown = ", ".join(present[:12]) + (", ..." if len(present) > 12 else "")
            raise InputError(f"{path} has no '{name}'{near_miss(name, present)} (it has {shown}); set {key}")


def check_regions(columns: Sequence[str | int] | str) -> list[str]:
    """The `columns` argument as a list of region names: at least one, without repetition."""
    names = [str(columns)] if isinstance(columns, str | int) else [str(name) for name in columns]
    if not names or len(set(names)) < len(names):
        raise OptionError("columns", f"={names} must name at least one region, and none twice; or leave it out for all")
    return names


def parsed_numbers(source: Source, column: polars.Series) -> Float[np.ndarray, " rows"]:
    """A column as float64, NaN where it is empty.

    Raises:
        InputError: a cell holds text, or a number that is infinite or too large for float32.
    """
    if column.dtype == polars.String:
        column = _parsed(source, column)
    elif not column.dtype.is_numeric():
        raise InputError(
            f"{source.path}: column '{column.name}' holds {column.dtype}, not numbers; choose others with data.columns"
        )
    values = column.cast(polars.Float64).to_numpy().astype(np.float64)
    if (row := first(np.abs(values) > np.finfo(np.float32).max)) is not None:
        raise InputError(f"{source.at(row, column.name)}: {values[row]:g} is infinite or too large; mend the cell")
    return values


def check_signs(
    source: Source, values: Float[np.ndarray, "rows columns"], names: Sequence[str], policy: str
) -> Float[np.ndarray, "rows columns"]:
    """Apply the policy `error | zero | allow` to negative values.

    Raises:
        InputError: a value is negative and the policy is `error`.
    """
    below = values < 0
    if policy == "zero":
        return np.where(below, 0.0, values)
    if policy == "error" and (row := first(np.any(below, axis=1))) is not None:
        column = int(below[row].argmax())
        raise InputError(
            f"{source.at(row, names[column])}: {values[row, column]:g} is negative; mend the cell, or set "
            f"data.negative=zero, or data.negative=allow if this is no traffic"
        )
    return values


def check_filled(source: Source, values: Float[np.ndarray, "rows columns"], names: Sequence[str]) -> None:
    """Raise an `InputError` if a cell is empty."""
    empty = np.isnan(values)
    if (row := first(np.any(empty, axis=1))) is not None:
        raise InputError(
            f"{source.at(row, names[int(empty[row].argmax())])}: the cell is empty; fill it in, or set "
            f"data.gaps=interpolate or data.gaps=zero"
        )


def check_order(source: Source, times: np.ndarray, series: Int[np.ndarray, " rows"] | None = None) -> None:
    """Times must rise from line to line, within each series where a table holds several.

    Args:
        times: `datetime64[s]`, (rows,).
        series: the number of the series that each row belongs to.

    Raises:
        InputError: a time is repeated or out of order.
    """
    order = np.arange(len(times)) if series is None else np.argsort(series, kind="stable")
    held = -np.diff(times[order]) >= np.timedelta64(0, "s")
    if series is not None:
        held &= np.diff(series[order]) == 0
    if (place := first(held)) is None:
        return
    earlier, row = order[: place + 1], int(order[place + 1])
    again = earlier[times[earlier] == times[row]]
    if series is not None:
        again = again[series[again] == series[row]]
    if len(again):
        raise InputError(
            f"{source.at(row)}: the time {times[row]} was there already on {source.unit} {source.lines[again[0]]}; "
            f"drop one of them (times are read to the second; local ones repeat when clocks go back: write UTC)"
        )
    raise InputError(f"{source.at(row)}: the time {times[row]} comes after {times[earlier[-1]]}; sort the file by time")


def check_step(source: Source, times: np.ndarray, gaps: str) -> int:
    """The step of rising times [s]: the most common distance between neighbours.

    Times may be missing, so distances may be whole multiples of the step. But if another distance makes up more than a
    quarter of all, the file mixes two steps, which is refused; not with `gaps=zero`, where an absent line means no
    traffic.

    Raises:
        InputError: there are fewer than two times, or they are not on one regular grid.
    """
    if len(times) < 2:
        raise InputError(f"{source.path} has {len(times)} time(s); a trace needs at least two")
    distances = np.diff(times).astype(np.int64)
    lengths, counts = np.unique(distances, return_counts=True)
    step = int(lengths[counts.argmax()])
    off_grid = distances % step != 0
    mixed = np.zeros_like(off_grid)
    if gaps != "zero":
        other = lengths[(counts >= 2) & (4 * counts > len(distances)) & (lengths != step)]
        mixed = np.isin(distances, other)
    if (place := first(off_grid | mixed)) is not None:
        raise InputError(
            f"{source.at(place + 1)}: {times[place + 1]} is {distances[place]} s after the time before, but the "
            f"commonest step is {step} s; put all times on one grid (mixed steps)"
        )
    return step


def first(bad: Bool[np.ndarray, " rows"]) -> int | None:
    """The index of the first True; None if there is none."""
    return int(bad.argmax()) if bad.any() else None


def _parsed(source: Source, text: polars.Series) -> polars.Series:
    parsed = text.cast(polars.Float64, strict=False)
    odd = (parsed.is_null() & text.is_not_null()).arg_true()
    if len(odd) == 0:
        return parsed
    cells = text.gather(odd).str.strip_chars()
    again = cells.cast(polars.Float64, strict=False)
    if (bad := first((again.is_null() & ~cells.str.to_lowercase().is_in(_EMPTY)).to_numpy())) is not None:
        separated = re.fullmatch(r"[-+]?\d[\d.,'\s]*", cells[bad])
        mend = "write numbers like 1234.5" if separated else "mend the cell"
        raise InputError(
            f"{source.at(odd[bad], text.name)}: '{cells[bad][:40]}' is no number; {mend}, or choose other columns with "
            f"data.columns"
        )
    return parsed.scatter(odd, again)
