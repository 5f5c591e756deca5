"""Atomic writing of files."""

import os
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file atomically: under its own name it is always complete, even if the process or the machine stops.

    Args:
        path: where the file is to be.
        write: called with the path to write to, a hidden file beside `path`.
    """
    partial = path.with_name(f".{path.name}.partial")
    write(partial)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
