"""Algorithm 1: for every long slot predict, slice, then for every short slot allocate and earn.

Money. A long slot lasts far longer than the short slots simulated in it (an hour against 20 of 0.5 s by default). The
simulated ones are a sample of the long slot: their revenue is scaled up by `long_slot_s / (slots * short_slot_s)`, so
that revenue, rent and profit are all money per long slot.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import polars
import torch
from jaxtyping import Float
from torch import Tensor

from sliceoff.data import TrafficDataModule
from sliceoff.predictor import Forecaster
from sliceoff.region import Allocator, Outcome, RegionEnvironment, RegionState, Scenario, utilisation
from sliceoff.slicing import Rental, Slicer, SlicingRequest, TaskStatistics


@dataclass(frozen=True)
class Stack:
    """One way to run the provider: what predicts, what rents, what allocates."""

    name: str
    forecaster: Forecaster
    slicer: Slicer
    allocator: Allocator


def users_per_unit(train_values: Float[Tensor, "time regions"], mean_users: float) -> float:
    """Users per short slot for one unit of the trace: `mean_users` on average over the training part's regions."""
    return mean_users / float(train_values.double().mean())


def revenue_scale(long_slot_s: float, slots: int, short_slot_s: float) -> float:
    """What a simulated slot's revenue is multiplied by to stand for the whole long slot."""
    return long_slot_s / (slots * short_slot_s)


@dataclass
class Tally:
    """Sums over the short slots of one long slot, one entry per region."""

    revenue: Float[Tensor, " regions"]
    tasks: Float[Tensor, " regions"]
    done: Float[Tensor, " regions"]
    dropped: Float[Tensor, " regions"]
    bandwidth_utilisation: Float[Tensor, " regions"]
    vm_utilisation: Float[Tensor, " regions"]

    @classmethod
    def empty(cls, n_regions: int) -> "Tally":
        """All zero."""
        return cls(*(torch.zeros(n_regions) for _ in dataclasses.fields(cls)))

    def add(self, scenario: Scenario, state: RegionState, outcome: Outcome) -> None:
        """Add one short slot."""
        bandwidth, vms = utilisation(scenario, state, outcome)
        self.revenue += outcome.revenue.sum(-1)
        self.tasks += state.tasks.present.sum(-1)
        self.done += outcome.on_time.sum(-1)
        self.dropped += outcome.dropped.sum(-1)
        self.bandwidth_utilisation += bandwidth
        self.vm_utilisation += vms


def simulate(
    stack: Stack,
    windows: TrafficDataModule,
    scenario: Scenario,
    *,
    unit_users: float,
    periods: range,
    slots_per_period: int,
    seed: int,
    on_period: Callable[[], None] = lambda: None,
) -> polars.DataFrame:
    """Run Algorithm 1 over the long slots `periods` (indices into the trace), all regions in one batch.

    Two stacks simulated with the same `seed` face the same users and tasks, whatever they rent and allocate.

    Args:
        unit_users: users per short slot for one unit of the trace (`users_per_unit`).
        on_period: called after every long slot, for progress.

    Returns:
        One row per long slot and region: `stack, period, time, region`; `users, users_forecast, forecast_error`
        [per short slot]; `bandwidth_hz, n_vms, capacity_users, uncovered, status`; `rent, revenue, profit` [money per
        long slot]; `tasks, done, late, dropped` [in the simulated slots]; `bandwidth_utilisation, vm_utilisation`
        [0-1]; `backlog_s` [s, all VMs together at the long slot's end].
    """
    trace = windows.trace
    n_regions = len(trace.regions)
    users = torch.from_numpy(trace.values).float() * unit_users
    scale = revenue_scale(trace.step_s, slots_per_period, scenario.short_slot_s)
    environment = RegionEnvironment(scenario, mean_users=users[periods.start], n_copies=n_regions, seed=seed)
    statistics = TaskStatistics.prior(scenario, n_regions)
    rental: Rental | None = None
    frames = []
    for period in periods:
        forecast = stack.forecaster.point(windows.history_until(period))[0, 0] * unit_users
        rental = stack.slicer.rent(
            SlicingRequest(
                forecast=forecast, last=users[period - 1], truth=users[period], statistics=statistics, previous=rental
            )
        )
        environment.mean_users = users[period]
        state = environment.rent(rental.bandwidth_hz, rental.n_vms)
        tally = Tally.empty(n_regions)
        for _ in range(slots_per_period):
            served = state
            state, outcome = environment.step(stack.allocator.allocate(scenario, served))
            tally.add(scenario, served, outcome)
            statistics = statistics.updated(scenario, served.tasks)
        revenue = tally.revenue * scale
        columns: dict[str, Tensor] = {
            "users": users[period],
            "users_forecast": forecast,
            "forecast_error": forecast - users[period],
            "bandwidth_hz": rental.bandwidth_hz,
            "n_vms": rental.n_vms,
            "capacity_users": statistics.capacity_users(rental.bandwidth_hz, rental.n_vms, scenario.short_slot_s),
            "uncovered": rental.uncovered,
            "rent": rental.rent,
            "revenue": revenue,
            "profit": revenue - rental.rent,
            "tasks": tally.tasks,
            "done": tally.done,
            "late": tally.tasks - tally.done - tally.dropped,
            "dropped": tally.dropped,
            "bandwidth_utilisation": tally.bandwidth_utilisation / slots_per_period,
            "vm_utilisation": tally.vm_utilisation / slots_per_period,
            "backlog_s": state.backlog_s.sum(-1),
        }
        frames.append(
            polars.DataFrame(
                {"region": list(trace.regions)} | {name: value.numpy() for name, value in columns.items()}
            ).with_columns(
                polars.lit(stack.name).alias("stack"),
                polars.lit(period).alias("period"),
                polars.lit(trace.times[period]).alias("time"),
                polars.lit(rental.status).alias("status"),
            )
        )
        on_period()
    return polars.concat(frames).select(
        "stack", "period", "time", "region", polars.exclude("stack", "period", "time", "region")
    )
