"""Packing tasks onto VMs backwards from the deadline: the kernel of the greedy rules and of the learned packings."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sliceoff.region.state import RegionState

# Kept back, as a part of the deadline, so that a VM filled to the brim is not late by rounding.
SLACK = 1e-3
# Stands for infinity, but may be multiplied by zero.
_ENDLESS = 1e12
# Rows that have no task left are cut off when they are a quarter of those that still count.
_SHRINK = 0.75


def free_from(state: RegionState) -> Float[Tensor, "*batch vms"]:
    """When each VM is free, from the slot's start; infinite for one that is not rented; VMs nobody rents left out."""
    most = max(int(state.n_vms.max()), 1) if state.n_vms.numel() else 1
    rented = torch.arange(most, device=state.n_vms.device) < state.n_vms.unsqueeze(-1)
    return torch.where(rented, state.backlog_s[..., :most], torch.inf)


def pack(
    bandwidth_s: Float[Tensor, "*batch users"],
    execution_s: Float[Tensor, "*batch users"],
    wanted: Bool[Tensor, "*batch users"],
    free_from_s: Float[Tensor, "*batch vms"],
    deadline_s: float,
) -> tuple[Float[Tensor, "*batch users"], Int[Tensor, "*batch users"]]:
    """Place tasks in the given order, every VM filled backwards from the deadline.

    A task goes to the VM on which it can start latest, after what the VM has queued; its upload must end by then, which
    fixes the share of bandwidth it needs. It is left out where that is more than there is left.

    Turn by turn all rows place their next task. Rows run along the last dimension and masks are numbers, both of which
    is several times faster than the obvious way.

    Args:
        bandwidth_s: time to upload with all of the region's bandwidth.
        free_from_s: when each VM is free; infinite for one that does not exist.

    Returns:
        Shares (zero for those left out; their sum is at most one) and VMs (zero likewise).
    """
    users = wanted.shape[-1]
    turns = torch.arange(1, users + 1, device=wanted.device)
    # The rows with the most tasks first, so that those which still have one at any turn are the first ones.
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


def _shrinking(left: Sequence[int], rows: int) -> Iterator[tuple[slice, int]]:
    """Runs of turns, each with the number of rows that count in them; `left` never rises."""
    first = 0
    for turn, count in enumerate([*left, 0]):
        if count < _SHRINK * rows:
            if turn > first and rows:
                yield slice(first, turn), rows
            first, rows = turn, count
