"""Stop a diverged training before it overwrites a good checkpoint."""

import os
from collections.abc import Mapping
from math import inf, isfinite

import lightning.pytorch as pl

from sliceoff.checkpoint import broken
from sliceoff.errors import Diverged


class DivergenceGuard(pl.Callback):
    """Check all logged metrics and weights after every training step, and raise `Diverged` if one has diverged.

    It raises instead of asking Lightning to stop, so that the existing checkpoints are not overwritten.

    Args:
        limits: largest absolute value by metric, such as `{"train/q": 1000.0}`. A metric or a weight that is not
            finite always counts as diverged.
    """

    def __init__(self, limits: Mapping[str, float | int] | None = None):
        self._limits = dict(limits or {})

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
        """Check metrics and weights.

        Raises:
            Diverged: names the metric (with its value) or the weight, and the last checkpoint.
        """
        metrics = {name: value for name, value in trainer.callback_metrics.items() if value.numel() == 1}
        reason = diverged({name: float(value) for name, value in metrics.items()}, self._limits) or broken(pl_module)
        if reason is not None:
            raise Diverged(f"{reason} in epoch {trainer.current_epoch}; {_last_good(trainer)}")


def diverged(metrics: Mapping[str, float], limits: Mapping[str, float | int]) -> str | None:
    """A message naming the first metric that is not finite or exceeds its limit, or None."""
    for name, value in metrics.items():
        if not isfinite(value):
            return f"{name} is {value}"
        if abs(value) > limits.get(name, inf):
            return f"{name} is {value:.4g}, beyond its limit {limits[name]:g}"
    return None


def _last_good(trainer: pl.Trainer) -> str:
    written = [path for saver in trainer.checkpoint_callbacks if (path := getattr(saver, "best_model_path", ""))]
    if not written:
        return "no checkpoint was written yet; start again with a lower learning rate"
    return f"the last good checkpoint is {max(written, key=os.path.getmtime)}; start again with a lower learning rate"
