"""Builds the objects that a config names, each on first use.

Jobs and everything below them get plain arguments and see no Hydra config.
"""

import inspect
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from pydoc import locate
from types import MappingProxyType
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import lightning.pytorch as pl
from lightning.pytorch.loggers import CSVLogger, Logger
from omegaconf import DictConfig, OmegaConf

from sliceoff import checkpoint
from sliceoff.building import build, built
from sliceoff.checks import annotated, optional, path, positive
from sliceoff.config import given
from sliceoff.data import Trace, TrafficDataModule
from sliceoff.errors import InputError, worded
from sliceoff.fitting import fit, test
from sliceoff.loggers import csv_logger
from sliceoff.loop import Stack, users_per_unit
from sliceoff.predictor import Forecaster, unsuited
from sliceoff.region import Allocator, Scenario
from sliceoff.run_config import BROUGHT, FITTED_WINDOWS, in_force
from sliceoff.run_directory import Results, RunDirectory
from sliceoff.slicing import Offers, Slicer

Module = TypeVar("Module", bound=pl.LightningModule)


@runtime_checkable
class Job(Protocol):
    """The interface of jobs: called with a run's parts and its directory, they return what is written there."""

    name: str

    def __call__(self, parts: "Parts", directory: RunDirectory) -> Results: ...


