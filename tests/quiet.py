"""A Lightning trainer on the CPU that says nothing, and writes what its callbacks write."""

from pathlib import Path

import lightning.pytorch as pl


def trainer(directory: Path | None = None, epochs: int = 1, **options) -> pl.Trainer:
    checkpoints = any(isinstance(each, pl.callbacks.ModelCheckpoint) for each in options.get("callbacks", ()))
    return pl.Trainer(
        max_epochs=epochs,
        default_root_dir=directory,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=checkpoints,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )
