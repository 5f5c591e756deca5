import itertools

import mip
import numpy as np
import pytest
import torch

from sliceoff.errors import InputError
from sliceoff.slicing import (
    Cheapest,
    Exact,
    FixedKappa,
    JointKappa,
    LpRounding,
    TaskStatistics,
    bandwidth_demand,
    pair_capacity,
    upload_span,
    vm_demand,
)
from sliceoff.solver import Solver

CONSTANTS = {"z": 2.0, "deadline_s": 1.0, "short_slot_s": 0.5}
USERS = [4.0, 11.0, 23.0, 38.0]


@pytest.mark.parametrize("users", [0.0, 3.0, 20.0, 33.0])
@pytest.mark.parametrize("bandwidth", [6.0, 8.0, 14.0, 40.0])
def test_the_upload_span_solves_eq_17a(users, bandwidth):
    one = torch.tensor([1.0], dtype=torch.float64)
    work = (0.2 * one, 0.1 * one)
    span = upload_span(users * one, bandwidth * one, *work, z=2.0, short_slot_s=0.5)
    if users == 0:
        assert span.item() == 0
    elif span.isinf():
        assert users * 0.2 / 0.5 >= bandwidth  # more work per second than bandwidth
    else:
        asked = bandwidth_demand(users * one, *work, kappa=span, z=2.0, deadline_s=1.0, short_slot_s=0.5)
        assert asked.item() == pytest.approx(bandwidth)


def test_a_pair_covers_what_some_kappa_covers(offers, scenario):
    """Against a fine grid of kappas."""
    market, statistics = offers(1), TaskStatistics.prior(scenario, 1)
    capacity = pair_capacity(market.bandwidth_hz, market.n_vms, statistics, **CONSTANTS)[0]
    kappas = torch.linspace(0.001, 0.999, 2000, dtype=torch.float64)
    ones = torch.ones_like(kappas)
    bandwidth_work = (statistics.bandwidth_mean * ones, statistics.bandwidth_std * ones)
    vm_work = (statistics.vm_mean * ones, statistics.vm_std * ones, statistics.vm_max * ones)
    for k, m in itertools.product(range(8), range(8)):
        for factor, covered in ((0.995, True), (1.005, False)):
            users = factor * capacity[k, m] * ones
            fits = (
                bandwidth_demand(users, *bandwidth_work, kappa=kappas, **CONSTANTS) <= market.bandwidth_hz[0, k]
            ) & (vm_demand(users, *vm_work, kappa=kappas, **CONSTANTS) <= market.n_vms[0, m])
            assert bool(fits.any()) == covered, (k, m, factor)


def test_capacity_grows_with_either_offer(offers, scenario):
    capacity = pair_capacity(offers(1).bandwidth_hz, offers(1).n_vms, TaskStatistics.prior(scenario, 1), **CONSTANTS)
    assert bool((capacity.diff(dim=1) >= -1e-4).all())
    assert bool((capacity.diff(dim=2) >= -1e-4).all())


def test_the_joint_optimum_is_that_of_the_best_kappa_of_every_region(offers, scenario, ask, solver):
    market, request = offers(4), ask(USERS)
    joint = Exact(market, scenario, kappa="joint", z=2.0, solver=solver).rent(request)
    best = torch.full((4,), torch.inf, dtype=torch.float64)
    for kappa in np.linspace(0.02, 0.87, 120):
        rental = Cheapest(market, scenario, kappa=float(kappa), z=2.0).rent(request)
        best = torch.where(rental.uncovered, best, torch.minimum(best, rental.rent))
    assert not joint.uncovered.any()
    torch.testing.assert_close(joint.rent, best)
    fixed = Exact(market, scenario, kappa=0.5, z=2.0, solver=solver).rent(request)
    assert joint.rent.sum() <= fixed.rent.sum()


