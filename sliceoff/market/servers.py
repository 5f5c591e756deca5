"""The followers: an edge server's cost of running, and its answers to the platform."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from sliceoff.market.scenario import MarketScenario, Servers

_ROUNDING = 1e-9

Facts = Float[np.ndarray, " servers"] | float


def cost(scenario: MarketScenario, allotted: Servers) -> Servers:
    """The servers' costs C_m(f_m) [money/s]."""
    return scenario.linear_cost * allotted + scenario.quadratic_cost * allotted**2


def accepts(scenario: MarketScenario, allotted: Servers, reward: Servers) -> Bool[np.ndarray, " servers"]:
    """Whether every server accepts its contract: `R_m >= C_m(f_m) + U_min`."""
    return _pays(reward, cost(scenario, allotted), scenario.least_profit)


def offer(scenario: MarketScenario, price: Servers) -> Servers:
    """What every server sells at its price [Gcycle/s]; see `sold`."""
    return sold(scenario.linear_cost, scenario.quadratic_cost, scenario.capacity, scenario.least_profit, price)


def sold(
    linear_cost: Facts, quadratic_cost: Facts, capacity: Facts, least_profit: float, price: Facts
) -> Servers | Float[np.ndarray, ""]:
    """S_m(r_m) [Gcycle/s], the quantity that earns most at a price per Gcycle; 0 if that earns less than U_min."""
    quantity = np.clip((price - linear_cost) / (2 * quadratic_cost), 0.0, capacity)
    spent = linear_cost * quantity + quadratic_cost * quantity**2
    return np.where(_pays(price * quantity, spent, least_profit), quantity, 0.0)


def _pays(reward: Facts, spent: Facts, least_profit: float) -> Any:
    """Whether a reward leaves at least U_min, up to rounding: the best price leaves exactly that."""
    return reward >= (1 - _ROUNDING) * (spent + least_profit)


def greatest_surplus(scenario: MarketScenario) -> float:
    """An upper bound on prepayments less costs [money/s]: each server's best alone, or all work at no cost."""
    margin = _margin(scenario)
    return min(float((margin**2 / (4 * scenario.quadratic_cost)).sum()), float(scenario.value @ scenario.load))


def affordable(scenario: MarketScenario) -> Servers:
    """The most capacity of each server that is worth buying, even if it were useful [Gcycle/s].

    More would lose more money than the surplus of all other servers can make up for.
    """
    surplus, margin, quadratic = greatest_surplus(scenario), _margin(scenario), scenario.quadratic_cost
    most = (margin + np.sqrt(margin**2 + 4 * quadratic * surplus)) / (2 * quadratic)
    return np.where(surplus >= scenario.least_profit, most, 0.0)


def _margin(scenario: MarketScenario) -> Servers:
    """The most that a possible application pays, less the server's linear cost; at least 0 [money/Gcycle]."""
    dearest = np.where(scenario.possible, scenario.value[:, None], 0.0).max(0)
    return np.maximum(dearest - scenario.linear_cost, 0.0)


@runtime_checkable
class Followers(Protocol):
    """A rule by which servers answer a request for capacity."""

    def answer(self, scenario: MarketScenario, asked: Servers) -> tuple[Servers, Servers]:
        """The capacity each server will give when asked for `asked` [Gcycle/s], and the reward it wants [money/s]."""
        ...


class Rational:
    """Servers that give what they are asked for and want exactly cost plus U_min; 0 for 0."""

    def answer(self, scenario: MarketScenario, asked: Servers) -> tuple[Servers, Servers]:
        """Give `asked`, for cost plus U_min; see `Followers`."""
        return asked, np.where(asked > 0, cost(scenario, asked) + scenario.least_profit, 0.0)
