"""Ctrl-C between two steps, never inside one."""

import signal
from pathlib import Path

import lightning.pytorch as pl


class Interruption(pl.Callback):
    """On Ctrl-C, finish the training step, save `path`, and stop; a second Ctrl-C stops at once.

    A checkpoint taken in the middle of a step could hold a half-made update, from which no run resumes exactly.
    """

    def __init__(self, path: Path):
        self._path = path
        self._asked = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen for Ctrl-C."""
        self._asked = False
        signal.signal(signal.SIGINT, self._ask)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
        """Stop here if asked to."""
        self._stop_if_asked(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop here if asked to in the last validation."""
        self._stop_if_asked(trainer)

    def _stop_if_asked(self, trainer: pl.Trainer) -> None:
        if self._asked:
            trainer.save_checkpoint(self._path)
            raise KeyboardInterrupt

    def _ask(self, *_: object) -> None:
        self._asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
