"""Packing tasks onto VMs backwards from the deadline: the core of the greedy rules and of the learned packings."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sliceoff.region.state import RegionState

# Share of the deadline that is not filled, so that a full VM is not late by rounding.
SLACK = 1e-3
# Stands for infinity, but may be multiplied by zero.
_ENDLESS = 1e12
# Rows without tasks left are cut off when the remaining ones are fewer than this share.
_SHRINK = 0.75
# Iterations of `hasten`; twice as many earn no more.
_ROUNDS, _HALVINGS = 2, 12


def free_from(state: RegionState) -> Float[Tensor, "*batch vms"]:
    """When each VM is free, from the slot's start; infinite if it is not rented. VMs that no row rents are left out."""
    most = max(int(state.n_vms.max()), 1) if state.n_vms.numel() else 1
    rented = torch.arange(most, device=state.n_vms.device) < state.n_vms.unsqueeze(-1)
    return torch.where(rented, state.backlog_s[..., :most], torch.inf)


def placement(
    bandwidth_s: Float[Tensor, "*batch users"], execution_s: Float[Tensor, "*batch users"]
) -> Float[Tensor, "*batch users"]:
    """The order of tasks on a VM: bandwidth work per execution time; the largest is placed last.

    Exchanging two neighbouring tasks on a VM shows that this order needs the least bandwidth (to first order in
    execution time over time left): a long upload gains most from a later start, and a short execution delays the
    other task least.
    """
    return bandwidth_s / execution_s


def pack(
    bandwidth_s: Float[Tensor, "*batch users"],
    execution_s: Float[Tensor, "*batch users"],
    wanted: Bool[Tensor, "*batch users"],
    free_from_s: Float[Tensor, "*batch vms"],
    deadline_s: float,
) -> tuple[Float[Tensor, "*batch users"], Int[Tensor, "*batch users"]]:
    """Place tasks in the given order, filling every VM backwards from the deadline.

    A task goes to the VM on which it can start latest, but not before the VM's backlog is done; its upload must end by
    then, which fixes the share of bandwidth it needs. It is left out if that is more than is left.

    In every turn all rows place their next task. Rows are the last dimension and masks are numbers: both make this
    several times faster.

    Args:
        bandwidth_s: time to upload with all of the region's bandwidth.
        free_from_s: when each VM is free; infinite for one that does not exist.

    Returns:
        Shares (zero for those left out; their sum is at most one) and VMs (zero likewise).
    """
    users = wanted.shape[-1]
    turns = torch.arange(1, users + 1, device=wanted.device)
    # The rows with the most tasks come first, so that the rows with a task left at any turn are the first ones.
    length, row = (wanted * turns).amax(-1).flatten().sort(descending=True, stable=True)
    share = bandwidth_s.new_zeros(users, len(row))
    vm = torch.zeros_like(share, dtype=torch.int64)
    work = torch.where(wanted, bandwidth_s, _ENDLESS).clamp_max(_ENDLESS).view(len(row), users)[row].T.contiguous()
    own = execution_s.reshape(len(row), users)[row].T.contiguous()
    room = (deadline_s - free_from_s).reshape(len(row), free_from_s.shape[-1])[row].T.contiguous()  # not yet filled
    start = torch.full_like(room, deadline_s)  # of the work placed so far
    free = torch.ones_like(share[:1])
    for these, rows in _shrinking((length.unsqueeze(-1) >= turns).sum(0).tolist(), len(row)):
        room, start, free = room[:, :rows], start[:, :rows], free[:, :rows]
        needs, chosen = [], []
        for now, execution in zip(work[these, :rows].unbind(), own[these, :rows].unbind(), strict=True):
            lacking = (room - execution).clamp_max_(0)
            latest, place = torch.add(start, lacking, alpha=_ENDLESS).max(0, keepdim=True)
            need = now / (latest - execution).clamp_min_(1 / _ENDLESS)
            taken = need <= free
            need *= taken
            free = free - need
            used = (execution * taken).neg_()
            start.scatter_add_(0, place, used)
            room.scatter_add_(0, place, used)
            needs.append(need)
            chosen.append(place)
        share[these, :rows], vm[these, :rows] = torch.cat(needs), torch.cat(chosen)
    vm *= share > 0
    back = torch.empty_like(row)
    back[row] = torch.arange(len(row), device=row.device)
    return share.T[back].view(wanted.shape), vm.T[back].view(wanted.shape)


