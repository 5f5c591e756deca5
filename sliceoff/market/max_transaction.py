"""The max-transaction mechanism: as many tasks as possible without loss to anybody."""

from dataclasses import dataclass
from itertools import pairwise

import mip
import numpy as np

from sliceoff.checks import between, count, positive
from sliceoff.market.outcome import Outcome, nobody_hired
from sliceoff.market.program import Contracts, answered, unsolved
from sliceoff.market.scenario import MarketScenario
from sliceoff.market.servers import cost
from sliceoff.solver import Solver


@dataclass(frozen=True)
class MaxTransaction:
    """Most tasks/s within capacity such that prepayments cover costs and every hired server's least profit.

    The surplus (prepayments less costs) is split: theta to the platform, the rest to the servers, of which each gets
    U_min and a part of the remainder in proportion to what it allots.

    Args:
        theta: the platform's share, 0 to 1.
        segments: of the piecewise linear cost in the program, up to the most that can be used and paid for. That cost
            lies above C_m, so the surplus is never negative.
        time_limit_s: for the program.

    Raises:
        InputError: theta outside 0 to 1, no segment, or no time.
    """

    theta: float = 0.5
    segments: int = 16
    time_limit_s: float = 10.0

    def __post_init__(self) -> None:
        between("theta", self.theta, 0, 1)
        count("segments", self.segments)
        positive("time_limit_s", self.time_limit_s)

    def clear(self, scenario: MarketScenario) -> Outcome:
        """Clear the market; see `Mechanism`.

        Raises:
            InputError: the solver fails.
        """
        solver = Solver("HIGHS", self.time_limit_s, integer=True, gap=1e-4)
        model = solver.open()
        contracts = Contracts(model, scenario, least=np.zeros(len(scenario.capacity)))
        if not contracts.room.any():
            return nobody_hired(scenario)
        ends = np.linspace(0, 1, self.segments + 1)[:, None] * contracts.room
        for low, high in pairwise(ends):  # the chord of a f + b f^2 between low and high
            contracts.add_lines(
                scenario.linear_cost + scenario.quadratic_cost * (low + high), -scenario.quadratic_cost * low * high
            )
        money = contracts.money
        surplus = contracts.pairs.worth(scenario.value / money) - mip.xsum(contracts.spent)
        model += surplus >= 0
        model += (1 - self.theta) * surplus >= scenario.least_profit / money * mip.xsum(contracts.hired)
        model.objective = mip.minimize(-contracts.pairs.worth(1 / (scenario.work * scenario.arrivals.sum())))
        solution, dispatch, bought = contracts.solve(solver)
        if not answered(solution):
            raise unsolved(solution.status)
        if not bought.any():
            return nobody_hired(scenario)
        least = scenario.least_profit * (bought > 0)
        earned = dispatch.value - cost(scenario, bought).sum()
        rest = max(0.0, (1 - self.theta) * earned - least.sum())
        payments = cost(scenario, bought) + least + rest * bought / bought.sum()
        return Outcome(scenario, dispatch.work, dispatch.hosted, bought, payments)
