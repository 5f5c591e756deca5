"""The Stackelberg leader: requests capacity from servers, learns what they want for it, and finds the best request."""

from dataclasses import dataclass, field, replace

import numpy as np

from sliceoff.checks import count
from sliceoff.errors import InputError
from sliceoff.market.checks import role
from sliceoff.market.outcome import Outcome, nobody_hired
from sliceoff.market.program import Dispatch, DispatchProgram
from sliceoff.market.scenario import MarketScenario, Servers
from sliceoff.market.search import Composite, Negotiation, Search
from sliceoff.market.servers import Followers, Rational


class Leader:
    """The leader's side of the negotiation. One evaluation is `ask`, the servers' answers, and `tell`.

    A request is a capacity per server, from zero to the useful one. Before it is sent to the servers, it is cut to what
    the best dispatch (B2) uses of it: the rest would be paid for and left idle. The leader learns nothing of the
    servers but their answers, so they may follow any rule.

    Args:
        scenario: the platform's view of the market; its servers' costs are not used.
        search: proposes requests, as shares of the useful capacities.
    """

    def __init__(self, scenario: MarketScenario, search: Search):
        self.scenario, self.search = scenario, search
        self.best = nobody_hired(scenario)
        self._program = DispatchProgram(scenario)
        self._asked: tuple[Servers, Dispatch] | None = None
        self._answers: list[tuple[Servers, ...]] = []
        self._revenues: list[float] = []

    @property
    def evaluations(self) -> int:
        """How often the servers were asked."""
        return len(self._answers)

    def ask(self) -> Servers:
        """The capacity to ask every server for [Gcycle/s]."""
        share = self.search.ask(self._past())
        dispatch = self._program.solve(np.clip(share, 0.0, 1.0) * self.scenario.useful)
        asked = np.minimum(dispatch.allotted(self.scenario), self.scenario.capacity)
        self._asked = asked, dispatch
        return asked

    def tell(self, asked: Servers, given: np.ndarray, wanted: np.ndarray) -> None:
        """Record every server's answer: the capacity it gives [Gcycle/s], and the reward it wants [money/s].

        Raises:
            InputError: an answer is not finite, is negative, or gives more than the server has.
        """
        for name, answer in (("given", given), ("wanted", wanted)):
            if np.shape(answer) != self.scenario.capacity.shape or not (np.isfinite(answer) & (answer >= 0)).all():
                raise InputError(
                    f"market: {name}={np.asarray(answer).tolist()} must be a finite number >= 0 per server"
                )
        if (given > self.scenario.capacity * (1 + 1e-9)).any():
            raise InputError(f"market: given={given.tolist()} is more than capacity={self.scenario.capacity.tolist()}")
        if self._asked is not None and np.array_equal(given, self._asked[0]):
            dispatch = self._asked[1]  # optimal within a larger capacity, so within this one, too
        else:
            dispatch = self._program.solve(given)
        outcome = Outcome(self.scenario, dispatch.work, dispatch.hosted, given, wanted)
        self._answers.append((asked, given, wanted))
        self._revenues.append(outcome.revenue)
        if outcome.revenue > self.best.revenue:
            self.best = outcome

    def _past(self) -> Negotiation:
        asked, given, wanted = np.reshape(self._answers, (-1, 3, len(self.scenario.capacity))).swapaxes(0, 1)
        return Negotiation(self.scenario, asked, given, wanted, np.array(self._revenues))


@dataclass(frozen=True)
class Centralised:
    """The mechanism with full information: take-it-or-leave-it contracts, capacities by Bayesian optimisation.

    Args:
        evaluations: how often the servers are asked; the best answer counts.
        search: proposes requests.
        followers: how the servers answer.

    Raises:
        InputError: evaluations below one, or `search` or `followers` lacks its protocol's method.
    """

    evaluations: int = 20
    search: Search = field(default_factory=Composite)
    followers: Followers = field(default_factory=Rational)

    def __post_init__(self) -> None:
        count("evaluations", self.evaluations)
        role("search", self.search, Search)
        role("followers", self.followers, Followers)

    def clear(self, scenario: MarketScenario) -> Outcome:
        """Clear the market; `Outcome.notes` has the `evaluations`."""
        if not scenario.possible.any():  # nobody can be served: nothing to search for
            return nobody_hired(scenario, evaluations=0.0)
        leader = Leader(scenario, self.search)
        while leader.evaluations < self.evaluations:
            asked = leader.ask()
            leader.tell(asked, *self.followers.answer(scenario, asked))
        return replace(leader.best, notes={"evaluations": float(leader.evaluations)})
