"""SIGKILL at random moments, resume from the last checkpoint: the same weights as if nothing had happened."""

import multiprocessing
import random
import time
from pathlib import Path

import pytest
import torch
from killed import train

EPOCHS, KILLS = 16, 5


@pytest.fixture(scope="module")
def processes():
    """Forked from a server that has imported everything already: a process in a second instead of ten."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sliceoff.allocator"])  # its imports are most of a start
    first = context.Process(target=int)  # waits for them, so that no run that is timed has to
    first.start()
    first.join()
    return context


def saved(directory: Path) -> dict:
    return torch.load(directory / "last.ckpt", weights_only=True)


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return one == other


def test_five_kills_leave_no_trace_in_the_weights(processes, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def start(directory: Path) -> multiprocessing.process.BaseProcess:
        process = processes.Process(target=train, args=(directory, EPOCHS))
        process.start()
        return process

    began = time.monotonic()
    uninterrupted = start(whole)
    uninterrupted.join()
    assert uninterrupted.exitcode == 0
    lasted = time.monotonic() - began

    moment, deaths, epochs = random.Random(0), 0, set()
    while deaths < KILLS:
        process = start(killed)
        process.join(lasted * moment.uniform(0.4, 0.9))
        process.kill()
        process.join()
        if process.exitcode == 0:  # done before it could be killed: again from the start
            (killed / "last.ckpt").unlink()
            continue
        deaths += 1
        if (killed / "last.ckpt").is_file():
            epochs.add(saved(killed)["epoch"])  # whole and safe to load, whenever the kill came
    final = start(killed)
    final.join()
    assert final.exitcode == 0
    assert len(epochs) > 1, f"every kill came before the second epoch: {epochs}"
    one, other = saved(whole), saved(killed)
    for key in ("state_dict", "optimizer_states", "experience", "epoch"):
        assert same(one[key], other[key]), key
