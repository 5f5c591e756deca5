"""Speed and memory of windows as views of one tensor, gathered per batch, against row-by-row and copied windows."""

import argparse
import subprocess
import sys
import time

import numpy as np
import torch
from harness import finish, options, resident_mib, table
from torch.utils.data import DataLoader, Dataset

from sliceoff.data import Trace, TrafficDataModule
from sliceoff.data.windows import Windows

STEPS, REGIONS, INPUT_LENGTH, HORIZON, BATCH = 40_000, 10, 168, 24, 32


class RowByRow(Dataset):
    """The usual data set in forecasting code: one window per item, batches by the default collate function."""

    def __init__(
        self, values: torch.Tensor, calendar: torch.Tensor, input_length: int = INPUT_LENGTH, horizon: int = HORIZON
    ):
        self.values, self.calendar, self.input_length, self.horizon = values, calendar, input_length, horizon

    def __len__(self) -> int:
        return len(self.values) - self.input_length - self.horizon + 1

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        cut, end = index + self.input_length, index + self.input_length + self.horizon
        return self.values[index:cut], self.calendar[index:cut], self.values[cut:end], self.calendar[cut:end]


def trace() -> Trace:
    times = np.datetime64("2024-01-01", "s") + np.arange(STEPS) * np.timedelta64(600, "s")
    values = np.random.default_rng(0).random((STEPS, REGIONS))
    return Trace(values, times, tuple(f"region_{i}" for i in range(REGIONS)), 600)


def windows_per_second(loader, repetitions: int = 3) -> float:
    best = float("inf")
    for _ in range(repetitions):
        started = time.perf_counter()
        count = sum(len(batch[0]) for batch in loader)
        best = min(best, (time.perf_counter() - started) / count)
    return 1 / best


def memory_mib(kind: str) -> float:
    """The memory growth of a fresh process while it prepares all windows, as `views` or `copies` (Linux)."""
    result = subprocess.run([sys.executable, __file__, "--child", kind], capture_output=True, text=True, check=True)
    return float(result.stdout.splitlines()[-1])


def _measure(kind: str) -> None:
    made = trace()
    before = resident_mib()
    windows: Windows | torch.Tensor
    if kind == "views":
        windows = TrafficDataModule(made, INPUT_LENGTH, HORIZON).train_windows
    else:
        values = torch.from_numpy(made.values).float()[: int(0.7 * STEPS)]
        windows = values.unfold(0, INPUT_LENGTH + HORIZON, 1).contiguous()
    assert len(windows) > 0
    print(resident_mib() - before)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--child", choices=("views", "copies"), help=argparse.SUPPRESS)
    if (child := parser.parse_args().child) is not None:
        return _measure(child)
    torch.set_num_threads(1)
    datamodule = TrafficDataModule(trace(), INPUT_LENGTH, HORIZON, batch_size=BATCH)
    rows = RowByRow(datamodule.train_values, torch.zeros(len(datamodule.train_values), 4))
    gathered = windows_per_second(datamodule.train_dataloader())
    collated = windows_per_second(DataLoader(rows, batch_size=BATCH, shuffle=True))
    views, copies = memory_mib("views"), memory_mib("copies")
    table(
        f"windows of {INPUT_LENGTH} + {HORIZON} steps, {REGIONS} regions, batches of {BATCH}, one thread",
        [
            {"": "windows per second", "ours": gathered, "theirs": collated, "ratio": gathered / collated},
            {"": "memory for the windows [MiB]", "ours": views, "theirs": copies, "ratio": views / copies},
        ],
    )
    finish(
        {
            "gathered_windows_per_s": gathered,
            "collated_windows_per_s": collated,
            "ratio": gathered / collated,
            "views_mib": views,
            "copies_mib": copies,
            "memory_ratio": views / copies,
        }
    )


if __name__ == "__main__":
    main()
