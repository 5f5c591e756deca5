"""Renting as a choice problem: prices and demands in, blocks and rows out."""

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
"""Solvers' tolerances are absolute; in MHz, VMs and money all numbers have about the same size."""


@runtime_checkable
class Problem(Protocol):
    """One period's renting, whatever its options are."""

    def choice_problem(self) -> ChoiceProblem:
        """The problem in binaries. What an option leaves uncovered is in its cost."""
        ...

    def falls_short(self) -> tuple[np.ndarray, ...]:
        """Whether an option is below what its region needs: (regions, options) per block."""
        ...

    def uncovered(self, choice: Choice) -> Bool[Tensor, " regions"]:
        """Whether a region's options are below what it asked for, be that more than any option has."""
        ...

    def offers_of(self, choice: Choice) -> tuple[Int[Tensor, " regions"], Int[Tensor, " regions"]]:
        """The bandwidth and VM offers chosen."""
        ...

    def without_aggregate(self) -> "Problem | None":
        """The same, its aggregate rows switched off (they stay, but hold always); None where it has none."""
        ...


@dataclass(frozen=True)
class RentProblem:
    """Renting with separate demands for bandwidth and VMs (fixed kappa): two blocks, in MHz and VMs.

    Args:
        offers: what can be rented.
        prices: per block (regions, options), with the price of a change [money per long slot].
        asked: per block (regions,), the right-hand sides of (17) [MHz, VMs].
        users: (regions,), whom the demand serves.
        aggregate_margin: if given, the rented totals must also exceed the total demand by this part of it.
    """

    offers: Offers
    prices: tuple[np.ndarray, np.ndarray]
    asked: tuple[np.ndarray, np.ndarray]
    users: Float[np.ndarray, " regions"]
    aggregate_margin: Number | None = None

    @property
    def sizes(self) -> tuple[Float[np.ndarray, "regions bandwidth_offers"], Float[np.ndarray, "regions vm_offers"]]:
        """What the options hold [MHz, VMs]."""
        return self.offers.bandwidth_hz.numpy() / MHZ, self.offers.n_vms.double().numpy()

    @property
    def demands(self) -> tuple[Float[np.ndarray, " regions"], Float[np.ndarray, " regions"]]:
        """The demands that the offers can meet: at most the largest offer."""
        bandwidth, vms = (np.minimum(asked, size[:, -1]) for asked, size in zip(self.asked, self.sizes, strict=True))
        return bandwidth, vms

    @property
    def penalties(self) -> tuple[np.ndarray, np.ndarray]:
        """Money per MHz and per VM of shortfall, (regions,) each; see `dearest`."""
        bandwidth, vms = (dearest(self.prices) * self.users / np.maximum(demand, 1e-9) for demand in self.demands)
        return bandwidth, vms

    def choice_problem(self) -> ChoiceProblem:
        """Binary form: the shortfall of an option is in its cost, which says the same as rows (17)."""
        linear, most, blocks = self.linear_problem(), dearest(self.prices), []
        tables = zip(linear.blocks, self.sizes, self.demands, self.penalties, self.falls_short(), strict=True)
        for block, size, demand, penalty, short in tables:
            missing = np.maximum(demand[:, None] - size, 0)
            blocks.append(Block(block.cost + penalty[:, None] * missing + most * short, block.use))
        return ChoiceProblem(blocks, linear.limits)

    def linear_problem(self) -> ChoiceProblem:
        """Prices alone, for the program (18), which has the demands as rows."""
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
        """An option of less than the demand."""
        return tuple(
            size < demand[:, None] * (1 - 1e-12) for size, demand in zip(self.sizes, self.demands, strict=True)
        )

    def uncovered(self, choice: Choice) -> Bool[Tensor, " regions"]:
        """As `Problem.uncovered`."""
        bandwidth, vms = (
            take(size, index) < asked * (1 - 1e-9)
            for size, index, asked in zip(self.sizes, choice, self.asked, strict=True)
        )
        return torch.from_numpy(bandwidth | vms)

    def offers_of(self, choice: Choice) -> tuple[Int[Tensor, " regions"], Int[Tensor, " regions"]]:
        """One block is bandwidth, one VMs."""
        bandwidth, vms = (torch.from_numpy(np.ascontiguousarray(index)).long() for index in choice)
        return bandwidth, vms

    def without_aggregate(self) -> "RentProblem | None":
        """As `Problem.without_aggregate`."""
        return None if self.aggregate_margin is None else replace(self, aggregate_margin=-1)


@dataclass(frozen=True)
class PairProblem:
    """Renting pairs of offers: one block, its options (bandwidth offer, VM offer), the VM offer running fastest.

    A pair takes the place of the printed `alpha_i^k + beta_i^m <= 1` for pairs that cannot meet the deadline together:
    a variable per pair needs no such rows, and its relaxation is tighter.

    Args:
        offers: what can be rented.
        cost: (regions, bandwidth_offers, vm_offers), what is to be made small [money per long slot].
        capacity: (regions, bandwidth_offers, vm_offers), users whom a pair serves.
        users: (regions,), whom it should serve.
    """

    offers: Offers
    cost: Float[np.ndarray, "regions bandwidth_offers vm_offers"]
    capacity: Float[np.ndarray, "regions bandwidth_offers vm_offers"]
    users: Float[np.ndarray, " regions"]

    @classmethod
    def most(cls, offers: Offers, profit: Float[np.ndarray, "regions bandwidth_offers vm_offers"]) -> "PairProblem":
        """The pairs with the highest profit, whomever they serve."""
        return cls(offers, -profit, np.zeros_like(profit), np.zeros(len(profit)))

    def choice_problem(self) -> ChoiceProblem:
        """As `Problem.choice_problem`."""
        regions = len(self.cost)
        uses, limits = coupling(self.offers)
        rows = [(bandwidth[:, :, None] + vm[:, None, :]).reshape(regions, -1) for bandwidth, vm in uses]
        use = np.stack(rows) if rows else np.zeros((0, regions, self.cost[0].size))
        return ChoiceProblem([Block(self.cost.reshape(regions, -1), use)], np.array(limits))

    def falls_short(self) -> tuple[np.ndarray, ...]:
        """A pair of less capacity than the users, or than the largest pair where there are more."""
        reach = np.minimum(self.users, self.capacity.max((1, 2)))
        return ((self.capacity < (reach * (1 - 1e-9))[:, None, None]).reshape(len(reach), -1),)

    def uncovered(self, choice: Choice) -> Bool[Tensor, " regions"]:
        """As `Problem.uncovered`."""
        capacity = take(self.capacity.reshape(len(self.users), -1), choice[0])
        return torch.from_numpy(np.asarray(capacity < self.users * (1 - 1e-9)))

    def offers_of(self, choice: Choice) -> tuple[Int[Tensor, " regions"], Int[Tensor, " regions"]]:
        """A pair's two offers."""
        bandwidth, vms = np.divmod(np.asarray(choice[0], dtype=np.int64), self.cost.shape[2])
        return torch.from_numpy(bandwidth), torch.from_numpy(vms)

    def without_aggregate(self) -> None:
        """It has no aggregate rows."""


def dearest(prices: tuple[np.ndarray, np.ndarray]) -> float:
    """What the dearest slice costs [money per long slot].

    One uncovered user costs as much, and every uncovered demand as much again: coverage is given up only where the rows
    force it, and then by users.
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
    """The first option everywhere, the smallest offers, which the offers' own limits allow (`Offers` checks it)."""
    return tuple(np.zeros(len(block.cost), dtype=np.int64) for block in problem.blocks)
