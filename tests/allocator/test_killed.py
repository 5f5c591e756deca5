"""SIGKILL at random moments, resume from the last checkpoint: the same weights as if nothing had happened."""

import multiprocessing
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from killed import train
from torch.testing import assert_close

KILLS, ENDLESS = 5, 10**6


@pytest.fixture(scope="module")
def processes():
    """Forked from a server that has imported everything already: a process in a second instead of ten."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sliceoff.allocator"])  # its imports are most of a start
    first = context.Process(target=int)  # waits for them, so that no run has to
    first.start()
    first.join(120)
    return context


def saved(directory: Path) -> dict:
    return torch.load(directory / "last.ckpt", weights_only=True)


def epoch(directory: Path) -> int:
    """Of the last checkpoint; -1 without one."""
    return saved(directory)["epoch"] if (directory / "last.ckpt").is_file() else -1


def test_five_kills_leave_no_trace_in_the_weights(processes, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def start(directory: Path, epochs: int) -> multiprocessing.process.BaseProcess:
        process = processes.Process(target=train, args=(directory, epochs), daemon=True)
        process.start()
        return process

    def finish(directory: Path, epochs: int) -> dict:
        process = start(directory, epochs)
        process.join(120)
        assert process.exitcode == 0
        return saved(directory)

    moment = random.Random(0)
    for _ in range(KILLS):
        process, deadline = start(killed, ENDLESS), time.monotonic() + 120
        reached = epoch(killed) + moment.randint(1, 3)
        while epoch(killed) < reached:  # whole and safe to load, whenever one looks
            assert process.is_alive()
            assert time.monotonic() < deadline, "no further checkpoint was written"
            time.sleep(0.005)
        time.sleep(moment.uniform(0, 0.2))  # about an epoch's time: anywhere in one
        process.kill()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
    epochs = epoch(killed) + 3
    one, other = finish(whole, epochs), finish(killed, epochs)
    for key in ("state_dict", "optimizer_states", "experience", "epoch"):
        assert_close(one[key], other[key], rtol=0, atol=0)
