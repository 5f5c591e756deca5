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
    """What a server says of itself, relative to the truth: factors of a_m, b_m and F_m.

    Raises:
        InputError: a factor is not above 0, or more capacity than there is: it would have to be delivered.
    """

    linear: float = 1.0
    quadratic: float = 1.0
    capacity: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.linear < inf and 0 < self.quadratic < inf and 0 < self.capacity <= 1):
            raise InputError(f"{self}: factors of costs must be finite and above 0, of capacity above 0 and at most 1")

    def made(self, scenario: MarketScenario, server: int) -> MarketScenario:
        """The scenario as it looks when `server` reports this and all others tell the truth."""

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
    """The best lie of one server, all others telling the truth.

    Args:
        truthful: what it earns by the truth [money/s].
        lie: the one that earns it most.
        gain: what it then earns more, by its true costs [money/s]; negative where every lie costs it something.
        loss: what the platform then earns less [money/s].
    """

    server: int
    truthful: float
    lie: Report
    gain: float
    loss: float


def temptations(
    mechanism: Mechanism, scenario: MarketScenario, lies: Sequence[Report] = LIES
) -> tuple[Outcome, list[Temptation]]:
    """The truthful outcome, and every server's best lie: the market is cleared once per server and lie, and once more.

    Servers of a posted-price mechanism answer prices; one that answers as if it were another is covered as well.
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
    """What every server earns in an outcome [money/s], (servers,), by the costs that are true instead of reported."""
    return outcome.payments - cost(truth, outcome.bought)


def participation_margin(outcome: Outcome) -> float:
    """By how much the worst-paid hired server earns more than U_min [money/s]; infinite where nobody is hired."""
    return float((outcome.profits - outcome.scenario.least_profit).min(where=outcome.hired, initial=inf))
