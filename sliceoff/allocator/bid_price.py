"""Bid prices of bandwidth and VM time in a region: the dual prices of a slot with typical tasks."""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample

from sliceoff.region import RegionState, Scenario, bandwidth_work, execution_work, typical_tasks

# Part of the deadline that an upload lasts on average if bandwidth is short.
_UPLOADING = 0.8
_REFUTED = 3.0  # standard deviations
_LEAST_USERS = 0.1
_TASKS = 400
_POINTS = 49  # of the table, per axis
_ROUNDS = 12  # within 1 % of the optimum if sizes vary; for equal tasks, coordinate descent may stall
_JUST_BELOW = 0.999  # so that tasks worth exactly their price are wanted: if many are equal, that is most of them
_JUST_FIT = 1 + 1e-5  # tolerance for rounding errors


def bid_prices(
    scenario: Scenario, state: RegionState, users: Float[Tensor, " batch"], room: Float[Tensor, "batch rooms"]
) -> tuple[Float[Tensor, "batch rooms"], Float[Tensor, "batch rooms"]]:
    """Price, in priority, of a hertz-second of bandwidth and of a second of VM time; zero where there is enough.

    These are the prices of a slot with typical tasks, because what waits in a queue takes VM time from future slots,
    whose tasks are unknown; prices from this slot's own tasks would add the noise of their draw.

    Args:
        users: number of users in such a slot; fewer than one count as one.
        room: VM time available, in slots of every VM (1: queues keep their length). Bandwidth is available for the part
            of the deadline that an upload lasts on average.
    """
    device = state.backlog_s.device
    work, execution_s, _ = _sample(scenario, device)
    users = users.unsqueeze(-1).clamp_min(1)
    airtime = _UPLOADING * scenario.deadline_s * state.bandwidth_hz.unsqueeze(-1) / (users * work.mean())
    vm_time = room * scenario.short_slot_s * state.n_vms.unsqueeze(-1) / (users * execution_s.mean())
    place = torch.stack((_squeezed(vm_time), _squeezed(airtime).expand_as(room)), -1)
    table = _table(scenario, device)
    hertz_s, vm_s = grid_sample(table[None], 2 * place[None].to(table) - 1, align_corners=True)[0].to(room)
    return _JUST_BELOW * hertz_s, _JUST_BELOW * vm_s


def likely_users(state: RegionState, forecast_weight: float | int) -> Float[Tensor, " batch"]:
    """Users per slot, given those present and those expected: the mean of a gamma posterior.

    The forecast F is the mean of a gamma prior of shape k, the weight, and the number of users present, N, a Poisson
    count: `F (k + N) / (k + F)`. The forecast is first clipped to within `_REFUTED` standard deviations of N, and to
    the largest number of users that a region has room for.

    Args:
        forecast_weight: k; one over the square of the relative error: 25 for an error of 20 %. 0: N alone.
    """
    present = state.tasks.present.sum(-1).to(state.expected_users.dtype)
    far = _REFUTED * present.clamp_min(1).sqrt()
    most = (present + far).clamp_max(state.tasks.present.shape[-1])
    forecast = state.expected_users.clamp(present - far, most).clamp_min(_LEAST_USERS)
    return forecast * (forecast_weight + present) / (forecast_weight + forecast)


@lru_cache(maxsize=16)
def _sample(scenario: Scenario, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Bandwidth work [Hz s], execution time [s] and priority of typical tasks."""
    tasks = typical_tasks(scenario, _TASKS, device)
    return bandwidth_work(scenario, tasks), execution_work(scenario, tasks), tasks.priority


@lru_cache(maxsize=16)
def _table(scenario: Scenario, device: torch.device) -> Float[Tensor, "two airtimes vm_times"]:
    """Prices of a hertz-second and of a second of VM time, on a grid of either resource over what all tasks need.

    The dual of a fractional knapsack with both resources, by coordinate descent: each price is the worth per size of
    the first task, by falling worth per size, that the resource has no room for; a task's worth is its priority less
    the price of the other resource that it takes.
    """
    work, execution_s, priority = _sample(scenario, device)
    part = torch.linspace(0, 1, _POINTS, device=device)
    ratio = part / (1 - part)  # inverse of `_squeezed`
    airtime, vm_time = (ratio * work.sum()).repeat_interleave(_POINTS), (ratio * execution_s.sum()).repeat(_POINTS)
    hertz_s = vm_s = torch.zeros_like(vm_time)
    for _ in range(_ROUNDS):
        hertz_s = _marginal_density(priority - vm_s.unsqueeze(-1) * execution_s, work, airtime)
        vm_s = _marginal_density(priority - hertz_s.unsqueeze(-1) * work, execution_s, vm_time)
    return torch.stack((hertz_s, vm_s)).unflatten(-1, (_POINTS, _POINTS))


def _marginal_density(
    worth: Float[Tensor, "batch tasks"], size: Float[Tensor, " tasks"], room: Float[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Worth per size of the first task, by falling worth per size, that there is no room for; zero if all fit."""
    ranked, order = torch.where(worth > 0, worth / size, 0).sort(-1, descending=True)
    filled = torch.where(ranked > 0, size[order], 0).cumsum(-1)
    return torch.where(filled > room.unsqueeze(-1) * _JUST_FIT, ranked, 0).amax(-1)


def _squeezed(ratio: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Map a ratio from [0, inf] to [0, 1], rising."""
    return 1 - 1 / (1 + ratio)
