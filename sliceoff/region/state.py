"""What an allocator sees, decides and causes: named tuples of tensors, one row per region or copy of one."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Tasks(NamedTuple):
    """One slot's tasks, one per user; rows of absent users hold numbers without meaning."""

    data_bits: Float[Tensor, "*batch users"]
    cycles_per_bit: Float[Tensor, "*batch users"]
    priority: Float[Tensor, "*batch users"]
    distance_m: Float[Tensor, "*batch users"]
    present: Bool[Tensor, "*batch users"]


class RegionState(NamedTuple):
    """A region at the start of a short slot; VMs with index >= `n_vms` do not exist."""

    tasks: Tasks
    backlog_s: Float[Tensor, "*batch max_vms"]  # seconds until the VM is free
    bandwidth_hz: Float[Tensor, "*batch"]
    n_vms: Int[Tensor, "*batch"]
    expected_users: Float[Tensor, "*batch"]  # per slot: the forecast, or the true mean where none is given


def map_state(function: Callable[..., Tensor], *states: RegionState) -> RegionState:
    """`function` of every tensor of a state, or of the same tensor of several."""
    tasks = Tasks(*(function(*fields) for fields in zip(*(state.tasks for state in states), strict=True)))
    return RegionState(tasks, *(function(*fields) for fields in zip(*(state[1:] for state in states), strict=True)))


class Allocation(NamedTuple):
    """Who gets what: the action (21)."""

    share: Float[Tensor, "*batch users"]  # of the region's bandwidth: >= 0, sum <= 1 (C4)
    vm: Int[Tensor, "*batch users"]  # in [0, n_vms) (C5)


def no_allocation(state: RegionState) -> Allocation:
    """Nothing for anybody: no bandwidth, and the first VM for want of another; (*batch, users)."""
    return Allocation(torch.zeros_like(state.tasks.data_bits), torch.zeros_like(state.tasks.present).long())


class Outcome(NamedTuple):
    """What became of one slot's tasks; all times in seconds from the slot's start, zero for absent users."""

    upload_s: Float[Tensor, "*batch users"]  # inf without bandwidth; given up where longer than the deadline
    wait_s: Float[Tensor, "*batch users"]
    execution_s: Float[Tensor, "*batch users"]
    completion_s: Float[Tensor, "*batch users"]  # inf where given up; of a dropped task when it would have been done
    on_time: Bool[Tensor, "*batch users"]
    dropped: Bool[Tensor, "*batch users"]  # turned away on arrival at its VM
    revenue: Float[Tensor, "*batch users"]  # money
    backlog_s: Float[Tensor, "*batch max_vms"]  # after the slot
    work_s: Float[Tensor, "*batch max_vms"]  # execution time that each VM took on in this slot
    airtime: Float[Tensor, "*batch"]  # 0-1: part of the rented bandwidth in use, averaged over the slot