def hasten(
    bandwidth_s: Float[Tensor, "batch users"],
    share: Float[Tensor, "batch users"],
    vm: Int[Tensor, "batch users"],
    free_from_s: Float[Tensor, "batch vms"],
    deadline_s: float,
    slot_s: float,
) -> Float[Tensor, "batch users"]:
    """Distribute the bandwidth that `pack` left over, so that the VMs are done as early as possible.

    `pack` lets every upload end as late as possible, and a VM that waits for one is idle. If VM v executes without a
    pause from `x_v` on, task i behind `e_i` of other work must have arrived by `x_v + e_i`. With `E_v` the VM's total
    execution time,

        min sum_v x_v    s.t.    sum_i b_i / (x_v + e_i) <= 1,    max(free_v, slot - E_v) <= x_v <= deadline - E_v,

    since being done before the slot ends gains nothing. Each round replaces a VM's sum by `r_v + c_v / x_v` with the
    same value and slope, for which `x_v = t sqrt(c_v)`, within the bounds, with one `t` for all VMs, found by bisection
    of its logarithm.

    Args:
        bandwidth_s, free_from_s, deadline_s: as for `pack`.
        share, vm: what it returned.
        slot_s: length of the slot.

    Returns:
        Shares, none below those given; their sum is at most one.
    """
    served = share > 0
    work = torch.where(served, bandwidth_s, 0)
    # Execution time of a task and all after it on its VM: the time from the end of its upload to the deadline.
    onward = torch.where(served, deadline_s - bandwidth_s / share.clamp_min(1 / _ENDLESS), 0)
    total = torch.zeros_like(free_from_s).scatter_reduce(-1, vm, onward, "amax")
    before = total.gather(-1, vm) - onward
    begin = latest = (deadline_s - total).clamp_min(1 / _ENDLESS)
    with_everything = torch.zeros_like(total).scatter_reduce(-1, vm, work - before, "amax")  # at best
    soonest = free_from_s.maximum(slot_s - total).maximum(with_everything).clamp_min(1 / _ENDLESS).minimum(latest)

    def by_vm(values: Tensor) -> Tensor:
        return torch.zeros_like(begin).scatter_add(-1, vm, values)

    for _ in range(_ROUNDS):
        arrival = (begin.gather(-1, vm) + before).clamp_min(1 / _ENDLESS)
        asked, slope = by_vm(work / arrival), by_vm(work / arrival.square())
        root, rest = begin * slope.sqrt(), asked - begin * slope
        # Both quotients are infinite for a VM without work.
        low = (soonest / root).amin(-1, keepdim=True).clamp_max(_ENDLESS)
        high = (latest / root).nan_to_num(posinf=0).amax(-1, keepdim=True).maximum(low)
        for _ in range(_HALVINGS):
            scale = (low * high).sqrt()  # uploads differ in size by powers of ten
            begin = (scale * root).clamp(soonest, latest)
            enough = _sum(rest + root.square() / begin) <= 1
            low, high = torch.where(enough, low, scale), torch.where(enough, scale, high)
        begin = (low * root).clamp(soonest, latest)
    more = (work / (begin.gather(-1, vm) + before).clamp_min(1 / _ENDLESS) - share).clamp_min(0)
    # The rounds end near the optimum, at slightly more or less than the bandwidth there is.
    spare = (1 - _sum(share)).clamp_min(0)
    return share + more * (spare / _sum(more).clamp_min(1 / _ENDLESS)).clamp_max(1)


def _sum(values: Float[Tensor, "batch width"]) -> Float[Tensor, "batch 1"]:
    """Sums of the rows, added in order, so that trailing zeros do not change a bit (batches pad rows with zeros)."""
    return values.cumsum(-1)[..., -1:]


def _shrinking(left: Sequence[int], rows: int) -> Iterator[tuple[slice, int]]:
    """Runs of turns, each with the number of rows that have tasks left at its start; `left` never rises."""
    first = 0
    for turn, count in enumerate([*left, 0]):
        if count < _SHRINK * rows:
            if turn > first and rows:
                yield slice(first, turn), rows
            first, rows = turn, count
