"""Compiling changes how the network runs, not what is kept of it."""

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from callbacks import Compile


class Slope(nn.Module):
    """A network of one weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.weight * x


class Line(pl.LightningModule):
    """Fits a line through the origin."""

    def __init__(self):
        super().__init__()
        self.network = Slope()

    def train_dataloader(self):
        return range(5)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch, batch_index):
        return (self.network(torch.ones(4, 1)) - 2).square().mean()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_network_is_compiled_and_learns_as_before(tmp_path):
    compiled, states = [], []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    for callbacks in ([], [Compile(backend=backend)]):
        line = Line()
        trainer = pl.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            callbacks=callbacks,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(line)
        states.append(line.state_dict())
    assert compiled
    torch.testing.assert_close(states[0], states[1])
