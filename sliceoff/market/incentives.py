"""What a server gains by lying about its costs or its capacity, and what that costs the platform."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from sliceoff.errors import InputError
from sliceoff.market.outcome import Mechanism, Outcome
from sliceoff.market.scenario import MarketScenario
from sliceoff.market.servers import cost


@dataclass(frozen=True)
class Report:
    """What a server reports of itself, relative to the truth: factors of a_m, b_m and F_m.

    Raises:
        InputError: a factor is not above 0, or more capacity is reported than the server could deliver.
    """

    linear: float = 1.0
    quadratic: float = 1.0
    capacity: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.linear < inf and 0 < self.quadratic < inf and 0 < self.capacity <= 1):
            raise InputError(f"{self}: factors of costs must be finite and above 0, of capacity above 0 and at most 1")

    def made(self, scenario: MarketScenario, server: int) -> MarketScenario:
        """The scenario as reported if `server` makes this report and all others tell the truth."""

        def scaled(facts: np.ndarray, factor: float) -> np.ndarray:
            return np.where(np.arange(len(facts)) == server, factor * facts, facts)

        return replace(
            scenario,
            linear_cost=scaled(scenario.linear_cost, self.linear),
            quadratic_cost=scaled(scenario.quadratic_cost, self.quadratic),
            capacity=scaled(scenario.capacity, self.capacity),
        )


LIES = (
    *(Report(linear=factor, quadratic=factor) for factor in (0.8, 0.9, 1.1, 1.25, 1.5, 2.0)),
    *(Report(capacity=factor) for factor in (0.25, 0.5, 0.75, 0.9)),
)


@dataclass(frozen=True)
class Temptation:
    """The best lie of one server, if all others tell the truth.

    Args:
        truthful: its profit if it tells the truth [money/s].
        lie: the report with the highest profit.
        gain: additional profit from that lie, by its true costs [money/s]; negative if every lie loses.
        loss: the revenue that the platform loses by that lie [money/s].
    """

    server: int
    truthful: float
    lie: Report
    gain: float
    loss: float


def temptations(
    mechanism: Mechanism, scenario: MarketScenario, lies: Sequence[Report] = LIES
) -> tuple[Outcome, list[Temptation]]:
    """The truthful outcome, and every server's best lie. Clears the market once truthfully, and per server and lie.

    This also covers posted prices: there, a lie is to answer prices as a server with other costs or capacity would.
    """
    honest = mechanism.clear(scenario)
    profits = true_profits(honest, scenario)
    found = []
    for server in range(len(scenario.capacity)):
        outcomes = [mechanism.clear(lie.made(scenario, server)) for lie in lies]
        earned = [float(true_profits(outcome, scenario)[server]) for outcome in outcomes]
        best = int(np.argmax(earned))
        truthful, loss = float(profits[server]), honest.revenue - outcomes[best].revenue
        found.append(Temptation(server, truthful, lies[best], earned[best] - truthful, loss))
    return honest, found


def true_profits(outcome: Outcome, truth: MarketScenario) -> np.ndarray:
    """What every server earns in an outcome [money/s], (servers,), by its true costs instead of the reported ones."""
    return outcome.payments - cost(truth, outcome.bought)


def participation_margin(outcome: Outcome) -> float:
    """By how much the worst-paid hired server earns more than U_min [money/s]; infinite where nobody is hired."""
    return float((outcome.profits - outcome.scenario.least_profit).min(where=outcome.hired, initial=inf))
