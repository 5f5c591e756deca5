"""The scaler standardises by region, survives constant ones, and travels in a checkpoint."""

import pytest
import torch
from torch.testing import assert_close

from sliceoff.data import Scaler


def test_standardises_every_region_and_inverts():
    values = torch.tensor([[1.0, 100.0], [3.0, 500.0]])
    scaler = Scaler(2)
    scaler.fit(values)
    assert_close(scaler.mean, torch.tensor([2.0, 300.0]))
    assert_close(scaler.std, torch.tensor([1.0, 200.0]))  # population standard deviation
    scaled = scaler.transform(values)
    assert_close(scaled, torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
    assert_close(scaler.inverse(scaled.unsqueeze(-1)).squeeze(-1), values)


def test_inverse_keeps_regions_and_outputs_apart():
    scaler = Scaler(2)
    scaler.fit(torch.tensor([[0.0, 10.0], [2.0, 30.0]]))
    quantiles = torch.tensor([-1.0, 0.0, 1.0]).expand(5, 7, 2, 3)  # batch, horizon, regions, outputs
    real = scaler.inverse(quantiles)
    assert_close(real[4, 6], torch.tensor([[0.0, 1.0, 2.0], [10.0, 20.0, 30.0]]))


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6, -273.15])
def test_a_constant_region_is_only_centred(constant):
    values = torch.full((1000, 1), constant)
    scaler = Scaler(1)
    scaler.fit(values)
    assert float(scaler.std) == 1.0
    assert_close(scaler.transform(values + 1), torch.ones(1000, 1), atol=0.1, rtol=0)


def test_a_large_offset_does_not_swallow_the_spread():
    values = 1e6 + torch.arange(100.0).unsqueeze(-1)
    scaler = Scaler(1)
    scaler.fit(values)
    assert float(scaler.std) == pytest.approx(28.866, rel=1e-3)


def test_identity_until_fitted_and_refit_replaces():
    scaler = Scaler(1)
    assert not scaler.fitted
    assert_close(scaler.transform(torch.ones(3, 1)), torch.ones(3, 1))
    scaler.fit(torch.tensor([[0.0], [10.0]]))
    assert scaler.fitted
    scaler.fit(torch.tensor([[0.0], [2.0]]))
    assert_close(scaler.mean, torch.tensor([1.0]))


def test_travels_in_the_state_dict():
    scaler, other = Scaler(2), Scaler(2)
    scaler.fit(torch.rand(50, 2))
    other.load_state_dict(scaler.state_dict())
    assert other.fitted
    assert_close(other.transform(torch.ones(2)), scaler.transform(torch.ones(2)))
    assert not any(True for _ in scaler.parameters())


def test_statistics_saved_with_a_bool_load():
    scaler = Scaler(2)
    scaler.load_state_dict({"mean": torch.zeros(2), "std": torch.ones(2), "fitted": torch.tensor(True)})
    assert scaler.fitted


@pytest.mark.parametrize("shape", [(0, 2), (5, 3)])
def test_wrong_shapes(shape):
    with pytest.raises(ValueError, match="cannot fit 2 regions"):
        Scaler(2).fit(torch.zeros(shape))
