"""Dropout keeps what torch's keeps; a decoder that decodes few steps decodes them as if it decoded all."""

import pytest
import torch

from sliceoff.predictor.dropout import Dropout
from sliceoff.predictor.layers import DecoderLayer, DenseAttention, ProbSparseAttention, sinusoids


def test_positions_are_those_of_the_transformer():
    """Sine and cosine of `t / 10000^(2i / d)` (Vaswani et al. 2017, 3.5)."""
    angles = torch.tensor([[t / 10_000 ** (2 * i / 6) for i in range(3)] for t in range(4)])
    expected = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)
    torch.testing.assert_close(sinusoids(4, 6, torch.device("cpu")), expected)
    torch.testing.assert_close(sinusoids(4, 5, torch.device("cpu"))[:, 0], expected[:, 0])


@pytest.mark.parametrize("p", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_its_share_and_keeps_the_mean(p, dtype):
    ones = torch.ones(211, 977, dtype=dtype, requires_grad=True)  # no whole number of fours
    dropped = Dropout(p)(ones)
    assert (dropped == 0).float().mean().item() == pytest.approx(p, abs=0.005)
    kept = dropped[dropped != 0].float()
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - p)), atol=0, rtol=0.005)
    dropped.sum().backward()
    assert torch.equal(ones.grad, dropped.detach())  # the gradient is the mask


def test_dropout_is_drawn_anew_for_every_element_and_repeats_under_a_seed():
    ones, layer = torch.ones(64, 4096), Dropout(0.5)
    torch.manual_seed(0)
    first, second = layer(ones), layer(ones)
    torch.manual_seed(0)
    assert torch.equal(layer(ones), first)
    for other in (second, first.roll(1, 1), first.roll(2, 1), first.roll(1, 0)):
        assert ((first == 0) == (other == 0)).float().mean().item() == pytest.approx(0.5, abs=0.01)
    assert torch.equal(layer.eval()(ones), ones)


@pytest.mark.parametrize(
    "attention",
    [DenseAttention(8, 2, 0.0, causal=True), ProbSparseAttention(8, 2, 0.0, 1.0, "shared", causal=True)],
    ids=["dense", "sparse"],
)
def test_the_last_steps_are_decoded_as_among_all(attention):
    torch.manual_seed(0)
    layer = DecoderLayer(attention, DenseAttention(8, 2, 0.0), 8, 16, 0.0).eval()
    state, memory = torch.randn(2, 80, 8), torch.randn(2, 7, 8)
    everything = layer(state, memory)
    assert everything.shape == state.shape
    torch.testing.assert_close(layer(state, memory, 5), everything[:, -5:])
