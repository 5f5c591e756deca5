import gc
import itertools
from dataclasses import replace
from functools import partial

import mip
import mip.cbc
import mip.highs
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from units import scenario_in

from sliceoff.config import CONFIGS, configure
from sliceoff.errors import InputError
from sliceoff.region import Scenario
from sliceoff.run import Parts
from sliceoff.slicing import (
    BY_RULE,
    Cheapest,
    Exact,
    Fixed,
    FixedKappa,
    Foresight,
    LpRounding,
    Newsvendor,
    Profit,
    Reactive,
    SlicingRequest,
    Status,
    TaskStatistics,
)
from sliceoff.slicing.offers import pick
from sliceoff.slicing.rounding import draw

PLAN = {"kappa": 0.5, "z": 2.0}


def rows_hold(offers, rental):
    return all(
        float(row.use(rental.bandwidth_index, rental.vm_index).sum()) <= row.limit * (1 + 1e-8) for row in offers.rows
    )


def consistent(offers, rental):
    """C1-C3, and every number of the rental is that of its offers."""
    for index, table in ((rental.bandwidth_index, offers.bandwidth_hz), (rental.vm_index, offers.n_vms)):
        assert index.shape == (offers.n_regions,)
        assert bool(((index >= 0) & (index < table.shape[1])).all())
    torch.testing.assert_close(rental.bandwidth_hz, pick(offers.bandwidth_hz, rental.bandwidth_index))
    assert bool((rental.n_vms == pick(offers.n_vms, rental.vm_index)).all())
    return rows_hold(offers, rental)


def brute_force(offers, demand_hz, demand_vms):
    """Least rent that covers, by trying every pair in every region alone."""
    rent = []
    for region in range(offers.n_regions):
        pairs = itertools.product(
            zip(offers.bandwidth_hz[region], offers.bandwidth_price[region], strict=True),
            zip(offers.n_vms[region], offers.vm_price[region], strict=True),
        )
        rent.append(min(float(p + q) for (b, p), (v, q) in pairs if b >= demand_hz[region] and v >= demand_vms[region]))
    return sum(rent)


def test_without_coupling_exact_is_cheapest_is_brute_force(offers, scenario, ask, solver):
    users = np.random.default_rng(0).uniform(0, 45, 12)
    request, market = ask(users), offers(12)
    demand = FixedKappa(scenario, **PLAN).demand(request.forecast, request.statistics)
    best = brute_force(market, *demand)
    exact = Exact(market, scenario, **PLAN, solver=solver).rent(request)
    rule = Cheapest(market, scenario, **PLAN).rent(request)
    for rental in (exact, rule):
        assert consistent(market, rental)
        assert float(rental.rent.sum()) == pytest.approx(best, rel=1e-6)
        assert not rental.uncovered.any()
    assert (exact.status, rule.status) == (Status.OPTIMAL, BY_RULE)


COUPLED = [
    {},
    {"bandwidth_inventory_mhz_per_region": 26},
    {"vm_inventory_per_region": 14},
    {"budget_per_region": 90},
    {"bandwidth_inventory_mhz_per_region": 24, "vm_inventory_per_region": 13, "budget_per_region": 80},
]


@pytest.mark.parametrize("limits", COUPLED)
@pytest.mark.parametrize("margin", [None, 0.5])
def test_lp_is_below_exact_is_below_rounded(offers, scenario, ask, solver, limits, margin):
    """In money of rent and of uncovered users together, which is what every one of them minimises."""
    users = np.random.default_rng(1).uniform(5, 35, 10)
    request, market = ask(users), offers(10, **limits)
    rounded = LpRounding(market, scenario, **PLAN, solver=solver, aggregate_margin=margin).rent(request)
    exact = Exact(market, scenario, **PLAN, solver=solver, aggregate_margin=margin).rent(request)
    if exact.fallback != rounded.fallback:
        pytest.skip("the relaxation can meet an aggregate demand that binaries cannot")
    assert consistent(market, rounded)
    assert consistent(market, exact)
    rent = FixedKappa(scenario, **PLAN).problem(market, request).choice_problem()
    cost = [rent.cost((rental.bandwidth_index.numpy(), rental.vm_index.numpy())).sum() for rental in (exact, rounded)]
    assert rounded.lp_value <= cost[0] * (1 + 1e-6)
    assert cost[0] <= cost[1] * (1 + 1e-6)


