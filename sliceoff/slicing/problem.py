"""Renting as a `ChoiceProblem`: from prices and demands to blocks and rows."""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sliceoff.checks import Number
from sliceoff.slicing.choice import Block, Choice, ChoiceProblem, take
from sliceoff.slicing.offers import Offers

MHZ = 1e6
"""Hz per MHz. Solvers' tolerances are absolute; in MHz, VMs and money all numbers are of similar size."""


@runtime_checkable
class Problem(Protocol):
    """The renting problem of one long slot; its options may be single offers or pairs."""

    def choice_problem(self) -> ChoiceProblem:
        """The binary problem. The penalty for demand that an option leaves uncovered is in its cost."""
        ...

    def falls_short(self) -> tuple[np.ndarray, ...]:
        """Whether an option is below what its region needs, or than its largest option if it needs more, per block."""
        ...

    def uncovered(self, choice: Choice) -> Bool[Tensor, " regions"]:
        """Whether a region's chosen options are below what it needs, even if that is more than any option has."""
        ...

    def offers_of(self, choice: Choice) -> tuple[Int[Tensor, " regions"], Int[Tensor, " regions"]]:
        """The indices of the bandwidth and VM offers that a choice means."""
        ...

    def without_aggregate(self) -> "Problem | None":
        """The same problem with its aggregate rows relaxed (kept, but never binding); None if it has none."""
        ...


@dataclass(frozen=True)
class RentProblem:
    """Renting with separate demands for bandwidth and VMs (fixed kappa): two blocks, in MHz and VMs.

    Args:
        offers: what can be rented.
        prices: per block (regions, options), with the price of a change [money per long slot].
        asked: per block (regions,), the right-hand sides of (17) [MHz, VMs].
        users: (regions,), the number of users behind the demand.
        aggregate_margin: if given, the rented totals must also exceed the total demand by this share of it.
    """

    offers: Offers
    prices: tuple[np.ndarray, np.ndarray]
    asked: tuple[np.ndarray, np.ndarray]
    users: Float[np.ndarray, " regions"]
    aggregate_margin: Number | None = None

    @property
    def sizes(self) -> tuple[Float[np.ndarray, "regions bandwidth_offers"], Float[np.ndarray, "regions vm_offers"]]:
        """The sizes of the options [MHz, VMs]."""
        return self.offers.bandwidth_hz.numpy() / MHZ, self.offers.n_vms.double().numpy()

    @property
    def demands(self) -> tuple[Float[np.ndarray, " regions"], Float[np.ndarray, " regions"]]:
        """The demands, limited to the largest offer."""
        bandwidth, vms = (np.minimum(asked, size[:, -1]) for asked, size in zip(self.asked, self.sizes, strict=True))
        return bandwidth, vms

    @property
    def penalties(self) -> tuple[np.ndarray, np.ndarray]:
        """The penalty per MHz and per VM of shortfall [money], (regions,) each; see `dearest`."""
        bandwidth, vms = (dearest(self.prices) * self.users / np.maximum(demand, 1e-9) for demand in self.demands)
        return bandwidth, vms

    def choice_problem(self) -> ChoiceProblem:
        """Binary form: an option's shortfall is in its cost, which is equivalent to the rows (17)."""
        linear, most, blocks = self.linear_problem(), dearest(self.prices), []
        tables = zip(linear.blocks, self.sizes, self.demands, self.penalties, self.falls_short(), strict=True)
        for block, size, demand, penalty, short in tables:
            missing = np.maximum(demand[:, None] - size, 0)
            blocks.append(Block(block.cost + penalty[:, None] * missing + most * short, block.use))
        return ChoiceProblem(blocks, linear.limits)

    def linear_problem(self) -> ChoiceProblem:
        """The problem with prices only, for the program (18), which has the demands as rows."""
        uses, limits = coupling(self.offers)
        if self.aggregate_margin is not None:
            bandwidth, vms = self.sizes
            uses += [(-bandwidth, np.zeros_like(vms)), (np.zeros_like(bandwidth), -vms)]
            limits += [
                -min((1 + self.aggregate_margin) * demand.sum(), size[:, -1].sum())
                for demand, size in zip(self.demands, self.sizes, strict=True)
            ]
        blocks = []
        for place, price in enumerate(self.prices):
            rows = [use[place] for use in uses]
            blocks.append(Block(price, np.stack(rows) if rows else np.zeros((0, *price.shape))))
        return ChoiceProblem(blocks, np.array(limits))

    def falls_short(self) -> tuple[np.ndarray, ...]:
        return tuple(
            size < demand[:, None] * (1 - 1e-12) for size, demand in zip(self.sizes, self.demands, strict=True)
        )

    def uncovered(self, choice: Choice) -> Bool[Tensor, " regions"]:
        bandwidth, vms = (
            take(size, index) < asked * (1 - 1e-9)
            for size, index, asked in zip(self.sizes, choice, self.asked, strict=True)
        )
        return torch.from_numpy(bandwidth | vms)

    def offers_of(self, choice: Choice) -> tuple[Int[Tensor, " regions"], Int[Tensor, " regions"]]:
        bandwidth, vms = (torch.from_numpy(np.ascontiguousarray(index)).long() for index in choice)
        return bandwidth, vms

    def without_aggregate(self) -> "RentProblem | None":
        return None if self.aggregate_margin is None else replace(self, aggregate_margin=-1)


