"""The platform's side: it knows the delays, the messages it got, and what its networks learnt from them."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt64

from sliceoff.market.decentralised.masking import FRACTION_BITS, decode, total
from sliceoff.market.decentralised.messages import (
    Ask,
    Bargain,
    Keep,
    Masked,
    Message,
    Offer,
    Price,
    PublicKey,
    Roll,
    Tariff,
)
from sliceoff.market.decentralised.networks import Answers, SettledBargains, SupplyNetworks, ValueNetwork, fit
from sliceoff.market.decentralised.posted import Posted
from sliceoff.market.scenario import Servers

Outgoing = list[tuple[str, Message]]
Result = TypeVar("Result")
Kind = TypeVar("Kind", bound=Message)
Protocol = Generator[Outgoing, list[Message], Result]
"""A generator that yields the platform's messages and is sent the answers: it holds no reference to other parties."""

_GRID = 400


@dataclass(frozen=True)
class Settled:
    """A bargain's masked sums: prepaid worth [money/s], and capacity reserved on every server [Gcycle/s]."""

    name: str
    worth: float
    used: Servers


@dataclass(eq=False)
class Platform:
    """What the platform knows and does in one market.

    Args:
        delay_s: tau_nm.
        value: the network of V on class sums, trained on past markets.
        probes: prices posted to explore: half evenly, half where offers change most.
        rounds: each refits the supply networks, holds bargains at a tariff, and posts prices for the best ones.
        bargains: bargains in every round.
        supply_steps: of Adam, for every fit of the supply networks.
        seed: of starting points.
    """

    delay_s: Float[np.ndarray, "applications servers"]
    value: ValueNetwork
    probes: int = 12
    rounds: int = 2
    bargains: int = 16
    supply_steps: int = 300
    seed: int = 0
    posted: Posted = field(default_factory=Posted, init=False)
    classes: Float[np.ndarray, "classes 4"] = field(default_factory=lambda: np.zeros((0, 4)), init=False)
    reports: int = field(default=0, init=False)

    def trade(self) -> Protocol[dict[str, float]]:
        """Explore, bargain, post the prices that earn most, and return notes. If nothing earns, nobody is hired."""
        yield from self.enrol()
        if not len(self.classes) or self.ceiling <= 0:
            return (yield from self._close("", np.zeros(self._n_servers), 0.0))
        yield from self._explore()
        networks = SupplyNetworks(self._n_servers)
        self._refit(networks)
        yield from self.post(self._ascend(networks))
        best: tuple[float, str, Servers] = (0.0, "", np.zeros(self._n_servers))
        for turn in range(self.rounds):
            self._refit(networks)
            tariffs = self._tariffs(networks)
            settled = yield from self._bargain(turn, tariffs)
            promising = sorted(settled, key=lambda one: self._expected(one, tariffs), reverse=True)[:2]
            for one in promising:
                prices, offers = yield from self._meet(one.used)
                earned = one.worth - float(prices @ offers)
                if earned > best[0] and (offers >= one.used - self._rounding).all():
                    best = (earned, one.name, prices)
        return (yield from self._close(best[1], best[2], best[0]))

    def practise(self, rounds: int) -> Protocol[SettledBargains]:
        """Learn from a past market: settle bargains at random prices and linear tariffs."""
        yield from self.enrol()
        generator = np.random.default_rng(self.seed)
        settled = []
        for turn in range(rounds if len(self.classes) else 0):
            offers = yield from self.post(generator.uniform(0, self.ceiling, self._n_servers))
            slope = generator.uniform(0, self.ceiling / 2)
            tariffs = [Tariff(np.array([0.0, most]), slope * np.array([0.0, most])) for most in offers]
            settled.append((yield from self._settle(f"bargain {turn}", tariffs)))
        yield self._to_applications(lambda _: Keep(""))
        return SettledBargains(
            torch.as_tensor(self.classes, dtype=torch.float32).repeat(len(settled), 1, 1),
            torch.tensor(np.reshape([one.used for one in settled], (-1, self._n_servers)), dtype=torch.float32),
            torch.tensor([one.worth for one in settled], dtype=torch.float32),
        )

    def enrol(self) -> Protocol[None]:
        """Pass on keys and delays; learn how many applications are in every band, and class sums."""
        keys = [_expect(answer, PublicKey).key for answer in (yield self._to_applications(lambda _: Ask("key")))]
        if len(keys) < 2:
            return  # sums of one application would be its facts
        yield self._to_applications(lambda n: Roll(tuple(keys), self.delay_s[n]))
        counts = np.rint((yield from self._sum("counts"))).astype(int)
        groups, members = merge(np.maximum(counts, 0).tolist())
        if not members:
            return
        sums = yield from self._sum("classes", groups, members)
        sums = np.maximum(sums.reshape(-1, 3), 0.0)
        self.classes = np.concatenate([np.array(members, dtype=float)[:, None], sums], axis=1)

    def post(self, prices: Servers) -> Protocol[Servers]:
        """Post a price to every server, and store and return their offers."""
        answers = yield [(f"server {m}", Price(float(price))) for m, price in enumerate(prices)]
        offers = np.array([_expect(answer, Offer).capacity for answer in answers])
        self.posted.add(prices, offers)
        return offers

    @property
    def ceiling(self) -> float:
        """Price above which no class can pay [money/Gcycle]."""
        load, worth = self.classes[:, 1], self.classes[:, 3]
        return float(np.divide(worth, load, out=np.zeros_like(load), where=load > 1e-9).max(initial=0.0))

    @property
    def _n_servers(self) -> int:
        return self.delay_s.shape[1]

    @property
    def _rounding(self) -> float:
        """How far a sum of fixed-point numbers may lie above the true one [Gcycle/s]."""
        return len(self.delay_s) * 2.0 ** -(FRACTION_BITS + 1)

    def _explore(self) -> Protocol[None]:
        even = self.probes - self.probes // 2
        for part in np.arange(1, even + 1) / even:
            yield from self.post(np.full(self._n_servers, part * self.ceiling))
        for _ in range(self.probes // 2):
            yield from self.post(self.posted.widest())

    def _answers(self) -> Answers:
        prices, offers = self.posted.prices / self.ceiling, self.posted.offers / np.maximum(self.posted.most, 1e-9)
        return Answers(torch.tensor(prices, dtype=torch.float32), torch.tensor(offers, dtype=torch.float32))

    def _refit(self, networks: SupplyNetworks) -> None:
        fit(networks, [self._answers()] * self.supply_steps)

    def _ascend(self, networks: SupplyNetworks, steps: int = 150, starts: int = 32) -> Servers:
        """Prices by gradient ascent on the predicted revenue `V(S(r)) - r S(r)`, from several starts."""
        generator = torch.Generator().manual_seed(self.seed)
        raw = torch.randn(starts, self._n_servers, generator=generator).requires_grad_()
        classes = torch.as_tensor(self.classes, dtype=torch.float32).expand(starts, -1, -1)
        most = torch.as_tensor(self.posted.most, dtype=torch.float32)
        optimiser = torch.optim.Adam([raw], 0.05)

        def revenue() -> torch.Tensor:
            price = raw.sigmoid()
            bought = networks(price).clamp_min(0.0) * most
            return self.value(classes, bought) - self.ceiling * (price * bought).sum(-1)

        for _ in range(steps):
            optimiser.zero_grad()
            (-revenue().sum()).backward()
            optimiser.step()
        with torch.no_grad():
            return self.ceiling * raw[revenue().argmax()].sigmoid().double().numpy()

    def _tariffs(self, networks: SupplyNetworks) -> list[Tariff]:
        """Every server's tariff, by the supply that its network predicts."""
        prices = np.linspace(0.0, 1.0, _GRID)
        with torch.no_grad():
            grid = torch.tensor(prices, dtype=torch.float32)[:, None].expand(-1, self._n_servers)
            believed = networks(grid).double().numpy() * self.posted.most
        return [self.posted.tariff(m, prices * self.ceiling, believed[:, m]) for m in range(self._n_servers)]

    def _bargain(self, turn: int, tariffs: list[Tariff]) -> Protocol[list[Settled]]:
        """Bargains with all servers, and with some closed: a move of one application cannot empty a server."""
        generator = np.random.default_rng((self.seed, turn))
        closed = Tariff(np.zeros(2), np.zeros(2))
        settled = []
        for k in range(self.bargains):
            open_to_all = np.ones(self._n_servers, bool)
            if k % 4 == 3 and self._n_servers > 1:
                open_to_all[generator.integers(self._n_servers)] = False
            offered = [one if is_open else closed for one, is_open in zip(tariffs, open_to_all, strict=True)]
            settled.append((yield from self._settle(f"bargain {turn}.{k}", offered)))
        return settled

    def _settle(self, name: str, tariffs: list[Tariff]) -> Protocol[Settled]:
        yield [(f"server {m}", one) for m, one in enumerate(tariffs)]
        yield self._to_applications(lambda _: Bargain(name))
        sums = yield from self._sum(name)
        return Settled(name, float(sums[0]), np.maximum(sums[1:], 0.0))

    def _expected(self, settled: Settled, tariffs: list[Tariff]) -> float:
        pairs = zip(settled.used, tariffs, strict=True)
        return settled.worth - sum(float(np.interp(f, one.capacity, one.payment)) for f, one in pairs if f > 0)

    def _meet(self, used: Servers, tries: int = 6) -> Protocol[tuple[Servers, Servers]]:
        """The lowest prices found at which every server offers at least `used`, and its offers there."""
        wanted = np.maximum(used - self._rounding, 0.0)
        for _ in range(tries):
            yield from self.post(self.posted.approach(wanted))
        return self.posted.cheapest(wanted)

    def _close(self, bargain: str, prices: Servers, earned: float) -> Protocol[dict[str, float]]:
        yield from self.post(prices)
        yield self._to_applications(lambda _: Keep(bargain))
        return {"probes": float(len(self.posted)), "reports": float(self.reports), "expected": earned}

    def _sum(
        self, report: str, groups: tuple[int, ...] = (), members: tuple[int, ...] = ()
    ) -> Protocol[Float[np.ndarray, " numbers"]]:
        """Collect a masked report from all applications, and return the sum."""
        self.reports += 1
        answers = yield self._to_applications(lambda _: Ask(report, groups, members))
        reports: list[UInt64[np.ndarray, " numbers"]] = [_expect(answer, Masked).values for answer in answers]
        return decode(total(reports))

    def _to_applications(self, message: Callable[[int], Message]) -> Outgoing:
        return [(f"application {n}", message(n)) for n in range(len(self.delay_s))]


def merge(counts: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Join neighbouring bands to classes of two or more: each band's class, each class's size; empty if too few."""
    groups, members = [], [0]
    for count in counts:
        if members[-1] >= 2:
            members.append(0)
        groups.append(len(members) - 1)
        members[-1] += count
    if members[-1] < 2:
        if len(members) == 1:
            return (), ()
        last = members.pop()
        members[-1] += last
        groups = [min(group, len(members) - 1) for group in groups]
    return tuple(groups), tuple(members)


def _expect(answer: Message, kind: type[Kind]) -> Kind:
    if not isinstance(answer, kind):
        raise TypeError(f"the platform asked for a {kind.__name__} and got a {type(answer).__name__}")
    return answer
