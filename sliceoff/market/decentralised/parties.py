"""Applications and edge servers, which keep their facts private. Each acts on messages only."""

from collections.abc import Mapping, Sequence
from functools import partial
from math import inf

import numpy as np
from jaxtyping import Float

from sliceoff.market.decentralised.masking import Masks, Noise, add, encode, noise_share
from sliceoff.market.decentralised.messages import (
    Ask,
    Grant,
    Keep,
    Masked,
    Offer,
    Price,
    PublicKey,
    Quote,
    Request,
    Roll,
    Tariff,
)
from sliceoff.market.scenario import overhead
from sliceoff.market.servers import sold

_PARTS = np.linspace(0.0, 1.0, 17)[1:]
_STEPS = 25


class Application:
    """An application's side of the protocol.

    Args:
        arrivals, work, deadline_s, value, miss_probability: its facts, as in `MarketScenario`.
        servers: how many there are.
        bands: upper edges of the public bands of value [money/Gcycle]; the last band is open.
        noise: on its reports; None for exact sums.
        seed: of its bargaining.
    """

    def __init__(
        self,
        arrivals: float,
        work: float,
        deadline_s: float,
        value: float,
        miss_probability: float | None,
        servers: int,
        bands: Sequence[float],
        noise: Noise | None,
        seed: int | Sequence[int],
    ):
        self._load, self._work, self._deadline_s, self._value = arrivals * work, work, deadline_s, value
        self._miss_probability = miss_probability
        self._bands, self._noise = tuple(bands), noise
        self._masks = Masks()
        self._generator = np.random.default_rng(seed)
        self._secret = np.random.default_rng()  # noise from a seed known to others would hide nothing
        self._parties = 0
        self._overhead: Float[np.ndarray, " servers"] = np.full(servers, inf)
        self._allotted: Float[np.ndarray, " servers"] = np.zeros(servers)
        self._bargains: dict[str, Float[np.ndarray, " servers"]] = {}

    def enrol(self, roll: Roll) -> None:
        """Agree on masks with the others; compute h_nm of (B1), inf for servers too far away."""
        self._masks.agree(roll.keys)
        self._parties = len(roll.keys)
        self._overhead = overhead(self._work, self._deadline_s - roll.delay_s, self._miss_probability)
        if self._load <= 0:
            self._overhead[:] = inf

    def answer(self, ask: Ask) -> PublicKey | Masked:
        """The public key, or a masked report.

        Raises:
            ValueError: the sum would be over fewer than two applications.
        """
        if ask.report == "key":
            return PublicKey(self._masks.public)
        if ask.report == "counts":
            count = len(self._bands) + 1
            return self._masked(ask.report, np.eye(count)[self._band], ["member"] * count, touched=1)
        if ask.report == "classes":
            if min(ask.members) < 2:
                raise ValueError("a class of fewer than two applications: its sums would be somebody's facts")
            reachable = np.isfinite(self._overhead)
            load = self._load if reachable.any() else 0.0
            overhead = float(self._overhead[reachable].mean()) if reachable.any() else 0.0
            sums = np.zeros((len(ask.members), 3))
            sums[ask.groups[self._band]] = load, overhead, self._value * load
            return self._masked(ask.report, sums.reshape(-1), ["load", "overhead", "worth"] * len(sums), touched=3)
        allotted = self._bargains[ask.report]
        used = np.array([self._value * self._work_done(allotted).sum(), *allotted])
        return self._masked(ask.report, used, ["worth"] + ["allotted"] * len(allotted), touched=len(used))

    def begin(self) -> None:
        """Start a bargain with nothing reserved."""
        self._allotted = np.zeros_like(self._overhead)

    def end(self, bargain: str) -> None:
        """Store the current reservations as the result of this bargain."""
        self._bargains[bargain] = self._allotted

    def keep(self, keep: Keep) -> None:
        """Reserve what the bargain named in `keep` ended with; without a name, release everything."""
        self._allotted = self._bargains[keep.bargain] if keep.bargain else np.zeros_like(self._overhead)

    def accept(self, server: int, grant: Grant) -> None:
        """Use the capacity granted; it counts as 0 if it does not exceed the overhead of a queue."""
        self._allotted[server] = grant.capacity if grant.capacity > self._overhead[server] else 0.0

    @property
    def reachable(self) -> list[int]:
        """Servers that can meet the deadline."""
        return [int(m) for m in np.flatnonzero(np.isfinite(self._overhead))]

    @property
    def allotted(self) -> Float[np.ndarray, " servers"]:
        """f_nm, the capacity reserved at every server [Gcycle/s]."""
        return self._allotted

    def choose(self, quotes: Mapping[int, Quote], temperature: float) -> None:
        """Replace all reservations by a noisy best response to what every reachable server would charge.

        An application's gain is `v_n w` less the rise of the tariff, by which the platform's revenue changes as well:
        that revenue is the game's potential, and noise that falls to 0 leads to high values of it (log-linear learning,
        Blume 1993; Marden & Shamma 2012). Work that one server does not take goes to the next.

        Args:
            temperature: of the noise, relative to the worth of the application's whole work.
        """
        noise = temperature * self._value * self._load
        self._allotted = np.zeros_like(self._overhead)
        left, open_to_it = self._load, dict(quotes)
        while open_to_it and left > 1e-9 * self._load:
            best, place, taken = noise * self._generator.gumbel(), -1, 0.0
            for m, quote in open_to_it.items():
                room = float(quote.extra[-1]) - self._overhead[m]
                if room <= 0:
                    continue
                work = np.minimum(np.append(_PARTS * left, min(left, room)), room)
                gain = self._value * work - np.interp(work + self._overhead[m], quote.extra, quote.payment)
                pick = int(gain.argmax())
                if (draw := gain[pick] + noise * self._generator.gumbel()) > best:
                    best, place, taken = draw, m, float(work[pick])
            if place < 0:
                return
            self._allotted[place] = taken + self._overhead[place]
            left -= taken
            del open_to_it[place]

    @property
    def dispatch(self) -> Float[np.ndarray, " servers"]:
        """w_nm, the work sent to every server [Gcycle/s]."""
        return self._work_done(self._allotted)

    @property
    def _band(self) -> int:
        return int(np.searchsorted(self._bands, self._value))

    def _work_done(self, allotted: Float[np.ndarray, " servers"]) -> Float[np.ndarray, " servers"]:
        return np.where(allotted > 0, allotted - np.where(allotted > 0, self._overhead, 0.0), 0.0)

    def _masked(self, report: str, values: Float[np.ndarray, " numbers"], kinds: Sequence[str], touched: int) -> Masked:
        """Encode a report, add this application's share of the noise, and mask it.

        Args:
            kinds: which bound of `Noise` each number has.
            touched: how many of the numbers one application can change.
        """
        if self._noise is not None:
            bounds = np.array([getattr(self._noise, name) for name in kinds])
            shares = noise_share(self._secret, self._noise.epsilon, bounds * touched, self._parties)
            return Masked(report, self._masks.cover(add(encode(np.minimum(values, bounds)), shares), report))
        return Masked(report, self._masks.cover(encode(values), report))


