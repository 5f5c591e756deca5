"""The VMs' FIFO queues, Eq. 3: who waits how long, who is turned away, what is left for the next slot.

Tasks are sorted by VM and arrival, and every queue is then one segment of one max-plus scan: with `ahead` the time
until the VM is free, the Lindley recursion is `ahead <- max(ahead + execution, arrival + execution)`, an affine map in
the max-plus algebra, and such maps compose associatively. The paper's plain sum is the same scan without the second
term.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sliceoff.region.model import completion_time

_NEVER = -torch.inf


class Queued(NamedTuple):
    """Result of `fifo`."""

    wait_s: Float[Tensor, "*batch users"]
    admitted: Bool[Tensor, "*batch users"]
    busy_until_s: Float[Tensor, "*batch max_vms"]  # from the slot's start


def lindley_wait(ahead_s: Float[Tensor, "*shape"], arrival_s: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Exact waiting time of a task that arrives at `arrival_s` at a VM that is busy until `ahead_s`."""
    return (ahead_s - arrival_s).clamp_min(0)


def paper_wait(ahead_s: Float[Tensor, "*shape"], arrival_s: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Eq. 3 as printed: all work queued before, as if none of it were done while the task was uploading."""
    return ahead_s


def max_plus_scan(
    step: Float[Tensor, "*batch length"], floor: Float[Tensor, "*batch length"]
) -> Float[Tensor, "*batch length"]:
    """Running composition of the maps `x -> max(x + step, floor)`, applied to minus infinity.

    A map with `step = -inf` forgets what came before: that is where a segment starts. Work O(length log length).
    """
    shift, length = 1, step.shape[-1]
    while shift < length:
        reached = torch.maximum(floor[..., :-shift] + step[..., shift:], floor[..., shift:])
        floor = torch.cat((floor[..., :shift], reached), -1)
        step = torch.cat((step[..., :shift], step[..., :-shift] + step[..., shift:]), -1)
        shift *= 2
    return floor


def fifo(
    vm: Int[Tensor, "*batch users"],
    arrival_s: Float[Tensor, "*batch users"],
    execution_s: Float[Tensor, "*batch users"],
    joins: Bool[Tensor, "*batch users"],
    backlog_s: Float[Tensor, "*batch max_vms"],
    *,
    deadline_s: float,
    queue: Literal["lindley", "paper"],
    late_tasks: Literal["drop", "run"],
) -> Queued:
    """Run every VM's FIFO queue through one slot.

    Tasks are served in the order of arrival, ties in the order of users. With `late_tasks="drop"` a task that on
    arrival can no longer meet the deadline is turned away and takes no time.

    Args:
        joins: users whose task reaches its VM; the others wait 0 and are not admitted.
        backlog_s: time until each VM is free of earlier slots' work.

    Returns:
        For a task turned away, `wait_s` is what it would have waited.
    """
    wait = {"lindley": lindley_wait, "paper": paper_wait}[queue]
    n_vms = backlog_s.shape[-1]
    # Tasks that never reach theirs queue at one more VM, behind the real ones.
    vm = torch.where(joins, vm, n_vms)
    order = _by_vm_and_arrival(vm, arrival_s)
    vm, arrival_s, execution_s, joins = (x.gather(-1, order) for x in (vm, arrival_s, execution_s, joins))
    backlog = torch.nn.functional.pad(backlog_s, (0, 1))
    first = torch.ones_like(joins)
    first[..., 1:] = vm[..., 1:] != vm[..., :-1]
    at_start = backlog.gather(-1, vm)

    def completion(ahead: Tensor) -> Tensor:
        return completion_time(arrival_s, wait(ahead, arrival_s), execution_s)

    def scan(admitted: Tensor) -> tuple[Tensor, Tensor]:
        """When the VM is free, before and after each task."""
        step = torch.where(admitted, execution_s, 0)
        floor = torch.where(admitted, arrival_s + execution_s, _NEVER) if queue == "lindley" else step + _NEVER
        floor = torch.where(first, torch.maximum(floor, at_start + step), floor)
        after = max_plus_scan(torch.where(first, _NEVER, step), floor)
        before = torch.where(first, at_start, after.roll(1, -1))
        return before, after

    admitted = joins
    if late_tasks == "drop":
        admitted = _admit(admitted & (completion(at_start) <= deadline_s), scan, completion, vm, backlog, deadline_s)
    before, after = scan(admitted)
    busy_until = backlog.scatter_reduce(-1, vm, after, "amax")[..., :n_vms]
    waited = torch.where(joins, wait(before, arrival_s), 0)
    return Queued(
        torch.empty_like(waited).scatter_(-1, order, waited),
        torch.empty_like(admitted).scatter_(-1, order, admitted),
        busy_until,
    )


def _admit(
    admitted: Tensor,
    scan: Callable[[Tensor], tuple[Tensor, Tensor]],
    completion: Callable[[Tensor], Tensor],
    vm: Tensor,
    backlog: Tensor,
    deadline_s: float,
) -> Tensor:
    """Turn away, in queue order, whoever is late behind those admitted before.

    What stands before a queue's first late task is final, so that task is turned away, and with it all later ones that
    would be late even if the queue grew no further. Between two rounds at least one task was served out of a slack
    shorter than the first one's execution, so rounds <= 1 + longest / shortest execution time, however many users.
    """
    while True:
        before, _ = scan(admitted)
        late = admitted & (completion(before) > deadline_s)
        if not late.any():
            return admitted
        # `before` never falls along a queue: its least value among the late is the one at the first of them.
        at_first_late = torch.full_like(backlog, torch.inf).scatter_reduce(
            -1, vm, torch.where(late, before, torch.inf), "amin"
        )
        admitted = admitted & ~(late & (completion(at_first_late.gather(-1, vm)) > deadline_s))


def _by_vm_and_arrival(vm: Int[Tensor, "*batch users"], arrival_s: Float[Tensor, "*batch users"]) -> Tensor:
    """Indices that sort by VM, then arrival, then user."""
    by_arrival = arrival_s.argsort(dim=-1, stable=True)
    return by_arrival.gather(-1, vm.gather(-1, by_arrival).argsort(dim=-1, stable=True))
