"""The programs of P1.1 in python-mip: one model over all regions, built at the first solve and never again.

Later periods change costs, limits and demands. A demand, the right-hand side of (17), lies in the lower bound of a
column of its own, because python-mip's HiGHS binding scans the whole matrix for every right-hand side it changes (95 us
each with 1000 regions, against 10).
"""

from collections.abc import Iterator, Sequence

import mip
import numpy as np
from jaxtyping import Bool, Float

from sliceoff.slicing.choice import Choice, ChoiceProblem
from sliceoff.slicing.presolve import presolve, rounded_down, row_steps
from sliceoff.slicing.problem import RentProblem
from sliceoff.slicing.solver import Solution, Solver, SolverMissing, Status


class ExactProgram:
    """One option per region and block at the least cost, under the rows, in binaries.

        min   sum_i sum_k cost_i^k x_i^k
        s.t.  sum_k x_i^k = 1                      for every region i and block          (C2, C3)
              sum_i sum_k use_i^k x_i^k <= limit   for every coupling row
              x binary

    Demand is in the costs: an option below it costs its shortfall. With binaries that says the same as the rows (17),
    and the relaxation is tighter. `presolve` comes first: what it rules out is fixed at zero, and where it proves its
    own choice optimal (always where no row binds) the solver is not asked.

    Args:
        solver: with `integer=True`.
    """

    def __init__(self, solver: Solver):
        self._solver = solver
        self._model: mip.Model | None = None
        self._steps: np.ndarray | None = None  # of the rows; prices and demands do not change them

    def solve(self, problem: ChoiceProblem) -> tuple[Status, Choice | None]:
        """Solve for this period.

        Returns:
            The status, and the best choice known that keeps the rows, whatever the status; None where there is none.
        """
        if self._steps is None:
            self._steps = row_steps(problem)
        problem = rounded_down(problem, self._steps)
        known = presolve(problem)
        if known.closed(self._solver.gap):
            return Status.OPTIMAL, known.incumbent
        try:
            if self._model is None:
                self._model, self._core = _open(self._solver, problem)
            self._core.update(problem, known.open)
        except SolverMissing:
            return Status.SOLVER_MISSING, known.incumbent
        solution = self._solver.solve(self._model, self._core.flat)
        if solution.values is None:
            return solution.status, known.incumbent
        choice: Choice = tuple(share.argmax(-1) for share in self._core.read(solution.values))
        better = problem.holds(choice) and problem.cost(choice).sum() < known.cost
        return solution.status, choice if better else known.incumbent


class ShareProgram:
    """The relaxation of `ExactProgram`, 0 <= x <= 1.

    Args:
        solver: with `integer=False`.
    """

    def __init__(self, solver: Solver):
        self._solver = solver
        self._model: mip.Model | None = None

    def solve(self, problem: ChoiceProblem) -> tuple[Solution, list[np.ndarray] | None]:
        """Solve for this period.

        Returns:
            The solution, and the shares (regions, options) of every block where there are any.
        """
        try:
            if self._model is None:
                self._model, self._core = _open(self._solver, problem)
            self._core.update(problem)
        except SolverMissing:
            return Solution(Status.SOLVER_MISSING), None
        solution = self._solver.solve(self._model, self._core.flat)
        return solution, None if solution.values is None else self._core.read(solution.values)


