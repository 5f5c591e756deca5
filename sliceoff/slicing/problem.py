"""Renting as a choice problem: P1.1 with a fixed kappa, prices and demands in, blocks and rows out."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sliceoff.slicing.checks import Number
from sliceoff.slicing.choice import Block, Choice, ChoiceProblem, take
from sliceoff.slicing.demand import Requirement
from sliceoff.slicing.offers import Offers
from sliceoff.slicing.rental import SlicingRequest, offer_costs

# Solvers' tolerances are absolute; in MHz, VMs and money all numbers have about the same size.
_MHZ = 1e6


@dataclass(frozen=True)
class RentProblem:
    """One period's renting with separate demands for bandwidth and VMs: two blocks, in MHz and VMs.

    Args:
        offers: what can be rented.
        sizes: per block (regions, options) [MHz, VMs].
        prices: per block (regions, options), with the price of a change [money per long slot].
        asked: per block (regions,), the right-hand sides of (17) [MHz, VMs].
        users: (regions,), whom the demand serves.
        aggregate_margin: if given, the rented totals must also exceed the total demand by this part of it.
    """

    offers: Offers
    sizes: tuple[np.ndarray, np.ndarray]
    prices: tuple[np.ndarray, np.ndarray]
    asked: tuple[np.ndarray, np.ndarray]
    users: Float[np.ndarray, " regions"]
    aggregate_margin: Number | None = None

    @property
    def demands(self) -> tuple[np.ndarray, np.ndarray]:
        """The demands that the offers can meet: at most the largest offer."""
        return tuple(np.minimum(asked, size[:, -1]) for asked, size in zip(self.asked, self.sizes, strict=True))

    @property
    def dearest(self) -> float:
        """What the dearest slice costs. One uncovered user costs as much, and so does every uncovered demand on top.

        So coverage is given up only where the rows force it, and then by users.
        """
        return float(sum(price.max() for price in self.prices)) or 1.0

    @property
    def penalties(self) -> tuple[np.ndarray, np.ndarray]:
        """Money per MHz and per VM of shortfall, (regions,) each."""
        return tuple(self.dearest * self.users / np.maximum(demand, 1e-9) for demand in self.demands)

    def choice_problem(self) -> ChoiceProblem:
        """Binary form: the shortfall of an offer is in its cost, which says the same as rows (17)."""
        blocks = []
        for place, (size, price, demand, penalty) in enumerate(
            zip(self.sizes, self.prices, self.demands, self.penalties, strict=True)
        ):
            short = np.maximum(demand[:, None] * (1 - 1e-12) - size, 0)
            blocks.append(Block(price + penalty[:, None] * short + self.dearest * (short > 0), self._use(place)))
        return ChoiceProblem(blocks, self._limits())

    def linear_problem(self) -> ChoiceProblem:
        """Prices alone, for the program (18), which has the demands as rows."""
        return ChoiceProblem(
            [Block(price, self._use(place)) for place, price in enumerate(self.prices)], self._limits()
        )

    def without_aggregate(self) -> "RentProblem":
        """The same, the aggregate rows switched off (kept, but slack)."""
        return replace(self, aggregate_margin=None if self.aggregate_margin is None else -1.0)

    def uncovered(self, choice: Choice) -> Bool[Tensor, " regions"]:
        """Whether a region's offers are below what it asked."""
        below = [
            take(size, index) < asked * (1 - 1e-9)
            for size, index, asked in zip(self.sizes, choice, self.asked, strict=True)
        ]
        return torch.from_numpy(below[0] | below[1])

    def smallest(self) -> Choice:
        """The smallest offers everywhere, which every row allows (`Offers` checks it)."""
        return tuple(np.zeros(len(size), dtype=np.int64) for size in self.sizes)

    def _use(self, place: int) -> Float[np.ndarray, "rows regions options"]:
        rows = []
        for row in self.offers.rows:
            use = (row.bandwidth_use, row.vm_use)[place].numpy()
            rows.append(use / _MHZ if row.name == "bandwidth_inventory_hz" else use)
        if self.aggregate_margin is not None:
            rows += [
                -self.sizes[place] if place == resource else np.zeros_like(self.sizes[place]) for resource in (0, 1)
            ]
        return np.stack(rows) if rows else np.zeros((0, *self.sizes[place].shape))

    def _limits(self) -> Float[np.ndarray, " rows"]:
        limits = [row.limit / _MHZ if row.name == "bandwidth_inventory_hz" else row.limit for row in self.offers.rows]
        if self.aggregate_margin is not None:
            limits += [
                -min((1 + self.aggregate_margin) * demand.sum(), size[:, -1].sum())
                for demand, size in zip(self.demands, self.sizes, strict=True)
            ]
        return np.array(limits)


def rent_problem(
    offers: Offers,
    requirement: Requirement,
    users: Float[Tensor, " regions"],
    request: SlicingRequest,
    aggregate_margin: Number | None = None,
) -> RentProblem:
    """The problem of renting for `users` per region and short slot."""
    bandwidth, vms = requirement(users, request.statistics)
    bandwidth_price, vm_price = offer_costs(offers, request.previous)
    return RentProblem(
        offers=offers,
        sizes=(offers.bandwidth_hz.numpy() / _MHZ, offers.n_vms.double().numpy()),
        prices=(bandwidth_price.numpy(), vm_price.numpy()),
        asked=(bandwidth.numpy() / _MHZ, vms.numpy()),
        users=users.double().clamp_min(0).numpy(),
        aggregate_margin=aggregate_margin,
    )


def indices(choice: Choice) -> tuple[Int[Tensor, " regions"], Int[Tensor, " regions"]]:
    """The choice as tensors."""
    bandwidth, vms = choice
    return torch.from_numpy(np.ascontiguousarray(bandwidth)).long(), torch.from_numpy(np.ascontiguousarray(vms)).long()