class EdgeServer:
    """A server's side of the protocol.

    Args:
        capacity, linear_cost, quadratic_cost, least_profit: its facts, as in `MarketScenario`.
    """

    def __init__(self, capacity: float, linear_cost: float, quadratic_cost: float, least_profit: float):
        self._capacity = capacity
        self._offer = partial(sold, linear_cost, quadratic_cost, capacity, least_profit)
        self._sold, self._paid = 0.0, 0.0
        self._tariff = Tariff(np.zeros(2), np.zeros(2))
        self._tenants: dict[int, float] = {}

    def answer(self, price: Price) -> Offer:
        """Offer S(r), the quantity that earns most at this price; 0 if that earns less than U_min."""
        self._sold = float(self._offer(price.price))
        self._paid = price.price * self._sold
        return Offer(self._sold)

    def listen(self, tariff: Tariff) -> None:
        """Store the tariff of the next bargain, and end all tenancies."""
        self._tariff = tariff
        self.vacate()

    def quote(self, application: int) -> Quote:
        """What extra capacity would add to the tariff, given the other tenants' reservations."""
        taken = sum((allotted for tenant, allotted in self._tenants.items() if tenant != application), 0.0)
        room = max(0.0, min(self._capacity, float(self._tariff.capacity[-1])) - taken)
        extra = np.linspace(0.0, room, _STEPS)
        return Quote(extra, self._charged(taken + extra) - self._charged(np.array([taken])))

    def reserve(self, application: int, request: Request) -> None:
        """Reserve f_nm for an application; 0 ends its tenancy."""
        self._tenants.pop(application, None)
        if request.capacity > 0:
            self._tenants[application] = request.capacity

    def vacate(self) -> None:
        """End all tenancies, which releases all reserved capacity."""
        self._tenants = {}

    def grants(self) -> dict[int, Grant]:
        """Every tenant's part of the capacity sold: its reservation, scaled down if the sum of all exceeds that."""
        reserved = sum(self._tenants.values())
        share = min(1.0, self._sold / reserved) if reserved > 0 else 0.0
        return {tenant: Grant(share * capacity) for tenant, capacity in self._tenants.items()}

    @property
    def deal(self) -> tuple[float, float]:
        """What it sold at the last price [Gcycle/s], and for how much [money/s]."""
        return self._sold, self._paid

    def _charged(self, capacity: Float[np.ndarray, " steps"]) -> Float[np.ndarray, " steps"]:
        """The tariff's payment for a capacity; 0 for 0."""
        charged = np.interp(capacity, self._tariff.capacity, self._tariff.payment)
        return np.where(capacity > 0, charged, 0.0)
