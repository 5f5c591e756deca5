"""Run the job that a config describes and write its run directory: called by the command line, tests and notebooks."""

import json
import platform
import time
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import polars
import torch
from omegaconf import DictConfig

from sliceoff.building import missing_extra
from sliceoff.checks import one_of, random_seed, whole
from sliceoff.config import configure as configure
from sliceoff.errors import Diverged, InputError, system_errors
from sliceoff.loggers import SUMMARY, ended_if_failed, log_results
from sliceoff.parts import Parts as Parts
from sliceoff.resuming import begun_in_grid, directory_for
from sliceoff.run_directory import DIVERGED, RunDirectory, is_finished


@dataclass(frozen=True)
class RunResult:
    """What `run` returns: the summary, the tidy table behind it, the run directory, and the parts that ran."""

    summary: dict[str, Any]
    table: polars.DataFrame
    directory: Path
    parts: Parts


@system_errors()
def run(cfg: DictConfig) -> RunResult:
    """Run the job that `cfg` describes and write its run directory.

    Raises:
        InputError: the config, a data file or a checkpoint is wrong, the disk is full or a permission is missing; no
            directory is left behind, unless something was fitted or cleared before.
        Diverged: training diverged; `diverged.txt` in the run directory says why.
        KeyboardInterrupt: interrupted; the message says how to go on. Trained modules have their `last.ckpt`.
    """
    if "defaults" in cfg:
        raise InputError('a config file is to be composed first: run(configure(config_dir=RUN, config_name="config"))')
    random_seed("seed", cfg.seed)
    whole("threads", cfg.threads, 1, 1024)
    one_of("matmul_precision", cfg.matmul_precision, ("highest", "high", "medium"))
    begun = begun_in_grid(cfg)
    if begun is not None and is_finished(begun):
        summary = json.loads((begun / "summary.json").read_text())
        return RunResult(summary, polars.read_parquet(begun / "results.parquet", glob=False), begun, Parts(cfg))
    with closing(directory_for(cfg, begun)) as directory, ended_if_failed():
        return _run(cfg, directory)


def _run(cfg: DictConfig, directory: RunDirectory) -> RunResult:
    started = time.perf_counter()
    torch.set_num_threads(cfg.threads)
    torch.set_float32_matmul_precision(cfg.matmul_precision)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    parts = Parts(cfg)
    try:
        with system_errors():  # here, too, for the handlers below
            parts.check_loggers()
            results = parts.job(parts, directory)
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
        with system_errors():
            log_results(parts.loggers(SUMMARY, directory), results, directory)
    except InputError as error:
        raise InputError(f"{error}; the run is complete but for its log: {directory.path}") from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"the run is complete but for its log: {directory.path}") from None
    return RunResult(dict(results.summary), results.table, directory.path, parts)


def _versions() -> dict[str, str]:
    packages = {f"version_{name}": version(name) for name in ("sliceoff", "torch", "lightning", "mip")}
    return {"version_python": platform.python_version(), **packages}
