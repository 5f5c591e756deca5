"""The followers: what running costs an edge server, and how it answers the platform."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from sliceoff.market.scenario import MarketScenario, Servers

_ROUNDING = 1e-9

Facts = Float[np.ndarray, " servers"] | float


def cost(scenario: MarketScenario, allotted: Servers) -> Servers:
    """C_m(f_m) [money/s]."""
    return scenario.linear_cost * allotted + scenario.quadratic_cost * allotted**2


def accepts(scenario: MarketScenario, allotted: Servers, reward: Servers) -> Bool[np.ndarray, " servers"]:
    """Whether a server takes a contract: `R_m >= C_m(f_m) + U_min`."""
    return _pays(reward, cost(scenario, allotted), scenario.least_profit)


def offer(scenario: MarketScenario, price: Servers) -> Servers:
    """What every server sells at a price of its own [Gcycle/s]; see `sold`."""
    return sold(scenario.linear_cost, scenario.quadratic_cost, scenario.capacity, scenario.least_profit, price)


def sold(
    linear_cost: Facts, quadratic_cost: Facts, capacity: Facts, least_profit: float, price: Facts
) -> Servers | Float[np.ndarray, ""]:
    """S_m(r_m) [Gcycle/s], the quantity that earns most at a price per Gcycle; 0 where that earns less than U_min."""
    quantity = np.clip((price - linear_cost) / (2 * quadratic_cost), 0.0, capacity)
    spent = linear_cost * quantity + quadratic_cost * quantity**2
    return np.where(_pays(price * quantity, spent, least_profit), quantity, 0.0)


def _pays(reward: Facts, spent: Facts, least_profit: float) -> Any:
    """Whether a reward leaves at least U_min, up to rounding: the best price leaves exactly that."""
    return reward >= (1 - _ROUNDING) * (spent + least_profit)


def greatest_surplus(scenario: MarketScenario) -> float:
    """An upper bound of prepayments less costs [money/s]: every server sells what pays it best, or all work is free."""
    margin = _margin(scenario)
    return min(float((margin**2 / (4 * scenario.quadratic_cost)).sum()), float(scenario.value @ scenario.load))


def affordable(scenario: MarketScenario) -> Servers:
    """Capacity of each server beyond which nothing is ever bought of it, were it of use [Gcycle/s].

    It would cost so much more than it brings that the surplus of all other servers does not make up for it.
    """
    surplus, margin, quadratic = greatest_surplus(scenario), _margin(scenario), scenario.quadratic_cost
    most = (margin + np.sqrt(margin**2 + 4 * quadratic * surplus)) / (2 * quadratic)
    return np.where(surplus >= scenario.least_profit, most, 0.0)


def _margin(scenario: MarketScenario) -> Servers:
    """By how much a server's dearest application pays more for a Gcycle than the first one costs [money/Gcycle]."""
    dearest = np.where(scenario.possible, scenario.value[:, None], 0.0).max(0)
    return np.maximum(dearest - scenario.linear_cost, 0.0)


@runtime_checkable
class Followers(Protocol):
    """Servers that answer a request for capacity by a rule of their own."""

    def answer(self, scenario: MarketScenario, asked: Servers) -> tuple[Servers, Servers]:
        """The capacity each server will give when asked for `asked` [Gcycle/s], and the reward it wants [money/s]."""
        ...


class Rational:
    """Servers that give what they are asked for and want exactly what makes them accept; 0 for 0."""

    def answer(self, scenario: MarketScenario, asked: Servers) -> tuple[Servers, Servers]:
        """See `Followers`."""
        return asked, np.where(asked > 0, cost(scenario, asked) + scenario.least_profit, 0.0)
