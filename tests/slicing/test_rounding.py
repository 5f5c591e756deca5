"""Theorem 2, clause by clause, and the repair that a single region needs."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sliceoff.slicing import FixedKappa
from sliceoff.slicing.choice import take
from sliceoff.slicing.program import CoverProgram
from sliceoff.slicing.rounding import draw, round_up
from sliceoff.solver import Solver


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), regions=st.integers(1, 20), options=st.integers(1, 8), n_draws=st.integers(1, 30))
def test_every_draw_is_one_offer_per_region_c1_c3(seed, regions, options, n_draws):
    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.full(options, 0.3), regions) - 1e-12  # as a solver returns them
    index = draw(shares, n_draws, random)
    assert index.shape == (n_draws, regions)
    assert index.dtype == np.int64
    assert ((index >= 0) & (index < options)).all()
    assert (take(shares, index) > 1e-9).all()  # never an offer without a share


def test_draws_follow_the_shares():
    shares = np.array([[0.2, 0.0, 0.8], [1.0, 0.0, 0.0]])
    index = draw(shares, 20_000, np.random.default_rng(0))
    assert np.bincount(index[:, 0], minlength=3) / 20_000 == pytest.approx([0.2, 0.0, 0.8], abs=0.01)
    assert (index[:, 1] == 0).all()


def test_rounding_up_covers_and_leaves_the_rest():
    short = np.array([[5.0, 10.0, 20.0]] * 3) < np.array([[7.0], [10.0], [12.0]])
    index = np.array([[0, 1, 2], [2, 0, 0]])
    up = round_up(index, short, np.array([1, 1, 2]))
    assert up.tolist() == [[1, 1, 2], [2, 1, 2]]


@pytest.fixture
def relaxed(offers, scenario, ask, solver):
    """The program (18) solved for 40 random regions: its value, and per block the shares, sizes, prices and demand."""
    users = np.random.default_rng(4).uniform(5, 45, 40)
    request = ask(users)
    rent = FixedKappa(scenario, 0.5, 2.0).problem(offers(40), request)
    program = CoverProgram(Solver(solver, 10.0, integer=False))
    solution, shares = program.solve(rent)
    return solution.objective, list(zip(shares, rent.sizes, rent.prices, rent.demands, strict=True))


DRAWS = 20_000


def drawn(relaxed):
    random = np.random.default_rng(7)
    return [(draw(block[0], DRAWS, random), *block[1:]) for block in relaxed[1]]


def test_theorem_2_expected_rent_is_the_lp_value(relaxed):
    rent = sum(take(prices, index).sum(-1) for index, _, prices, _ in drawn(relaxed))
    assert rent.mean() == pytest.approx(relaxed[0], abs=4 * rent.std() / DRAWS**0.5)


def test_theorem_2_expected_capacity_meets_the_demand(relaxed):
    for shares, sizes, _, demand in relaxed[1]:
        assert ((shares * sizes).sum(-1) >= demand - 1e-6).all()
    for index, sizes, _, demand in drawn(relaxed):
        capacity = take(sizes, index)
        assert (capacity.mean(0) >= demand - 5 * capacity.std(0) / DRAWS**0.5 - 1e-6).all()


def test_theorem_2_aggregate_bound(relaxed):
    """P(sum B <= (1 - delta) D) <= exp(-2 delta^2 D^2 / sum Delta_i^2), (19), for every delta."""
    for (index, sizes, _, demand), (shares, *_) in zip(drawn(relaxed), relaxed[1], strict=True):
        supported = shares > 1e-9
        spread = np.where(supported, sizes, -np.inf).max(-1) - np.where(supported, sizes, np.inf).min(-1)
        total = take(sizes, index).sum(-1)
        for delta in (0.02, 0.05, 0.1, 0.2, 0.4):
            bound = np.exp(-2 * (delta * demand.sum()) ** 2 / (spread**2).sum())
            seen = (total <= (1 - delta) * demand.sum()).mean()
            assert seen <= bound + 4 * (bound / DRAWS) ** 0.5 + 1e-4


def test_theorem_2_inflated_demand_gives_a_chosen_failure_probability(offers, scenario, ask, solver):
    """Asking for D' with D' - D = sqrt(ln(1 / p) sum Delta_i^2 / 2) leaves the total short of D with P <= p."""
    users = np.random.default_rng(5).uniform(10, 35, 60)
    request, wanted = ask(users), 0.05
    rent = FixedKappa(scenario, 0.5, 2.0).problem(offers(60), request)
    program = CoverProgram(Solver(solver, 10.0, integer=False))
    demand = rent.demands[0]
    # Delta_i is at most the whole range of sizes, whatever the inflated program mixes.
    largest = (np.ptp(rent.sizes[0], axis=-1) ** 2).sum()
    inflation = 1 + np.sqrt(np.log(1 / wanted) * largest / 2) / demand.sum()
    inflated = replace(rent, asked=(demand * inflation, rent.asked[1]))
    assert (inflated.asked[0] <= rent.sizes[0][:, -1]).all()
    _, shares = program.solve(inflated)
    total = take(rent.sizes[0], draw(shares[0], DRAWS, np.random.default_rng(1))).sum(-1)
    assert (total < demand.sum()).mean() <= wanted


def test_theorem_2_has_no_bound_for_a_single_region(relaxed):
    """One draw leaves about half of the regions short (hence the repair), and repaired ones never."""
    for index, sizes, prices, demand in drawn(relaxed):
        short = take(sizes, index) < demand - 1e-6
        assert 0.3 < short.mean() < 0.9
        cover = np.where(sizes >= demand[:, None], prices, np.inf).argmin(-1)
        assert (take(sizes, round_up(index, sizes < demand[:, None], cover)) >= demand).all()


def test_a_discount_mixes_the_extremes_and_rising_prices_mix_neighbours(relaxed, offers):
    falls = offers(1).bandwidth_price[0, -1] / 80 < offers(1).bandwidth_price[0, 0] / 5
    steps = []
    for shares, *_ in relaxed[1]:
        for share in shares:
            support = np.flatnonzero(share > 1e-6)
            steps.append(support[-1] - support[0])
    assert max(steps) == 7 if falls else max(steps) <= 1
