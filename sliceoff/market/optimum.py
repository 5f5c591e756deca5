"""Two benchmarks with full information: the best that any platform can earn, and the best with posted prices."""

from dataclasses import dataclass

import numpy as np

from sliceoff.checks import not_negative, positive
from sliceoff.market.outcome import Outcome
from sliceoff.market.program import Curve, Purchase, best_purchase
from sliceoff.market.scenario import MarketScenario


@dataclass(frozen=True)
class Optimum:
    """Take-it-or-leave-it contracts, allocations and dispatch as one program: (B2) + (B3).

    Args:
        tolerance: relative gap between revenue and bound at which to stop; the outcome's notes have the bound.
        time_limit_s: for the whole program.

    Raises:
        InputError: a tolerance below 0, or no time.
    """

    tolerance: float = 1e-6
    time_limit_s: float = 30.0

    def __post_init__(self) -> None:
        not_negative("tolerance", self.tolerance)
        positive("time_limit_s", self.time_limit_s)

    def clear(self, scenario: MarketScenario) -> Outcome:
        """Clear the market; `Outcome.notes` has the certified `bound`."""
        nothing = np.zeros(len(scenario.capacity))
        least_profit = np.full(len(scenario.capacity), scenario.least_profit)
        curve = Curve(scenario.linear_cost, scenario.quadratic_cost, fixed=least_profit, least=nothing)
        purchase = best_purchase(scenario, curve, self.tolerance, time_limit_s=self.time_limit_s)
        return _outcome(scenario, curve, purchase)


@dataclass(frozen=True)
class KnownSupply:
    """The best posted prices for a platform that knows every supply curve and all demand.

    At the price r a server sells S(r), so buying f within its limits takes `r = a + 2 b f`: the platform pays
    `a f + 2 b f^2`. The server takes part if it earns `b f^2 >= U_min`. All it offers is paid for, used or not.

    Args:
        tolerance, time_limit_s: as in `Optimum`.

    Raises:
        InputError: a tolerance below 0, or no time.
    """

    tolerance: float = 1e-6
    time_limit_s: float = 30.0

    def __post_init__(self) -> None:
        not_negative("tolerance", self.tolerance)
        positive("time_limit_s", self.time_limit_s)

    def clear(self, scenario: MarketScenario) -> Outcome:
        """Clear the market; `Outcome.notes` has the certified `bound`."""
        linear, quadratic = scenario.linear_cost, 2 * scenario.quadratic_cost
        least = np.sqrt(scenario.least_profit / scenario.quadratic_cost)
        # A server that would have to sell more than it has sells all at a price that leaves it U_min.
        short = scenario.least_profit - scenario.quadratic_cost * scenario.capacity**2
        curve = Curve(linear, quadratic, fixed=np.maximum(short, 0.0), least=least)
        return _outcome(scenario, curve, best_purchase(scenario, curve, self.tolerance, time_limit_s=self.time_limit_s))


def _outcome(scenario: MarketScenario, curve: Curve, purchase: Purchase) -> Outcome:
    dispatch, bought = purchase.dispatch, purchase.bought
    return Outcome(scenario, dispatch.work, dispatch.hosted, bought, curve(bought), {"bound": purchase.bound})
