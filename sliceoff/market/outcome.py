"""A mechanism's outcome: who runs what where, who is paid what, and the rules that it must keep."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from sliceoff.errors import InputError
from sliceoff.market.scenario import MarketScenario
from sliceoff.market.servers import cost

# Violations up to this are rounding, relative to the largest flow of work or money.
_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Outcome:
    """Who runs what where, and who is paid what.

    Args:
        dispatch: w_nm, work sent from application to server [Gcycle/s].
        hosted: x_nm, whether a server keeps a queue for an application.
        bought: f_m, capacity that a server reserves and is paid for [Gcycle/s]; at least what it allots.
        payments: R_m, from the platform to a server [money/s].
        notes: further numbers of the mechanism, such as `evaluations` or `bound`.
    """

    scenario: MarketScenario
    dispatch: Float[np.ndarray, "applications servers"]
    hosted: Bool[np.ndarray, "applications servers"]
    bought: Float[np.ndarray, " servers"]
    payments: Float[np.ndarray, " servers"]
    notes: Mapping[str, float] = field(default_factory=dict)

    @property
    def allotted(self) -> Float[np.ndarray, "applications servers"]:
        """f_nm of (B1), what a server gives every application [Gcycle/s]."""
        return self.dispatch + np.where(self.hosted, self.scenario.overhead, 0.0)

    @property
    def prepaid(self) -> float:
        """What the applications pay for the work that is served [money/s]."""
        return float(self.scenario.value @ self.dispatch.sum(1))

    @property
    def revenue(self) -> float:
        """What the platform keeps [money/s]: prepayments less payments to servers."""
        return self.prepaid - float(self.payments.sum())

    @property
    def costs(self) -> Float[np.ndarray, " servers"]:
        """What the servers' reserved capacity costs them [money/s]."""
        return cost(self.scenario, self.bought)

    @property
    def profits(self) -> Float[np.ndarray, " servers"]:
        """What every server earns [money/s]."""
        return self.payments - self.costs

    @property
    def hired(self) -> Bool[np.ndarray, " servers"]:
        """Which servers sell capacity."""
        return self.bought > 0

    @property
    def tasks_per_s(self) -> float:
        """Tasks offloaded per second."""
        return float((self.dispatch.sum(1) / self.scenario.work).sum())

    @property
    def demand_share(self) -> float:
        """Share of all offered work that is served; 0 if none is offered."""
        total = self.scenario.load.sum()
        return float(self.dispatch.sum() / total) if total > 0 else 0.0

    @property
    def utilisation(self) -> float:
        """Share of all servers' capacity that is allotted to applications."""
        total = self.scenario.capacity.sum()
        return float(self.allotted.sum() / total) if total > 0 else 0.0

    def figures(self) -> dict[str, float]:
        """The outcome's key numbers and its notes, by name."""
        return {
            "revenue": self.revenue,
            "server_profit": float(self.profits.sum()),
            "server_payments": float(self.payments.sum()),
            "tasks_per_s": self.tasks_per_s,
            "demand_share": self.demand_share,
            "utilisation": self.utilisation,
            "hired": float(self.hired.sum()),
            **self.notes,
        }


@runtime_checkable
class Mechanism(Protocol):
    """A rule that matches applications with servers and sets payments."""

    def clear(self, scenario: MarketScenario) -> Outcome:
        """Clear the market: decide who runs what where, and for how much."""
        ...


def nobody_hired(scenario: MarketScenario, **notes: float) -> Outcome:
    """The empty outcome, which is always valid."""
    pairs, servers = scenario.possible, np.zeros(len(scenario.capacity))
    return Outcome(scenario, np.zeros(pairs.shape), np.zeros(pairs.shape, bool), servers, servers.copy(), notes)


def violations(outcome: Outcome) -> dict[str, float]:
    """The largest violation of every rule, relative to the outcome's largest flow of work or money.

    In a valid outcome all are at most 0, up to rounding. If a number is not finite, the only entry is `finite`,
    infinity.
    """
    scenario, dispatch, hosted = outcome.scenario, outcome.dispatch, outcome.hosted
    if not all(np.isfinite(numbers).all() for numbers in (dispatch, outcome.bought, outcome.payments)):
        return {"finite": np.inf}
    flow = max(np.abs(dispatch).max(), np.abs(outcome.bought).max()) or 1.0
    money = max(np.abs(outcome.payments).max(), outcome.costs.max()) or 1.0
    shortfall = np.where(outcome.hired, scenario.least_profit - outcome.profits, -money)
    return {
        "finite": 0.0,
        "negative": -float(min(dispatch.min() / flow, outcome.bought.min() / flow, outcome.payments.min() / money)),
        "demand": float((dispatch.sum(1) - scenario.load).max() / flow),
        "capacity": float((outcome.bought - scenario.capacity).max() / flow),
        "allotment": float((outcome.allotted.sum(0) - outcome.bought).max() / flow),
        "hosting": float((dispatch * ~hosted).max() / flow),
        "qos": float((hosted & ~scenario.possible).max()),
        "participation": float(shortfall.max() / money),
        "unhired": float((outcome.payments * ~outcome.hired).max() / money),
    }


def check_outcome(outcome: Outcome) -> None:
    """Check that a mechanism returned an outcome that breaks no rule.

    Raises:
        InputError: it is no `Outcome`, or it breaks a rule (`violations`); the message says which and by how much.
    """
    if not isinstance(outcome, Outcome):
        raise InputError(f"its clear() returned {type(outcome).__name__}; return an Outcome")
    rule, worst = max(violations(outcome).items(), key=lambda item: item[1])
    if worst > _TOLERANCE:
        raise InputError(f"its outcome breaks the rule of {rule} by {worst:.3g}; mend its clear()")
