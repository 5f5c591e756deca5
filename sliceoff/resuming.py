"""Which directory a run writes to: a new one, or with `init=resume` that of the run that was stopped."""

from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from sliceoff import checkpoint
from sliceoff.checks import one_of, path
from sliceoff.errors import InputError
from sliceoff.run_config import config_of, deciding, repeatable, saved
from sliceoff.run_directory import RunDirectory, is_finished, is_free, runs_under


def begun_in_grid(cfg: DictConfig) -> Path | None:
    """In a resumed grid, this job's earlier run, found by its config.

    A finished one, else the newest that was stopped, else one that another process writes.
    """
    if not _grid_goes_on(cfg):
        return None
    mine, begun = deciding(saved(cfg)), list[Path]()
    for run in runs_under(path("run_dir", cfg.run_dir).parent):
        with suppress(InputError, FileNotFoundError):  # its config cannot be read, or it was discarded just now
            if checkpoint.differing(_deciding_of(run, (run / "config.yaml").stat().st_mtime_ns), mine) is None:
                if is_finished(run):
                    return run
                begun.append(run)
    return next(filter(is_free, begun), begun[0] if begun else None)


def directory_for(cfg: DictConfig, begun: Path | None) -> RunDirectory:
    """A new run's directory, or the one of the run to resume: `begun`, if it is not None.

    Raises:
        InputError: there is no run to resume, it has another config, or another process is writing to it.
    """
    new, config = path("run_dir", cfg.run_dir), repeatable(cfg)
    if begun is not None:
        return RunDirectory(begun, config, resume=True)
    if one_of("init.mode", cfg.init.mode, ("scratch", "resume")) == "scratch" or _grid_goes_on(cfg):
        return RunDirectory(new, config)
    return RunDirectory(_stopped(cfg), config, resume=True)


def newest_unfinished(runs: Path, job: str) -> Path:
    """The newest run of `job` directly under `runs` that was stopped: it has a `config.yaml` but no `summary.json`.

    Raises:
        InputError: there is none, or a `config.yaml` cannot be read.
    """
    unfinished = [
        run for run in runs_under(runs) if not is_finished(run) and deciding(config_of(run)).get("job.name") == job
    ]
    for run in unfinished:
        if is_free(run):
            return run
    going_on = f" ({len(unfinished)} going on in other processes, or not yours to write)" if unfinished else ""
    raise InputError(
        f"no unfinished run of job={job} under {runs} to resume{going_on}; name one with init.run=RUN_DIRECTORY"
    )


@cache
def _deciding_of(run: Path, written_ns: int) -> dict[str, Any]:
    """What decides a run's results: read once for all jobs of a grid (60 ms a run), and when it is written again.

    Raises:
        InputError: its config cannot be read.
    """
    return deciding(config_of(run))


def _grid_goes_on(cfg: DictConfig) -> bool:
    """Whether this is a job of a grid that is being resumed: `main.py -m ... init=resume`."""
    of_grid = HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN
    return of_grid and cfg.init.mode == "resume" and cfg.init.run is None


def _stopped(cfg: DictConfig) -> Path:
    """The run to resume: the one that `init.run` or `run_dir` names, else the job's newest unfinished one.

    Raises:
        InputError: there is none, or it is of another job or has another config.
    """
    key, value = ("run_dir", cfg.run_dir) if cfg.init.run is None else ("init.run", cfg.init.run)
    run = path(key, value)
    if not (run / "config.yaml").is_file():
        if key == "init.run" or not OmegaConf.is_interpolation(cfg, "run_dir"):
            raise InputError(f"{key}={run} is no run directory (no config.yaml there); name the run to resume")
        run = newest_unfinished(run.parent, cfg.job.name)
    its = _fixed(config_of(run))
    if (job := its.get("job.name")) != cfg.job.name:
        raise InputError(f"{run} is a run of job={job}, not of job={cfg.job.name}; name the run with init.run")
    if (place := checkpoint.differing(its, _fixed(saved(cfg)))) is not None:
        raise InputError(f"{run} was begun with another {place}; resume with the config that the run began with")
    return run


def _fixed(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that a resumed run may not change: those that decide its results, except `trainer` and `callbacks`."""
    free = ("trainer", "callbacks")
    return {key: value for key, value in deciding(config).items() if key.partition(".")[0] not in free}
