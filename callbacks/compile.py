"""`torch.compile` for a module, while it is trained."""

from typing import Any

import lightning.pytorch as pl


class Compile(pl.Callback):
    """Let the module compile what training computes (its `compile`) before that starts; checkpoints are as without.

    Pays for long trainings only: compiling takes 10 to 60 seconds (`benchmarks/train_predictor.py`,
    `benchmarks/td3_parity.py`).

    Args:
        options: of `torch.compile`, such as `backend`.
    """

    def __init__(self, **options: Any):
        self._options = options

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compile."""
        pl_module.compile(**self._options)
