"""Atomic writing of files."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write a file atomically: under its own name it is always complete, even if the process or the machine stops.

    It is written to a hidden file beside `path` first. The content is given whole, as torch and polars, which could
    write to a file themselves, do not say why a disk refused it.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        partial.unlink(missing_ok=True)  # on a full disk, room for others
        error.filename = str(path)
        raise
    partial.replace(path)
