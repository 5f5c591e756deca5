"""Train a small allocator into a directory, going on from its `last.ckpt` if there is one: what a test kills."""

import logging
import warnings
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import quiet
import torch

from sliceoff.allocator import LearningAllocator, Prices, SetNetwork
from sliceoff.checkpoint import AtomicCheckpointIO
from sliceoff.region import Scenario


def train(directory: Path, epochs: int) -> None:
    """What each process runs."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    allocator = LearningAllocator(
        Scenario(max_users=10, max_vms=4),
        torch.linspace(2, 6, 8).view(4, 2),
        [5e6, 10e6],
        [2, 4],
        network=partial(SetNetwork, width=8),
        decoder=partial(Prices, stride=4),
        n_copies=2,
        env_steps=4,
        gradient_steps=4,
        batch_size=16,
        buffer_size=64,
        learning_starts=16,
        steps_per_epoch=2,
        validation_copies=2,
        validation_slots=2,
    )
    last = directory / "last.ckpt"
    keep = pl.callbacks.ModelCheckpoint(directory, filename="last", enable_version_counter=False)
    trainer = quiet.trainer(directory, epochs, callbacks=[keep], plugins=[AtomicCheckpointIO()])
    trainer.fit(allocator, ckpt_path=last if last.is_file() else None, weights_only=True)
