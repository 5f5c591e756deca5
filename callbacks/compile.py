"""`torch.compile` for a predictor's network, while it is trained."""

from typing import Any

import lightning.pytorch as pl
from torch import nn


class Compile(pl.Callback):
    """Compile `network` before training starts; checkpoints are as without.

    Pays for long trainings only: compiling takes about a minute (`benchmarks/train_predictor.py`).

    Args:
        options: of `torch.compile`, such as `backend`.
    """

    def __init__(self, **options: Any):
        self._options = options

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compile."""
        network = pl_module.network
        assert isinstance(network, nn.Module)
        network.compile(**self._options)