class CoverProgram:
    """The linear program (18): `min rent` under (17), with a priced shortfall where the rows leave no other way.

        min   sum_i sum_k cost_i^k x_i^k + sum_i penalty_i short_i          (for both blocks)
        s.t.  sum_k size_i^k x_i^k + short_i >= demand_i                    (17a, 17b)
              sum_k x_i^k = 1,  0 <= x <= 1,  short >= 0,  coupling rows

    Args:
        solver: with `integer=False`.
    """

    def __init__(self, solver: Solver):
        self._solver = solver
        self._model: mip.Model | None = None

    def solve(self, problem: RentProblem) -> tuple[Solution, list[np.ndarray] | None]:
        """Solve for this period; as `ShareProgram.solve`."""
        linear = problem.linear_problem()
        try:
            if self._model is None:
                self._model, self._core = _open(self._solver, linear)
                self._need, self._short = self._add_cover(self._model, problem.sizes)
            self._core.update(linear)
        except SolverMissing:
            return Solution(Status.SOLVER_MISSING), None
        for needs, shorts, demand, penalty in zip(
            self._need, self._short, problem.demands, problem.penalties, strict=True
        ):
            for need, short, amount, price in zip(needs, shorts, demand.tolist(), penalty.tolist(), strict=True):
                need.lb = amount
                short.obj = price
        solution = self._solver.solve(self._model, self._core.flat)
        return solution, None if solution.values is None else self._core.read(solution.values)

    def _add_cover(
        self, model: mip.Model, every_size: Sequence[np.ndarray]
    ) -> tuple[list[list[mip.Var]], list[list[mip.Var]]]:
        every_need, every_short = [], []
        for columns, sizes in zip(self._core.columns, every_size, strict=True):
            needs = [model.add_var(lb=0.0) for _ in columns]
            shorts = [model.add_var(lb=0.0) for _ in columns]
            for row, size, need, short in zip(columns, sizes.tolist(), needs, shorts, strict=True):
                model.add_constr(_weighted(size, row) + short - need >= 0)
            every_need.append(needs)
            every_short.append(shorts)
        return every_need, every_short


class _Core:
    """The columns and rows that both programs share, and what they hold now."""

    def __init__(self, model: mip.Model, problem: ChoiceProblem, integer: bool):
        kind = mip.BINARY if integer else mip.CONTINUOUS
        self._costs = [block.cost.copy() for block in problem.blocks]
        self._open = [np.ones(block.cost.shape, dtype=bool) for block in problem.blocks]
        self._limits = problem.limits.copy()
        self.columns = [
            [[model.add_var(lb=0.0, ub=1.0, obj=cost, var_type=kind) for cost in row] for row in block.cost.tolist()]
            for block in problem.blocks
        ]
        self.flat = [column for columns in self.columns for row in columns for column in row]
        for columns in self.columns:
            for row in columns:
                model.add_constr(mip.xsum(row) == 1)
        self._rows = [
            model.add_constr(
                mip.xsum(
                    weight * column
                    for columns, block in zip(self.columns, problem.blocks, strict=True)
                    for row, weights in zip(columns, block.use[number].tolist(), strict=True)
                    for column, weight in zip(row, weights, strict=True)
                    if weight
                )
                <= float(limit)
            )
            for number, limit in enumerate(problem.limits)
        ]

    def update(self, problem: ChoiceProblem, left: Sequence[Bool[np.ndarray, "regions options"]] | None = None) -> None:
        """Write what differs from the last solve's: costs, limits, and which options are `left` (all if not given).

        Costs of options that are not left stay as they are.
        """
        for place, (columns, block) in enumerate(zip(self.columns, problem.blocks, strict=True)):
            now = np.ones(block.cost.shape, dtype=bool) if left is None else left[place]
            opened, costs = self._open[place], self._costs[place]
            for region, option in _places(opened != now):
                columns[region][option].ub = float(now[region, option])
            for region, option in _places((costs != block.cost) & now):
                columns[region][option].obj = costs[region, option] = float(block.cost[region, option])
            opened[:] = now
        for number in np.flatnonzero(self._limits != problem.limits).tolist():
            self._rows[number].rhs = float(problem.limits[number])
        self._limits[:] = problem.limits

    def read(self, values: Float[np.ndarray, " columns"]) -> list[np.ndarray]:
        """The shares of every block's options."""
        shares, start = [], 0
        for cost in self._costs:
            shares.append(values[start : start + cost.size].reshape(cost.shape))
            start += cost.size
        return shares


def _open(solver: Solver, problem: ChoiceProblem) -> tuple[mip.Model, _Core]:
    model = solver.open()
    return model, _Core(model, problem, solver.integer)


def _weighted(weights: Sequence[float], columns: Sequence[mip.Var]) -> mip.LinExpr:
    return mip.xsum(weight * column for weight, column in zip(weights, columns, strict=True))


def _places(where: Bool[np.ndarray, "regions options"]) -> Iterator[tuple[int, int]]:
    return zip(*(axis.tolist() for axis in np.nonzero(where)), strict=True)
