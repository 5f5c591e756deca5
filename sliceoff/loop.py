"""Algorithm 1: for every long slot predict, slice, then for every short slot allocate and earn.

Money. A long slot lasts far longer than the short slots simulated in it (an hour against 20 of 0.5 s by default). The
simulated ones are a sample of the long slot: their revenue is scaled up by `long_slot_s / (slots * short_slot_s)`, so
that revenue, rent and profit are all money per long slot.
"""

from collections.abc import Callable
from dataclasses import dataclass

import polars
import torch
from jaxtyping import Float
from torch import Tensor

from sliceoff.data import TrafficDataModule
from sliceoff.predictor import Forecaster
from sliceoff.region import Allocator, RegionEnvironment, Scenario
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
        One row per long slot and region: `stack, period, time, region, users, users_forecast, forecast_error,
        bandwidth_hz, n_vms, rent, revenue, profit` (money per long slot), `tasks, done, late, dropped` (in the simulated
        slots), `bandwidth_utilisation, vm_utilisation` (0-1), `uncovered, status, backlog_s`.
    """
    trace = windows.trace
    users = torch.from_numpy(trace.values).float() * unit_users
    scale = revenue_scale(trace.step_s, slots_per_period, scenario.short_slot_s)
    environment = RegionEnvironment(scenario, mean_users=users[periods.start], n_copies=len(trace.regions), seed=seed)
    statistics = TaskStatistics.prior(scenario, n_regions=len(trace.regions))
    previous: Rental | None = None
    state = environment.reset()
    frames = []
    for period in periods:
        forecast = stack.forecaster.forecast(windows.history_until(period))[0, 0, :, 0] * unit_users
        previous = stack.slicer.rent(
            SlicingRequest(
                forecast=forecast,
                last=users[period - 1],
                truth=users[period],
                statistics=statistics,
                previous=previous,
            )
        )
        environment.mean_users = users[period]
        state = environment.rent(previous.bandwidth_hz, previous.n_vms)
        tally = Tally.empty(len(trace.regions))
        for _ in range(slots_per_period):
            served = state
            state, outcome = environment.step(stack.allocator.allocate(scenario, served))
            tally.add(scenario, served, outcome)
            statistics = statistics.updated(scenario, served.tasks)
        frames.append(
            _rows(stack.name, windows, period, forecast, users[period], previous, tally, scale, slots_per_period)
        )
        on_period()
    return polars.concat(frames)
