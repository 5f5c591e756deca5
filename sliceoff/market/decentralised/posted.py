"""The prices posted so far and the offers at them, and what they imply, since supply rises with the price."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from sliceoff.market.decentralised.messages import Tariff
from sliceoff.market.scenario import Servers

Probes = Float[np.ndarray, "probes servers"]


@dataclass
class Posted:
    """Prices posted [money/Gcycle] and what was offered at them [Gcycle/s], probe by probe."""

    _prices: list[Servers] = field(default_factory=list)
    _offers: list[Servers] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._prices)

    def add(self, prices: Servers, offers: Servers) -> None:
        """Store a probe: one price and one offer per server."""
        self._prices.append(np.asarray(prices, dtype=float))
        self._offers.append(np.asarray(offers, dtype=float))

    @property
    def prices(self) -> Probes:
        """All prices posted so far."""
        return np.array(self._prices)

    @property
    def offers(self) -> Probes:
        """All offers so far."""
        return np.array(self._offers)

    @property
    def most(self) -> Servers:
        """Each server's largest offer so far."""
        return self.offers.max(axis=0)

    def widest(self) -> Servers:
        """For every server, the middle of the neighbouring prices that span the largest area (price times offer)."""
        order = self.prices.argsort(axis=0)
        nothing = np.zeros((1, order.shape[1]))
        prices = np.concatenate([nothing, np.take_along_axis(self.prices, order, 0)])
        offers = np.concatenate([nothing, np.take_along_axis(self.offers, order, 0)])
        place = (np.diff(prices, axis=0) * np.diff(offers, axis=0)).argmax(0)[None]
        return (np.take_along_axis(prices, place, 0) + np.take_along_axis(prices, place + 1, 0))[0] / 2

    def approach(self, wanted: Servers) -> Servers:
        """The next price at which every server may offer `wanted`: regula falsi between the nearest below and above."""
        prices, offers = self.prices, self.offers
        short, enough = offers < wanted, offers >= wanted
        low = np.where(short, prices, 0.0).max(0)
        high = np.where(enough, prices, np.inf).min(0)
        high = np.where(np.isfinite(high), high, 2 * prices.max(0))
        below = np.where(short & (prices == low), offers, 0.0).max(0)
        above = np.where(enough & (prices == high), offers, np.inf).min(0)
        gap = np.where(np.isfinite(above), above - below, 0.0)
        part = np.divide(wanted - below, gap, out=np.full_like(gap, 0.5), where=gap > 1e-12)
        part = np.where(below > 0, part * (1 + 1e-4) + 1e-7, 0.5)  # supply may jump from 0: bisect
        return np.where(wanted > 0, low + (high - low) * np.clip(part, 0.0, 1.0), 0.0)

    def cheapest(self, wanted: Servers) -> tuple[Servers, Servers]:
        """The lowest prices so far at which every server offered `wanted`, and its offers there; 0 for 0."""
        prices = np.where((self.offers >= wanted) & (wanted > 0), self.prices, np.inf)
        probe = prices.argmin(0)[None]
        chosen, offered = (np.take_along_axis(known, probe, 0)[0] for known in (self.prices, self.offers))
        return np.where(wanted > 0, chosen, 0.0), np.where(wanted > 0, offered, 0.0)

    def tariff(self, server: int, prices: Float[np.ndarray, " grid"], believed: Float[np.ndarray, " grid"]) -> Tariff:
        """The predicted cost of every capacity of a server: the price at which it is offered, times the offer there.

        Args:
            prices, believed: a predicted supply curve, clipped to the known offers on either side of a price.
        """
        order = self.prices[:, server].argsort(kind="stable")
        known_prices = self.prices[order, server]
        known_offers = np.maximum.accumulate(self.offers[order, server])
        grid, prices = prices, np.union1d(prices, known_prices)
        after = np.searchsorted(known_prices, prices, side="left")
        before = np.searchsorted(known_prices, prices, side="right") - 1
        floor = np.where(before >= 0, known_offers[np.maximum(before, 0)], 0.0)
        roof = known_offers[np.minimum(after, len(known_offers) - 1)]
        held = np.clip(np.interp(prices, grid, believed), floor, np.maximum(roof, floor))
        supply = np.maximum.accumulate(held)
        wanted = np.linspace(0.0, known_offers[-1], 129)
        first = np.minimum(np.searchsorted(supply, wanted), len(supply) - 1)
        first[0] = first[1]  # the cost of the smallest amount
        return Tariff(wanted, (prices * supply)[first])
