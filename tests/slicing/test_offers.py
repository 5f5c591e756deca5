import pytest
import torch

from sliceoff.errors import InputError
from sliceoff.slicing import BY_RULE, Offers, discount_price, rising_price
from sliceoff.slicing.rental import rental

RISING = {
    "bandwidth_options_mhz": [5, 10],
    "bandwidth_price_per_mhz": 1.5,
    "bandwidth_price_scale_mhz": 160,
    "vm_options": [2, 4],
    "vm_price": 3.0,
    "vm_price_scale": 64,
    "n_regions": 3,
    "long_slot_s": 3600.0,
}


def test_prices_by_hand():
    assert rising_price(40, 1.5, 160) == pytest.approx(75.0)  # 60 * 1.25
    assert discount_price(16, 2.0, 0.75) == pytest.approx(16.0)  # 2 * 8


@pytest.mark.parametrize(
    ("price", "falls"), [(lambda b: rising_price(b, 1.5, 160), False), (lambda b: discount_price(b, 2.2, 0.85), True)]
)
def test_price_shapes_differ_in_the_unit_price(price, falls):
    units = [price(size) / size for size in (5, 10, 20, 40, 80)]
    assert units == sorted(units, reverse=falls)
    assert [price(size) for size in (5, 80)] == sorted(price(size) for size in (5, 80))


def test_eq8_to_eq10_what_is_rented_and_its_rent():
    offers = Offers.rising(**RISING | {"n_regions": 2}, change_price=0.5)
    nobody, chosen = torch.zeros(2, dtype=torch.bool), (torch.tensor([1, 0]), torch.tensor([0, 1]))
    first = rental(offers, *chosen, previous=None, uncovered=nobody, status=BY_RULE)
    assert first.bandwidth_hz.tolist() == [10e6, 5e6]
    assert first.n_vms.tolist() == [2, 4]
    prices = [15 * (1 + 10 / 160) + 6 * (1 + 2 / 64), 7.5 * (1 + 5 / 160) + 12 * (1 + 4 / 64)]
    assert first.rent.tolist() == pytest.approx(prices)
    second = rental(offers, chosen[0], chosen[0], previous=first, uncovered=nobody, status=BY_RULE)
    assert second.rent[0].item() == pytest.approx(15 * (1 + 10 / 160) + 12 * (1 + 4 / 64) + 0.5)  # other VMs


def test_prices_are_per_hour_and_limits_per_region():
    offers = Offers.rising(
        **RISING | {"long_slot_s": 900.0}, budget_per_region=100.0, bandwidth_inventory_mhz_per_region=7
    )
    assert offers.bandwidth_hz.tolist() == [[5e6, 10e6]] * 3
    assert offers.n_vms.dtype == torch.int64
    assert offers.bandwidth_price[0, 0].item() == pytest.approx(1.5 * 5 * (1 + 5 / 160) / 4)
    assert offers.budget == pytest.approx(75.0)
    assert offers.bandwidth_inventory_hz == pytest.approx(21e6)
    assert [row.name for row in offers.rows] == ["budget", "bandwidth_inventory_hz"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"bandwidth_price_per_mhz": -1}, "bandwidth_price_per_mhz"),
        ({"vm_price": -0.5}, "vm_price"),
        ({"vm_price": float("nan")}, "vm_price"),
        ({"bandwidth_price_scale_mhz": 0}, "bandwidth_price_scale_mhz"),
        ({"bandwidth_options_mhz": []}, "bandwidth_options_mhz"),
        ({"bandwidth_options_mhz": [10, 5]}, "bandwidth_options_mhz.* rise"),
        ({"bandwidth_options_mhz": [5, 5]}, "bandwidth_options_mhz.* rise"),
        ({"bandwidth_options_mhz": [5, float("inf")]}, "bandwidth_options_mhz"),
        ({"vm_options": []}, "vm_options"),
        ({"vm_options": [1.5, 2]}, "vm_options"),
        ({"vm_options": [0, 2]}, "vm_options"),
        ({"budget_per_region": -1}, "budget_per_region"),
        ({"budget_per_region": 5}, r"budget_per_region=5, but .* take \d"),
        ({"bandwidth_inventory_mhz_per_region": 4}, r"mhz_per_region=4, but .* take 5 per"),
        ({"vm_inventory_per_region": 1}, r"vm_inventory_per_region=1, but .* take \d per"),
        ({"change_price": -1}, "change_price"),
        ({"long_slot_s": 0}, "long_slot_s"),
    ],
)
def test_wrong_offers_name_the_key(change, named):
    with pytest.raises(InputError, match=named) as told:
        Offers.rising(**RISING | change)
    assert "\n" not in str(told.value)


def test_a_discount_must_not_rise():
    shape = {key: value for key, value in RISING.items() if "scale" not in key}
    with pytest.raises(InputError, match="bandwidth_price_exponent"):
        Offers.discount(**shape, bandwidth_price_exponent=1.2, vm_price_exponent=0.8)


def test_tables_are_checked_too():
    sizes, prices, vms = torch.tensor([[5e6, 1e7]]), torch.tensor([[5.0, -9.0]]), torch.tensor([[1, 2]])
    with pytest.raises(InputError, match="bandwidth_price"):
        Offers(bandwidth_hz=sizes, bandwidth_price=prices, n_vms=vms, vm_price=prices.abs())
    with pytest.raises(InputError, match="rise"):
        Offers(bandwidth_hz=sizes.flip(-1), bandwidth_price=prices.abs(), n_vms=vms, vm_price=prices.abs())
