"""A small trace on disk."""

from pathlib import Path

import numpy as np


def trace_csv(path: Path, regions: int = 2, step_minutes: int = 60, rows: int = 500, cell=None, scale=1) -> Path:
    """Daily waves of different sizes and phases in regions r0, r1, ...; `cell=(row, column, text)` replaces one cell."""
    times = np.datetime64("2024-01-01T00:00:00") + np.arange(rows) * np.timedelta64(step_minutes * 60, "s")
    hours = np.arange(rows) * step_minutes / 60
    waves = [scale * (50 * (i + 1) + 30 * np.sin(2 * np.pi * (hours - i) / 24)) for i in range(regions)]
    lines = [[str(cell) for cell in line] for line in zip(times, *waves, strict=True)]
    if cell:
        lines[cell[0]][cell[1]] = cell[2]
    names = ["time", *(f"r{i}" for i in range(regions))]
    path.write_text("\n".join(",".join(line) for line in [names, *lines]) + "\n")
    return path
