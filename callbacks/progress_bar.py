"""Lightning's progress bar without the number of the log's version."""

import lightning.pytorch as pl
from lightning.pytorch.callbacks import RichProgressBar


class ProgressBar(RichProgressBar):
    """Rich's bar. Lightning adds the first logger's version, the CSV file's: `v_num: 0.000` in every new run."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict:
        """What the module logs for the bar."""
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}
