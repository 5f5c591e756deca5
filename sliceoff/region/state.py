"""State, allocation and outcome of a slot: named tuples of tensors, one row per region or copy of one."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Tasks(NamedTuple):
    """One slot's tasks, one per user; the entries of absent users have no meaning."""

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
    """Apply `function` to every tensor of a state, or to the corresponding tensors of several states."""
    tasks = Tasks(*(function(*fields) for fields in zip(*(state.tasks for state in states), strict=True)))
    return RegionState(tasks, *(function(*fields) for fields in zip(*(state[1:] for state in states), strict=True)))


class Allocation(NamedTuple):
    """Every user's share of the bandwidth and its VM: the action (21)."""

    share: Float[Tensor, "*batch users"]  # of the region's bandwidth: >= 0, sum <= 1 (C4)
    vm: Int[Tensor, "*batch users"]  # in [0, n_vms) (C5)


def no_allocation(state: RegionState) -> Allocation:
    """An allocation without bandwidth for anybody, all on the first VM; (*batch, users)."""
    return Allocation(torch.zeros_like(state.tasks.data_bits), torch.zeros_like(state.tasks.present).long())


class Outcome(NamedTuple):
    """The outcome of one slot's tasks; all times in seconds, zero for absent users."""

    upload_s: Float[Tensor, "*batch users"]  # inf without bandwidth; given up if longer than the deadline
    wait_s: Float[Tensor, "*batch users"]
    execution_s: Float[Tensor, "*batch users"]
    completion_s: Float[Tensor, "*batch users"]  # inf if given up; for a dropped task, as if it were run
    on_time: Bool[Tensor, "*batch users"]
    dropped: Bool[Tensor, "*batch users"]  # turned away on arrival at its VM
    revenue: Float[Tensor, "*batch users"]  # money
    backlog_s: Float[Tensor, "*batch max_vms"]  # after the slot
    work_s: Float[Tensor, "*batch max_vms"]  # execution time of the tasks that each VM admitted in this slot
    airtime: Float[Tensor, "*batch"]  # 0-1: share of the rented bandwidth in use, averaged over the slot
