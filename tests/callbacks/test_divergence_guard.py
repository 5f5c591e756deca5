"""The guard stops a training at the first sign of divergence, with the reason and the way back."""

import lightning.pytorch as pl
import pytest
import quiet
import torch
from torch import nn

from callbacks import DivergenceGuard
from callbacks.divergence_guard import broken, diverged
from sliceoff.errors import Diverged


class Doubling(pl.LightningModule):
    """Its one metric doubles at every step, from 1."""

    def __init__(self, last: float | None = None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.last = last
        self.q = 1.0

    def train_dataloader(self) -> range:
        return range(3)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch: int, batch_idx: int) -> torch.Tensor:
        self.q *= 2
        self.log("train/q", self.last if self.last is not None and self.q > 64 else self.q, batch_size=1)
        return self.weight


def fit(module: Doubling, guard: DivergenceGuard, directory) -> pl.Trainer:
    keep = pl.callbacks.ModelCheckpoint(directory, filename="last", enable_version_counter=False)
    trainer = quiet.trainer(directory, epochs=4, callbacks=[guard, keep])
    trainer.fit(module)
    return trainer


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("last", "reason"), [(float("nan"), "train/q is nan"), (None, "beyond its limit 100")])
def test_stops_with_the_reason_and_leaves_the_checkpoint_of_before(tmp_path, last, reason):
    with pytest.raises(Diverged, match=rf"{reason} in epoch 2; the last good checkpoint is {tmp_path}/last.ckpt"):
        fit(Doubling(last), DivergenceGuard({"train/q": 100.0}), tmp_path)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 1


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_stops_at_a_weight_that_is_not_finite_though_no_metric_shows_it(tmp_path):
    class Overflowing(Doubling):
        def training_step(self, batch: int, batch_idx: int) -> torch.Tensor:
            return self.weight * (torch.inf if self.current_epoch == 1 else 1.0)

    with pytest.raises(Diverged, match="weight weight is not finite in epoch 1; the last good checkpoint"):
        fit(Overflowing(), DivergenceGuard(), tmp_path)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 0


def test_a_module_without_weights_is_whole():
    assert broken(nn.Module()) is None


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_leaves_a_healthy_training_alone(tmp_path):
    assert fit(Doubling(), DivergenceGuard({"train/q": 1e9}), tmp_path).current_epoch == 4


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_says_so_where_there_is_nothing_to_go_back_to(tmp_path):
    with pytest.raises(Diverged, match="no checkpoint was written yet"):
        fit(Doubling(), DivergenceGuard({"train/q": 1.0}), tmp_path)


def test_limits_hold_for_either_sign():
    assert diverged({"q": -5.0}, {"q": 4.0}) == "q is -5, beyond its limit 4"
    assert diverged({"q": -5.0, "loss": 1e30}, {"q": 6.0}) is None


def test_main_says_why_it_stopped_in_one_line(cli):
    ended = cli("debug=fast", "job=fit_allocator", "callbacks.allocator.divergence.limits={train/q:1.0e-9}")
    assert ended.code == 1
    assert len(ended.err.strip().splitlines()) == 1, ended.err
    assert ended.err.startswith("stopped: train/q is ")
