"""Run the job that a config describes and write its run directory: called by the command line, tests and notebooks."""

import json
import platform
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import polars
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from sliceoff import checkpoint
from sliceoff.checks import one_of, path, random_seed, whole
from sliceoff.config import configure as configure
from sliceoff.config import in_force
from sliceoff.errors import Diverged, InputError
from sliceoff.loggers import SUMMARY, ended_if_failed, log_results
from sliceoff.parts import Parts as Parts
from sliceoff.parts import missing_extra
from sliceoff.run_directory import DIVERGED, Results, RunDirectory, config_of, deciding, newest_unfinished, runs_under


@dataclass(frozen=True)
class RunResult:
    """What `run` returns: the summary, the tidy table behind it, the run directory, and the parts that ran."""

    summary: dict[str, Any]
    table: polars.DataFrame
    directory: Path
    parts: Parts


def run(cfg: DictConfig) -> RunResult:
    """Run the job that `cfg` describes and write its run directory.

    Raises:
        InputError: the config, a data file or a checkpoint is wrong; no directory is left behind, unless something was
            fitted or cleared before.
        Diverged: training diverged; `diverged.txt` in the run directory says why.
        KeyboardInterrupt: interrupted; the message says how to go on. Trained modules have their `last.ckpt`.
    """
    random_seed("seed", cfg.seed)
    whole("threads", cfg.threads, 1, 1024)
    one_of("matmul_precision", cfg.matmul_precision, ("highest", "high", "medium"))
    begun = _begun_in_grid(cfg)
    if begun is not None and (begun / "summary.json").is_file():
        summary = json.loads((begun / "summary.json").read_text())
        return RunResult(summary, polars.read_parquet(begun / "results.parquet"), begun, Parts(cfg))
    with closing(_directory(cfg, begun)) as directory, ended_if_failed():
        return _run(cfg, directory)


def _run(cfg: DictConfig, directory: RunDirectory) -> RunResult:
    started = time.perf_counter()
    torch.set_num_threads(cfg.threads)
    torch.set_float32_matmul_precision(cfg.matmul_precision)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    parts = Parts(cfg)
    try:
        parts.check_loggers()
        results: Results = parts.job(parts, directory)
        about = {"seed": cfg.seed, **_versions(), "wall_seconds": round(time.perf_counter() - started, 3)}
        results = results._replace(summary={**results.summary, **about})
        directory.write(results)
        (directory.path / DIVERGED).unlink(missing_ok=True)  # this run was resumed and did not diverge again
    except KeyboardInterrupt:
        left = "go on with init=resume" if directory.kept() else "there was nothing to keep yet"
        raise KeyboardInterrupt(left) from None
    except Diverged as error:
        directory.write_text(DIVERGED, f"{error}\n")
        raise
    except (InputError, ModuleNotFoundError) as error:
        reason = str(error) if isinstance(error, InputError) else missing_extra(str(error))
        if reason is None:
            raise
        if directory.kept():
            reason += f"; what was done until then is kept in {directory.path}"
        raise InputError(reason) from error
    try:
        log_results(parts.loggers(SUMMARY, directory), results, directory)
    except InputError as error:
        raise InputError(f"{error}; the run is complete but for its log: {directory.path}") from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"the run is complete but for its log: {directory.path}") from None
    return RunResult(dict(results.summary), results.table, directory.path, parts)


def _grid_goes_on(cfg: DictConfig) -> bool:
    """Whether this is a job of a grid that is being resumed: `main.py -m ... init=resume`."""
    of_grid = HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN
    return of_grid and cfg.init.mode == "resume" and cfg.init.run is None


def _begun_in_grid(cfg: DictConfig) -> Path | None:
    """In a resumed grid, this job's earlier run, found by its config: a finished one, else the newest stopped one."""
    if not _grid_goes_on(cfg):
        return None
    mine, stopped = deciding(_content(cfg)), None
    for run in runs_under(path("run_dir", cfg.run_dir).parent):
        if _decided_by(run, mine):
            if (run / "summary.json").is_file():
                return run
            stopped = stopped or run
    return stopped


def _decided_by(run: Path, mine: Mapping[str, Any]) -> bool:
    """Whether a run's config has the deciding keys `mine`; not if it cannot be read."""
    try:
        return checkpoint.differing(deciding(config_of(run)), mine) is None
    except InputError:
        return False


def _directory(cfg: DictConfig, begun: Path | None) -> RunDirectory:
    run, config = path("run_dir", cfg.run_dir), _repeatable(cfg)
    if begun is not None:
        return RunDirectory(begun, config, resume=True)
    if one_of("init.mode", cfg.init.mode, ("scratch", "resume")) == "scratch" or _grid_goes_on(cfg):
        return RunDirectory(run, config)
    given = "run_dir"
    if cfg.init.run is not None:
        given, run = "init.run", path("init.run", cfg.init.run)
    if not (run / "config.yaml").is_file():
        if given == "init.run" or not OmegaConf.is_interpolation(cfg, "run_dir"):
            raise InputError(f"{given}={run} is no run directory (no config.yaml there); name the run to resume")
        run = newest_unfinished(run.parent, cfg.job.name)
    its = _fixed(config_of(run))
    if (job := its.get("job.name")) != cfg.job.name:
        raise InputError(f"{run} is a run of job={job}, not of job={cfg.job.name}; name the run with init.run")
    if (key := checkpoint.differing(its, _fixed(_content(cfg)))) is not None:
        raise InputError(f"{run} was begun with another {key}; resume with the config that the run began with")
    return RunDirectory(run, config, resume=True)


def _fixed(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that a resumed run may not change: those that decide its results, except `trainer` and `callbacks`."""
    free = ("trainer", "callbacks")
    return {key: value for key, value in deciding(config).items() if key.partition(".")[0] not in free}


def _content(cfg: DictConfig) -> dict[str, Any]:
    """The config in force, without the keys that say where a run is written and whether it is resumed."""
    content = in_force(cfg)
    content["run_dir"] = f"runs/{content['job']['name']}/${{now:%Y-%m-%d_%H-%M-%S}}"
    content["init"] = {
        key: value for key, value in content["init"].items() if key not in ("mode", "run") and value is not None
    }
    return content


def _repeatable(cfg: DictConfig) -> str:
    """The text of `config.yaml`: `--config-dir RUN --config-name config` repeats the run in a new directory."""
    content = _content(cfg)
    choices = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    defaults = {"defaults": [{"init": "scratch"}, {"hydra": "default"}, "_self_"]}
    left_out = {"hydra", "init"} | cfg.keys() - content.keys()
    header = "".join(
        f"# {group}={choice}\n" for group, choice in sorted(choices.items()) if group.partition("/")[0] not in left_out
    )
    return header + OmegaConf.to_yaml(OmegaConf.create({**defaults, **content}))


def _versions() -> dict[str, str]:
    packages = {f"version_{name}": version(name) for name in ("sliceoff", "torch", "lightning", "mip")}
    return {"version_python": platform.python_version(), **packages}
