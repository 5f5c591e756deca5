import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from sliceoff.errors import InputError
from sliceoff.region import Equal, Greedy, Scenario
from sliceoff.slicing import (
    Cheapest,
    Exact,
    ForecastErrors,
    Foresight,
    Offers,
    Profit,
    Quantiles,
    RevenueTable,
    TaskStatistics,
    measure_revenue,
)
from sliceoff.slicing.revenue import hat_weights

SMALL = Scenario(max_users=24, max_vms=8, price=1e-3)
QUICK = {"users_step": 8, "copies": 2, "slots": 6}


@pytest.fixture
def scenario():
    """In place of the shared one, so that `ask` has this region's statistics."""
    return SMALL


@pytest.fixture
def market():
    def make(n_regions, **limits):
        return Offers.rising(
            bandwidth_options_mhz=[5, 10, 20],
            bandwidth_price_per_mhz=1.5,
            bandwidth_price_scale_mhz=160,
            vm_options=[2, 4, 8],
            vm_price=3.0,
            vm_price_scale=64,
            n_regions=n_regions,
            long_slot_s=3600.0,
            **limits,
        )

    return make


def test_hat_weights_interpolate():
    grid = torch.tensor([0.0, 2.0, 6.0], dtype=torch.float64)
    weights = hat_weights(grid, torch.tensor([[0.0, 1.0, 5.0, 9.0]], dtype=torch.float64))
    assert weights[0].tolist() == [[1, 0, 0], [0.5, 0.5, 0], [0, 0.25, 0.75], [0, 0, 1]]


def test_expected_revenue_by_hand():
    grid = torch.tensor([0.0, 10.0], dtype=torch.float64)
    revenue = torch.zeros(2, 2, 2, dtype=torch.float64)
    revenue[1, 1, 1] = 8.0
    table = RevenueTable(grid, grid, grid, revenue)
    point = torch.tensor([[5.0]], dtype=torch.float64)
    users = torch.tensor([[0.0, 10.0]], dtype=torch.float64)
    assert table.expected(point, point, users).item() == pytest.approx(8 * 0.5 * 0.5 * 0.5)


def test_measured_revenue_grows_with_the_slice_and_with_better_allocation():
    sizes = ([5e6, 10e6, 20e6], [2, 4, 8], [8.0, 16.0, 24.0])
    greedy = measure_revenue(SMALL, Greedy(), *sizes, copies=2, slots=8).revenue
    equal = measure_revenue(SMALL, Equal(), *sizes, copies=2, slots=8).revenue
    assert bool((greedy.diff(dim=0) >= -1e-4).all())
    assert bool((greedy.diff(dim=1) >= -1e-4).all())
    assert greedy.sum() > 1.05 * equal.sum()
    assert greedy[0].sum() == greedy[:, 0].sum() == greedy[:, :, 0].sum() == 0
    # Plenty for 8 users: all of them earn, price times a mean priority of 2.
    assert greedy[-1, -1, 1].item() == pytest.approx(8 * 2 * SMALL.price, rel=0.25)


