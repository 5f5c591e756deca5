"""A resumed fine-tuning schedule goes on with the weights it had unfrozen."""

import lightning.pytorch as pl


class Unfrozen(pl.Callback):
    """Make trainable whatever the optimizers step.

    Lightning's `BaseFinetuning` freezes the backbone at set-up, and a resume gives back only the optimizer's groups:
    without this, what had been unfrozen before the interruption would stay as it is from then on.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """After the schedule and the optimizers are restored."""
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.requires_grad_(True)
