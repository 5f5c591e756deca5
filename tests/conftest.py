"""Shape checks for every test, and the command line as a fixture."""

import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import jaxtyping
import pytest
import torch
from jaxtyping import install_import_hook

os.environ["WANDB_MODE"] = "offline"
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell ignores for a job in its background
torch.set_num_threads(1)  # as `main.py` does: the tensors are small, and idle threads wait busily
install_import_hook(["sliceoff", "callbacks"], "typecheck.checked")

REAL_DATA = Path(os.environ.get("SLICEOFF_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


@pytest.fixture
def real_data() -> Path:
    """The folder of real traces; tests that want it skip where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real traces at {REAL_DATA}")
    return REAL_DATA


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def run(self) -> Path:
        """The run directory, which a command prints last."""
        return Path(self.out.strip().splitlines()[-1])


def main_py(*arguments: str) -> Ended:
    """Run `main.py ARGUMENTS` in this process and working directory."""
    from sliceoff.cli import main

    with (
        patch.object(sys, "argv", ["main.py", *arguments]),
        redirect_stdout(StringIO()) as out,
        redirect_stderr(StringIO()) as err,
    ):
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Ended(code, out.getvalue(), err.getvalue())


@pytest.fixture
def cli(monkeypatch, tmp_path):
    """`main_py`, in a directory of its own (`tmp_path`)."""
    monkeypatch.chdir(tmp_path)
    return main_py


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """`main_py`, once for all tests of a file, in a directory of theirs; the run directory, absolute."""

    def run(*arguments: str) -> Path:
        with chdir(tmp_path_factory.mktemp("once")):
            ended = main_py(*arguments)
            assert ended.code == 0, ended.err
            return ended.run.absolute()

    return run


@contextmanager
def _disk_full_at(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:  # before pytest reports the test, perhaps to a file
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def disk_full_at():
    """A context in which no file can grow beyond a size in bytes, as if the disk were full."""
    return _disk_full_at


@pytest.fixture
def as_at_run_time(monkeypatch):
    """Annotations are checked in tests alone: without them, wrong types reach the checks that users meet."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture
def elsewhere(monkeypatch) -> str:
    """A device that is not the host, as a GPU: a tensor of the host's that meets one of its own is an error.

    But for products and indices, which are not checked. It has no numbers, so that asking for one, which on a GPU would
    be waiting, is an error too. Nor has it autocast.
    """
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda device: torch.bfloat16)
    monkeypatch.setattr(torch, "autocast", lambda device, **options: nullcontext())
    return "meta"
