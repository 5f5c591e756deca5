"""An upper bound on the revenue of any allocator that knows all tasks; for any size and horizon, in batches.

In the relaxation, tasks may overtake each other, be split over VMs, and be served in part. What remains is the
bandwidth of every slot and the VMs' time. Let `lambda` be a price of a slot's bandwidth and `mu(t)` one of VM time. A
task that starts executing `s` after the start of its slot then costs `lambda w / (B s)` for its upload, which must end
by then, and the integral of `mu` over its execution. By weak duality no plan earns more than

    sum_slots lambda + integral n(t) mu(t) dt + sum_tasks max(0, revenue - min_s cost(s)),

for any prices; n(t) counts the VMs that are free of the first slot's backlog. `mu` is constant over each of
`resolution` cells per slot, the least cost over s is found exactly, and the prices by subgradient descent.
"""

from collections.abc import Callable, Sequence
from math import ceil
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sliceoff.errors import InputError
from sliceoff.region.scenario import Scenario
from sliceoff.region.serve import bandwidth_work, execution_work
from sliceoff.region.state import RegionState, Tasks

# Sums of many terms in single precision must not fall below the truth.
_ROUNDING = 1e-5


class _Horizon(NamedTuple):
    """A relaxed instance; times are in cells."""

    revenue: Float[Tensor, "batch slots users"]  # 0 for absent users
    work: Float[Tensor, "batch slots users"]  # cells of the whole bandwidth
    execution: Float[Tensor, "batch slots users"]
    free: Float[Tensor, "batch cells"]  # VM time in each cell
    per_slot: int  # cells
    deadline: float


def upper_bound(
    scenario: Scenario, states: Sequence[RegionState], *, resolution: int = 2, iterations: int = 60
) -> Float[Tensor, " batch"]:
    """Revenue over consecutive slots that no allocation exceeds, each row on its own.

    Args:
        states: (batch,) regions at the start of each slot. Only the first slot's backlogs are used; later ones depend
            on the plan. Tasks, bandwidth and VMs are those of each slot.
        resolution: price cells per slot; more give a tighter bound and take longer.
        iterations: of the descent; any number gives a valid bound.

    Raises:
        InputError: `region.queue` is not `lindley`; with the paper's plain sum, a VM's work may overlap.
    """
    horizon = _relax(scenario, states, resolution)
    everything = horizon.revenue.sum((-2, -1))
    unit = _slot_worth(everything, len(states))
    # Prices are those of all bandwidth, or all VM time, in units of a slot's revenue.
    supply = horizon.free.mean(-1, keepdim=True).clamp_min(1e-6) * resolution

    def bound(price: Tensor, rate: Tensor) -> Tensor:
        return _dual(horizon, price * unit, rate * unit / supply) / unit.squeeze(-1)

    best = unit.squeeze(-1) * _descend(bound, everything / unit.squeeze(-1), len(states), horizon, iterations)
    return torch.minimum(best * (1 + _ROUNDING), everything)


