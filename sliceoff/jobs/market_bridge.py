"""`job=market_bridge`: run Algorithm 1, then clear every long slot's market of regions by every mechanism."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import polars

from sliceoff.checks import count
from sliceoff.errors import InputError
from sliceoff.jobs.market import Market
from sliceoff.loop import simulate
from sliceoff.market.bridge import RegionMarket
from sliceoff.run_directory import Results, RunDirectory

if TYPE_CHECKING:
    from sliceoff.run import Parts


@dataclass(frozen=True)
class MarketBridge:
    """Predict and slice the first long slots of the held-out end, then let regions trade their slices.

    Args:
        market: the market job, whose `scenarios` long slots from `first` on are cleared; its family is not used.
        regions: makes the market of a simulated table, region scenario and offers.
        slots_per_period: short slots simulated per long slot; the slicer learns from their tasks.

    Raises:
        InputError: slots_per_period below one, or fewer long slots than asked for.
    """

    name: str
    market: Market
    regions: Callable[..., RegionMarket]
    slots_per_period: int = 20

    def __post_init__(self) -> None:
        count("job.slots_per_period", self.slots_per_period)
        if self.market.scenario is not None:
            raise InputError("job.market.scenario: the regions are the market here; job=market clears that of a file")
        if not callable(self.regions):
            raise InputError(f"job.regions={self.regions!r} makes no market of regions; leave it as it is")

    def __call__(self, parts: "Parts", directory: RunDirectory) -> Results:
        """Run; returns what the market job returns, and leaves the loop's table as `slices.parquet`."""
        parts.init_serves("predictor", "allocator")
        windows, _ = parts.datamodule, parts.stacks  # builds everything before anything is fitted
        periods = range(windows.heldout_start, windows.heldout_start + self.market.first + self.market.scenarios)
        if periods.stop > windows.heldout_end:
            raise InputError(
                f"job.market.first + scenarios = {len(periods)} long slots, but the held-out end has "
                f"{windows.heldout_end - windows.heldout_start}"
            )
        # Without a table yet: its options are checked before anything is fitted.
        family = self.regions(table=polars.DataFrame(), scenario=parts.scenario, offers=parts.offers)
        parts.fit_missing(directory)
        table = simulate(
            parts.stacks[0],
            windows,
            parts.scenario,
            unit_users=parts.users_per_unit,
            periods=periods,
            slots_per_period=self.slots_per_period,
            seed=parts.seed,
        )
        table.write_parquet(directory.path / "slices.parquet")
        return replace(self.market, family=replace(family, table=table)).clear(directory)
