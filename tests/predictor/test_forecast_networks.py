"""Every network conforms; the conformance check itself finds what is wrong."""

from functools import partial

import pytest
import torch
from torch import nn

from sliceoff.errors import InputError
from sliceoff.predictor import (
    MLP,
    DLinear,
    Informer,
    ITransformer,
    LastValue,
    Linear,
    PatchTST,
    Recurrent,
    SeasonalMLP,
    SeasonalNaive,
    Sizes,
    SparseTSF,
    Transformer,
)
from sliceoff.predictor.layers import DenseAttention, ProbSparseAttention
from sliceoff.predictor.seasonal_mlp import seen_steps
from sliceoff.testing import check_predictor

SIZES = Sizes(n_channels=1, n_calendar=4, input_length=48, horizon=6, n_outputs=1, season_length=24)


@pytest.mark.parametrize(
    "network",
    [
        partial(Informer, d_model=8, n_heads=2, d_ff=8, factor=1.0),
        partial(Informer, d_model=8, n_heads=1, d_ff=8, factor=1.0, sampling="independent", encoder_layers=3),
        partial(Transformer, d_model=8, n_heads=2, d_ff=8),
        partial(Recurrent, hidden_size=8),
        partial(Recurrent, hidden_size=8, cell="lstm"),
        DLinear,
        MLP,
        partial(PatchTST, d_model=8, n_heads=2, d_ff=8),
        partial(ITransformer, d_model=8, n_heads=2, d_ff=8),
        SeasonalMLP,
        SparseTSF,
        partial(SparseTSF, recent=0),
        Linear,
        SeasonalNaive,
        LastValue,
    ],
    ids=lambda network: getattr(network, "func", network).__name__,
)
def test_conforms(network):
    check_predictor(network)


@pytest.mark.parametrize("attention", [DenseAttention, partial(ProbSparseAttention, factor=1.0, sampling="shared")])
@pytest.mark.parametrize("length", [8, 100])  # both ways of each
def test_attention_weights_are_dropped_in_training_alone(attention, length):
    layer, x = attention(8, 2, dropout=0.5), torch.randn(1, length, 8)

    def twice():
        outcomes = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            outcomes.append(layer(x, x))
        return outcomes

    assert not torch.equal(*twice())
    layer.eval()
    assert torch.equal(*twice())


class Broken(nn.Module):
    """Forecasts zeros, and whatever `fault` names wrongly."""

    def __init__(self, sizes, *, fault):
        super().__init__()
        self.n_outputs, self.fault = sizes.n_outputs, fault
        self.scale = nn.Parameter(torch.ones(()))
        self.unused = nn.Parameter(torch.ones(())) if fault == "unused" else None
        self.secret = torch.rand(())

    def forward(self, history, history_calendar, future_calendar):
        batch, _, channels = history.shape
        forecast = self.scale * torch.ones(batch, future_calendar.shape[1], channels, self.n_outputs)
        match self.fault:
            case "shape":
                return forecast[..., 0]
            case "random":
                return forecast + torch.rand(())
            case "batch":
                return forecast * history.mean()
            case "nan":
                return forecast / history.std()
            case "input":
                history += 1
            case "unkept":
                return forecast * self.secret
        return forecast


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("shape", "not \\(batch, horizon"),
        ("random", "two forecasts"),
        ("batch", "depends on the others"),
        ("nan", "NaN"),
        ("input", "changes its input"),
        ("unused", "no gradient reaches unused"),
        ("unkept", "something else"),
    ],
)
def test_the_check_finds(fault, message):
    with pytest.raises(AssertionError, match=message):
        check_predictor(Broken, fault=fault)


def test_channels_do_not_mix_where_they_must_not():
    history = torch.randn(2, 48, 3)
    changed = history.clone()
    changed[..., 2] += 5
    calendars = torch.randn(2, 48, 4), torch.randn(2, 6, 4)
    for network in (DLinear, PatchTST, SparseTSF):
        module = network(SIZES._replace(n_channels=3)).eval()
        before, after = module(history, *calendars), module(changed, *calendars)
        torch.testing.assert_close(before[:, :, :2], after[:, :, :2])
        assert not torch.allclose(before[:, :, 2], after[:, :, 2])
    mixing = ITransformer(SIZES._replace(n_channels=3)).eval()
    assert not torch.allclose(mixing(history, *calendars)[:, :, 0], mixing(changed, *calendars)[:, :, 0])