def test_profit_is_the_enumerated_optimum(market, ask, solver):
    """Without coupling by regions alone; with an inventory against every choice of three regions."""
    users = [6.0, 14.0, 22.0]
    free, tight = market(3), market(3, bandwidth_inventory_mhz_per_region=9)
    for offers in (free, tight):
        slicer = Profit(offers, SMALL, solver=solver, **QUICK)
        request = ask(users)
        rental = slicer.rent(request)
        expected = slicer.expected_profit(request).reshape(3, 9)
        best = -np.inf
        for pairs in itertools.product(range(9), repeat=3):
            size = sum(float(offers.bandwidth_hz[0, pair // 3]) for pair in pairs)
            if offers.bandwidth_inventory_hz is None or size <= offers.bandwidth_inventory_hz:
                best = max(best, sum(float(expected[i, pair]) for i, pair in enumerate(pairs)))
        chosen = rental.bandwidth_index * 3 + rental.vm_index
        assert float(expected[torch.arange(3), chosen].sum()) == pytest.approx(best, rel=1e-4)
        assert rental.status == "optimal"
    assert rental.bandwidth_hz.sum() <= tight.bandwidth_inventory_hz


def test_profit_beats_covering(market, ask, solver):
    """On tasks of its own seed and on others, with the region simulated afresh for what either rents."""
    users = torch.tensor([10.0, 16.0, 22.0], dtype=torch.float64)
    offers = market(3)
    request = ask(users.numpy())
    earned = {}
    for name, slicer in {
        "profit": Profit(offers, SMALL, solver=solver, **QUICK),
        "exact": Exact(offers, SMALL, kappa=0.3, z=2.0, solver=solver),
    }.items():
        rental = slicer.rent(request)
        fresh = measure_revenue(
            SMALL,
            Greedy(),
            sorted(set(rental.bandwidth_hz.tolist())),
            sorted(set(rental.n_vms.tolist())),
            users.tolist(),
            copies=4,
            slots=10,
            seed=99,
        )
        revenue = fresh.expected(
            rental.bandwidth_hz[:, None], rental.n_vms[:, None].double(), users[:, None]
        ).flatten() * (3600 / 0.5)
        earned[name] = float((revenue - rental.rent).sum())
    assert earned["profit"] > earned["exact"]


def test_profit_is_expected_over_the_errors_of_earlier_forecasts_or_the_quantiles_given(market, ask):
    slicer, request = Profit(market(1), SMALL, **{**QUICK, "n_scenarios": 2}), ask([12.0])
    errors = ForecastErrors.none_yet(1)
    for came in (6.0, 6.0, 18.0, 18.0):
        errors = errors.forecasting(torch.tensor([12.0])).observed(torch.tensor([came]))
    quarters = errors.users_at(torch.tensor([12.0]), torch.tensor([0.25, 0.75]).double())
    by_errors = slicer.expected_profit(replace(request, errors=errors))
    mean = [slicer.expected_profit(ask([users])) for users in quarters[0].tolist()]
    torch.testing.assert_close(by_errors, (mean[0] + mean[1]) / 2)
    quantiles = Quantiles(torch.tensor([0.25, 0.75]).double(), quarters)
    torch.testing.assert_close(slicer.expected_profit(replace(request, quantiles=quantiles)), by_errors)


@pytest.mark.parametrize("n_scenarios", [4, 64])
def test_as_many_scenarios_as_asked_for_are_read_off_a_quantile_forecast(market, ask, n_scenarios, monkeypatch):
    slicer, seen = Profit(market(1), SMALL, **{**QUICK, "n_scenarios": n_scenarios}), []
    measured = type(slicer.table).expected
    monkeypatch.setattr(type(slicer.table), "expected", lambda *given: (seen.append(given[-1]), measured(*given))[1])
    quantiles = Quantiles(torch.tensor([0.1, 0.9]).double(), torch.tensor([[4.0, 20.0]]).double())
    slicer.rent(replace(ask([12.0]), quantiles=quantiles))
    assert seen[0].shape == (1, n_scenarios)


def test_heavier_tasks_count_as_smaller_slices(market, ask):
    slicer = Profit(market(1), SMALL, **QUICK)
    usual = TaskStatistics.prior(SMALL, 1)
    heavier = replace(usual, bandwidth_mean=2 * usual.bandwidth_mean)
    request = ask([12.0])
    rows = []
    for statistics in (usual, heavier):
        now = replace(request, statistics=statistics)
        rows.append(slicer.expected_profit(now)[0])
    assert bool((rows[1] <= rows[0] + 1e-9).all())
    rent = slicer._offers.bandwidth_price[0]
    torch.testing.assert_close(rows[1][1] + rent[1], rows[0][0] + rent[0])  # 10 MHz do as 5 did


def test_more_vms_on_offer_than_a_region_can_have(market):
    with pytest.raises(InputError, match=r"region\.max_vms"):
        Profit(market(1), Scenario(max_vms=4), **QUICK)


def test_foresight_hands_the_true_users_to_its_slicer(market, ask):
    seen = []

    class Spy:
        def __init__(self, offers, scenario):
            self._slicer = Cheapest(offers, scenario, kappa="joint", z=2.0)

        def rent(self, request):
            seen.append(request)
            return self._slicer.rent(request)

    asked = replace(ask([10, 30], truth=[40, 5]), quantiles=Quantiles.certain(torch.zeros(2)))
    Foresight(market(2), SMALL, Spy).rent(asked)
    assert seen[0].forecast.tolist() == [40, 5]
    assert seen[0].users_at(torch.tensor([0.1, 0.9]).double()).tolist() == [[40, 40], [5, 5]]
