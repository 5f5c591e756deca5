"""A documented family of random markets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from sliceoff.checks import between, count, fraction, optional
from sliceoff.errors import OptionError
from sliceoff.market.scenario import ARRAYS, MOST, MarketScenario, least

Range = Sequence[float | int]


@runtime_checkable
class Markets(Protocol):
    """A numbered series of markets."""

    def draw(self, number: int, /) -> MarketScenario:
        """The market with this number, always the same."""
        ...


@dataclass(frozen=True)
class Family:
    """Markets whose facts are drawn independently and uniformly from ranges [low, high].

    Args:
        n_applications, n_servers: how many.
        arrivals, work, deadline_s, value, capacity, linear_cost, quadratic_cost, delay_s: ranges.
        least_profit, miss_probability: as in `MarketScenario`, which also explains what the ranges are of.

    Raises:
        InputError: a count below one, a range that is not two ordered numbers, or a number that no scenario may have.
    """

    n_applications: int = 10
    n_servers: int = 3
    arrivals: Range = (5.0, 20.0)
    work: Range = (0.05, 0.5)
    deadline_s: Range = (0.1, 0.5)
    value: Range = (0.5, 2.0)
    capacity: Range = (8.0, 20.0)
    linear_cost: Range = (0.1, 0.4)
    quadratic_cost: Range = (0.01, 0.04)
    delay_s: Range = (0.005, 0.03)
    least_profit: float = 0.5
    miss_probability: float | None = None

    def __post_init__(self) -> None:
        for name in ("n_applications", "n_servers"):
            count(name, getattr(self, name))
        for name in ARRAYS:
            pair = getattr(self, name)
            if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
                raise OptionError(name, f"={pair} must be two numbers [low, high]")
            if between(name, pair[0], 0, MOST) > between(name, pair[1], least(name), MOST):
                raise OptionError(name, f"={list(pair)} must be ordered: [low, high]")
        between("least_profit", self.least_profit, 0, MOST)
        optional(fraction, "miss_probability", self.miss_probability)

    def draw(self, number: int) -> MarketScenario:
        """The market with this number, which is the seed of its draws."""
        generator = np.random.default_rng(number)
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(ARRAYS, (self.n_applications,))
        shapes |= dict.fromkeys(("capacity", "linear_cost", "quadratic_cost"), (self.n_servers,))
        shapes["delay_s"] = (self.n_applications, self.n_servers)
        facts = {}
        for name, shape in shapes.items():
            low, high = getattr(self, name)
            facts[name] = generator.uniform(low, high, size=shape)
        return MarketScenario(**facts, least_profit=self.least_profit, miss_probability=self.miss_probability)
