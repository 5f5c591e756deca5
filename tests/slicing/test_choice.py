import numpy as np
from choice_problems import brute_force, problem
from hypothesis import given, settings
from hypothesis import strategies as st

from sliceoff.slicing.choice import Block, ChoiceProblem, cheapest, polish, scale_back


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 3), tight=st.floats(0, 1))
def test_scaling_back_keeps_the_rows_and_polishing_never_costs(seed, rows, tight):
    asked = problem(seed, regions=6, options=4, rows=rows, tight=tight)
    dearest = tuple(np.full(6, 3) for _ in asked.blocks)
    kept = scale_back(asked, dearest)
    if kept is None:
        assert rows > 1  # with one row, some change always helps
        return
    assert asked.holds(kept)
    better = polish(asked, kept)
    assert asked.holds(better)
    assert asked.cost(better).sum() <= asked.cost(kept).sum() + 1e-9


def test_what_holds_is_left_alone():
    asked = problem(0, tight=1.0)
    choice = cheapest(asked)
    for kept in (scale_back(asked, choice), polish(asked, choice)):
        assert all((new == old).all() for new, old in zip(kept, choice, strict=True))


def test_scaling_back_takes_what_costs_least_per_unit_saved():
    # From the last option: region 0 saves 4 units for 8 money, region 1 saves 2 for 1.
    block = Block(np.array([[8.0, 0.0], [1.0, 0.0]]), np.array([[[0.0, 4.0], [0.0, 2.0]]]))
    kept = scale_back(ChoiceProblem([block], np.array([5.0])), (np.array([1, 1]),))
    assert kept[0].tolist() == [1, 0]


def test_scaling_back_is_near_the_optimum():
    ratios = []
    for seed in range(40):
        asked = problem(seed)
        kept = polish(asked, scale_back(asked, cheapest(asked)))
        ratios.append(asked.cost(kept).sum() / brute_force(asked))
    assert min(ratios) >= 1 - 1e-9
    assert np.mean(ratios) < 1.1


def test_a_draw_costs_the_same_alone_and_among_others():
    asked = problem(3, rows=2)
    draws = tuple(np.random.default_rng(0).integers(0, 3, (5, 4)) for _ in asked.blocks)
    alone = [tuple(index[number] for index in draws) for number in range(5)]
    np.testing.assert_allclose(asked.cost(draws), [asked.cost(choice) for choice in alone])
    np.testing.assert_allclose(asked.use(draws), [asked.use(choice) for choice in alone])
