"""Experiment loggers: CSV files in the run directory, always, and optionally Weights & Biases.

The function named in a config of `logger` is called with `name` (the part of the run that logs: predictor, allocator,
...) and the run's `directory`, and returns a Lightning logger. Lightning finalises it after a fit, `log_results` after
the run.

In a W&B sweep (`WANDB_SWEEP_ID`) all parts log to one W&B run, the sweep's: its curves have names such as
`predictor/train/loss`, the summary's numbers keep their own names, and it ends with the run.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable
from uuid import uuid4

import wandb
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from matplotlib.figure import Figure

from sliceoff.run_directory import LOCK, Results, RunDirectory

SUMMARY = "summary"
"""The name under which a run logs its results."""

T = TypeVar("T")

log = logging.getLogger(__name__)


@runtime_checkable
class Archive(Protocol):
    """A logger that stores figures and files as well as numbers."""

    def log_figures(self, figures: Mapping[str, Figure | None]) -> None:
        """Log matplotlib figures by name; None is left out."""
        ...

    def log_files(self, kind: str, files: Sequence[Path]) -> None:
        """Log files together, under the name `kind`."""
        ...


def csv_logger(name: str, directory: Path) -> CSVLogger:
    """Log to `directory/logs/<name>/version_<n>/metrics.csv`; a resumed run opens the next version."""
    return CSVLogger(directory / "logs", name=name, flush_logs_every_n_steps=50)


def wandb_logger(
    name: str,
    directory: Path,
    project: str = "sliceoff",
    entity: str | None = None,
    online: bool = False,
    tags: list[str] | tuple[str, ...] = (),  # no Sequence[str]: a single string is one, too
    notes: str | None = None,
    group: str | None = None,
) -> "Guarded":
    """Log to Weights & Biases.

    The parts of one run are W&B runs of one group, named like the run directory unless `group` is given; in a sweep
    they are one W&B run. Offline unless `online` is true and the user is logged in; online, a resumed run continues
    its W&B runs. Never prompts, and never stops a run: if W&B fails, the CSV files remain.
    """
    about = {"project": project, "entity": entity, "tags": tags, "notes": notes, "group": group or directory.name}
    if not _in_sweep():
        about |= {"name": f"{directory.name}/{name}", "job_type": name}
        return Guarded(lambda: _begun(directory, online, about, known_as=directory / "logs" / name / "wandb_id"))

    def shared() -> WandbLogger:
        if wandb.run is not None:
            return WandbLogger(project=project, experiment=wandb.run)
        return _begun(directory, online, {**about, "name": directory.name})

    return Guarded(shared) if name == SUMMARY else Part(name, shared)


@contextmanager
def ended_if_failed() -> Iterator[None]:
    """In a W&B sweep, mark the W&B run as failed if the run fails, since `log_results` is then not called."""
    try:
        yield
    except BaseException:
        if _in_sweep():
            with suppress(Exception):  # W&B's own error must not hide the run's
                wandb.finish(exit_code=1)
        raise


def log_results(loggers: Sequence[Logger], results: Results, directory: RunDirectory) -> None:
    """Log a run's results, and finalise the loggers.

    Numbers go to every logger; figures, and the run directory's files and checkpoints, to every `Archive`.
    """
    numbers = {name: value for name, value in results.summary.items() if isinstance(value, int | float)}
    status = "failed"
    try:
        for logger in loggers:
            logger.log_metrics({name: value for name, value in numbers.items() if isfinite(value)})
            if isinstance(logger, Archive):
                logger.log_figures(results.figures)
                logger.log_files(
                    "results", sorted(file for file in directory.path.iterdir() if file.is_file() and file.name != LOCK)
                )
                logger.log_files("checkpoints", sorted(directory.checkpoints().rglob("*.ckpt")))
        status = "success"
    finally:
        for logger in loggers:
            logger.finalize(status)


def log_figures(loggers: Iterable[Logger], figures: Mapping[str, Figure | None]) -> None:
    """Log figures to every `Archive`."""
    for logger in loggers:
        if isinstance(logger, Archive):
            logger.log_figures(figures)


def _in_sweep() -> bool:
    """Whether `wandb agent` started this process; it gives all W&B runs of the process the same id."""
    return "WANDB_SWEEP_ID" in os.environ


def _mode(online: bool) -> Literal["online", "offline", "disabled"]:
    mode = os.environ.get("WANDB_MODE")
    if mode == "disabled":
        return "disabled"
    return "online" if online and mode != "offline" and _logged_in() else "offline"


def _begun(directory: Path, online: bool, about: Mapping[str, Any], known_as: Path | None = None) -> WandbLogger:
    """Start a W&B run; online, continue the run whose id is in the file `known_as`, if W&B's server has it.

    Args:
        about: arguments of `wandb.init`.
        known_as: file of the run's id, written if it is missing. Not used offline: W&B cannot continue offline runs.
    """
    mode = _mode(online)
    known = _id(known_as) if known_as is not None and mode == "online" else None
    run = wandb.init(  # called here, because Lightning's own call has an option that W&B warns about
        **about,
        id=known,
        resume=None if known is None else "allow",
        dir=directory.absolute(),  # W&B's process may have another working directory
        mode=mode,
        settings=wandb.Settings(silent=True, console="off"),
    )
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return WandbLogger(project=about["project"], experiment=run)


def _id(file: Path) -> str:
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(uuid4().hex[:12])
    return file.read_text()


@cache
def _logged_in() -> bool:
    """Whether the user is logged in to W&B. Does not prompt; cached, because without a network it takes a while."""
    try:
        if wandb.login(prompt=False):
            return True
        reason = "nobody is logged in to W&B (run `wandb login`)"
    except Exception as error:  # any error of W&B
        reason = f"W&B refuses the login or cannot be reached ({error})"
    log.warning("logger.online=true, but %s: logging offline", reason)
    return False


class Guarded(Logger):
    """A W&B logger that never stops a run: at its first failure it is dropped, with one warning.

    Args:
        start: makes the logger; called once, at construction.
    """

    def __init__(self, start: Callable[[], WandbLogger]):
        super().__init__()
        self._logger: WandbLogger | None = None
        try:
            self._logger = start()
        except Exception as error:  # no error of W&B may end a run
            self._off(error)

    @property
    def name(self) -> str | None:
        """The W&B project, None when off."""
        return None if self._logger is None else self._logger.name

    @property
    def version(self) -> int | str | None:
        """The W&B run id, None when off."""
        return None if self._logger is None else self._logger.version

    @property
    def experiment(self) -> Any:
        """The W&B run, None when off."""
        return self._logger and self._logger.experiment

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._attempt(lambda wandb_logger: wandb_logger.log_metrics(metrics, step))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self._attempt(lambda wandb_logger: wandb_logger.log_hyperparams(params))

    def log_figures(self, figures: Mapping[str, Figure | None]) -> None:
        """Log matplotlib figures as images."""
        self._attempt(lambda wandb_logger: _log_images(wandb_logger, figures))

    def log_files(self, kind: str, files: Sequence[Path]) -> None:
        """Log files as one artifact, named for its kind and the W&B run."""
        if files:
            self._attempt(lambda wandb_logger: _log_artifact(wandb_logger, kind, files))

    def finalize(self, status: str) -> None:
        """End the W&B run; it is marked as failed unless `status` is `success`."""
        code = 0 if status == "success" else 1
        self._attempt(lambda wandb_logger: wandb_logger.experiment.finish(exit_code=code))
        self._logger = None

    def _attempt(self, call: Callable[[WandbLogger], object]) -> None:
        if self._logger is not None:
            try:
                call(self._logger)
            except Exception as error:
                self._off(error)

    def _off(self, error: Exception) -> None:
        self._logger = None
        log.warning("W&B logging is off from here (%s: %s); the CSV log goes on", type(error).__name__, error)


class Part(Guarded):
    """Logs one part to a W&B run that all parts share: names get the part's as prefix, `finalize` leaves the run open.

    Args:
        part: its name.
        start: as for `Guarded`; returns a logger of the shared run.
    """

    def __init__(self, part: str, start: Callable[[], WandbLogger]):
        super().__init__(start)
        self._part = part

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        super().log_metrics(self._named(metrics), step)

    def log_figures(self, figures: Mapping[str, Figure | None]) -> None:
        """Log matplotlib figures as images, with the part's name as prefix."""
        super().log_figures(self._named(figures))

    def finalize(self, status: str) -> None:
        """Leave the W&B run open for the next part."""

    def _named(self, values: Mapping[str, T]) -> dict[str, T]:
        return {f"{self._part}/{name}": value for name, value in values.items()}


def _log_images(logger: WandbLogger, figures: Mapping[str, Figure | None]) -> None:
    if images := {name: wandb.Image(figure) for name, figure in figures.items() if figure is not None}:
        logger.experiment.log(images)


def _log_artifact(logger: WandbLogger, kind: str, files: Sequence[Path]) -> None:
    run = logger.experiment
    artifact = wandb.Artifact(f"{kind}-{run.id}", type=kind)
    top = Path(os.path.commonpath([file.parent for file in files]))
    for file in files:
        artifact.add_file(str(file), name=str(file.relative_to(top)))
    run.log_artifact(artifact)
