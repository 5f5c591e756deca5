"""The programs of P1.1 in python-mip: one model over all regions, built at the first solve and kept.

Later periods change costs, limits and demands. A demand, the right-hand side of (17), is written as the lower bound of
an extra column, because python-mip's HiGHS binding scans the whole matrix for every right-hand side that it changes
(95 us each with 1000 regions, against 10).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import mip
import numpy as np
from jaxtyping import Bool, Float

from sliceoff.slicing.choice import Choice, ChoiceProblem
from sliceoff.slicing.presolve import presolve, rounded_down, row_steps
from sliceoff.slicing.problem import RentProblem
from sliceoff.solver import Solution, Solver, SolverMissing, Status, crashed


class ExactProgram:
    """The binary program: one option per region and block, at the least cost, under the rows.

        min   sum_i sum_k cost_i^k x_i^k
        s.t.  sum_k x_i^k = 1                      for every region i and block          (C2, C3)
              sum_i sum_k use_i^k x_i^k <= limit   for every coupling row
              x binary

    Demand is in the costs: an option below it also costs a penalty for its shortfall. With binaries this is equivalent
    to the rows (17), and the relaxation is tighter. `presolve` comes first: options that it rules out are fixed at
    zero, and if it proves its own choice optimal (always if no row binds) the solver is not called.

    Args:
        solver: with `integer=True`.
    """

    def __init__(self, solver: Solver):
        self._solver, self._kept = solver, _Kept(solver)
        self._steps: np.ndarray | None = None  # `row_steps`, which prices and demands do not change

    def solve(self, problem: ChoiceProblem) -> tuple[Status, Choice | None]:
        """Solve for this period.

        Returns:
            The status, and with any status the best known choice that keeps the rows, None if there is none.
        """
        if self._steps is None:
            self._steps = row_steps(problem)
        problem = rounded_down(problem, self._steps)
        known = presolve(problem)
        if known.closed(self._solver.gap):
            return Status.OPTIMAL, known.incumbent
        solution, shares = self._kept.solve(
            lambda model: _Core(model, problem, mip.BINARY), lambda core: core.update(problem, known.open)
        )
        if shares is None:
            return solution.status, known.incumbent
        choice: Choice = tuple(share.argmax(-1) for share in shares)
        better = problem.holds(choice) and problem.cost(choice).sum() < known.cost
        return solution.status, choice if better else known.incumbent


class ShareProgram:
    """The relaxation of `ExactProgram`, 0 <= x <= 1.

    Args:
        solver: with `integer=False`.
    """

    def __init__(self, solver: Solver):
        self._kept = _Kept(solver)

    def solve(self, problem: ChoiceProblem) -> tuple[Solution, list[np.ndarray] | None]:
        """Solve for this period.

        Returns:
            The solution, and the shares (regions, options) of every block, None if there are none.
        """
        return self._kept.solve(lambda model: _Core(model, problem, mip.CONTINUOUS), lambda core: core.update(problem))


class CoverProgram:
    """The linear program (18): `min rent` under (17), with a penalised shortfall in case the rows force one.

        min   sum_i sum_k cost_i^k x_i^k + sum_i penalty_i short_i          (for both blocks)
        s.t.  sum_k size_i^k x_i^k + short_i >= demand_i                    (17a, 17b)
              sum_k x_i^k = 1,  0 <= x <= 1,  short >= 0,  coupling rows

    Args:
        solver: with `integer=False`.
    """

    def __init__(self, solver: Solver):
        self._kept = _Kept(solver)

    def solve(self, problem: RentProblem) -> tuple[Solution, list[np.ndarray] | None]:
        """Solve for this period; as `ShareProgram.solve`."""
        return self._kept.solve(lambda model: self._build(model, problem), lambda core: self._write(core, problem))

    def _build(self, model: mip.Model, problem: RentProblem) -> "_Core":
        core = _Core(model, problem.linear_problem(), mip.CONTINUOUS)
        self._needs = [[model.add_var(lb=0.0) for _ in columns] for columns in core.columns]
        self._shorts = [[model.add_var(lb=0.0) for _ in columns] for columns in core.columns]
        for block in zip(core.columns, problem.sizes, self._needs, self._shorts, strict=True):
            for row, size, need, short in zip(*block, strict=True):
                model.add_constr(_weighted(size.tolist(), row) + short - need >= 0)
        return core

    def _write(self, core: "_Core", problem: RentProblem) -> None:
        core.update(problem.linear_problem())
        for block in zip(self._needs, self._shorts, problem.demands, problem.penalties, strict=True):
            for need, short, demand, penalty in zip(*block, strict=True):
                need.lb, short.obj = float(demand), float(penalty) / core.unit


class _Core:
    """A model with the columns and rows that all programs share, and a copy of the numbers that it holds.

    Solvers' tolerances are absolute. So costs are in units of what a region's cheapest options cost at first, and each
    row in units of its largest use: results do not depend on the unit of money.

    Attributes:
        unit: money per unit of the objective.
    """

    def __init__(self, model: mip.Model, problem: ChoiceProblem, kind: str):
        self.model = model
        self.unit = max(_largest(block.cost.min(-1)) for block in problem.blocks) or 1.0
        self._scale = [
            max(_largest(block.use[number]) for block in problem.blocks) or 1.0 for number in range(len(problem.limits))
        ]
        self._costs = [block.cost.copy() for block in problem.blocks]
        self._open = [np.ones(block.cost.shape, dtype=bool) for block in problem.blocks]
        self._limits = problem.limits.copy()
        self.columns = [
            [
                [model.add_var(lb=0.0, ub=1.0, obj=cost, var_type=kind) for cost in row]
                for row in (block.cost / self.unit).tolist()
            ]
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
                    for row, weights in zip(columns, (block.use[number] / scale).tolist(), strict=True)
                    for column, weight in zip(row, weights, strict=True)
                    if weight
                )
                <= float(limit) / scale
            )
            for number, (limit, scale) in enumerate(zip(problem.limits, self._scale, strict=True))
        ]

    def update(self, problem: ChoiceProblem, left: Sequence[Bool[np.ndarray, "regions options"]] | None = None) -> None:
        """Write what has changed since the last solve: costs, limits, and which options are `left` (all if not given).

        Costs of options that are not left are not updated.
        """
        for place, (columns, block) in enumerate(zip(self.columns, problem.blocks, strict=True)):
            now = np.ones(block.cost.shape, dtype=bool) if left is None else left[place]
            opened, costs = self._open[place], self._costs[place]
            for region, option in _places(opened != now):
                columns[region][option].ub = float(now[region, option])
            for region, option in _places((costs != block.cost) & now):
                costs[region, option] = block.cost[region, option]
                columns[region][option].obj = float(costs[region, option]) / self.unit
            opened[:] = now
        for number in np.flatnonzero(self._limits != problem.limits).tolist():
            self._rows[number].rhs = float(problem.limits[number]) / self._scale[number]
        self._limits[:] = problem.limits

    def read(self, values: Float[np.ndarray, " columns"]) -> list[np.ndarray]:
        """The shares of every block's options, (regions, options) each, from a solution's values."""
        shares, start = [], 0
        for cost in self._costs:
            shares.append(values[start : start + cost.size].reshape(cost.shape))
            start += cost.size
        return shares


class _Kept:
    """A model kept from period to period; rebuilt only after a crash, which may have left it half-written."""

    def __init__(self, solver: Solver):
        self._solver = solver
        self._core: _Core | None = None

    def solve(
        self, build: Callable[[mip.Model], _Core], write: Callable[[_Core], None]
    ) -> tuple[Solution, list[np.ndarray] | None]:
        """Solve with this period's numbers, which `write` puts into the model. Never raises: errors are in the status.

        Returns:
            The solution, and the shares (regions, options) of every block, None if there are none.
        """
        try:
            core = self._core = self._core or build(self._solver.open())
            write(core)
        except SolverMissing:
            return Solution(Status.SOLVER_MISSING), None
        except Exception as error:  # as in `Solver.solve`
            solution = crashed(error)
        else:
            solution = self._solver.solve(core.model, core.flat)
        if solution.status is Status.SOLVER_ERROR:
            self._core = None
        if solution.values is None:
            return solution, None
        assert solution.objective is not None
        return replace(solution, objective=solution.objective * core.unit), core.read(solution.values)


def _weighted(weights: Sequence[float], columns: Sequence[mip.Var]) -> mip.LinExpr:
    return mip.xsum(weight * column for weight, column in zip(weights, columns, strict=True))


def _largest(values: Float[np.ndarray, "..."]) -> float:
    return float(np.abs(values).max(initial=0.0))


def _places(where: Bool[np.ndarray, "regions options"]) -> Iterator[tuple[int, int]]:
    return zip(*(axis.tolist() for axis in np.nonzero(where)), strict=True)