def test_exact_under_one_row_is_brute_force(offers, scenario, ask, solver):
    """Three regions, an inventory that cannot cover all: the fewest users are left uncovered."""
    users, inventory = [12.0, 20.0, 31.0], 30.0
    request, market = ask(users), offers(3, bandwidth_inventory_mhz_per_region=inventory / 3)
    rental = Exact(market, scenario, **PLAN, solver=solver).rent(request)
    demand, _ = FixedKappa(scenario, **PLAN).demand(request.forecast, request.statistics)
    missing = {}
    for choice in itertools.product(range(8), repeat=3):
        size = market.bandwidth_hz[0, list(choice)]
        if size.sum() <= inventory * 1e6:
            missed = (torch.tensor(users) * (1 - size / demand).clamp_min(0)).sum() + (size < demand).sum()
            missing[choice] = float(missed)
    size = rental.bandwidth_hz
    missed = (torch.tensor(users) * (1 - size / demand).clamp_min(0)).sum() + (size < demand).sum()
    # Rent counts as well, but a user counts as much as the dearest slice.
    assert float(missed) <= min(missing.values()) + 3.0
    assert rental.uncovered.tolist() == (size < demand).tolist()
    assert rental.uncovered.any()
    assert rental.status == Status.OPTIMAL


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), limits=st.sampled_from(COUPLED), change=st.sampled_from([0.0, 20.0]))
def test_c1_c3_and_the_rows_hold_for_every_slicer(offers, scenario, ask, solver, seed, limits, change):
    random = np.random.default_rng(seed)
    market = offers(6, **limits, change_price=change)
    slicers = [
        LpRounding(market, scenario, **PLAN, seed=seed, n_draws=4, solver=solver),
        Exact(market, scenario, **PLAN, solver=solver),
        Cheapest(market, scenario, **PLAN),
        Reactive(market, scenario, **PLAN),
        Foresight(market, scenario, partial(Cheapest, **PLAN)),
        Fixed(market, scenario, **PLAN, users=50),
    ]
    for slicer in slicers:
        previous = None
        for _ in range(2):
            users = random.uniform(0, 60, (3, 6))
            request = ask(users[0], last=users[1], truth=users[2], previous=previous)
            previous = slicer.rent(request)
            assert consistent(market, previous)


def test_each_rule_looks_at_its_own_users(offers, scenario, ask):
    market = offers(2)
    request = ask([5, 5], last=[20, 20], truth=[40, 40])
    capacity = {
        name: float(slicer.rent(request).bandwidth_hz[0])
        for name, slicer in {
            "forecast": Cheapest(market, scenario, **PLAN),
            "last": Reactive(market, scenario, **PLAN),
            "truth": Foresight(market, scenario, partial(Cheapest, **PLAN)),
            "fixed": Fixed(market, scenario, **PLAN, users=40),
        }.items()
    }
    assert capacity["forecast"] < capacity["last"] < capacity["truth"] == capacity["fixed"]


def test_after_repair_nothing_is_uncovered_that_can_be_covered(offers, scenario, ask, solver):
    """An inventory between the least that covers and what the cheapest slices take, and a price for changes."""
    random, over = np.random.default_rng(2), []
    for number in range(12):
        users = random.uniform(4, 45, 12)
        free = offers(12, change_price=float(random.uniform(5, 30)))
        before = Exact(free, scenario, **PLAN).rent(ask(users * random.uniform(0.6, 1.5, 12)))
        request = ask(users, previous=before)
        least = float(Exact(offers(12), scenario, **PLAN).rent(ask(users)).bandwidth_hz.sum())
        most = float(Exact(free, scenario, **PLAN).rent(request).bandwidth_hz.sum())
        market = offers(
            12,
            change_price=free.change_price,
            bandwidth_inventory_mhz_per_region=(least + 0.5 * (most - least)) * (1 + 1e-9) / 12e6,
        )
        exact = Exact(market, scenario, **PLAN, solver=solver).rent(request)
        rounded = LpRounding(market, scenario, **PLAN, solver=solver, seed=number, n_draws=16).rent(request)
        assert not exact.uncovered.any()
        assert not rounded.uncovered.any()
        over.append(float(rounded.rent.sum() / exact.rent.sum()) - 1)
    assert min(over) >= -1e-4
    assert np.mean(over) <= 0.02


