import numpy as np
import pytest
from choice_problems import brute_force, problem
from hypothesis import given, settings
from hypothesis import strategies as st

from sliceoff.slicing.choice import Block, ChoiceProblem, take
from sliceoff.slicing.presolve import at_prices, presolve, rounded_down, row_steps, shadow_prices


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(0, 3), tight=st.floats(-0.1, 1.1))
def test_bound_incumbent_and_fixing_are_right(seed, rows, tight):
    asked = problem(seed, regions=4, options=3, rows=rows, tight=tight)
    known, best = presolve(asked), brute_force(asked)
    assert known.bound <= best + 1e-6
    assert known.cost >= best - 1e-6
    if known.incumbent is not None:
        assert bool(asked.holds(known.incumbent))
        assert asked.cost(known.incumbent).sum() == pytest.approx(known.cost)
    if not np.isfinite(best):
        assert known.incumbent is None
        return
    # With the closed options priced out of reach, the optimum is still there.
    left = [
        Block(np.where(open_, block.cost, 1e6), block.use)
        for block, open_ in zip(asked.blocks, known.open, strict=True)
    ]
    assert min(brute_force(ChoiceProblem(left, asked.limits)), known.cost) == pytest.approx(best)


def test_without_rows_that_bind_the_cheapest_is_proved():
    asked = problem(1, tight=1.0)
    known = presolve(asked)
    assert known.prices.tolist() == [0.0]
    assert known.closed(1e-12)
    assert known.cost == pytest.approx(brute_force(asked))


def test_prices_by_hand():
    # Dropping region 0's unit saves 4 units of the row at 8 money, region 1's 2 units at 1: half a unit of money does.
    block = Block(np.array([[8.0, 0.0], [1.0, 0.0]]), np.array([[[0.0, 4.0], [0.0, 2.0]]]))
    asked = ChoiceProblem([block], np.array([5.0]))
    assert shadow_prices(asked)[0] == pytest.approx(0.5, rel=1e-6)
    assert at_prices(asked, np.array([0.51]))[0].tolist() == [1, 0]


def test_large_problems_are_nearly_closed():
    """The gap is about one option's cost, whatever the number of regions."""
    for regions in (100, 1000):
        known = presolve(problem(0, regions=regions, options=6))
        assert known.cost - known.bound < 5
        assert np.mean([open_.mean() for open_ in known.open]) < 0.5
        assert all(take(open_, index).all() for open_, index in zip(known.open, known.incumbent, strict=True))


def test_limits_round_to_what_can_be_reached():
    use = np.array([[[5.0, 10.0, 20.0], [5.0, 15.0, 30.0]], [[1.0, 2.7182, 3.1415], [1.0, 1.4142, 2.2361]]])
    asked = ChoiceProblem([Block(np.ones((2, 3)), use)], np.array([38.0, 5.0]))
    steps = row_steps(asked)
    assert steps.tolist() == [pytest.approx(5.0), 0.0]
    assert rounded_down(asked, steps).limits.tolist() == pytest.approx([35.0, 5.0])
    exactly = ChoiceProblem(asked.blocks, np.array([35.0, 5.0]))
    assert rounded_down(exactly, steps).limits.tolist() == pytest.approx([35.0, 5.0])
    # An aggregate demand is a limit from below.
    below = ChoiceProblem([Block(np.ones((2, 3)), -use[:1])], np.array([-38.0]))
    assert rounded_down(below, row_steps(below)).limits.tolist() == pytest.approx([-40.0])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), tight=st.floats(-0.1, 1.1))
def test_rounded_limits_lose_no_choice(seed, tight):
    random = np.random.default_rng(seed)
    blocks = [Block(random.uniform(0, 10, (3, 3)), 2.5 * random.integers(1, 6, (2, 3, 3))) for _ in range(2)]
    least = sum(block.use.min(-1).sum(-1) for block in blocks)
    most = sum(block.use.max(-1).sum(-1) for block in blocks)
    asked = ChoiceProblem(blocks, least + tight * (most - least))
    assert brute_force(rounded_down(asked, row_steps(asked))) == brute_force(asked)
