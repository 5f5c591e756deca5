"""CSV and Parquet files as lazily read tables, which keep the line number of every row."""

import csv
import gzip
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars

from sliceoff import checks
from sliceoff.data.checks import Source, check_columns, first
from sliceoff.data.times import find_time_column, looks_like_times
from sliceoff.errors import InputError, near_miss, one_line

_LINE = "\x00line"  # no file has a column of this name


@dataclass(frozen=True)
class Table:
    """A file's columns, not read yet.

    Args:
        path: the file.
        unit: what its rows are called in messages, `line` or `row`.
        frame: all columns, and the rows' numbers.
        separator: between cells, in a text file.
    """

    path: Path
    unit: str
    frame: polars.LazyFrame
    separator: str | None = None

    @property
    def columns(self) -> list[str]:
        """The names of all columns."""
        return [name for name in self.frame.collect_schema().names() if name != _LINE]

    def time_column(self, name: str | None) -> str:
        """The column called `name`, or the one that looks like times.

        Raises:
            InputError: there is none, or the file has no header.
        """
        if name is not None:
            check_columns(self.path, self.columns, [name], "data.time_column")
            return name
        head = self._collected(self.frame.select(polars.exclude(_LINE)).head(100))
        if (found := find_time_column(head)) is None:
            raise InputError(
                f"{self.path} has no column that looks like times (it has {', '.join(self.columns[:12])}); "
                f"set data.time_column"
            )
        if looks_like_times(polars.Series([found])):
            raise InputError(
                f"{self.path} has '{found}', a time, for a column's name; give the file a header: time, then names for "
                "the other columns"
            )
        return found

    def read(self, columns: Sequence[str]) -> tuple[Source, polars.DataFrame]:
        """Read these columns; lines on which all of them are empty are skipped.

        Raises:
            InputError: the file is malformed or has no rows.
        """
        frame = self.frame
        if self.separator is not None:
            # If polars read only some columns, it would not notice lines with too many cells, as from decimal commas.
            frame = self._collected(frame).lazy()
        frame = frame.select(_LINE, *columns).filter(~polars.all_horizontal(polars.col(columns).is_null()))
        table = self._collected(frame)
        if table.height == 0:
            raise InputError(f"{self.path} is empty but for its header; give a file with data")
        return Source(self.path, table[_LINE].to_numpy().astype(np.int64), self.unit), table.drop(_LINE)

    def _collected(self, frame: polars.LazyFrame) -> polars.DataFrame:
        try:
            return frame.collect()
        except (polars.exceptions.PolarsError, OSError) as error:
            if self.separator is not None:
                _check_width(self.path, self.separator, len(self.columns))
            raise InputError(f"{self.path} cannot be read: {one_line(error, 160)}; mend the file") from None


def scan_csv(path: str | Path) -> Table:
    """Open a CSV with a header; cells are separated by commas, semicolons or tabs, whichever the header has most of.

    It may be compressed (`.csv.gz`). All cells stay text, so that an error can name the line of one that is no number.

    Raises:
        InputError: the file is missing, empty, damaged or not UTF-8 text.
    """
    file = existing(path)
    try:
        with (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding="utf-8-sig") as lines:
            number, header = next(((n, line) for n, line in enumerate(lines, 1) if line.strip()), (0, ""))
        if not header:
            raise InputError(f"{file} is empty; give a file with data")
        separator = max(",;\t", key=header.count)
        frame = polars.scan_csv(  # detects compression
            file, separator=separator, infer_schema=False, row_index_name=_LINE, row_index_offset=number + 1, glob=False
        )
        frame.collect_schema()
        # As written: polars renames repeated columns.
        names = [name.strip() for name in next(csv.reader([header], delimiter=separator))]
    except UnicodeDecodeError:
        raise InputError(f"{file} is no UTF-8 text; save it as CSV in UTF-8, or choose another data=...") from None
    except (polars.exceptions.PolarsError, csv.Error, OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file} cannot be read: {one_line(error, 160)}; mend the file") from None
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise InputError(f"{file}, line {number}: two columns are called '{twice[0]}'; rename one")
    return Table(file, "line", frame.rename(str.strip), separator)


def scan_parquet(path: str | Path) -> Table:
    """Open a Parquet file; messages count its rows from 1.

    Raises:
        InputError: the file is missing, empty or no Parquet.
    """
    file = existing(path)
    try:
        frame = polars.scan_parquet(file, glob=False).with_row_index(_LINE, offset=1)
        frame.collect_schema()
    except (polars.exceptions.PolarsError, OSError) as error:
        raise InputError(
            f"{file} is no Parquet file ({one_line(error, 160)}); give one, or use data=wide_csv"
        ) from None
    return Table(file, "row", frame)


def _check_width(file: Path, separator: str, columns: int) -> None:
    """Refuse a line with more cells than the header; called when polars could not read the file."""
    try:
        lines = as_text(file, "\x00", quote_char=None).to_series()
    except (polars.exceptions.PolarsError, OSError):  # damaged
        return
    cells = 1 + lines.str.replace_all('"[^"]*"', "").str.count_matches(separator, literal=True)
    if (row := first((cells > columns).fill_null(False).to_numpy())) is not None:
        raise InputError(
            f"{file}, line {row + 1}: {cells[row]} cells, but the header has {columns}; mend the line, or quote cells "
            f"that hold '{separator}'"
        )


def as_text(file: Path, separator: str, **options: Any) -> polars.DataFrame:
    """All cells of a file as text, whatever they hold, to find the one for which it could not be read."""
    return polars.read_csv(
        file, separator=separator, has_header=False, infer_schema=False, encoding="utf8-lossy", glob=False, **options
    )


def existing(path: Any) -> Path:
    """`path` as the path of an existing file that is not empty.

    Raises:
        InputError: there is no such file, it is empty, or `path` is no path.
    """
    path = checks.path("path", path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; set data.path to a file in it")
    if not path.is_file():
        beside = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"there is no file {path}{near_miss(path.name, beside)}; set data.path")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; give a file with data")
    return path
