"""Fits a small module, as it is and compiled, and says how many graphs were made and how far the weights came apart.

A process of its own: torch.compile does not see through the shape checks that `conftest.py` puts around everything.
"""

import sys
from functools import partial
from typing import Any

import lightning.pytorch as pl
import numpy as np
import quiet
import torch

from callbacks import Compile
from sliceoff.allocator import LearningAllocator, Prices, SetNetwork
from sliceoff.data import Trace, TrafficDataModule
from sliceoff.predictor import DLinear, Forecaster
from sliceoff.region import Scenario


def forecaster() -> tuple[pl.LightningModule, pl.LightningDataModule]:
    times = np.datetime64("2024-01-01T00:00:00") + np.arange(60) * np.timedelta64(3600, "s")
    trace = Trace(np.random.default_rng(0).random((60, 2)), times, ("a", "b"), 3600)
    data = TrafficDataModule(trace, input_length=6, horizon=2)
    return Forecaster(DLinear, **data.description), data


def allocator() -> tuple[pl.LightningModule, None]:
    made = LearningAllocator(
        Scenario(max_users=6, max_vms=4),
        torch.full((2, 1), 3.0),
        [5e6, 10e6],
        [2, 4],
        partial(SetNetwork, width=4),
        partial(Prices, stride=4),
        n_copies=4,
        env_steps=2,
        gradient_steps=2,
        batch_size=4,
        buffer_size=16,
        learning_starts=4,
        steps_per_epoch=3,
        validation_copies=2,
        validation_slots=2,
    )
    return made, None


def fitted(make: Any, *callbacks: pl.Callback) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    module, data = make()
    quiet.trainer(callbacks=list(callbacks)).fit(module, datamodule=data)
    return module.state_dict()


if __name__ == "__main__":
    make, graphs = {"forecaster": forecaster, "allocator": allocator}[sys.argv[1]], []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    plain, compiled = fitted(make), fitted(make, Compile(backend=backend, fullgraph=True))
    assert list(plain) == list(compiled)
    apart = max(float((plain[name].double() - compiled[name].double()).abs().max()) for name in plain)
    print(len(graphs), apart)
