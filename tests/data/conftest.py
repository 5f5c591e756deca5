"""Small trace files, whole or spoilt in one place."""

from pathlib import Path

import numpy as np
import pytest

START = np.datetime64("2024-03-04T00:00:00", "s")


@pytest.fixture
def wide_rows() -> list[list[str]]:
    """Twelve hours of two regions; row i of the data stands on line i + 2."""
    times = START + np.arange(12) * np.timedelta64(3600, "s")
    return [[str(time), str(10.0 + i), str(20.0 + 2 * i)] for i, time in enumerate(times)]


@pytest.fixture
def write(tmp_path: Path):
    """Write a header and rows of cells as CSV; returns the path."""

    def write(rows: list[list[str]], header: str = "time,north,south", name: str = "trace.csv", sep: str = ",") -> Path:
        path = tmp_path / name
        path.write_text("\n".join([header, *(sep.join(row) for row in rows)]) + "\n")
        return path

    return write