@pytest.mark.parametrize("network", [Informer, Transformer])
def test_the_decoder_sees_no_later_step(network):
    """Its sparse attention is dense, hence exact, over as few steps as these."""
    module = network(SIZES, d_model=8, n_heads=2, d_ff=8).eval()
    history, calendar, future = torch.randn(2, 48, 1), torch.randn(2, 48, 4), torch.randn(2, 6, 4)
    changed = future.clone()
    changed[:, 4] += 1
    before, after = module(history, calendar, future), module(history, calendar, changed)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert (before[:, 4:] != after[:, 4:]).all()


def test_patches_cover_the_whole_history():
    network = PatchTST(SIZES, patch_length=10, stride=7).eval()
    history = torch.randn(1, 48, 1, requires_grad=True)
    network(history, torch.zeros(1, 48, 4), torch.zeros(1, 6, 4)).sum().backward()
    assert (history.grad != 0).all()


def test_the_same_times_by_hand():
    # Days of five steps; the second step ahead is step 12, so its same times are the steps 7 and 2.
    seen = seen_steps(input_length=11, horizon=6, season_length=5, recent=2, neighbours=1)
    assert seen[1].tolist() == [6, 7, 8, 1, 2, 3, 9, 10, 4, 5, 0, 0]  # the last 0: before the history's start
    assert seen[5].tolist()[:3] == [5, 6, 7]  # a day later: the same time as the first step's, as far back
    flat = seen_steps(input_length=3, horizon=2, season_length=5, recent=2, neighbours=1)
    assert flat.tolist() == [[1, 2]] * 2


def test_the_seasonal_mlp_starts_as_the_mean_of_the_days():
    network = SeasonalMLP(SIZES, neighbours=0).eval()
    history = torch.randn(2, 48, 1)
    forecast = network(history, torch.randn(2, 48, 4), torch.randn(2, 6, 4))[..., 0]
    torch.testing.assert_close(forecast, (history[:, :6] + history[:, 24:30]) / 2)


def test_sparse_tsf_starts_as_the_mean_of_the_whole_days_and_maps_days_alike_at_every_time():
    network = SparseTSF(SIZES._replace(input_length=50, horizon=30)).eval()  # two days and two steps
    history, calendars = torch.randn(2, 50, 1), (torch.randn(2, 50, 4), torch.randn(2, 30, 4))
    days = history[:, 2:].unflatten(1, (2, 24))
    mean = days.mean(1)
    torch.testing.assert_close(network(history, *calendars)[..., 0], torch.cat([mean, mean[:, :6]], 1))
    with torch.no_grad():
        network.days.weight[:] = torch.tensor([[0.25, 0.75], [0.0, 2.0]])
        network.last.weight[26, -1] = 3.0
    expected = torch.cat([0.25 * days[:, 0] + 0.75 * days[:, 1], 2 * days[:, 1, :6]], 1)
    expected[:, 26] += 3 * (history[:, -1] - mean[:, -1])
    torch.testing.assert_close(network(history, *calendars)[..., 0], expected)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (partial(DLinear, kernel_size=4), "kernel_size"),
        (partial(MLP, hidden_size=0), "hidden_size"),
        (partial(MLP, dropout=1.0), "dropout"),
        (partial(SeasonalMLP, neighbours=-1), "neighbours"),
        (partial(SeasonalMLP, recent=0), "recent"),
        (partial(SparseTSF, recent=-1), "recent"),
        (partial(PatchTST, stride=0), "stride"),
        (partial(PatchTST, d_model=-1), "d_model"),
        (partial(ITransformer, d_model=-1), "d_model"),
        (partial(Recurrent, hidden_size=0), "hidden_size"),
        (partial(Recurrent, cell="rnn"), "cell"),
        (partial(ITransformer, d_model=10, n_heads=3), "n_heads"),
        (partial(Transformer, encoder_layers=0), "encoder_layers"),
        (partial(Informer, factor=0.0), "factor"),
    ],
)
def test_wrong_options_are_named(network, message):
    with pytest.raises(InputError, match=message):
        network(SIZES)
