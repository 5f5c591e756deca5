import math

import mip
import numpy as np
import pytest

from sliceoff.errors import InputError
from sliceoff.slicing import FixedKappa
from sliceoff.slicing.choice import Block, ChoiceProblem
from sliceoff.slicing.program import CoverProgram, ExactProgram, ShareProgram
from sliceoff.solver import Solver, SolverMissing, Status


def model(solver, integer=False):
    asked = Solver(solver, 10.0, integer=integer)
    return asked, asked.open()


@pytest.mark.parametrize("integer", [False, True])
def test_infeasible_and_unbounded_are_told_apart(solver, integer):
    kind = mip.INTEGER if integer else mip.CONTINUOUS
    asked, infeasible = model(solver, integer)
    x = infeasible.add_var(obj=1.0, ub=1.0, var_type=kind)
    infeasible.add_constr(x >= 2)
    solution = asked.solve(infeasible, infeasible.vars)
    assert (solution.status, solution.values, solution.objective) == (Status.INFEASIBLE, None, None)

    asked, unbounded = model(solver, integer)
    unbounded.add_var(obj=-1.0, var_type=kind)
    y = unbounded.add_var(obj=1.0)
    unbounded.add_constr(y >= 1)
    assert asked.solve(unbounded, unbounded.vars).status is Status.UNBOUNDED


def hard_knapsack(solver, seconds, n=120):
    """An equality knapsack with no easy proof."""
    asked = Solver(solver, seconds, integer=True, gap=1e-12)
    difficult = asked.open()
    weights = np.random.default_rng(0).integers(10**6, 10**7, (6, n)).astype(float)
    columns = [difficult.add_var(var_type=mip.BINARY, obj=-float(weights[:, j].sum())) for j in range(n)]
    for row in weights:
        difficult.add_constr(
            mip.xsum(w * x for w, x in zip(row.tolist(), columns, strict=True)) <= float(row.sum()) / 2
        )
    return asked, difficult


def test_out_of_time_is_told_also_on_a_later_solve(solver, monkeypatch):
    asked, difficult = hard_knapsack(solver, 0.4)
    optimize, limits = difficult.optimize, []
    monkeypatch.setattr(
        difficult,
        "optimize",
        lambda max_seconds, relax: limits.append(max_seconds) or optimize(max_seconds=max_seconds, relax=relax),
    )
    for _ in range(3):
        before = asked.seconds
        assert asked.solve(difficult, difficult.vars).status is Status.TIME_LIMIT
        assert asked.seconds - before > 0.2  # the clock starts anew for every solve
    assert limits == [0.4, 0.4, 0.4]  # and the limit does not grow with them


def test_time_is_up_per_solve_not_over_all(solver):
    """Linear programs that take longer together than the limit of one."""
    random = np.random.default_rng(0)
    asked, linear = model(solver)
    asked.time_limit_s = 0.5
    columns = [linear.add_var(ub=1.0, obj=1.0) for _ in range(300)]
    for weights in random.random((300, 300)) * (random.random((300, 300)) < 0.1):
        linear.add_constr(mip.xsum(w * x for w, x in zip(weights.tolist(), columns, strict=True) if w) >= 3)
    while asked.seconds < 1.0:
        for column, cost in zip(columns, random.uniform(1, 10, 300).tolist(), strict=True):
            column.obj = cost
        assert asked.solve(linear, columns).status is Status.OPTIMAL


def test_a_missing_solver_is_told(monkeypatch):
    import mip.highs

    monkeypatch.setattr(mip.highs, "has_highs", False)
    with pytest.raises(SolverMissing, match="HIGHS"):
        Solver("HIGHS", 1.0, integer=True).open()
    asked = ShareProgram(Solver("HIGHS", 1.0, integer=False))
    solution, shares = asked.solve(ChoiceProblem([Block(np.ones((1, 2)), np.zeros((0, 1, 2)))], np.zeros(0)))
    assert (solution.status, shares) == (Status.SOLVER_MISSING, None)


def test_a_crash_is_a_status(solver, monkeypatch):
    asked, broken = model(solver)
    broken.add_var(obj=1.0)

    def crash(*_, **__):
        raise mip.InterfacingError("crashed")

    monkeypatch.setattr(broken, "optimize", crash)
    assert asked.solve(broken, broken.vars).status is Status.SOLVER_ERROR


def test_nothing_is_printed(solver, capfd):
    asked, small = model(solver, integer=True)
    x = small.add_var(obj=1.0, var_type=mip.INTEGER)
    small.add_constr(2 * x >= 3)
    assert asked.solve(small, small.vars).objective == pytest.approx(2)
    asked, small = model(solver)
    x = small.add_var(obj=1.0)
    small.add_constr(2 * x >= 3)
    assert asked.solve(small, small.vars).objective == pytest.approx(1.5)
    assert capfd.readouterr() == ("", "")


