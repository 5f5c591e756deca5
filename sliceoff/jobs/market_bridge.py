"""`job=market_bridge`: run Algorithm 1, then clear every long slot's market of regions by every mechanism."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import polars

from sliceoff.checks import count
from sliceoff.errors import InputError, OptionError, under
from sliceoff.jobs.market import Clearing
from sliceoff.loop import Forecasts, Simulation
from sliceoff.market.checks import role
from sliceoff.market.family import Markets
from sliceoff.parts import Parts
from sliceoff.run_directory import Results, RunDirectory


@dataclass(frozen=True, kw_only=True)
class MarketBridge(Clearing):
    """Predict and slice the first long slots of the held-out end, then let regions trade their slices.

    Args:
        regions: makes markets from a simulation's table, a region scenario and offers, one per long slot.
        slots_per_period: short slots simulated per long slot; the slicer learns from their tasks.
        name, mechanisms, scenarios, first, simulated_tasks: as in `Clearing`.

    Raises:
        InputError: as `Clearing`; or slots_per_period is below one, `regions` takes other arguments, or the held-out
            end has fewer long slots than asked for.
    """

    regions: Callable[..., Markets]
    scenarios: int = 24
    slots_per_period: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        count("slots_per_period", self.slots_per_period)
        try:
            inspect.signature(self.regions).bind(table=None, scenario=None, offers=None)
        except (TypeError, ValueError) as error:
            raise OptionError(
                "regions",
                " makes no markets of a table, scenario and offers, as sliceoff.market.bridge.RegionMarket "
                "does; leave its _target_ and _partial_ as they are",
            ) from error

    def __call__(self, parts: Parts, directory: RunDirectory) -> Results:
        """Run; returns what `clear` does, and writes the loop's table to `slices.parquet`."""
        parts.init_serves("predictor", "allocator")
        parts.check_simulation(self.slots_per_period)
        windows = parts.datamodule
        numbers = range(self.first, self.first + self.scenarios)
        periods = range(windows.heldout_start, windows.heldout_start + numbers.stop)
        if periods.stop > windows.heldout_end:
            raise InputError(
                f"job.first + job.scenarios = {numbers.stop} long slots, but the held-out end has "
                f"{windows.heldout_end - windows.heldout_start}; lower one of them"
            )
        # With an empty table, to check the options before anything is fitted.
        self._markets(polars.DataFrame(), parts)
        parts.fit_missing(directory)
        table = Simulation(
            parts.main_stack(),
            Forecasts(parts.forecaster, windows),
            parts.scenario,
            unit_users=parts.users_per_unit,
            periods=periods,
            slots_per_period=self.slots_per_period,
            seed=parts.seed,
        ).run()
        directory.write_table("slices.parquet", table)
        return self.clear(self._markets(table, parts), numbers, directory)

    def _markets(self, table: polars.DataFrame, parts: Parts) -> Markets:
        with under("job.regions"):
            made = self.regions(table=table, scenario=parts.scenario, offers=parts.offers)
        return role("job.regions", made, Markets)
