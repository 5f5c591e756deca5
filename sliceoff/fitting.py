"""Fit and test a LightningModule; a fit is checkpointed, and can be interrupted and resumed."""

import logging
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ProgressBar, StochasticWeightAveraging
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks import Interruption, RandomState
from sliceoff import checkpoint
from sliceoff.checks import count, whole
from sliceoff.errors import InputError, one_line, worded
from sliceoff.files import write_whole
from sliceoff.signals import ENDING, handle

Module = TypeVar("Module", bound=pl.LightningModule)

_HARMLESS = (
    ".*LeafSpec.*is deprecated",  # Lightning 2.6 with torch 2.13
    ".*exists and is not empty",  # a resumed run's checkpoints are expected
    ".*does not have many workers",  # batches come from memory
    ".*GPU available but not used",  # the config asks for it
    ".*your dataloader is not resumable",  # a replay loop has no data, and its state is in the checkpoint
)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's notes on devices and products, and the warnings in `_HARMLESS`."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for harmless in _HARMLESS:
                warnings.filterwarnings("ignore", harmless)
            yield
    finally:
        log.setLevel(level)


@quiet_lightning()
def fit(
    module: Module,
    kind: str,
    *,
    trainer: Callable[..., pl.Trainer],
    callbacks: Mapping[str, Any],
    loggers: Callable[[], Sequence[Logger]],
    checkpoints: Path,
    datamodule: pl.LightningDataModule | None = None,
    resume: bool = False,
) -> Module:
    """Fit `module` and return it with its best weights, in eval mode.

    Args:
        kind: `predictor` or `allocator`; its options are `trainer.KIND` and `callbacks.KIND` in the config.
        trainer: called with `callbacks=` and more to make the trainer.
        callbacks: by name: a callback, a partial of one that still needs `dirpath=`, or None to leave it out.
        loggers: called to make the loggers if there is anything to train; they are finalised when the fit ends.
        checkpoints: directory for `best.ckpt` and `last.ckpt`.
        resume: continue from `last.ckpt` if there is one; a fit that has ended, even early, is not trained further
            unless the trainer's epochs or steps were changed.

    Raises:
        InputError: `last.ckpt` is of another module, was written with other options or has more epochs; or an option
            of the trainer or of a callback is wrong, trains nothing or asks for several devices.
        KeyboardInterrupt: stopped by Ctrl-C or SIGTERM; `last.ckpt` was written first.
    """
    checkpoints.mkdir(parents=True, exist_ok=True)
    last, best = checkpoints / "last.ckpt", checkpoints / "best.ckpt"
    resume = resume and last.is_file()
    trained = _epochs(last, module) if resume else 0
    made = [
        _made(f"callbacks.{kind}.{name}", callback, checkpoints)
        for name, callback in callbacks.items()
        if callback is not None
    ]
    engine = _engine(
        f"trainer.{kind}",
        trainer,
        callbacks=[RandomState(), *made, Interruption(last)],
        logger=False,
        default_root_dir=checkpoints.parent,
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in made),  # else Lightning adds one
    )
    ended, budget = checkpoints / "ended", f"epochs {engine.max_epochs}, steps {engine.max_steps}\n"
    if resume and ended.is_file() and ended.read_text() == budget:
        return checkpoint.load(best, expect=type(module))
    if engine.max_epochs in range(trained):
        raise InputError(
            f"trainer.{kind}.max_epochs={engine.max_epochs}, but {trained} epochs are trained already; resume with at "
            f"least as many, or begin a new run"
        )
    if engine.precision == "bf16-mixed" and not has_bfloat16(engine.strategy.root_device):
        slow = f"trainer.{kind}.precision=bf16-mixed is slow: this processor has no bfloat16; 32-true is faster"
        warnings.warn(slow, stacklevel=1)
    if not engine.fast_dev_run:  # type: ignore[attr-defined]  # Lightning's
        engine.loggers = list(loggers())
    module.train()  # a loaded module is in eval mode
    with _told(kind, engine):
        engine.fit(module, datamodule=datamodule, ckpt_path=last if resume else None)
    # Lightning writes neither file before the first optimiser step; a closed-form fit takes none.
    if not last.is_file():
        engine.save_checkpoint(last)
    if not best.is_file():
        write_whole(best, last.read_bytes())
    ended.write_text(budget)
    return checkpoint.load(best, expect=type(module))


