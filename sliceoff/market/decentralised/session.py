"""One market run by messages only: the session delivers them, and lets applications and servers bargain."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from sliceoff.errors import InputError
from sliceoff.market.decentralised.masking import LARGEST, Noise
from sliceoff.market.decentralised.messages import (
    PLATFORM,
    Ask,
    Bargain,
    Channel,
    Keep,
    Message,
    Price,
    Request,
    Roll,
    Tariff,
)
from sliceoff.market.decentralised.parties import Application, EdgeServer
from sliceoff.market.decentralised.platform import Protocol
from sliceoff.market.outcome import Outcome
from sliceoff.market.scenario import MarketScenario

Result = TypeVar("Result")


@dataclass(eq=False)
class Session:
    """The parties of one scenario and the channel between them; no party has a reference to the session.

    Args:
        bands, noise: as in `Application`.
        sweeps: in every bargain, how often all applications respond in turn.
        temperature: of the noise at the start of a bargain; it falls to 0 in the last sweep.
        seed: of bargaining.

    Raises:
        InputError: sums over the applications might not fit into the masks' fixed point.
    """

    scenario: MarketScenario
    bands: Sequence[float]
    noise: Noise | None = None
    sweeps: int = 20
    temperature: float = 0.1
    seed: int = 0
    channel: Channel = field(default_factory=Channel)

    def __post_init__(self) -> None:
        one = self.scenario
        if (largest := _largest_sum(one)) >= LARGEST:
            raise InputError(
                f"masked sums hold {LARGEST:.1g} at most, this market's would come to "
                f"{largest:.1g}; give work and money in larger units"
            )
        servers = len(one.capacity)
        facts = zip(*map(np.ndarray.tolist, (one.arrivals, one.work, one.deadline_s, one.value)), strict=True)
        self.applications = [
            Application(lam, c, limit, v, one.miss_probability, servers, self.bands, self.noise, (self.seed, n))
            for n, (lam, c, limit, v) in enumerate(facts)
        ]
        curves = zip(*map(np.ndarray.tolist, (one.capacity, one.linear_cost, one.quadratic_cost)), strict=True)
        self.servers = [EdgeServer(most, a, b, one.least_profit) for most, a, b in curves]
        self._order = np.random.default_rng((self.seed, len(self.applications)))

    def run(self, protocol: Protocol[Result]) -> Result:
        """Run a protocol to its end: deliver the platform's messages, and return the answers to it."""
        answers: list[Message] | None = None
        while True:
            try:
                outgoing = next(protocol) if answers is None else protocol.send(answers)
            except StopIteration as end:
                return end.value
            answers = [answer for party, message in outgoing if (answer := self._deliver(party, message)) is not None]
            match outgoing[0][1]:
                case Bargain(name):
                    self._bargain(name)
                case Keep():
                    self._carry_out()

    def outcome(self, notes: dict[str, float]) -> Outcome:
        """The final outcome, put together from every party's own knowledge."""
        dispatch = np.stack([application.dispatch for application in self.applications])
        hosted = np.stack([application.allotted > 0 for application in self.applications])
        bought, payments = np.array([server.deal for server in self.servers]).T
        return Outcome(self.scenario, dispatch, hosted, bought, payments, notes)

    def _deliver(self, party: str, message: Message) -> Message | None:
        """Deliver a message of the platform; returns the answer, if there is one."""
        self.channel.send(PLATFORM, party, message)
        answer: Message | None = None
        number = int(party.split()[1])
        match message:
            case Price():
                answer = self.servers[number].answer(message)
            case Tariff():
                self.servers[number].listen(message)
            case Ask():
                answer = self.applications[number].answer(message)
            case Roll():
                self.applications[number].enrol(message)
            case Bargain():
                self.applications[number].begin()
            case Keep():
                self.applications[number].keep(message)
        return None if answer is None else self.channel.send(party, PLATFORM, answer)

    def _carry_out(self) -> None:
        """Make the final reservations: sums are rounded and may be noisy, so less may be sold than was agreed."""
        for server in self.servers:
            server.vacate()
        for n, application in enumerate(self.applications):
            for place in np.flatnonzero(application.allotted):
                self._request(n, int(place), float(application.allotted[place]))
        for m, server in enumerate(self.servers):
            for n, grant in server.grants().items():
                self.channel.send(f"server {m}", f"application {n}", grant)
                self.applications[n].accept(m, grant)

    def _request(self, application: int, server: int, capacity: float) -> None:
        request = Request(capacity)
        self.channel.send(f"application {application}", f"server {server}", request)
        self.servers[server].reserve(application, request)

    def _bargain(self, name: str) -> None:
        """Sweeps of best responses with falling noise, among applications and servers only."""
        for sweep in range(self.sweeps):
            temperature = self.temperature * (1 - (sweep + 1) / self.sweeps)
            for n in self._order.permutation(len(self.applications)):
                application, quotes = self.applications[n], {}
                for m in application.reachable:
                    quotes[m] = self.servers[m].quote(int(n))
                    self.channel.send(f"server {m}", f"application {n}", quotes[m])
                before = application.allotted
                application.choose(quotes, temperature)
                for m in np.flatnonzero(application.allotted != before):
                    self._request(int(n), int(m), float(application.allotted[m]))
        for application in self.applications:
            application.end(name)


def _largest_sum(scenario: MarketScenario) -> float:
    """The most that the masked sums can come to: of the applications' loads and overheads, or of their work's worth."""
    overhead = np.where(np.isfinite(scenario.overhead), scenario.overhead, 0.0).max(1)
    return float(max((scenario.load + overhead).sum(), scenario.value @ scenario.load))
