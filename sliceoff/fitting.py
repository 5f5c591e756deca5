"""One way to fit a LightningModule: checkpointed, interruptible, resumable."""

import shutil
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from callbacks import Interruption, RandomState
from sliceoff import checkpoint
from sliceoff.errors import InputError


def fit(
    module: pl.LightningModule,
    *,
    trainer: Callable[..., pl.Trainer],
    callbacks: Sequence[Callback | partial],
    logger: Sequence[Logger],
    checkpoints: Path,
    datamodule: pl.LightningDataModule | None = None,
    resume: bool = False,
) -> pl.LightningModule:
    """Fit `module` and return it with its best weights, in eval mode.

    Args:
        trainer: called with `callbacks=` and `logger=` to make the trainer.
        callbacks: callbacks, or partials of one that still wants `dirpath=`.
        checkpoints: directory for `best.ckpt` and `last.ckpt`.
        resume: go on from `last.ckpt` where there is one; a fit that had ended, be it early, is not trained further
            unless the trainer is given more epochs or steps.

    Raises:
        InputError: `last.ckpt` is of another module or was written with other options.
        KeyboardInterrupt: interrupted, after `last.ckpt` was written.
    """
    checkpoints.mkdir(parents=True, exist_ok=True)
    last, best = checkpoints / "last.ckpt", checkpoints / "best.ckpt"
    resume = resume and last.is_file()
    if resume and (place := checkpoint.differing(checkpoint.read(last)["spec"], module.spec)) is not None:
        raise InputError(f"{last} was written with another {place}; resume with the config that the run began with")
    made = [callback(dirpath=checkpoints) if isinstance(callback, partial) else callback for callback in callbacks]
    engine = trainer(
        callbacks=[RandomState(), *made, Interruption(last)],
        logger=list(logger),
        default_root_dir=checkpoints.parent,
    )
    ended, budget = checkpoints / "ended", f"epochs {engine.max_epochs}, steps {engine.max_steps}\n"
    if resume and ended.is_file() and ended.read_text() == budget:
        return checkpoint.load(best, expect=type(module))
    module.train()  # one that was loaded comes in eval mode
    handler = signal.getsignal(signal.SIGINT)
    try:
        engine.fit(module, datamodule=datamodule, ckpt_path=last if resume else None)
    except SystemExit:
        if engine.interrupted:  # Lightning turns Ctrl-C into exit code 1
            raise KeyboardInterrupt from None
        raise
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning leaves it ignored
    # Lightning writes neither before the first optimiser step, and a closed form takes none.
    if not last.is_file():
        engine.save_checkpoint(last)
    if not best.is_file():
        shutil.copyfile(last, best)
    ended.write_text(budget)
    return checkpoint.load(best, expect=type(module))


def test(
    module: pl.LightningModule, *, trainer: Callable[..., pl.Trainer], datamodule: pl.LightningDataModule
) -> dict[str, float]:
    """The module's test metrics on the held-out end."""
    engine = trainer(callbacks=[], logger=False, enable_checkpointing=False, enable_progress_bar=False)
    return dict(engine.test(module, datamodule, verbose=False)[0])