@pytest.mark.parametrize("row", [None, "bandwidth_inventory_mhz_per_region", "vm_inventory_per_region"])
def test_pairs_are_the_printed_program_with_forbidden_pairs(offers, scenario, ask, solver, row):
    """`alpha_i^k + beta_i^m <= 1` for every pair that cannot meet the deadline together, solved as printed."""
    request = ask(USERS)
    capacity = JointKappa(scenario, 2.0).problem(offers(4), request).capacity
    free = Exact(offers(4), scenario, kappa="joint", z=2.0, solver=solver).rent(request)
    market, binds = offers(4), False
    if row is not None:  # half way between what the free optimum takes and the least that covers
        covers = capacity >= np.array(USERS)[:, None, None]
        if row == "vm_inventory_per_region":
            taken = float(free.n_vms.sum())
            least = np.where(covers, market.n_vms.numpy()[:, None, :], np.inf).min((1, 2)).sum()
        else:
            taken = float(free.bandwidth_hz.sum()) / 1e6
            least = np.where(covers, market.bandwidth_hz.numpy()[:, :, None] / 1e6, np.inf).min((1, 2)).sum()
        market, binds = offers(4, **{row: (taken + least) / 2 / 4}), least < taken
    asked = Solver(solver, 10.0, integer=True)
    printed = asked.open()
    regions, sizes = range(4), range(8)
    alpha = [
        [printed.add_var(var_type=mip.BINARY, obj=float(market.bandwidth_price[i, k])) for k in sizes] for i in regions
    ]
    beta = [[printed.add_var(var_type=mip.BINARY, obj=float(market.vm_price[i, m])) for m in sizes] for i in regions]
    for i in regions:
        printed.add_constr(mip.xsum(alpha[i]) == 1)
        printed.add_constr(mip.xsum(beta[i]) == 1)
        for k, m in itertools.product(sizes, sizes):
            if capacity[i, k, m] < USERS[i]:
                printed.add_constr(alpha[i][k] + beta[i][m] <= 1)
    for row in market.rows:
        printed.add_constr(
            mip.xsum(
                float(row.bandwidth_use[i, k]) / 1e6 * alpha[i][k] + float(row.vm_use[i, k]) * beta[i][k]
                for i in regions
                for k in sizes
            )
            <= row.limit / (1e6 if "hz" in row.name else 1)
        )
    solution = asked.solve(printed, printed.vars)
    rental = Exact(market, scenario, kappa="joint", z=2.0, solver=solver).rent(request)
    assert solution.status == rental.status == "optimal"
    assert not rental.uncovered.any()
    assert float(rental.rent.sum()) == pytest.approx(solution.objective, rel=1e-6)
    # Where the row binds, one resource takes the other's place.
    assert (rental.rent.sum() > free.rent.sum()) == binds


def test_joint_rounding_is_above_its_relaxation(offers, scenario, ask, solver):
    users = np.random.default_rng(0).uniform(3, 40, 12)
    free = Exact(offers(12), scenario, kappa="joint", z=2.0, solver=solver).rent(ask(users))
    market = offers(12, vm_inventory_per_region=float(free.n_vms.sum() - 1) / 12)
    rounded = LpRounding(market, scenario, kappa="joint", z=2.0, solver=solver).rent(ask(users))
    exact = Exact(market, scenario, kappa="joint", z=2.0, solver=solver).rent(ask(users))
    assert rounded.lp_value <= float(exact.rent.sum()) * (1 + 1e-6)
    assert exact.rent.sum() <= rounded.rent.sum() * (1 + 1e-6)
    assert rounded.rent.sum() <= exact.rent.sum() * 1.05
    assert rounded.n_vms.sum() <= market.vm_inventory * (1 + 1e-9)
    assert not rounded.uncovered.any()


def test_more_users_than_any_pair_serves(offers, scenario, ask, solver):
    rental = Exact(offers(1), scenario, kappa="joint", z=2.0, solver=solver).rent(ask([900.0]))
    assert (rental.bandwidth_hz.item(), rental.n_vms.item()) == (80e6, 32)
    assert rental.uncovered.item()


def test_wrong_kappas_are_told(offers, scenario, ask):
    with pytest.raises(InputError, match="'joint'"):
        Exact(offers(1), scenario, kappa="jont", z=2.0)
    with pytest.raises(InputError, match="aggregate_margin"):
        Exact(offers(1), scenario, kappa="joint", z=2.0, aggregate_margin=0.1)
    assert isinstance(FixedKappa(scenario, 0.5, 2), FixedKappa)