def test_demand_above_the_largest_offer_rents_the_largest_and_says_so(offers, scenario, ask, solver):
    request, market = ask([200.0, 20.0]), offers(2)
    for slicer in (
        Cheapest(market, scenario, **PLAN),
        Exact(market, scenario, **PLAN, solver=solver),
        LpRounding(market, scenario, **PLAN, solver=solver),
    ):
        rental = slicer.rent(request)
        assert rental.bandwidth_hz[0] == 80e6
        assert rental.n_vms[0] == 32
        assert rental.uncovered.tolist() == [True, False]


def test_a_budget_for_the_smallest_offers_only(offers, scenario, ask, solver):
    smallest = offers(3)
    least = float(smallest.bandwidth_price[0, 0] + smallest.vm_price[0, 0])
    market = offers(3, budget_per_region=least)
    for slicer in (
        Cheapest(market, scenario, **PLAN),
        Exact(market, scenario, **PLAN, solver=solver),
        LpRounding(market, scenario, **PLAN, solver=solver),
    ):
        rental = slicer.rent(ask([30.0, 30.0, 30.0]))
        assert rental.bandwidth_index.tolist() == rental.vm_index.tolist() == [0, 0, 0]
        assert rental.uncovered.all()


def test_the_seed_decides_the_draws(offers, scenario, ask, solver, monkeypatch):
    """Of the draws, not of what is rented: the repair mostly ends with the same slices whatever was drawn."""
    users = np.random.default_rng(0).uniform(5, 40, 30)
    market = offers(30, bandwidth_inventory_mhz_per_region=24)

    def run(seed):
        slicer, previous, seen, rented = LpRounding(market, scenario, **PLAN, seed=seed, solver=solver), None, [], []

        def seeing(*given):
            seen.append(draw(*given))
            return seen[-1]

        monkeypatch.setattr("sliceoff.slicing.slicers.draw", seeing)
        for _ in range(2):
            previous = slicer.rent(ask(users, previous=previous))
            rented.append(previous.bandwidth_index.tolist())
        return np.stack(seen), rented

    (first, rented), (again, rented_again), (other, _) = run(1), run(1), run(2)
    assert (first == again).all()
    assert rented == rented_again
    assert (first != other).any()
    assert (first[:2] != first[2:]).any()  # a period's draws are its own


def test_a_price_for_changes_keeps_slices(offers, scenario, ask, solver):
    free, priced = offers(10), offers(10, change_price=15.0)
    random = np.random.default_rng(0)
    changes = {}
    for name, market in {"free": free, "priced": priced}.items():
        slicer, previous, changed = Exact(market, scenario, **PLAN, solver=solver), None, 0
        for users in random.uniform(14, 26, (6, 10)):
            rental = slicer.rent(ask(users, previous=previous))
            if previous is not None:
                new = (rental.bandwidth_index != previous.bandwidth_index).sum() + (
                    rental.vm_index != previous.vm_index
                ).sum()
                listed = pick(market.bandwidth_price, rental.bandwidth_index) + pick(market.vm_price, rental.vm_index)
                assert float(rental.rent.sum() - listed.sum()) == pytest.approx(market.change_price * int(new))
                changed += int(new)
            previous = rental
        changes[name] = changed
    assert changes["priced"] < changes["free"]


def test_an_aggregate_row_rents_more_in_total(offers, scenario, ask, solver):
    users = np.full(10, 20.0)
    plain = Exact(offers(10), scenario, **PLAN, solver=solver).rent(ask(users))
    margin = Exact(offers(10), scenario, **PLAN, solver=solver, aggregate_margin=0.6).rent(ask(users))
    demand, _ = FixedKappa(scenario, **PLAN).demand(ask(users).forecast, ask(users).statistics)
    assert plain.bandwidth_hz.sum() < 1.6 * demand.sum() <= margin.bandwidth_hz.sum()


def test_an_aggregate_row_that_cannot_hold_is_given_up(offers, scenario, ask, solver):
    market = offers(4, bandwidth_inventory_mhz_per_region=16)
    request = ask([20.0] * 4)
    for slicer in (
        Exact(market, scenario, **PLAN, solver=solver, aggregate_margin=1.0),
        LpRounding(market, scenario, **PLAN, solver=solver, aggregate_margin=1.0),
    ):
        rental = slicer.rent(request)
        assert rental.fallback == "aggregate demand given up"
        assert rental.status == Status.OPTIMAL
        assert consistent(market, rental)


