"""Reader of NumPy archives (`.npz`)."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars

from sliceoff.data.checks import Source, check_columns, check_order, check_regions, first, parsed_numbers
from sliceoff.data.grid import Policy, check_cells, to_trace
from sliceoff.data.readers.table import existing
from sliceoff.data.times import parse_times
from sliceoff.data.trace import Trace
from sliceoff.errors import InputError, one_line


def read_npz(
    path: str | Path,
    columns: Sequence[str | int] | str | None = None,
    gaps: str = "interpolate",
    negative: str = "error",
    resample_s: int | None = None,
) -> Trace:
    """Read a NumPy archive, written for example with `numpy.savez(path, values=..., times=...)`.

    It holds `values` (time, regions) and `times` (time,), as datetime64, text or epoch numbers; optionally `regions`,
    their names (else 0, 1, ...), and `coordinates` (regions, 2). Messages count rows from 1.

    Args:
        path: the file.
        columns: the regions to use; None: all.
        gaps, negative, resample_s: see `sliceoff.data.grid.Policy`; NaN is an empty cell.

    Raises:
        InputError: the archive is wrong; names file, array and row.
    """
    policy = Policy(gaps, negative, resample_s)
    file = existing(path)
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
    except (ValueError, TypeError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{file} is no .npz archive ({one_line(error, 160)}); write it with numpy.savez") from None
    check_columns(file, list(arrays), ["values", "times"], "the arrays' names when saving the file")
    values, stamps = arrays["values"], arrays["times"]
    if values.ndim != 2 or stamps.shape != values.shape[:1] or 0 in values.shape:
        raise InputError(f"{file}: values {values.shape} must be (time, regions), and times {stamps.shape} (time,)")
    known = [str(name) for name in arrays.get("regions", np.arange(values.shape[1]))]
    coordinates = arrays.get("coordinates")
    if len(known) != values.shape[1] or (coordinates is not None and coordinates.shape != (len(known), 2)):
        raise InputError(f"{file}: regions and coordinates must have one row per column of values {values.shape}")
    place = {name: column for column, name in enumerate(known)}
    if len(place) < len(known):
        twice = next(name for column, name in enumerate(known) if place[name] != column)
        raise InputError(f"{file}: two regions are called '{twice}'; rename one")
    regions = known if columns is None else check_regions(columns)
    check_columns(file, known, regions, "data.columns")
    index = [place[name] for name in regions]
    source = Source(file, np.arange(1, len(values) + 1), "row")
    times = _times(source, stamps)
    picked = np.stack(
        [parsed_numbers(source, polars.Series(known[place], values[:, place])) for place in index], axis=1
    )
    check_order(source, times)
    picked = check_cells(source, picked, regions, policy)
    where = None if coordinates is None else coordinates[index].astype(np.float64)
    return to_trace(source, times, picked, regions, policy, where)


def _times(source: Source, stamps: np.ndarray) -> np.ndarray:
    if stamps.dtype.kind != "M":  # polars has no datetime64[s]
        return parse_times(source, polars.Series("times", stamps))
    if (row := first(np.isnat(stamps))) is not None:
        raise InputError(f"{source.at(row, 'times')}: the time is missing; fill it in, or drop the row")
    return stamps.astype("datetime64[s]")