class Parts:
    """The objects that a config names, each built on first use and then kept.

    Raises:
        InputError: something that the config names cannot be built; the message has the config key.
    """

    def __init__(self, cfg: DictConfig):
        positive("mean_users", cfg.mean_users)
        self._cfg = cfg

    @property
    def seed(self) -> int:
        """The run's random seed."""
        return self._cfg.seed

    @cached_property
    def job(self) -> Job:
        """The job, called with these parts and a run directory."""
        return built(self._cfg, Job, "job")

    @cached_property
    def trace(self) -> Trace:
        """The traffic trace."""
        return built(self._cfg, Trace, "data")

    @cached_property
    def datamodule(self) -> TrafficDataModule:
        """Windows over the trace, with the config's options."""
        return built(self._cfg, TrafficDataModule, "windows", trace=self.trace)

    def windows(self, **options: Any) -> TrafficDataModule:
        """Windows over the trace; `options`, such as `first_steps`, override the config's."""
        return built(self._cfg, TrafficDataModule, "windows", trace=self.trace, **options)

    def windows_as_fitted(self, fitted: Mapping[str, Any], **options: Any) -> TrafficDataModule:
        """Windows over the trace with a fitted predictor's options, except where one of `options` is not None.

        Args:
            fitted: the predictor's arguments, as in its `spec`.

        Raises:
            InputError: an override sets a predictor or windows, which would have no effect.
        """
        _refuse_beside("init.checkpoint", self._cfg)
        chosen = {name: fitted.get(name) for name in FITTED_WINDOWS}
        chosen |= {name: value for name, value in options.items() if value is not None}
        return self.windows(**{name: value for name, value in chosen.items() if value is not None})

    def has_checkpoint(self, module: str) -> bool:
        """Whether the config sets `init.predictor`, `init.allocator` or `init.checkpoint` (the one to start from)."""
        return self._cfg.init[module] is not None

    def init_serves(self, *used: str) -> None:
        """Check that no option of `init` is set (checkpoint, predictor, allocator) except those that the job uses.

        Raises:
            InputError: another one is set, which the job would ignore.
        """
        for name in ("checkpoint", "predictor", "allocator"):
            value = optional(path, f"init.{name}", self._cfg.init[name])
            if name not in used and value is not None:
                takes = " and ".join(f"init.{key}" for key in used) or "nothing of init"
                raise InputError(
                    f"job={self._cfg.job.name} makes no use of init.{name}; it takes {takes} "
                    "(job=finetune init.checkpoint=RUN tunes a fitted predictor)"
                )

    def loaded_forecaster(self) -> Forecaster:
        """The forecaster in `init.checkpoint`, as it was fitted.

        Raises:
            InputError: it is not set, or is no predictor's checkpoint.
        """
        return checkpoint.load(self._checkpoint(), expect=Forecaster)

    def checkpoint(self) -> dict[str, Any]:
        """The content of `init.checkpoint`, a predictor's.

        Raises:
            InputError: it is not set, or is no predictor's checkpoint.
        """
        return checkpoint.read(self._checkpoint(), expect=Forecaster)

    def _checkpoint(self) -> str:
        if (path := self._cfg.init.checkpoint) is None:
            job = self._cfg.job.name
            raise InputError(
                f"job={job} starts from a fitted predictor; set init.checkpoint=RUN_DIRECTORY or FILE.ckpt"
            )
        return path

    @cached_property
    def users_per_unit(self) -> float:
        """Users per short slot for one unit of the trace."""
        mean_users, room = self._cfg.mean_users, self.scenario.max_users
        if mean_users > room:
            raise InputError(
                f"mean_users={mean_users:g} is above region.max_users={room}; lower the one or raise the other"
            )
        train = self.datamodule.train_values
        if float(self.trace.values.min()) < 0 or float(train.mean()) <= 0:
            raise InputError(
                "data: there are negative values, or only zeros in the training part, so this is no users' traffic; "
                "choose other columns (data.columns) or another trace (data.path)"
            )
        return users_per_unit(train, mean_users)

    @cached_property
    def scenario(self) -> Scenario:
        """The constants of the regions: physics and prices."""
        return built(self._cfg, Scenario, "region")

    @cached_property
    def offers(self) -> Offers:
        """What the infrastructure provider rents out, and the limits on it."""
        offers: Offers = built(
            self._cfg, Offers, "offers", n_regions=len(self.trace.regions), long_slot_s=self.trace.step_s
        )
        offers.check_fit(self.scenario)
        return offers

    @cached_property
    def forecaster(self) -> Forecaster:
        """The predictor: from `init.predictor`'s checkpoint, or new and not yet fitted."""
        data = self.datamodule.description
        if (path := self._cfg.init.predictor) is None:
            return built(self._cfg, Forecaster, "predictor", **data)
        _refuse_beside("init.predictor", self._cfg)
        loaded = checkpoint.load(path, expect=Forecaster)
        if (reason := unsuited(loaded.spec["arguments"], data)) is not None:
            raise InputError(
                f"init.predictor={path} {reason}; set the data and windows that it was fitted for, or tune it to these "
                f"(job=finetune)"
            )
        return loaded

    @cached_property
    def allocator(self) -> Allocator:
        """The configured allocator: a rule, or a learning one, untrained or with the weights of `init.allocator`.

        Raises:
            InputError: `init.allocator` is set for a rule, or its weights do not fit the allocator.
        """
        allocator = self._allocator("allocator")
        if (path := self._cfg.init.allocator) is None:
            return allocator
        if not isinstance(allocator, pl.LightningModule):
            raise InputError(
                f"init.allocator={path}: the allocator is a rule and takes no weights; drop init.allocator"
            )
        return checkpoint.load_weights(path, allocator)

    def main_stack(self) -> Stack:
        """The configured slicer and allocator, the latter trained if `fit_allocator` was called."""
        return Stack("main", self._slicer("slicer"), self.allocator)

    def stacks(self) -> list[Stack]:
        """The main stack, then the rivals.

        Raises:
            InputError: a rival is called `main` or `bound`, or has an allocator that learns.
        """
        names = self._cfg.get("rivals") or {}
        for taken, whose in {"main": "the main stack", "bound": "the clairvoyant bound"}.items():
            if taken in names:
                raise InputError(f"rivals.{taken}: {whose} has that name; choose another")
        rivals = [
            Stack(name, self._slicer(f"rivals.{name}.slicer"), self._allocator(f"rivals.{name}.allocator"))
            for name in names
        ]
        for rival in rivals:
            if isinstance(rival.allocator, pl.LightningModule):
                raise InputError(
                    f"rivals.{rival.name}.allocator is one that learns, but only the main stack's is trained; "
                    "train it in another run with allocator=..., and compare the runs with job=report"
                )
        return [self.main_stack(), *rivals]

    def check_simulation(self, slots_per_period: int) -> None:
        """Build all that a simulation needs, so that wrong input is reported before anything is fitted.

        Raises:
            InputError: a part cannot be built, or `slots_per_period` short slots are longer than a long slot.
        """
        _ = self.datamodule, self.users_per_unit, self.forecaster, self.stacks()
        slot_s, step_s = self.scenario.short_slot_s, self.trace.step_s
        if slots_per_period * slot_s > step_s:
            raise InputError(
                f"job.slots_per_period={slots_per_period} short slots of {slot_s:g} s are longer than a step of the "
                f"trace, {step_s} s; lower it to {int(step_s / slot_s)} or less"
            )

    def fit_missing(self, directory: RunDirectory) -> dict[str, float]:
        """Fit the predictor, and the allocator if it learns, unless `init` has a checkpoint of them.

        Returns:
            Wall seconds by `fit predictor` and `fit allocator`.
        """
        fits: dict[str, Callable] = {"predictor": self.fit_predictor}
        if isinstance(self.allocator, pl.LightningModule):
            fits["allocator"] = self.fit_allocator
        seconds = {}
        for module, fit_module in fits.items():
            if not self.has_checkpoint(module):
                begun = time.perf_counter()
                fit_module(directory, module)
                seconds[f"fit {module}"] = time.perf_counter() - begun
        return seconds

    def fit_predictor(self, directory: RunDirectory, folder: str = "") -> Forecaster:
        """Fit the forecaster on the trace's training part; `forecaster` then has its best weights.

        Args:
            folder: as in `fitted`.
        """
        self.forecaster = self.fitted(self.forecaster, "predictor", directory, folder, datamodule=self.datamodule)
        return self.forecaster

    def fit_allocator(self, directory: RunDirectory, folder: str = "") -> None:
        """Train the allocator, which must be one that learns; `allocator` then has its best weights.

        Args:
            folder: as in `fitted`.
        """
        untrained = cast(pl.LightningModule, self.allocator)
        self.allocator = cast(Allocator, self.fitted(untrained, "allocator", directory, folder))

    def fitted(
        self,
        untrained: Module,
        kind: str,
        directory: RunDirectory,
        folder: str,
        *,
        datamodule: pl.LightningDataModule | None = None,
        callbacks: Mapping[str, pl.Callback] = MappingProxyType({}),
    ) -> Module:
        """Fit a module with the config's trainer, callbacks and loggers for its kind; returns it with its best weights.

        Args:
            kind: `predictor` or `allocator`.
            folder: where under the run's `checkpoints/` its files go; "" for the run's only module.
            callbacks: callbacks besides the config's, by name; one of the same name replaces the config's.
        """
        return fit(
            untrained,
            kind,
            datamodule=datamodule,
            trainer=build(self._cfg, f"trainer.{kind}", partial=True),
            callbacks={**(build(self._cfg, f"callbacks.{kind}") or {}), **callbacks},
            loggers=lambda: self.loggers(folder or kind, directory),
            checkpoints=directory.checkpoints(folder),
            resume=directory.resume,
        )

    def test(self, forecaster: Forecaster, datamodule: TrafficDataModule | None = None) -> dict[str, float]:
        """The forecaster's metrics on the held-out end of the trace."""
        trainer = build(self._cfg, "trainer.predictor", partial=True)
        return test(forecaster, "predictor", trainer=trainer, datamodule=datamodule or self.datamodule)

    def check_loggers(self) -> None:
        """Check the logger's options without making a logger.

        Raises:
            InputError: the config's options do not match the arguments of the function that makes the loggers.
        """
        make = build(self._cfg, "logger", partial=True)
        try:
            inspect.signature(make.func).bind(**make.keywords, name="", directory=Path())
        except (TypeError, ValueError) as error:
            raise InputError(f"logger: {worded(error)}") from error
        annotated("logger", make.func, make.keywords)

    def loggers(self, name: str, directory: RunDirectory) -> list[Logger]:
        """The experiment loggers of one part of the run, always with a CSV logger; the config is logged to each."""
        configured = built(self._cfg, Logger, "logger", name=name, directory=directory.path)
        csv = csv_logger(name, directory.path)  # reports read it
        is_csv = isinstance(configured, CSVLogger) and configured.save_dir == csv.save_dir
        loggers: list[Logger] = [csv] if is_csv else [csv, configured]
        for logger in loggers:
            logger.log_hyperparams(in_force(self._cfg))
        return loggers

    def _slicer(self, key: str) -> Slicer:
        scenario = self.scenario
        return built(self._cfg, Slicer, key, offers=self.offers, scenario=scenario)

    def _allocator(self, key: str) -> Allocator:
        target = locate(str(OmegaConf.select(self._cfg, f"{key}._target_")))
        if not (isinstance(target, type) and issubclass(target, pl.LightningModule)):
            return built(self._cfg, Allocator, key)
        made = built(
            self._cfg,
            Allocator,
            key,
            scenario=self.scenario,
            mean_users=(self.datamodule.train_values * self.users_per_unit).float(),
            bandwidth_options_hz=self.offers.bandwidth_hz[0].tolist(),
            vm_options=self.offers.n_vms[0].tolist(),
        )
        hook = pl.LightningModule.on_save_checkpoint
        kept = {
            "self.scenario": isinstance(getattr(made, "scenario", None), Scenario),
            "self.spec": hasattr(made, "spec"),
            "an on_save_checkpoint that writes it": target.on_save_checkpoint is not hook,
        }
        if lacking := " and ".join(name for name, there in kept.items() if not there):
            raise InputError(f"{key}: {target.__name__} lacks {lacking}; docs/extending.md has an example")
        return made


def _refuse_beside(checkpoint: str, cfg: DictConfig) -> None:
    """Refuse options that a checkpoint replaces, which would otherwise be ignored silently.

    Raises:
        InputError: an override sets one of them.
    """
    keys = BROUGHT[checkpoint]
    for word in given(cfg):
        name = word.lstrip("+~").partition("=")[0]
        if any(name == key or name.startswith((f"{key}.", f"{key}/")) for key in keys):
            raise InputError(
                f"{word} has no effect with {checkpoint}, which brings its own; leave it out "
                "(job=finetune has job.learning_rate, job.input_length and job.horizon)"
            )