def test_without_a_solver_rounding_becomes_the_rule(offers, scenario, ask, monkeypatch, caplog):
    monkeypatch.setattr(mip.highs, "has_highs", False)
    market = offers(4, bandwidth_inventory_mhz_per_region=10)
    rental = LpRounding(market, scenario, **PLAN, solver="HIGHS").rent(ask([5.0, 20.0, 30.0, 40.0]))
    assert rental.status == Status.SOLVER_MISSING
    assert rental.fallback == "cheapest offers that cover, scaled back to the coupling rows"
    assert "solver missing" in caplog.text
    rule = Cheapest(market, scenario, **PLAN).rent(ask([5.0, 20.0, 30.0, 40.0]))
    assert rental.bandwidth_index.tolist() == rule.bandwidth_index.tolist()
    assert consistent(market, rental)


def no_library(patch):
    """As where python-mip found neither library."""
    gc.collect()  # a model in a cycle frees itself through the library
    patch.setattr(mip.highs, "has_highs", False)
    patch.delattr(mip.cbc, "cbclib")


def crash_of(name):
    def crash(*_, **__):
        raise RuntimeError("crashed")

    return lambda patch: patch.setattr(mip.Model, name, crash)


def told(status):
    return lambda patch: patch.setattr(mip.Model, "optimize", lambda *_, **__: status)


TROUBLES = [
    (no_library, Status.SOLVER_MISSING),
    (crash_of("optimize"), Status.SOLVER_ERROR),
    (crash_of("add_constr"), Status.SOLVER_ERROR),  # while the model is built
    (told(mip.OptimizationStatus.ERROR), Status.SOLVER_ERROR),
    (told(mip.OptimizationStatus.NO_SOLUTION_FOUND), Status.TIME_LIMIT),
    (told(mip.OptimizationStatus.UNBOUNDED), Status.UNBOUNDED),
    (told(mip.OptimizationStatus.INFEASIBLE), Status.INFEASIBLE),
]


@pytest.mark.parametrize(("trouble", "status"), TROUBLES)
@pytest.mark.parametrize("program", [Exact, LpRounding, Profit])
def test_whatever_the_solver_does_there_is_a_slice_and_a_flag(
    offers, scenario, ask, solver, monkeypatch, caplog, program, trouble, status
):
    """Trouble of every kind is told apart and answered; the period after it, all is well again."""
    users = np.random.default_rng(0).uniform(5, 40, 12)
    options = {
        Exact: PLAN | {"gap": 1e-12},
        LpRounding: PLAN,
        Profit: {"copies": 1, "slots": 2, "users_step": 25, "gap": 1e-12},
    }[program]
    free = program(offers(12), scenario, **options, solver=solver).rent(ask(users))
    market = offers(12, budget_per_region=0.97 * float(free.rent.sum()) / 12)
    slicer = program(market, scenario, **options, solver=solver)
    with monkeypatch.context() as patch:
        trouble(patch)
        rental = slicer.rent(ask(users))
    assert rental.status == status
    answers = {"cheapest offers that cover, scaled back to the coupling rows", "best choice known, not proved"}
    assert rental.fallback in answers
    assert str(status) in caplog.text
    assert consistent(market, rental)
    after = slicer.rent(ask(users, previous=rental))
    assert (after.status, after.fallback) == (Status.OPTIMAL, "")
    assert consistent(market, after)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda o, s: Exact(o, s, **PLAN, solver="GLPK"), "solver"),
        (lambda o, s: Exact(o, s, **PLAN, time_limit_s=-1), "time_limit_s"),
        (lambda o, s: Exact(o, s, **PLAN, aggregate_margin=-1), "aggregate_margin"),
        (lambda o, s: LpRounding(o, s, **PLAN, n_draws=0), "n_draws"),
        (lambda o, s: Fixed(o, s, **PLAN, users=-3), "users"),
        (lambda o, s: Cheapest(o, s, kappa=1.5, z=2), "kappa"),
    ],
)
def test_wrong_options_are_told_at_construction(offers, scenario, make, named):
    with pytest.raises(InputError, match=f"^{named}"):
        make(offers(2), scenario)


