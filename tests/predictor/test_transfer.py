"""A forecaster taken to data of other sizes: what is loaded, what adapted, what left out."""

from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import BackboneFinetuning
from quiet import trainer
from torch import nn

from sliceoff.data import TrafficDataModule, Window, synthetic_trace
from sliceoff.errors import InputError
from sliceoff.predictor import (
    MLP,
    DLinear,
    Forecaster,
    Informer,
    Linear,
    PatchTST,
    QuantileLoss,
    Recurrent,
    SparseTSF,
    transferred,
)
from sliceoff.predictor.transfer import resized

SIZES = {"n_regions": 2, "n_calendar": 4, "input_length": 48, "horizon": 12, "season_length": 24}
SMALL = partial(Informer, d_model=8, n_heads=2, d_ff=8)


def content(network=SMALL, **options):
    torch.manual_seed(0)
    forecaster = Forecaster(network, **SIZES, **options)
    return {"spec": forecaster.spec, "state_dict": forecaster.state_dict()}


def test_independent_channels_move_to_any_number_of_regions_with_every_weight():
    saved = content()
    forecaster, lines = transferred(saved, **{**SIZES, "n_regions": 5}, learning_rate=1e-5)
    assert {line.how for line in lines} == {"loaded"}
    assert len(lines) == len(forecaster.network.state_dict())
    for name, weight in forecaster.network.state_dict().items():
        assert torch.equal(weight, saved["state_dict"][f"network.{name}"])
    assert forecaster.learning_rate == 1e-5
    assert not forecaster.scaler.fitted


def test_joint_channels_adapt_the_embedding_and_the_head():
    forecaster, lines = transferred(content(channels="joint"), **{**SIZES, "n_regions": 3})
    adapted = {line.name for line in lines if line.how == "adapted"}
    assert adapted == {
        f"body.{name}"
        for name in ("embed_history.values.weight", "embed_decoder.values.weight", "head.weight", "head.bias")
    }
    assert forecaster.n_regions == 3


def test_a_longer_horizon_adapts_a_head_over_steps():
    saved = content(partial(PatchTST, d_model=8, n_heads=2, d_ff=8))
    forecaster, lines = transferred(saved, **{**SIZES, "horizon": 23})
    assert {line.name: (line.before, line.after) for line in lines if line.how == "adapted"} == {
        "head.2.weight": ((12, 40), (23, 40)),
        "head.2.bias": ((12,), (23,)),
    }
    before, after = saved["state_dict"]["network.head.2.bias"], forecaster.network.head[2].bias
    torch.testing.assert_close(after[::2], before)
    torch.testing.assert_close(after[1::2], (before[1:] + before[:-1]) / 2)


@pytest.mark.parametrize("network", [DLinear, MLP])
def test_a_history_that_stands_still_is_answered_alike_by_a_longer_one(network):
    saved = content(network)
    if network is MLP:
        saved["state_dict"]["network.skip.weight"] += torch.linspace(-0.1, 0.2, 48)
    longer, lines = transferred(saved, **{**SIZES, "input_length": 96})
    assert "adapted" in {line.how for line in lines}
    before, _ = transferred(saved, **SIZES)

    def answered(forecaster, steps):
        window = Window(torch.ones(1, steps, 2), torch.zeros(1, steps, 4), torch.zeros(1, 12, 2), torch.zeros(1, 12, 4))
        return forecaster.eval()(window)

    torch.testing.assert_close(answered(longer, 96), answered(before, 48), rtol=0.02, atol=0.02)


def test_a_longer_horizon_of_quantiles_keeps_levels_apart():
    saved = content(partial(PatchTST, d_model=8, n_heads=2, d_ff=8), loss=partial(QuantileLoss, levels=[0.1, 0.5, 0.9]))
    saved["state_dict"]["network.head.2.bias"] = torch.arange(3.0).repeat(12)  # each level its own, at every step
    forecaster, _ = transferred(saved, **{**SIZES, "horizon": 23})
    torch.testing.assert_close(forecaster.network.head[2].bias, torch.arange(3.0).repeat(23))


def test_joint_maps_from_steps_and_regions_to_steps_and_regions_keep_both_apart():
    saved = content(MLP, channels="joint")
    saved["state_dict"]["network.skip.bias"] = torch.tensor([1.0, 5.0]).repeat(12)  # a region each, at every step
    forecaster, _ = transferred(saved, **{**SIZES, "horizon": 23})
    torch.testing.assert_close(forecaster.network.skip.bias, torch.tensor([1.0, 5.0]).repeat(23))


def test_an_axis_that_is_neither_steps_nor_regions_is_left_out():
    _, lines = transferred(content(SparseTSF), **{**SIZES, "input_length": 96})
    assert {line.name: line.how for line in lines}["days.weight"] == "left out"


