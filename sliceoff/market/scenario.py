"""A market's data: applications, edge servers and the delays between them."""

import json
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from math import inf, log
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from sliceoff.checks import between, fraction, optional
from sliceoff.errors import InputError

_APPLICATIONS = ("arrivals", "work", "deadline_s", "value")
_SERVERS = ("capacity", "linear_cost", "quadratic_cost")
ARRAYS = (*_APPLICATIONS, *_SERVERS, "delay_s")
"""The facts of a `MarketScenario` that are arrays."""
_DIVISORS = ("work", "deadline_s", "quadratic_cost")

Servers = Float[np.ndarray, " servers"]
"""One number per server."""

MOST = 1e30
"""The largest value of any fact, so that products of several stay within a float's range."""


def least(name: str) -> float:
    """The smallest value of a fact: 0, or just above it for divisors."""
    return 1e-30 if name in _DIVISORS else 0.0


def overhead(
    work: Float[np.ndarray, "#*shape"] | float, slack_s: Float[np.ndarray, "*shape"], miss_probability: float | None
) -> Float[np.ndarray, "*shape"]:
    """h of (B1) [Gcycle/s]: capacity that a queue needs beyond its load to meet the deadline; inf if no time is left.

    Args:
        work: c_n [Gcycle/task].
        slack_s: the deadline less the delay to the server and back.
        miss_probability: as in `MarketScenario`.
    """
    factor = 1.0 if miss_probability is None else log(1 / miss_probability)
    return np.divide(factor * work, slack_s, out=np.full(slack_s.shape, inf), where=slack_s > 0)


@dataclass(frozen=True, eq=False)
class MarketScenario:
    """N applications, M edge servers; arrays are (applications,) or (servers,), the delay (applications, servers).

    Lists and arrays are accepted, and copied.

    Args:
        arrivals: lam_n, Poisson arrivals [task/s]; an application with 0 has nothing to offload.
        work: c_n, mean of an exponential distribution [Gcycle/task].
        deadline_s: D_n, limit on the mean response.
        value: v_n, what an application prepays [money/Gcycle].
        capacity: F_m [Gcycle/s].
        linear_cost, quadratic_cost: a_m, b_m of `C_m(f) = a_m f + b_m f^2` [money/s].
        delay_s: tau_nm, between application and server.
        least_profit: U_min, below which no server takes part [money/s].
        miss_probability: if given, bounds P(response > D_n) by it instead of the mean response by D_n.

    Raises:
        InputError: a shape does not fit, or a number is not finite, negative or too large (`MOST`); names the argument.
    """

    arrivals: np.ndarray
    work: np.ndarray
    deadline_s: np.ndarray
    value: np.ndarray
    capacity: np.ndarray
    linear_cost: np.ndarray
    quadratic_cost: np.ndarray
    delay_s: np.ndarray
    least_profit: float = 0.0
    miss_probability: float | None = None

    def __post_init__(self) -> None:
        for name in ARRAYS:
            try:
                object.__setattr__(self, name, np.array(getattr(self, name), dtype=float))
            except (TypeError, ValueError) as error:
                raise InputError(f"market scenario: {name} must hold numbers, in lists of one length") from error
        for names in (_APPLICATIONS, _SERVERS):
            sizes = {name: getattr(self, name).shape for name in names}
            if len(set(sizes.values())) != 1 or len(sizes[names[0]]) != 1 or sizes[names[0]][0] == 0:
                raise InputError(f"market scenario: {sizes} must be of one length, at least 1")
        expected = (len(self.arrivals), len(self.capacity))
        if self.delay_s.shape != expected:
            raise InputError(f"market scenario: delay_s has shape {self.delay_s.shape}; it must be {expected}")
        for name in ARRAYS:
            array = getattr(self, name)
            wrong = ~((array >= least(name)) & (array <= MOST))  # NaN is wrong, too
            for place in map(tuple, np.argwhere(wrong).tolist()):
                between(f"{name}[{', '.join(map(str, place))}]", float(array[place]), least(name), MOST)
        between("least_profit", self.least_profit, 0, MOST)
        optional(fraction, "miss_probability", self.miss_probability)

    @cached_property
    def load(self) -> Float[np.ndarray, " applications"]:
        """L_n, offered work [Gcycle/s]."""
        return self.arrivals * self.work

    @cached_property
    def possible(self) -> Bool[np.ndarray, "applications servers"]:
        """Pairs that can meet the deadline, of applications that have work."""
        within = (self.delay_s < self.deadline_s[:, None]) & (self.overhead < self.capacity)
        return within & (self.load > 0)[:, None]

    @cached_property
    def overhead(self) -> Float[np.ndarray, "applications servers"]:
        """h_nm [Gcycle/s] of (B1): capacity a queue needs beyond its load to meet the deadline; inf if impossible."""
        return overhead(self.work[:, None], self.deadline_s[:, None] - self.delay_s, self.miss_probability)

    @cached_property
    def useful(self) -> Float[np.ndarray, " servers"]:
        """Capacity of each server that all applications together could use [Gcycle/s], at any cost."""
        needed = np.where(self.possible, self.load[:, None] + self.overhead, 0.0).sum(0)
        return np.minimum(needed, self.capacity)

    def share_of_useful(self, amounts: Float[np.ndarray, "*rows servers"]) -> Float[np.ndarray, "*rows servers"]:
        """Amounts [Gcycle/s] as shares of every server's useful capacity; 0 where none is."""
        return np.divide(amounts, self.useful, out=np.zeros_like(amounts), where=self.useful > 0)

    def save(self, path: str | Path) -> None:
        """Write the scenario as JSON."""
        content = {name: item.tolist() if isinstance(item, np.ndarray) else item for name, item in asdict(self).items()}
        Path(path).write_text(json.dumps(content, indent=1) + "\n")

    @classmethod
    def load_from(cls, path: str | Path) -> "MarketScenario":
        """Read what `save` wrote.

        Raises:
            InputError: no such file, no JSON, or not a scenario's keys.
        """
        try:
            content = json.loads(Path(path).read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{path} is no readable market scenario ({error}); give a JSON file") from error
        known = {field.name for field in fields(cls)}
        if not isinstance(content, dict) or not known - {"least_profit", "miss_probability"} <= set(content) <= known:
            raise InputError(f"{path}: a market scenario has the keys {', '.join(sorted(known))}")
        facts: dict[str, Any] = {name: np.array(content[name], dtype=object) for name in ARRAYS}
        try:
            return cls(**content | facts)  # converts them to numbers or refuses them
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
