"""`torch.compile` for a module, while it is trained."""

from typing import Any

import lightning.pytorch as pl


class Compile(pl.Callback):
    """Call the module's `compile` before training starts; its checkpoints stay the same.

    Worthwhile for long training only: compiling takes 10 to 60 seconds (`benchmarks/train_predictor.py`,
    `benchmarks/td3_parity.py`).

    Args:
        options: passed to `torch.compile`, such as `backend`.
    """

    def __init__(self, **options: Any):
        self._options = options

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.compile(**self._options)
