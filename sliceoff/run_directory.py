"""A run's directory: its config, summary, results table, checkpoints and report."""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from functools import cached_property
from io import BytesIO
from math import isfinite
from pathlib import Path
from typing import NamedTuple

import polars
from matplotlib.figure import Figure

from sliceoff.errors import InputError
from sliceoff.files import write_whole

LOCK = ".lock"
"""A file in every run directory, locked by the process that writes there."""

DIVERGED = "diverged.txt"
"""A file in the directory of a run that diverged, which says why."""

_held: dict[Path, int] = {}  # run directories that this process writes to -> descriptors of their locks


class Results(NamedTuple):
    """A job's results, to be written and logged.

    Attributes:
        summary: flat `name: value` pairs.
        table: the tidy table that the summary is computed from.
        report: a self-contained HTML page.
        figures: the report's, by heading, for loggers that store figures; None leaves one out.
    """

    summary: Mapping[str, object]
    table: polars.DataFrame
    report: str
    figures: Mapping[str, Figure | None] = {}


class RunDirectory:
    """A run's directory, created when the first file is written, so that a run refused for its input leaves nothing.

    Args:
        path: where to write. A new run never writes into an existing directory: a number is appended to the name.
        config: the text of `config.yaml`, which repeats the run.
        resume: write into `path` itself, the directory of the interrupted run.

    Raises:
        InputError: another process is writing to the run to resume, or it cannot be written to.
    """

    def __init__(self, path: str | Path, config: str, resume: bool = False):
        self._wanted, self._config, self.resume = Path(path), config, resume
        if resume:
            try:
                _hold(self._wanted)
            except OSError as error:
                raise InputError(f"cannot write to {path} ({error.strerror}); resume a run of your own") from error

    @cached_property
    def path(self) -> Path:
        """The directory, created at first use.

        Raises:
            InputError: it cannot be written to.
        """
        if self.resume:
            return self._wanted
        self._new_parents = [parent for parent in self._wanted.parents if not parent.exists()]
        created = None
        try:
            created = _create_unused(self._wanted)
            (created / "config.yaml").write_text(self._config, encoding="utf-8")
        except OSError as error:
            if created is not None:
                self._remove(created)
            raise InputError(f"cannot write the run to {self._wanted} ({error.strerror}); set run_dir=PATH") from error
        return created

    def close(self) -> None:
        """Release the lock, so that other processes can resume the run."""
        if self.created:
            _release(self.path)

    @property
    def created(self) -> bool:
        """Whether anything has been written yet."""
        return self.resume or "path" in self.__dict__

    def checkpoints(self, module: str = "") -> Path:
        """Directory of `best.ckpt` and `last.ckpt`: of the job's only module, or of the one named."""
        return self.path / "checkpoints" / module

    def write_text(self, name: str, text: str) -> None:
        """Write a text file, whole or not at all."""
        write_whole(self.path / name, text.encode())

    def write_table(self, name: str, table: polars.DataFrame) -> None:
        """Write a Parquet file, whole or not at all."""
        content = BytesIO()
        table.write_parquet(content)
        write_whole(self.path / name, content.getbuffer())

    def write(self, results: Results) -> None:
        """Write `report.html`, `results.parquet`, `results.csv` and `summary.json`; each appears whole or not at all.

        A resumed run's `config.yaml` is written again: it may have had another budget.

        What is not finite is null in `summary.json`, as JSON knows no NaN.
        """
        if self.resume:
            self.write_text("config.yaml", self._config)
        self.write_text("report.html", results.report)
        self.write_text("results.csv", results.table.write_csv())
        self.write_table("results.parquet", results.table)
        numbers = {
            name: None if isinstance(value, float) and not isfinite(value) else value
            for name, value in results.summary.items()
        }
        self.write_text("summary.json", json.dumps(numbers, indent=2, allow_nan=False) + "\n")

    @property
    def worth_keeping(self) -> bool:
        """Whether it holds results that took time: a checkpoint, or cleared markets."""
        if not self.created:
            return False
        return any(file.stat().st_size for name in ("*.ckpt", "cleared.jsonl") for file in self.path.rglob(name))

    def kept(self) -> bool:
        """Discard the directory unless it is worth keeping, and return whether it is."""
        if not (worth := self.worth_keeping):
            self.discard()
        return worth

    def discard(self) -> None:
        """Remove a new run's directory, and the parents created for it. A resumed run's files are kept."""
        if self.created and not self.resume:
            self._remove(self.path)

    def _remove(self, created: Path) -> None:
        _release(created)
        shutil.rmtree(created, ignore_errors=True)
        with contextlib.suppress(OSError):  # another run has begun in one of them
            for parent in self._new_parents:
                parent.rmdir()


def logs_of(run: Path) -> dict[str, polars.DataFrame]:
    """A run's CSV learning logs so far: module name -> its metrics, those of resumed sessions appended."""
    tables: dict[str, list[polars.DataFrame]] = {}
    for file in sorted((run / "logs").glob("*/version_*/metrics.csv"), key=lambda file: file.stat().st_mtime):
        tables.setdefault(file.parts[-3], []).append(polars.read_csv(file, infer_schema_length=None, glob=False))
    return {name: polars.concat(parts, how="diagonal_relaxed") for name, parts in tables.items()}


def is_finished(run: Path) -> bool:
    """Whether a run has ended and its results are written."""
    return (run / "summary.json").is_file()


def runs_under(directory: Path) -> list[Path]:
    """The run directories directly under `directory`, the most recently modified first."""
    runs = [file.parent for file in directory.glob("*/config.yaml")]
    return sorted(runs, key=lambda run: run.stat().st_mtime, reverse=True)


def is_free(run: Path) -> bool:
    """Whether this process could write to a run directory."""
    if run.resolve() in _held:
        return True
    try:
        _hold(run)
    except (InputError, OSError):
        return False
    _release(run)
    return True


def _hold(run: Path) -> None:
    """Keep other processes out of a run directory until `_release`.

    A POSIX lock: it ends with its process, however that ends, and no worker inherits it. Closing any descriptor of the
    file would release it as well, so a process opens the file only once.

    Raises:
        InputError: another process writes there.
        OSError: the directory cannot be written to.
    """
    if run.resolve() in _held:
        return
    file = os.open(run / LOCK, os.O_CREAT | os.O_WRONLY)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        os.close(file)
        raise InputError(f"{run} is being written by another process; wait for it to end, or stop it") from error
    except OSError:  # a file system without locks
        pass
    _held[run.resolve()] = file


def _release(run: Path) -> None:
    """Release the lock that `_hold` took."""
    if (file := _held.pop(run.resolve(), None)) is not None:
        os.close(file)


def _create_unused(path: Path) -> Path:
    """Create `path`, or a numbered successor, and hold it."""
    for number in range(10_000):
        candidate = path if number == 0 else path.with_name(f"{path.name}-{number + 1}")
        try:
            candidate.mkdir(parents=True)
        except FileExistsError:
            if not candidate.is_dir() or any(candidate.iterdir()):
                continue
        with contextlib.suppress(InputError):  # another process, started at the same moment, holds it already
            _hold(candidate)
            return candidate
    raise InputError(f"{path} and its numbered successors all exist; set run_dir=PATH")
