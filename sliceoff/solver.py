"""A wrapper of python-mip that keeps it quiet and reports every outcome as a status."""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import mip
import numpy as np

from sliceoff.checks import Number, one_of, positive

log = logging.getLogger(__name__)

SOLVERS = ("CBC", "HIGHS")
_INFINITE = 1e20


class Status(StrEnum):
    """How a solve ended; every value but `OPTIMAL` says what went wrong."""

    OPTIMAL = "optimal"
    TIME_LIMIT = "time limit"
    INFEASIBLE = "infeasible"
    UNBOUNDED = "unbounded"
    SOLVER_MISSING = "solver missing"
    SOLVER_ERROR = "solver error"


_MIP = mip.OptimizationStatus
_STATUS = {
    _MIP.OPTIMAL: Status.OPTIMAL,
    _MIP.FEASIBLE: Status.TIME_LIMIT,
    _MIP.TRUNCATED: Status.TIME_LIMIT,
    _MIP.NO_SOLUTION_FOUND: Status.TIME_LIMIT,
    _MIP.INFEASIBLE: Status.INFEASIBLE,
    _MIP.INT_INFEASIBLE: Status.INFEASIBLE,
    _MIP.UNBOUNDED: Status.UNBOUNDED,
}


@dataclass(frozen=True)
class Solution:
    """A solve's outcome; `values` (of the columns asked for) and `objective` are None without a feasible point."""

    status: Status
    values: np.ndarray | None = None
    objective: float | None = None


class Solver:
    """Creates and solves models with one solver and its limits.

    Args:
        name: `CBC` or `HIGHS`.
        time_limit_s: per solve. Neither solver keeps it to the second: CBC does not look at the clock in the root LP.
        integer: whether the model has integer columns; an LP is re-solved from its last basis.
        gap: relative gap at which a solution counts as optimal.

    Raises:
        InputError: an unknown name, or a limit or gap that is not above zero.
    """

    def __init__(self, name: str, time_limit_s: Number, integer: bool, gap: Number = 1e-6):
        self.name, self.integer = one_of("solver", name, SOLVERS), integer
        self.time_limit_s, self.gap = positive("time_limit_s", time_limit_s), positive("gap", gap)
        self.seconds = 0.0  # of all solves so far

    def open(self) -> mip.Model:
        """A new, empty, minimising model.

        Raises:
            SolverMissing: its library cannot be loaded.
        """
        try:
            with quiet():
                model = mip.Model(sense=mip.MINIMIZE, solver_name=self.name)
        except (FileNotFoundError, ImportError, OSError, NameError, mip.InterfacingError) as error:
            raise SolverMissing(f"{self.name} cannot be loaded: {error}") from error
        model.verbose = 0
        model.max_mip_gap = self.gap
        model.threads = 1
        return model

    def solve(self, model: mip.Model, columns: Sequence[mip.Var]) -> Solution:
        """Solve `model` and read `columns`. Never raises: the status says what went wrong."""
        # HiGHS adds up the time of a linear program's solves, so its limit has to grow with them; for integer programs
        # it starts from zero.
        spent = self.seconds if self.name == "HIGHS" and not self.integer else 0.0
        start = time.perf_counter()
        try:
            with quiet():
                # On CBC this re-solves from the last basis; HiGHS does so by itself.
                relax = self.name == "CBC" and not self.integer
                told = model.optimize(max_seconds=spent + self.time_limit_s, relax=relax)
                status = _STATUS.get(told, Status.SOLVER_ERROR)
                # An LP's values at the time limit need not be feasible.
                if told not in (_MIP.OPTIMAL, _MIP.FEASIBLE) or not model.num_solutions:
                    return Solution(status)
                if abs(model.objective_value) > _INFINITE:  # CBC calls such an LP optimal
                    return Solution(Status.UNBOUNDED)
                values = np.array([column.x for column in columns], dtype=float)
                return Solution(status, values, float(model.objective_value))
        except Exception as error:  # no error of a binding may end a simulation
            return crashed(error)
        finally:
            self.seconds += time.perf_counter() - start


class SolverMissing(Exception):
    """The solver's library cannot be loaded."""


def crashed(error: Exception) -> Solution:
    """The solution to return when a solver raised `error`, which is logged."""
    log.warning("the solver crashed: %s: %s", type(error).__name__, error)
    return Solution(Status.SOLVER_ERROR)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the output of C libraries off the terminal: CBC prints at any verbosity."""
    with contextlib.ExitStack() as stack:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(ValueError, OSError, AttributeError):
                stream.flush()
        null = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, null)
        for descriptor in (1, 2):
            try:
                kept = os.dup(descriptor)
            except OSError:  # closed: nothing to keep quiet
                continue
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, descriptor)
            os.dup2(null, descriptor)
        yield
