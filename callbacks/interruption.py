"""Ctrl-C and SIGTERM between two steps, never inside one."""

import math
import signal
from pathlib import Path

import lightning.pytorch as pl

from sliceoff.signals import ENDING, handle


class Interruption(pl.Callback):
    """On Ctrl-C or SIGTERM, finish the training step, save `path`, and stop; a second one stops at once.

    A checkpoint taken in the middle of a step could hold a half-made update, from which no run resumes exactly; one
    taken between a step and the validation that is due after it would leave that out. Signals reach the main thread
    alone: in another there is nothing to listen to.
    """

    def __init__(self, path: Path):
        self._path = path
        self._asked: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen, from now on in place of Lightning, which at SIGTERM would stop without a checkpoint."""
        self._asked = None
        self._before = handle(dict.fromkeys(ENDING, self._ask))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Stop here if asked to, or after the next step where a validation comes first."""
        if not trainer.is_last_batch and (batch_idx + 1) % (trainer.val_check_batch or math.inf):
            self._stop_if_asked(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop here if asked to in the last validation, and listen no more."""
        handle(self._before)
        self._stop_if_asked(trainer)

    def _stop_if_asked(self, trainer: pl.Trainer) -> None:
        if self._asked is not None:
            trainer.save_checkpoint(self._path)
            signal.raise_signal(self._asked)  # to whom it would have gone at once
            raise KeyboardInterrupt  # whatever they do with it

    def _ask(self, number: int, _: object) -> None:
        self._asked = number
        handle(self._before)
