import numpy as np
import pytest
import torch

from sliceoff.region import Scenario
from sliceoff.slicing import Offers, SlicingRequest, TaskStatistics

SIZES = {"bandwidth_options_mhz": [5, 10, 15, 20, 30, 40, 60, 80], "vm_options": [2, 4, 6, 8, 12, 16, 24, 32]}
RISING = {"bandwidth_price_per_mhz": 1.5, "bandwidth_price_scale_mhz": 160, "vm_price": 3.0, "vm_price_scale": 64}
DISCOUNT = {
    "bandwidth_price_per_mhz": 2.2,
    "bandwidth_price_exponent": 0.85,
    "vm_price": 5.7,
    "vm_price_exponent": 0.85,
}


@pytest.fixture(params=["CBC", "HIGHS"])
def solver(request):
    return request.param


@pytest.fixture(params=["rising", "discount"])
def offers(request):
    """Makes offers of both price shapes."""

    def make(n_regions, **limits):
        common = SIZES | {"n_regions": n_regions, "long_slot_s": 3600.0} | limits
        if request.param == "rising":
            return Offers.rising(**RISING, **common)
        return Offers.discount(**DISCOUNT, **common)

    return make


@pytest.fixture
def scenario():
    return Scenario(
        data_bits=(0.5e6, 1.5e6), cycles_per_bit=(200.0, 400.0), vm_hz=5e9, max_users=50, cell_radius_m=200.0
    )


@pytest.fixture
def ask(scenario):
    """Makes a request: users per region as forecast, last and truth."""

    def make(users, *, last=None, truth=None, previous=None):
        forecast = torch.as_tensor(np.asarray(users), dtype=torch.float32)
        return SlicingRequest(
            forecast=forecast,
            last=forecast if last is None else torch.as_tensor(last, dtype=torch.float32),
            truth=forecast if truth is None else torch.as_tensor(truth, dtype=torch.float32),
            statistics=TaskStatistics.prior(scenario, len(forecast)),
            previous=previous,
        )

    return make