def random_problem(random, regions, limit=None):
    blocks = [
        Block(random.uniform(1, 10, (regions, 4)), np.cumsum(random.uniform(1, 3, (1, regions, 4)), axis=-1))
        for _ in range(2)
    ]
    least = sum(float(block.use[:, :, 0].sum()) for block in blocks)
    return ChoiceProblem(blocks, np.array([least * 1.6 if limit is None else limit]))


def test_a_kept_model_solves_as_a_new_one(solver):
    """Costs and limits change; bounds and bases of the solve before must not leak into the next."""
    random = np.random.default_rng(0)
    kept = ShareProgram(Solver(solver, 10.0, integer=False))
    first = random_problem(random, 5)
    for turn in range(6):
        costs = random.uniform(1, 10, (2, 5, 4))
        blocks = [Block(cost, block.use) for cost, block in zip(costs, first.blocks, strict=True)]
        asked = ChoiceProblem(blocks, first.limits * (0.3 if turn == 2 else 1 + 0.1 * turn))
        fresh = ShareProgram(Solver(solver, 10.0, integer=False))
        (again, shares), (new, _) = kept.solve(asked), fresh.solve(asked)
        assert again.status == new.status == (Status.INFEASIBLE if turn == 2 else Status.OPTIMAL)
        if turn == 2:
            assert shares is None
        else:
            assert again.objective == pytest.approx(new.objective, rel=1e-6)
            for share in shares:
                np.testing.assert_allclose(share.sum(-1), 1, atol=1e-6)


def test_a_kept_cover_program_solves_as_a_new_one(solver, offers, scenario, ask):
    random = np.random.default_rng(1)
    kept, market = CoverProgram(Solver(solver, 10.0, integer=False)), offers(5, bandwidth_inventory_mhz_per_region=12)
    for _ in range(6):
        request = ask(random.uniform(0, 60, 5))
        rent = FixedKappa(scenario, 0.5, 2.0).problem(market, request)
        fresh = CoverProgram(Solver(solver, 10.0, integer=False))
        (again, shares), (new, _) = kept.solve(rent), fresh.solve(rent)
        assert again.status == new.status == Status.OPTIMAL
        assert again.objective == pytest.approx(new.objective, rel=1e-6)
        assert all(share.min() > -1e-7 for share in shares)


def printed(problem, solver):
    """The binary program as printed, without presolve, in a model of its own."""
    asked = Solver(solver, 20.0, integer=True, gap=1e-9)
    model = asked.open()
    columns = [
        [[model.add_var(var_type=mip.BINARY, obj=float(cost)) for cost in row] for row in block.cost]
        for block in problem.blocks
    ]
    for rows in columns:
        for row in rows:
            model.add_constr(mip.xsum(row) == 1)
    for number, limit in enumerate(problem.limits):
        used = (
            float(weight) * column
            for rows, block in zip(columns, problem.blocks, strict=True)
            for row, weights in zip(rows, block.use[number], strict=True)
            for column, weight in zip(row, weights, strict=True)
        )
        model.add_constr(mip.xsum(used) <= float(limit))
    return asked.solve(model, model.vars)


def test_the_exact_program_is_the_printed_one(solver):
    """One kept model with presolve against a fresh one without, over problems that bind more and less."""
    random = np.random.default_rng(3)
    asked_solver = Solver(solver, 20.0, integer=True, gap=1e-9)
    kept, uses, asked_solves = ExactProgram(asked_solver), None, 0
    for turn in range(9):
        uses = uses or [np.cumsum(random.uniform(1, 3, (3, 8, 5)), axis=-1) for _ in range(2)]
        blocks = [Block(random.uniform(1, 10, (8, 5)), use) for use in uses]
        least = sum(use[:, :, 0].sum(-1) for use in uses)
        asked = ChoiceProblem(blocks, least * (0.9 if turn == 5 else random.uniform(1.1, 2.5)))
        before = asked_solver.seconds
        (status, choice), best = kept.solve(asked), printed(asked, solver)
        asked_solves += asked_solver.seconds > before
        assert status == best.status == (Status.INFEASIBLE if turn == 5 else Status.OPTIMAL)
        if turn == 5:
            assert choice is None
            continue
        assert bool(asked.holds(choice))
        assert asked.cost(choice).sum() == pytest.approx(best.objective, rel=1e-6)
    assert asked_solves >= 4  # presolve alone does not do


@pytest.mark.parametrize(
    ("name", "seconds", "named"),
    [("CBS", 1.0, "did you mean 'CBC'"), ("CBC", 0.0, "time_limit_s"), ("CBC", math.nan, "time_limit_s")],
)
def test_wrong_solver_options(name, seconds, named):
    with pytest.raises(InputError, match=named):
        Solver(name, seconds, integer=True)