@quiet_lightning()
def test(
    module: pl.LightningModule, kind: str, *, trainer: Callable[..., pl.Trainer], datamodule: pl.LightningDataModule
) -> dict[str, float]:
    """The module's test metrics on the held-out end of the trace.

    Args:
        kind, trainer: as in `fit`.

    Raises:
        InputError: an option of the trainer is wrong.
        KeyboardInterrupt: stopped by Ctrl-C or SIGTERM.
    """
    silent = {"callbacks": [], "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    engine = _engine(f"trainer.{kind}", trainer, **silent)
    with _told(kind, engine):
        return dict(engine.test(module, datamodule, verbose=False)[0])


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device has bfloat16 products in hardware; a CPU that emulates them takes up to 50 times as long."""
    able = torch.cpu.get_capabilities()
    return device.type != "cpu" or any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


@contextmanager
def _told(kind: str, engine: pl.Trainer) -> Iterator[None]:
    """Translate how a run ends: Ctrl-C into KeyboardInterrupt, errors of Lightning and schedulers into InputError."""
    handlers = {number: signal.getsignal(number) for number in ENDING}
    try:
        yield
    except SystemExit:
        if engine.interrupted:  # Lightning turns Ctrl-C into exit code 1
            raise KeyboardInterrupt from None
        raise
    except (MisconfigurationException, RuntimeError, TypeError, ValueError, ZeroDivisionError) as error:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        place = frame.f_globals["__name__"]
        if place == "torch.optim.lr_scheduler":
            raise InputError(f"{kind}.scheduler, which steps once per epoch: {one_line(error)}") from error
        if not place.startswith("lightning."):  # the module's own error: keep the traceback
            raise
        raise InputError(f"trainer.{kind} or callbacks.{kind}: {one_line(error)}") from error
    finally:
        handle(handlers)  # Lightning leaves Ctrl-C ignored


def _epochs(last: Path, module: pl.LightningModule) -> int:
    """The number of epochs that `last` was trained for, after a check that it belongs to `module`.

    Raises:
        InputError: `last` is not of this module, or was written with other options.
    """
    content = checkpoint.read(last)
    if (place := checkpoint.differing(content["spec"], module.spec)) is not None:
        raise InputError(f"{last} was written with another {place}; resume with the config that the run began with")
    return content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]


def _made(key: str, callback: Any, checkpoints: Path) -> Callback:
    try:
        callback = callback(dirpath=checkpoints) if isinstance(callback, partial) else callback
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise InputError(f"{key}: {worded(error)}") from error
    if not isinstance(callback, Callback):
        raise InputError(f"{key}={callback!r} is no Lightning callback; null leaves one out")
    if isinstance(callback, StochasticWeightAveraging):
        raise InputError(
            f"{key}: StochasticWeightAveraging has no effect, as it sets the mean weights after the last checkpoint is "
            f"written; use lightning.pytorch.callbacks.EMAWeightAveraging"
        )
    return callback


def _engine(key: str, trainer: Callable[..., pl.Trainer], **options: Any) -> pl.Trainer:
    try:
        engine = trainer(**options)
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise InputError(f"{key}: {one_line(error)}") from error
    if engine.strategy.root_device.type == "mps":
        warnings.warn(f"{key}: Apple's GPU has no double precision, which is needed; using the processor", stacklevel=1)
        return _engine(key, partial(trainer, accelerator="cpu"), **options)
    if not isinstance(engine.max_epochs, int | None) or engine.max_epochs == 0 or engine.max_steps == 0:
        raise InputError(f"{key}: max_epochs={engine.max_epochs!r}, max_steps={engine.max_steps} trains nothing")
    whole(f"{key}.log_every_n_steps", engine.log_every_n_steps)  # type: ignore[attr-defined]  # Lightning's
    count(f"{key}.accumulate_grad_batches", engine.accumulate_grad_batches)
    if engine.limit_train_batches == 0:
        raise InputError(f"{key}.limit_train_batches=0 trains nothing; set a number of batches, or 1.0 for all")
    if engine.world_size > 1:
        raise InputError(
            f"{key}: a fit takes one device, not {engine.world_size}; set devices=1 and run seeds side by side"
        )
    return engine
