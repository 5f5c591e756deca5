"""Regions as parties of the market: their rented VMs are servers, their users' tasks are applications."""

from dataclasses import dataclass
from statistics import fmean

import numpy as np
import polars
import torch

from sliceoff.checks import between, fraction
from sliceoff.errors import InputError
from sliceoff.market.scenario import MOST, MarketScenario
from sliceoff.region import Scenario
from sliceoff.slicing import Offers

_GIGA = 1e9


@dataclass(frozen=True, eq=False)
class RegionMarket:
    """One market per long slot of Algorithm 1, in which every region may run its tasks on any region's slice.

    Region m's server has the VMs that the slicer rented, with a cost function fitted to the price list. Region n's
    application submits one task per forecast user and short slot, and prepays the mean revenue of a task done in time.
    Tasks are uploaded in their own region, which takes `kappa` of the deadline; execution and the delay between regions
    share the rest.

    Args:
        table: `sliceoff.loop.Simulation.table` of one stack.
        scenario: constants and prices of a region.
        offers: the price list; prices of VMs must be `p v + q v^2` with q above 0.
        kappa: part of the deadline for the upload, 0 to 1.
        home_delay_s, away_delay_s: delay tau [s] between a region and its own server, and any other server.
        least_profit: U_min [market money/s].
        market_money: market money per unit of the loop's, in which a task costs thousandths: masked sums need about 1.

    Raises:
        InputError: an option is out of range, or the price list has a discount.
    """

    table: polars.DataFrame
    scenario: Scenario
    offers: Offers
    kappa: float = 0.5
    home_delay_s: float = 0.0
    away_delay_s: float = 0.02
    least_profit: float = 0.0
    market_money: float = 1000.0

    def __post_init__(self) -> None:
        fraction("kappa", self.kappa)
        between("market_money", self.market_money, 1e-9, 10**9)
        for name in ("home_delay_s", "away_delay_s", "least_profit"):
            between(name, getattr(self, name), 0, MOST)
        if (self._vm_prices[:, 1] <= 0).any():
            raise InputError("the market needs VM prices that rise faster than their number; choose offers=rising")

    def draw(self, number: int) -> MarketScenario:
        """The market of the table's long slot `number`, counted from 0."""
        rows = self.table.filter(polars.col("period") == polars.col("period").min() + number)
        if rows.is_empty():
            raise InputError(f"market {number}: only {self.table['period'].n_unique()} long slots were simulated")
        regions, scenario = len(rows), self.scenario
        work = fmean(scenario.data_bits) * fmean(scenario.cycles_per_bit) / _GIGA
        speed = scenario.vm_hz / _GIGA
        linear, quadratic = self._vm_prices.T * self.market_money / self.offers.long_slot_s
        return MarketScenario(
            arrivals=rows["users_forecast"].to_numpy().clip(0).astype(float) / scenario.short_slot_s,
            work=np.full(regions, work),
            deadline_s=np.full(regions, (1 - self.kappa) * scenario.deadline_s),
            value=np.full(regions, self.market_money * scenario.price * fmean(scenario.priorities) / work),
            capacity=rows["n_vms"].to_numpy() * speed,
            linear_cost=linear / speed,
            quadratic_cost=quadratic / speed**2,
            delay_s=np.where(np.eye(regions, dtype=bool), self.home_delay_s, self.away_delay_s),
            least_profit=self.least_profit,
        )

    @property
    def _vm_prices(self) -> np.ndarray:
        """p, q of every region's `p v + q v^2` [money per long slot], by least squares: (regions, 2)."""
        vms = self.offers.n_vms.double()
        powers = torch.stack([vms, vms.square()], -1)
        return torch.linalg.lstsq(powers, self.offers.vm_price[..., None]).solution[..., 0].numpy()