def slice_bounds(
    scenario: Scenario,
    states: Sequence[RegionState],
    bandwidth_hz: Float[Tensor, "batch bandwidth_offers"],
    n_vms: Float[Tensor, "batch vm_offers"],
    cost: Float[Tensor, "batch bandwidth_offers vm_offers"],
    *,
    resolution: int = 2,
    rounds: int = 6,
    iterations: int = 30,
) -> Float[Tensor, "batch bandwidth_offers vm_offers"]:
    """Revenue over consecutive slots that no allocation exceeds, for every pair of offers rented for all of them.

    With `lambda` a price per Hz of every slot, the price of a task is the same in every slice. So one choice of prices
    bounds all pairs of offers at once, and each step of the descent tightens them all; it aims at the pair with the
    highest bound less its cost.

    Args:
        states: as for `upper_bound`; their rentals and backlogs are not used: queues start empty.
        bandwidth_hz, n_vms: the offers.
        cost: the money that every pair costs, only to decide which bounds to tighten.
        resolution, iterations: as for `upper_bound`.

    Raises:
        InputError: as `upper_bound`.
    """
    most = bandwidth_hz.amax(-1)
    empty = torch.zeros_like(states[0].backlog_s[..., :1])
    one = torch.ones_like(states[0].n_vms)
    best_equipped = [state._replace(backlog_s=empty, bandwidth_hz=most, n_vms=one) for state in states]
    horizon = _relax(scenario, best_equipped, resolution)
    everything = horizon.revenue.sum((-2, -1))
    unit = _slot_worth(everything, len(states))
    sizes = bandwidth_hz / most.unsqueeze(-1)
    best = everything[:, None, None].expand_as(cost)
    for _ in range(rounds):
        pair = (best - cost).flatten(1).argmax(-1, keepdim=True)
        size, count = sizes.gather(-1, pair // cost.shape[2]), n_vms.gather(-1, pair % cost.shape[2])

        def bound(price: Tensor, rate: Tensor, size: Tensor = size, count: Tensor = count) -> Tensor:
            """The bound of the pair aimed at; prices are those of its whole bandwidth or VM time, in `unit`s."""
            nonlocal best
            price, rate = price * unit / size, rate * unit / (count * resolution)
            surplus = _surplus(horizon, price, rate)
            bandwidth, machine = price.sum(-1, keepdim=True), (horizon.free * rate).sum(-1, keepdim=True)
            every = sizes.unsqueeze(2) * bandwidth.unsqueeze(2) + (n_vms * machine).unsqueeze(1)
            best = torch.minimum(best, (every + surplus[:, None, None]).detach())
            return ((size * bandwidth + count * machine).squeeze(-1) + surplus) / unit.squeeze(-1)

        low = (best.flatten(1).gather(-1, pair) / unit).squeeze(-1)
        _descend(bound, low, len(states), horizon, iterations)
    return torch.minimum(best * (1 + _ROUNDING), everything[:, None, None])


def _slot_worth(everything: Float[Tensor, " batch"], slots: int) -> Float[Tensor, "batch 1"]:
    """The revenue of all tasks per slot, the unit of prices; 1 if there are no tasks."""
    return torch.where(everything > 0, everything / slots, 1).unsqueeze(-1)


def _descend(
    bound: Callable[[Tensor, Tensor], Tensor],
    lowest: Float[Tensor, " batch"],
    slots: int,
    horizon: _Horizon,
    iterations: int,
) -> Float[Tensor, " batch"]:
    """Minimise `bound(price, rate)` by Polyak's steps, row by row; returns its least value, at most `lowest`."""
    price = torch.full((len(lowest), slots), 0.1, device=lowest.device, dtype=lowest.dtype)
    rate = torch.full_like(horizon.free, 0.1)
    for aim in torch.logspace(-1, -3, iterations, device="cpu").tolist():
        price.requires_grad_()
        rate.requires_grad_()
        value = bound(price, rate)
        down = torch.autograd.grad(value.sum(), (price, rate))
        value = value.detach()
        lowest = torch.minimum(lowest, value)
        gap = value - (1 - aim) * lowest  # to a value a little below the least so far
        steepness = (down[0] ** 2).sum(-1) + (down[1] ** 2).sum(-1)
        step = (gap / steepness.clamp_min(1e-12)).unsqueeze(-1)
        price, rate = ((x.detach() - step * part).clamp_min(0) for x, part in zip((price, rate), down, strict=True))
    return lowest


def _relax(scenario: Scenario, states: Sequence[RegionState], resolution: int) -> _Horizon:
    if scenario.queue != "lindley":
        raise InputError(f"the bound is for region.queue=lindley, not {scenario.queue}")
    cell_s = scenario.short_slot_s / resolution
    deadline = scenario.deadline_s / cell_s
    slots = len(states)
    window = ceil(deadline)  # cells that a slot's tasks may use, the last one possibly in part
    tasks = Tasks(*(torch.stack(parts, -2) for parts in zip(*(state.tasks for state in states), strict=True)))
    bandwidth = torch.stack([state.bandwidth_hz for state in states], -1).unsqueeze(-1)
    n_vms = torch.stack([state.n_vms for state in states], -1)
    backlog = (states[0].backlog_s / cell_s).unsqueeze(-1)
    # A VM works in a cell if it is rented in any slot whose tasks may run there, and is free of its backlog.
    begin = torch.arange((slots - 1) * resolution + window, device=backlog.device)
    slot_begin = resolution * torch.arange(slots, device=backlog.device).unsqueeze(-1)
    reaches = (slot_begin <= begin) & (begin < slot_begin + deadline)
    rented = torch.where(reaches, n_vms.unsqueeze(-1), 0).amax(-2)
    exists = torch.arange(backlog.shape[-2], device=backlog.device).unsqueeze(-1) < rented.unsqueeze(-2)
    free = ((begin + 1 - backlog).clamp(0, 1) * exists).sum(-2)
    asked = tasks.present & (bandwidth > 0)
    some = asked.flatten(0, -2).any(0)  # columns of users that are present anywhere
    return _Horizon(
        revenue=torch.where(asked, scenario.price * tasks.priority, 0)[..., some],
        work=torch.where(asked, bandwidth_work(scenario, tasks) / bandwidth / cell_s, 1)[..., some],
        execution=torch.where(asked, execution_work(scenario, tasks) / cell_s, 1)[..., some],
        free=free,
        per_slot=resolution,
        deadline=deadline,
    )


def _dual(
    horizon: _Horizon, price: Float[Tensor, "batch slots"], rate: Float[Tensor, "batch cells"]
) -> Float[Tensor, " batch"]:
    """The bound at these prices: `price` for a slot's bandwidth, `rate` for a VM and cell."""
    return price.sum(-1) + (horizon.free * rate).sum(-1) + _surplus(horizon, price, rate)


def _surplus(
    horizon: _Horizon, price: Float[Tensor, "batch slots"], rate: Float[Tensor, "batch cells"]
) -> Float[Tensor, " batch"]:
    """The sum over all tasks of revenue less cost, where positive, each started when it is cheapest."""
    slots = price.shape[-1]
    window = rate.shape[-1] - (slots - 1) * horizon.per_slot
    rates = rate.unfold(-1, window, horizon.per_slot)  # batch slots window
    paid = torch.nn.functional.pad(rates.cumsum(-1), (1, 0))  # for VM time, from the slot's start to each cell's
    with torch.no_grad():
        start = _best_start(horizon, price, rates, paid)
    upload = price.unsqueeze(-1) * horizon.work / start
    cost = upload + _integral(paid, rates, start + horizon.execution) - _integral(paid, rates, start)
    # Absent users earn nothing; at a cost of zero, their gradient would still steer the descent.
    possible = (horizon.revenue > 0) & (horizon.work + horizon.execution <= horizon.deadline)
    return torch.where(possible, (horizon.revenue - cost).clamp_min(0), 0).sum((-2, -1))


def _best_start(horizon: _Horizon, price: Tensor, rates: Tensor, paid: Tensor) -> Float[Tensor, "batch slots users"]:
    """Cheapest start of every task: the minimum of `lambda w / s` plus the price of its VM time.

    Within a cell the second term has one kink, where the task's end enters the next cell; left and right of it the cost
    is convex, `a / s + slope * s`, with its minimum at `sqrt(a / slope)` or at an end.
    """
    window = rates.shape[-1]
    latest = (horizon.deadline - horizon.execution).clamp_min(1e-6)
    offset = horizon.execution.floor()
    kink = 1 - (horizon.execution - offset)
    bandwidth = price.unsqueeze(-1) * horizon.work
    best_cost = torch.full_like(latest, torch.inf)
    best = latest.clone()
    ahead = torch.nn.functional.pad(rates, (0, window + 2))  # beyond the deadline; never reached, as starts are clipped
    for cell in range(window):
        here = rates[..., cell : cell + 1]
        for part, (left, right) in enumerate(((torch.zeros_like(kink), kink), (kink, torch.ones_like(kink)))):
            at_end = ahead.gather(-1, (cell + part + offset).long().clamp_max(2 * window))
            slope = at_end - here
            low = (cell + left).clamp_min(1e-6)
            start = torch.where(slope > 0, (bandwidth / slope.clamp_min(1e-30)).sqrt(), torch.inf)
            start = torch.minimum(torch.maximum(start, low), torch.minimum(cell + right, latest))
            cost = bandwidth / start + _integral(paid, rates, start + horizon.execution) - _integral(paid, rates, start)
            better = (low <= latest) & (cost < best_cost)
            best, best_cost = torch.where(better, start, best), torch.where(better, cost, best_cost)
    return best


def _integral(paid: Tensor, rates: Tensor, until: Float[Tensor, "batch slots users"]) -> Tensor:
    """Price of VM time from the slot's start to `until`, in cells."""
    cell = until.floor().clamp(0, rates.shape[-1] - 1)
    index = cell.long()
    return paid.gather(-1, index) + rates.gather(-1, index) * (until - cell)
