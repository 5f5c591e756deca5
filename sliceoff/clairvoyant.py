"""The clairvoyant bound: no provider earns more, even one that knows all traffic and all tasks beforehand.

Every long slot is bounded on its own: its queues start empty, its last tasks may still finish after it, and allocation
is relaxed (`sliceoff.region.slice_bounds`). The offers are chosen by a Lagrangian bound under the coupling rows, which
is exact where no row binds; the prices of changing a slice are left out.
"""

from collections.abc import Callable, Sequence

import polars
import torch

from sliceoff.data import TrafficDataModule
from sliceoff.loop import revenue_scale
from sliceoff.region import RegionEnvironment, RegionState, Scenario, map_state, no_allocation, slice_bounds
from sliceoff.slicing import Offers, most_profit

_ROWS = 100  # long slots times regions bounded in one batch: fewer are slower, more only take more memory


def clairvoyant(
    windows: TrafficDataModule,
    scenario: Scenario,
    offers: Offers,
    *,
    unit_users: float,
    periods: range,
    slots_per_period: int,
    seed: int,
    known: Sequence[float] = (),
    on_batch: Callable[[list[float]], None] = lambda bounds: None,
) -> polars.DataFrame:
    """An upper bound on the profit of a `Simulation` with the same arguments, for every long slot.

    Args:
        known: to resume: the bounds that `on_batch` was last called with.
        on_batch: called after every few long slots with the bounds of all so far.

    Returns:
        One row per long slot: `period, time, bound` [money per long slot, all regions together].
    """
    trace = windows.trace
    users = torch.from_numpy(trace.values).float() * unit_users
    scale = revenue_scale(trace.step_s, slots_per_period, scenario.short_slot_s)
    rent = offers.bandwidth_price.unsqueeze(2) + offers.vm_price.unsqueeze(1)
    environment = RegionEnvironment(
        scenario, 0.0, len(trace.regions), seed, bandwidth_hz=offers.bandwidth_hz[:, -1], n_vms=1
    )
    bounds, together = list(known), max(1, _ROWS // len(trace.regions))
    environment.load_state_dict(environment.state_dict() | {"step": len(bounds) * slots_per_period})
    for start in range(len(bounds), len(periods), together):
        batch = periods[start : start + together]
        drawn = []
        for period in batch:
            environment.traffic(users[period])
            drawn.append([_next_slot(environment) for _ in range(slots_per_period)])
        revenue = slice_bounds(
            scenario,
            [map_state(lambda *parts: torch.cat(parts), *states) for states in zip(*drawn, strict=True)],
            offers.bandwidth_hz.float().repeat(len(batch), 1),
            offers.n_vms.float().repeat(len(batch), 1),
            (rent / scale).float().repeat(len(batch), 1, 1),
        )
        for earned in revenue.double().unflatten(0, (len(batch), -1)):
            bounds.append(most_profit(offers, earned * scale - rent))
        on_batch(bounds)
    times = trace.times[periods.start : periods.stop].astype("datetime64[us]")
    return polars.DataFrame({"period": list(periods), "time": times, "bound": bounds})


def _next_slot(environment: RegionEnvironment) -> RegionState:
    """The next slot's tasks, the same ones that every allocator gets; none is served."""
    state = environment.state
    environment.step(no_allocation(state))
    return state
