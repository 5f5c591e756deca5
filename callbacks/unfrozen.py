"""Let a resumed fine-tuning schedule go on training the weights that it had unfrozen."""

import lightning.pytorch as pl


class Unfrozen(pl.Callback):
    """Make every parameter in the optimizers' groups trainable.

    Lightning's `BaseFinetuning` freezes the backbone at set-up, and a resume restores only the optimizers' groups:
    without this callback, weights unfrozen before the interruption would stay frozen after it.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Unfreeze, now that the schedule and the optimizers are restored."""
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.requires_grad_(True)