@dataclass(frozen=True)
class PairProblem:
    """Renting pairs of offers: one block, its options (bandwidth offer, VM offer), the VM offer running fastest.

    One variable per pair replaces the paper's rows `alpha_i^k + beta_i^m <= 1` for pairs that cannot meet the deadline
    together, and its relaxation is tighter.

    Args:
        offers: what can be rented.
        cost: (regions, bandwidth_offers, vm_offers), to be minimised [money per long slot].
        capacity: (regions, bandwidth_offers, vm_offers), the number of users that a pair serves.
        users: (regions,), the number of users that it should serve.
    """

    offers: Offers
    cost: Float[np.ndarray, "regions bandwidth_offers vm_offers"]
    capacity: Float[np.ndarray, "regions bandwidth_offers vm_offers"]
    users: Float[np.ndarray, " regions"]

    @classmethod
    def most(cls, offers: Offers, profit: Float[np.ndarray, "regions bandwidth_offers vm_offers"]) -> "PairProblem":
        """The problem of choosing the pairs with the highest profit, without demand to cover."""
        return cls(offers, -profit, np.zeros_like(profit), np.zeros(len(profit)))

    def choice_problem(self) -> ChoiceProblem:
        regions = len(self.cost)
        uses, limits = coupling(self.offers)
        rows = [(bandwidth[:, :, None] + vm[:, None, :]).reshape(regions, -1) for bandwidth, vm in uses]
        use = np.stack(rows) if rows else np.zeros((0, regions, self.cost[0].size))
        return ChoiceProblem([Block(self.cost.reshape(regions, -1), use)], np.array(limits))

    def falls_short(self) -> tuple[np.ndarray, ...]:
        reach = np.minimum(self.users, self.capacity.max((1, 2)))
        return ((self.capacity < (reach * (1 - 1e-9))[:, None, None]).reshape(len(reach), -1),)

    def uncovered(self, choice: Choice) -> Bool[Tensor, " regions"]:
        capacity = take(self.capacity.reshape(len(self.users), -1), choice[0])
        return torch.from_numpy(np.asarray(capacity < self.users * (1 - 1e-9)))

    def offers_of(self, choice: Choice) -> tuple[Int[Tensor, " regions"], Int[Tensor, " regions"]]:
        bandwidth, vms = np.divmod(np.asarray(choice[0], dtype=np.int64), self.cost.shape[2])
        return torch.from_numpy(bandwidth), torch.from_numpy(vms)

    def without_aggregate(self) -> None:
        """It has no aggregate rows."""


def dearest(prices: tuple[np.ndarray, np.ndarray]) -> float:
    """The price of the most expensive slice [money per long slot], the unit of the penalties for uncovered demand.

    It is charged per uncovered user, and once more per demand that is not fully covered: coverage is given up only if
    the rows force it, and then so that the fewest users lose it.
    """
    return float(prices[0].max() + prices[1].max()) or 1.0


def coupling(offers: Offers) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[float]]:
    """The coupling rows in MHz, VMs and money: what every bandwidth and VM offer uses, and the limits."""
    uses, limits = [], []
    for row in offers.rows:
        unit = MHZ if row.name == "bandwidth_inventory_hz" else 1.0
        uses.append((row.bandwidth_use.numpy() / unit, row.vm_use.numpy() / unit))
        limits.append(row.limit / unit)
    return uses, limits


def smallest(problem: ChoiceProblem) -> Choice:
    """The smallest offers (the first option) everywhere, which keep the offers' limits, as `Offers` checks."""
    return tuple(np.zeros(len(block.cost), dtype=np.int64) for block in problem.blocks)