class Periodic(nn.Module):
    """The last season again, by indices that the horizon makes."""

    def __init__(self, sizes):
        super().__init__()
        self.register_buffer("step", torch.arange(sizes.horizon) % sizes.season_length)
        self.scale = nn.Parameter(torch.ones(sizes.horizon))

    def forward(self, history, history_calendar, future_calendar):
        return (history[:, self.step - 24] * self.scale.unsqueeze(-1)).unsqueeze(-1)


class Lazy(nn.Module):
    """A layer whose width its first input tells."""

    def __init__(self, sizes):
        super().__init__()
        self.head = nn.LazyLinear(sizes.horizon)

    def forward(self, history, history_calendar, future_calendar):
        return self.head(history.transpose(1, 2)).transpose(1, 2).unsqueeze(-1)


def test_lazy_layers_move_as_others_do():
    saved = content(Lazy)
    saved["state_dict"] |= {"network.head.weight": torch.ones(12, 48), "network.head.bias": torch.zeros(12)}
    forecaster, lines = transferred(saved, **{**SIZES, "input_length": 96})
    assert {line.name: line.how for line in lines} == {"head.weight": "adapted", "head.bias": "loaded"}
    torch.testing.assert_close(forecaster.network.head.weight.detach(), torch.full((12, 96), 0.5))


def test_a_buffer_is_no_weight_and_stays_the_new_networks():
    forecaster, lines = transferred(content(Periodic), **{**SIZES, "horizon": 48})
    assert {line.name: line.how for line in lines} == {"step": "left out", "scale": "adapted"}
    assert torch.equal(forecaster.network.step, torch.arange(48) % 24)


def test_tuning_goes_on_from_the_loaded_closed_form(tmp_path):
    data = TrafficDataModule(synthetic_trace(days=14, n_regions=2), input_length=48, horizon=12)
    saved = content(MLP)
    saved["state_dict"]["network.skip.weight"] += 0.01
    forecaster, _ = transferred(saved, **data.description)
    forecaster.scaler.fit(data.train_values)
    trainer(tmp_path, limit_train_batches=1).fit(forecaster, data)
    assert torch.equal(forecaster.network.skip.weight, saved["state_dict"]["network.skip.weight"])


def test_what_has_no_counterpart_is_named():
    saved = content(partial(Recurrent, hidden_size=4))
    saved["state_dict"]["network.extra"] = torch.zeros(2)
    saved["state_dict"]["network.head.bias"] = torch.zeros(1, 1)
    del saved["state_dict"]["network.head.weight"]
    _, lines = transferred(saved, **SIZES)
    how = {line.name: line.how for line in lines}
    assert (how["extra"], how["head.bias"], how["head.weight"]) == ("left out", "left out", "new")


def test_resizing_keeps_the_ends_and_interpolates_between():
    weight = torch.tensor([[0.0, 2.0, 4.0], [10.0, 10.0, 10.0]])
    torch.testing.assert_close(resized(weight, (2, 5))[0], torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0]))
    torch.testing.assert_close(resized(weight, (3, 3))[1], torch.tensor([5.0, 6.0, 7.0]))


class Weighted(nn.Module):
    """A loss with a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, forecast, target):
        return self.weight * (forecast - target).square().mean()


def test_what_the_loss_has_learned_moves_too():
    saved = content(loss=Weighted)
    saved["state_dict"]["loss.weight"] = torch.tensor(7.0)
    forecaster, lines = transferred(saved, **{**SIZES, "n_regions": 5})
    assert forecaster.loss.weight == 7
    assert str(lines[-1]) == "loaded   loss.weight ()"
    BackboneFinetuning().freeze(forecaster.backbone)
    assert forecaster.loss.weight.requires_grad


class Positioned(nn.Module):
    """A head, and weights of the network's own beside it."""

    def __init__(self, sizes):
        super().__init__()
        self.position = nn.Parameter(torch.zeros(sizes.input_length))
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(1))])
        self.head = nn.Linear(sizes.input_length, sizes.horizon)

    def forward(self, history, history_calendar, future_calendar):
        return self.head(history.transpose(1, 2) * self.scales[0] + self.position).transpose(1, 2).unsqueeze(-1)


@pytest.mark.parametrize(
    ("network", "head"),
    [(SMALL, "body.head"), (Positioned, "head"), (partial(PatchTST, d_model=8, n_heads=2), "head.2")],
)
def test_all_is_frozen_but_the_head(network, head):
    forecaster = Forecaster(network, **SIZES)
    BackboneFinetuning().freeze(forecaster.backbone)
    free = {name for name, weight in forecaster.network.named_parameters() if weight.requires_grad}
    assert free == {f"{head}.weight", f"{head}.bias"}


def test_without_a_head_nothing_is_frozen():
    assert not [*Forecaster(SparseTSF, **SIZES).backbone.parameters()]


def test_a_closed_form_has_nothing_to_tune():
    with pytest.raises(InputError, match="nothing to tune"):
        transferred(content(Linear), **SIZES)
