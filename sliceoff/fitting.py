"""One way to fit a LightningModule: checkpointed, interruptible, resumable."""

import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from callbacks import Interruption, RandomState
from sliceoff import checkpoint


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
        resume: go on from `last.ckpt` where there is one.

    Raises:
        KeyboardInterrupt: interrupted, after `last.ckpt` was written.
    """
    checkpoints.mkdir(parents=True, exist_ok=True)
    last, best = checkpoints / "last.ckpt", checkpoints / "best.ckpt"
    made = [callback(dirpath=checkpoints) if isinstance(callback, partial) else callback for callback in callbacks]
    engine = trainer(
        callbacks=[RandomState(), *made, Interruption(last)],
        logger=list(logger),
        default_root_dir=checkpoints.parent,
    )
    handler = signal.getsignal(signal.SIGINT)
    try:
        engine.fit(module, datamodule=datamodule, ckpt_path=last if resume and last.is_file() else None)
    except SystemExit:
        if engine.interrupted:  # Lightning turns Ctrl-C into exit code 1
            raise KeyboardInterrupt from None
        raise
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning leaves it ignored
    return checkpoint.load(best if best.is_file() else last, expect=type(module))