@pytest.mark.parametrize("option", sorted(file.stem for file in (CONFIGS / "offers").glob("*.yaml")))
def test_the_offers_of_every_config_have_a_row_that_couples_the_regions(option):
    assert Parts(configure(f"offers={option}", "data.days=21")).offers.rows


def test_the_loop_can_call_it_as_it_does(offers, solver):
    """float32 users, float64 statistics, an online update between periods."""
    scenario = Scenario()
    statistics = TaskStatistics.prior(scenario, 3)
    users = torch.tensor([10.0, 20.0, 30.0])
    slicer = LpRounding(offers(3), scenario, **PLAN, solver=solver)
    first = slicer.rent(SlicingRequest(users, users, users, statistics))
    second = slicer.rent(SlicingRequest(users, users, users, statistics, first))
    assert (first.period, second.period) == (0, 1)
    assert statistics.capacity_users(second.bandwidth_hz, second.n_vms, scenario.short_slot_s).shape == (3,)


SLICERS = {
    "cheapest": partial(Cheapest, **PLAN),
    "exact": partial(Exact, **PLAN),
    "exact, CBC": partial(Exact, **PLAN, solver="CBC"),
    "lp_rounding": partial(LpRounding, **PLAN),
    "newsvendor": partial(Newsvendor, slicer=partial(Cheapest, **PLAN)),
    "profit": partial(Profit, copies=1, slots=4, users_step=16, n_scenarios=4),
}
USERS = [4.0, 9.0, 15.0, 22.0, 31.0]


def offers_in(offers, bits=1.0, money=1.0):
    return replace(
        offers,
        bandwidth_hz=offers.bandwidth_hz * bits,
        bandwidth_price=offers.bandwidth_price * money,
        vm_price=offers.vm_price * money,
        budget=offers.budget and offers.budget * money,
        bandwidth_inventory_hz=offers.bandwidth_inventory_hz and offers.bandwidth_inventory_hz * bits,
    )


@pytest.mark.parametrize("units", [{"money": 1e-7}, {"money": 1e5}, {"bits": 1e-3}], ids=str)
@pytest.mark.parametrize("name", SLICERS)
def test_every_slicer_rents_the_same_in_other_units(offers, scenario, ask, name, units):
    there, money = scenario_in(scenario, **units), units.get("money", 1)
    for limits in ({"budget_per_region": 60}, {"bandwidth_inventory_mhz_per_region": 20, "vm_inventory_per_region": 9}):
        sold, request = offers(len(USERS), **limits), ask(USERS)
        here = SLICERS[name](offers=sold, scenario=scenario).rent(request)
        moved = SLICERS[name](offers=offers_in(sold, **units), scenario=there).rent(
            replace(request, statistics=TaskStatistics.prior(there, len(USERS)))
        )
        assert torch.equal(here.bandwidth_index, moved.bandwidth_index)
        assert torch.equal(here.vm_index, moved.vm_index)
        torch.testing.assert_close(moved.rent, here.rent * money)
        if here.lp_value is not None:
            assert moved.lp_value == pytest.approx(here.lp_value * money, rel=1e-6)


@pytest.mark.parametrize("name", SLICERS)
def test_a_dearer_offer_of_less_and_an_idle_region_change_nothing(offers, scenario, ask, name):
    sold = offers(len(USERS))
    here = SLICERS[name](offers=sold, scenario=scenario).rent(ask(USERS))
    hertz, price = sold.bandwidth_hz, sold.bandwidth_price
    dominated = replace(  # 14 MHz, which would do for the last region, for more than the 15 MHz cost
        sold,
        bandwidth_hz=torch.cat((hertz[:, :2], hertz[:, 2:3] - 1e6, hertz[:, 2:]), 1),
        bandwidth_price=torch.cat((price[:, :2], 1.3 * price[:, 2:3], price[:, 2:]), 1),
    )
    one_more = SLICERS[name](offers=offers(len(USERS) + 1), scenario=scenario).rent(ask([*USERS, 0.0]))
    for rented in (SLICERS[name](offers=dominated, scenario=scenario).rent(ask(USERS)), one_more):
        assert torch.equal(rented.bandwidth_hz[: len(USERS)], here.bandwidth_hz)
        assert torch.equal(rented.n_vms[: len(USERS)], here.n_vms)
    assert (one_more.bandwidth_index[-1], one_more.vm_index[-1]) == (0, 0)
