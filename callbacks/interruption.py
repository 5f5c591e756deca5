"""Stop at Ctrl-C and SIGTERM between two training steps, never within one."""

import math
import signal
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint

from sliceoff.signals import ENDING, handle


class Interruption(Checkpoint):
    """On Ctrl-C or SIGTERM, finish the training step, save a checkpoint and stop; a second signal stops at once.

    A checkpoint from the middle of a step could hold half an update, from which no run resumes exactly; one from
    between a step and the validation that is due after it would skip that validation. As one of Lightning's checkpoint
    callbacks it comes last: after the others have saved the epoch. Python handles signals in the main thread only; in
    another thread this callback does nothing.
    """

    def __init__(self, path: Path):
        self._path = path
        self._asked: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the signal handlers. They replace Lightning's, which stops at SIGTERM without a checkpoint."""
        self._asked = None
        self._before = handle(dict.fromkeys(ENDING, self._ask))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Stop if a signal has come, unless a validation is due now: then after the next step or the epoch."""
        in_all = trainer.check_val_every_n_epoch is None  # validations then count steps over all epochs
        step = trainer.fit_loop.total_batch_idx if in_all else batch_idx
        if not trainer.is_last_batch and (step + 1) % (trainer.val_check_batch or math.inf):
            self._stop_if_asked(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop if a signal has come; the epoch's validation is done."""
        self._stop_if_asked(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the previous handlers, and stop if a signal came during the last validation."""
        handle(self._before)
        self._stop_if_asked(trainer)

    def _stop_if_asked(self, trainer: pl.Trainer) -> None:
        if self._asked is not None:
            trainer.save_checkpoint(self._path)
            signal.raise_signal(self._asked)  # the previous handlers are back in place
            raise KeyboardInterrupt  # in case they ignore it

    def _ask(self, number: int, _: object) -> None:
        self._asked = number
        handle(self._before)
