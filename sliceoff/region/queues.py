"""The VMs' FIFO queues, Eq. 3: waiting times, tasks turned away, and the backlog left for the next slot.

Tasks are sorted by VM and arrival, and every queue is then one segment of one max-plus scan: with `ahead` the time
until the VM is free, the Lindley recursion is `ahead <- max(ahead + execution, arrival + execution)`, an affine map in
the max-plus algebra, and such maps compose associatively. The paper's plain sum is the same scan without the second
term.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sliceoff.region.model import completion_time

# Stands for minus infinity, but may be multiplied by zero and added to itself.
_NEVER = -1e30


class Queued(NamedTuple):
    """The result of `fifo`."""

    wait_s: Float[Tensor, "*batch users"]
    admitted: Bool[Tensor, "*batch users"]
    busy_until_s: Float[Tensor, "*batch max_vms"]  # from the slot's start


def lindley_wait(ahead_s: Float[Tensor, "*shape"], arrival_s: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Exact waiting time of a task that arrives at `arrival_s` at a VM that is busy until `ahead_s`."""
    return (ahead_s - arrival_s).clamp_min(0)


def paper_wait(ahead_s: Float[Tensor, "*shape"], arrival_s: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Eq. 3 as printed: all work queued before, as if none of it were done during the task's upload."""
    return ahead_s


def max_plus_scan(
    step: Float[Tensor, "*batch length"], floor: Float[Tensor, "*batch length"], longest: int
) -> Float[Tensor, "*batch length"]:
    """Running composition of the maps `x -> max(x + step, floor)`, applied to minus infinity.

    A map with `step = -inf` ignores its input: a segment starts there.

    Args:
        longest: number of maps in the longest segment; the cost is O(length log longest).
    """
    shift = 1
    while shift < longest:
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

    Tasks are served in the order of arrival, ties (within 1e-13 s) in the order of users. With `late_tasks="drop"` a
    task that can no longer meet the deadline on arrival is turned away and takes no VM time.

    Args:
        joins: users whose task reaches its VM by the deadline; the others wait 0 and are not admitted.
        backlog_s: time until each VM is free of earlier slots' work.

    Returns:
        For a task turned away, `wait_s` is what it would have waited.
    """
    if not vm.numel():
        return Queued(torch.zeros_like(arrival_s), joins, backlog_s)
    n_vms = backlog_s.shape[-1]
    # Tasks that never reach their VM queue at an additional one, after the real ones.
    vm = vm.masked_fill(~joins, n_vms)
    arrival_s = arrival_s.masked_fill(~joins, 0)
    # Sort by VM and arrival at once: a double holds both in one sum.
    order = (vm.double() * (2 * deadline_s) + arrival_s).argsort(dim=-1, stable=True)
    vm, arrival_s, execution_s = (x.gather(-1, order) for x in (vm, arrival_s, execution_s))
    lines = _Lines(vm, arrival_s, execution_s, torch.nn.functional.pad(backlog_s, (0, 1)), queue)
    admitted = (vm < n_vms).to(backlog_s.dtype)
    if late_tasks == "drop":
        admitted = lines.admit(admitted, deadline_s)
    before, after = lines.scan(admitted)
    return Queued(
        torch.zeros_like(before).scatter_(-1, order, lines.wait(before)).masked_fill(~joins, 0),
        torch.zeros_like(joins).scatter_(-1, order, admitted > 0),
        lines.backlog_s.scatter_reduce(-1, vm, after, "amax")[..., :n_vms],
    )


class _Lines:
    """All queues of a batch, one after the other along the last dimension. Masks are 0.0 or 1.0, which is faster."""

    def __init__(self, vm: Tensor, arrival_s: Tensor, execution_s: Tensor, backlog_s: Tensor, queue: str):
        self.backlog_s = backlog_s
        self._vm, self._arrival_s, self._execution_s = vm, arrival_s, execution_s
        self._paper = queue == "paper"
        first = torch.ones_like(arrival_s)
        first[..., 1:] = vm[..., 1:] != vm[..., :-1]
        self._later = 1 - first
        self._at_start = backlog_s.gather(-1, vm) * first
        ones = torch.ones((), dtype=vm.dtype, device=vm.device).expand_as(vm)
        lengths = torch.zeros_like(backlog_s, dtype=vm.dtype).scatter_add(-1, vm, ones)[..., :-1]
        self._longest = int(lengths.max())

    def wait(self, before: Tensor) -> Tensor:
        """Waiting times, if each task's VM is free at `before`."""
        return paper_wait(before, self._arrival_s) if self._paper else lindley_wait(before, self._arrival_s)

    def scan(self, admitted: Tensor) -> tuple[Tensor, Tensor]:
        """When the VM is free before and after each task, if only `admitted` tasks are executed."""
        first = 1 - self._later
        step = self._execution_s * admitted
        begun = self._at_start + step + self._later * _NEVER
        if self._paper:
            floor = begun
        else:
            floor = torch.maximum(begun, (self._arrival_s + self._execution_s) * admitted + (1 - admitted) * _NEVER)
        after = max_plus_scan(step * self._later + first * _NEVER, floor, self._longest)
        before = self._at_start + self._later * after.roll(1, -1)
        return before, after

    def admit(self, admitted: Tensor, deadline_s: float) -> Tensor:
        """Turn away, in queue order, every task that would be late after those admitted before it.

        The queue before its first late task is final, so that task is turned away, together with all later ones that
        would be late even if the queue did not grow further. Between two rounds at least one task is served within a
        slack shorter than the first one's execution: rounds <= 2 + longest / shortest execution, for any number of
        users.
        """
        alone = self.backlog_s.gather(-1, self._vm)
        admitted = admitted * (self._completion(alone) <= deadline_s)
        while True:
            before, _ = self.scan(admitted)
            late = admitted * (self._completion(before) > deadline_s)
            if not late.any():
                return admitted
            # `before` never falls along a queue, so its least value among late tasks is that of the first one.
            at_first_late = torch.full_like(self.backlog_s, -_NEVER).scatter_reduce(
                -1, self._vm, before - (1 - late) * _NEVER, "amin"
            )
            hopeless = self._completion(at_first_late.gather(-1, self._vm)) > deadline_s
            admitted = admitted * (1 - late * hopeless)

    def _completion(self, before: Tensor) -> Tensor:
        return completion_time(self._arrival_s, self.wait(before), self._execution_s)
