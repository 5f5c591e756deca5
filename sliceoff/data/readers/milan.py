"""Raw files of Telecom Italia's Milan data set (Harvard Dataverse, doi:10.7910/DVN/EGZHFV)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars
from jaxtyping import Float, Int

from sliceoff import checks
from sliceoff.data.checks import Source, check_regions, check_signs, first, parsed_numbers
from sliceoff.data.grid import Policy, to_trace
from sliceoff.data.readers.long import pivot
from sliceoff.data.readers.table import as_text, existing
from sliceoff.data.times import parse_times
from sliceoff.data.trace import Trace
from sliceoff.errors import InputError, OptionError, one_line

_ACTIVITIES = ("sms_in", "sms_out", "call_in", "call_out", "internet")
_COLUMNS = ("square", "time", "country", *_ACTIVITIES)
_SIDE, _SIDE_M = 100, 235.0  # the grid is 100 x 100 squares of 235 m, numbered from 1, row by row from the south-west


def read_milan(
    path: str | Path,
    columns: Sequence[str | int] | str | None = None,
    activity: str = "internet",
    gaps: str = "zero",
    negative: str = "error",
    resample_s: int | None = None,
) -> Trace:
    """Read raw files of the Milan data set: tab-separated, no header; square id, start of the interval [ms since 1970,
    UTC], country code, SMS in and out, calls in and out, internet. Lines of one square and time differ in their country
    and are summed; an empty cell is no activity.

    Args:
        path: one file, or a folder of daily ones (`*.txt` or `*.tsv`).
        columns: the squares to use, such as [5059, 5060]; None: all, by number.
        activity: the column to use: sms_in, sms_out, call_in, call_out or internet.
        gaps: how to fill a square and time without a line, see `sliceoff.data.grid.Policy`; `zero`, because no line
            means no activity.
        negative, resample_s: see there as well.

    Returns:
        A trace with the squares' centres as coordinates [m] east and north of the grid's south-western corner.

    Raises:
        InputError: a file is wrong; names file, column and line.
    """
    policy = Policy(gaps, negative, resample_s)
    checks.one_of("activity", activity, _ACTIVITIES)
    squares = None if columns is None else [_square(name) for name in check_regions(columns)]
    sums = _joined([(file, _sums(file, activity, squares, policy)) for file in _files(checks.path("path", path))])
    known = sums["square"].unique().sort().to_list()
    squares = known if squares is None else squares
    if absent := set(squares) - set(known):
        raise InputError(f"{path} has no line for square {min(absent)}; choose squares that it has with data.columns")
    series = sums["square"].replace_strict(squares, list(range(len(squares))), return_dtype=polars.Int64).to_numpy()
    times = sums["seconds"].to_numpy().astype("datetime64[s]")
    source = Source(Path(path), times, "time")  # sums over the lines of several files: messages name the time instead
    pivoted = pivot(source, times, series, sums["value"].to_numpy(), len(squares))
    return to_trace(*pivoted, [str(square) for square in squares], policy, _centres(np.array(squares)))


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [existing(path)]
    files = sorted(file for file in path.iterdir() if file.suffix in (".txt", ".tsv"))
    if not files:
        raise InputError(f"{path} holds no .txt or .tsv file of the Milan data; set data.path to the files' folder")
    return [existing(file) for file in files]


def _square(name: str) -> int:
    if not name.isdecimal():
        raise OptionError("columns", f": '{name}' is no square of the Milan grid; give numbers, such as [5059, 5060]")
    return int(name)


def _sums(file: Path, activity: str, squares: list[int] | None, policy: Policy) -> polars.DataFrame:
    """One row per square and time of a file: `square`, `seconds` since 1970, `value` summed over countries."""
    with file.open("rb") as opened:
        width = opened.readline().count(b"\t") + 1
    if width != len(_COLUMNS):
        raise InputError(
            f"{file}, line 1: {width} tab-separated cells, but a Milan file has {len(_COLUMNS)}: "
            f"{', '.join(_COLUMNS)}; give the raw files"
        )
    lines = _read(file, activity, squares)
    source = Source(file, lines["line"].to_numpy().astype(np.int64))
    for name in ("square", "time"):
        if (row := first(lines[name].is_null().to_numpy())) is not None:
            raise InputError(f"{source.at(row, name)}: the cell is empty; fill it in, or drop the line")
    if (row := first(lines.select("square", "time", "country").is_duplicated().to_numpy())) is not None:
        raise InputError(
            f"{source.at(row)}: square {lines['square'][row]}, time {lines['time'][row]} and country "
            f"{lines['country'][row]} are there twice; drop one of the lines"
        )
    values = check_signs(source, parsed_numbers(source, lines[activity])[:, None], [activity], policy.negative)[:, 0]
    seconds = parse_times(source, lines["time"]).astype(np.int64)
    cells = polars.DataFrame({"square": lines["square"], "seconds": seconds, "value": np.nan_to_num(values)})
    return cells.group_by("square", "seconds").agg(polars.col("value").sum()).sort("square", "seconds")


def _read(file: Path, activity: str, squares: list[int] | None) -> polars.DataFrame:
    counts = {name: polars.Int64 for name in _COLUMNS[:3]}
    table = polars.scan_csv(
        file,
        separator="\t",
        has_header=False,
        schema={**counts, **{name: polars.Float64 for name in _ACTIVITIES}},
        row_index_name="line",
        row_index_offset=1,
        glob=False,
    ).select("line", *counts, activity)
    if squares is not None:
        table = table.filter(polars.col("square").is_in(squares))
    try:
        return table.collect()
    except polars.exceptions.PolarsError as error:
        _explain(file, activity)
        raise InputError(f"{file} cannot be read: {one_line(error, 160)}; give the raw file") from None


def _explain(file: Path, activity: str) -> None:
    """Raise an error that names the first cell that is no number, if that is what is wrong."""
    table = as_text(file, "\t", truncate_ragged_lines=True)
    table.columns = list(_COLUMNS)
    source = Source(file, np.arange(1, table.height + 1))
    for name in (*_COLUMNS[:3], activity):
        parsed_numbers(source, table[name])


def _joined(parts: list[tuple[Path, polars.DataFrame]]) -> polars.DataFrame:
    """The rows of all files; refuses a square and time that is in two of them."""
    files, tables = zip(*parts, strict=True)
    whole = polars.concat(tables)
    if sum(table["seconds"].n_unique() for table in tables) > whole["seconds"].n_unique():
        again = whole.select("square", "seconds").is_duplicated()
        if (row := first(again.to_numpy())) is not None:
            square, seconds = whole["square"][row], whole["seconds"][row]
            holders = [
                file.name
                for file, table in parts
                if table.filter((polars.col("square") == square) & (polars.col("seconds") == seconds)).height
            ]
            raise InputError(
                f"{files[0].parent}: square {square} at {np.datetime64(seconds, 's')} is in both {holders[0]} and "
                f"{holders[1]}; take one of them out of the folder"
            )
    return whole


def _centres(squares: Int[np.ndarray, " squares"]) -> Float[np.ndarray, "squares 2"]:
    """Where the squares' centres lie, [m] east and north."""
    rows, columns = np.divmod(squares - 1, _SIDE)
    return _SIDE_M * (np.stack([columns, rows], axis=1) + 0.5)
