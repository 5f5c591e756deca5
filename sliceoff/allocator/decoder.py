"""From a network's raw action, in [-1, 1] per user, to an allocation for which C4 and C5 hold by construction.

A decoder is part of the environment as far as learning is concerned: no gradient flows through it.
"""

from collections.abc import Sequence
from math import log

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sliceoff.errors import InputError
from sliceoff.region import Allocation, RegionState, Scenario, bandwidth_work, execution_work
from sliceoff.region.rules import normalise

# Kept back, as a part of the deadline, so that a VM filled to the brim is not late by rounding.
_SLACK = 1e-3
# Part of the deadline that uploads last on average where bandwidth is short.
_UPLOADING = 0.8
# Rounds after which the two prices have settled.
_ROUNDS = 6


class Decoder(nn.Module):
    """Interface. A module, so that a checkpoint can name it; it has no weights."""

    def action_shape(self, n_users: int) -> tuple[int, int]:
        """Rows and columns of a region's raw action: a row per user, or a single row for the region."""
        raise NotImplementedError

    def forward(
        self, scenario: Scenario, state: RegionState, action: Float[Tensor, "batch rows actions"]
    ) -> Allocation:
        """Decode."""
        raise NotImplementedError


class Paper(Decoder):
    """Eq. 21: the first action is the share, normalised over present users, the second picks the VM.

    With x the action moved to [0, 1], the VM is `min(floor(x V), V - 1)` and the share proportional to x; equal where
    all are zero.
    """

    def action_shape(self, n_users: int) -> tuple[int, int]:
        """Two per user."""
        return n_users, 2

    def forward(
        self, scenario: Scenario, state: RegionState, action: Float[Tensor, "batch users actions"]
    ) -> Allocation:
        """Decode."""
        present = state.tasks.present
        unit = (action.detach() + 1) / 2
        weight = unit[..., 0] * present
        nobody = weight.sum(-1, keepdim=True) <= 0
        n_vms = state.n_vms.unsqueeze(-1)
        vm = (unit[..., 1] * n_vms).floor().long().clamp_min(0)
        return Allocation(
            normalise(torch.where(nobody, present.to(weight.dtype), weight)), torch.minimum(vm, n_vms - 1)
        )


class Packing(Decoder):
    """The actions say what each task is worth and how soon it is picked; a search packs VMs and bandwidth for that.

    The first action moves the task's worth from its priority by up to `worth_range` mean priorities: what serving it
    now costs the slots to come. Tasks worth nothing or less are left out. The second scales by up to `tilt_range`, up
    or down, the task's rank: its worth per part of the region's bandwidth and VM time that it takes. Action zero is a
    good rule.

    The search: for `n` = 0, stride, 2 stride, ..., the `n` tasks of the highest rank are placed first, ordered to spare
    bandwidth (see `placement`), then the others by rank, each if it still fits (`pack`). The `n` that serves the
    greatest worth wins.

    Args:
        stride: step of the search; 1 is best and slowest.
        worth_range: in mean priorities.
        tilt_range: largest factor on the rank.
    """

    def __init__(self, stride: int = 3, worth_range: float | int = 1.0, tilt_range: float | int = 3.0):
        super().__init__()
        if stride < 1:
            raise InputError(f"decoder.stride={stride} is not above zero")
        if worth_range < 0 or tilt_range < 1:
            raise InputError(
                f"decoder.worth_range={worth_range} must be at least zero, decoder.tilt_range={tilt_range} at least one"
            )
        self.stride = stride
        self.worth_range = worth_range
        self.tilt_range = tilt_range

    def action_shape(self, n_users: int) -> tuple[int, int]:
        """Two per user."""
        return n_users, 2

    def forward(
        self, scenario: Scenario, state: RegionState, action: Float[Tensor, "batch users actions"]
    ) -> Allocation:
        """Decode."""
        action = action.detach()
        worth = state.tasks.priority + self.worth_range * mean(scenario.priorities) * action[..., 0]
        tilt = (log(self.tilt_range) * action[..., 1]).exp()
        return search(scenario, state, worth, tilt, self.stride)


class Prices(Decoder):
    """`Packing` steered by two numbers per region instead of two per user: far less to learn.

    A task's worth is its priority less the price of its execution: what filling the queues now costs the slots to come.
    The first action scales that price, from 0 at -1 to `price_range` times the `bid_price` at 1. At 0, somewhat below
    the bid price, it is a good rule already; just above the bid price VMs fall idle, and that is where it pays to look
    at the queues. The second action moves weight between the resources when tasks are ranked: VM time counts for more
    by up to `mix_range`, bandwidth for less by as much, or the other way round.

    Args:
        stride: as for `Packing`.
        price_range: largest factor on the bid price.
        mix_range: largest factor on either resource's weight.
    """

    def __init__(self, stride: int = 3, price_range: float | int = 1.3, mix_range: float | int = 3.0):
        super().__init__()
        if stride < 1:
            raise InputError(f"decoder.stride={stride} is not above zero")
        if price_range < 0 or mix_range < 1:
            raise InputError(
                f"decoder.price_range={price_range} must be at least zero, decoder.mix_range={mix_range} at least one"
            )
        self.stride = stride
        self.price_range = price_range
        self.mix_range = mix_range

    def action_shape(self, n_users: int) -> tuple[int, int]:
        """Two per region."""
        return 1, 2

    def forward(self, scenario: Scenario, state: RegionState, action: Float[Tensor, "batch one actions"]) -> Allocation:
        """Decode."""
        scale, mix = action.detach().unbind(-1)
        price = self.price_range * (1 + scale) / 2 * bid_price(scenario, state).unsqueeze(-1)
        worth = state.tasks.priority - price * execution_work(scenario, state.tasks)
        bandwidth_s, vm_s = demands(scenario, state)
        weight = (log(self.mix_range) * mix).exp()
        tilt = (bandwidth_s + vm_s) / (bandwidth_s / weight + vm_s * weight)
        return search(scenario, state, worth, tilt, self.stride)


def bid_price(scenario: Scenario, state: RegionState) -> Float[Tensor, " batch"]:
    """Priority that a second of VM time is worth, were every slot like this one; zero where there is enough of it.

    The dual prices of one slot's fractional knapsack over bandwidth and VM time, found in turn: each is the worth per
    size of the first task, by falling worth per size, that the resource has no room for, where worth is what the price
    of the other resource leaves of the priority. A slot has `short_slot_s` of every VM (queued work only moves what a
    slot does into the next one), and bandwidth for the part of the deadline that uploads last on average.
    """
    tasks = state.tasks
    bandwidth_s = bandwidth_work(scenario, tasks) / state.bandwidth_hz.unsqueeze(-1).clamp_min(1e-9)
    execution_s = execution_work(scenario, tasks)
    airtime = torch.full_like(state.bandwidth_hz, _UPLOADING * scenario.deadline_s)
    vm_time = state.n_vms * scenario.short_slot_s
    price = torch.zeros_like(airtime)
    for _ in range(_ROUNDS):
        left = tasks.priority - price.unsqueeze(-1) * execution_s
        airtime_price = marginal_density(left, bandwidth_s, tasks.present, airtime)
        left = tasks.priority - airtime_price.unsqueeze(-1) * bandwidth_s
        price = marginal_density(left, execution_s, tasks.present, vm_time)
    return price


def marginal_density(
    worth: Float[Tensor, "batch users"],
    size: Float[Tensor, "batch users"],
    present: Bool[Tensor, "batch users"],
    room: Float[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """Worth per size of the first task, by falling worth per size, that there is no room for; zero if all fit."""
    density = torch.where(present & (worth > 0), worth / size, 0)
    ranked, order = density.sort(-1, descending=True)
    filled = torch.where(ranked > 0, size.gather(-1, order), 0).cumsum(-1)
    return torch.where(filled > room.unsqueeze(-1), ranked, 0).amax(-1)


def mean(values: Sequence[float]) -> float:
    """Plain mean."""
    return sum(values) / len(values)


def demands(
    scenario: Scenario, state: RegionState
) -> tuple[Float[Tensor, "batch users"], Float[Tensor, "batch users"]]:
    """Seconds of all of the region's bandwidth, and of all its VMs together, that each task takes."""
    bandwidth_s = bandwidth_work(scenario, state.tasks) / state.bandwidth_hz.unsqueeze(-1).clamp_min(1e-9)
    return bandwidth_s, execution_work(scenario, state.tasks) / state.n_vms.unsqueeze(-1)


def search(
    scenario: Scenario,
    state: RegionState,
    worth: Float[Tensor, "batch users"],
    tilt: Float[Tensor, "batch users"],
    stride: int,
) -> Allocation:
    """Serve the greatest total worth among packings that favour the first n tasks by rank, n = 0, stride, ..."""
    bandwidth_s, vm_s = demands(scenario, state)
    execution_s = execution_work(scenario, state.tasks)
    wanted = state.tasks.present & (worth > 0)
    users = int(wanted.sum(-1).max()) if wanted.numel() else 0
    rank = _position(worth * tilt / (bandwidth_s + vm_s), wanted)
    place = _position(placement(bandwidth_s, execution_s), wanted)
    favoured = torch.arange(0, users + 1, stride, device=worth.device)
    key = torch.where(
        rank.unsqueeze(1) < favoured.view(-1, 1), place.unsqueeze(1), wanted.shape[-1] + rank.unsqueeze(1)
    )
    order = key.argsort(-1)[..., :users]  # (batch, candidates, users wanted)

    def ordered(x: Tensor) -> Tensor:
        return x.unsqueeze(1).expand(-1, len(favoured), -1).gather(-1, order)

    share, vm = pack(
        ordered(bandwidth_s),
        ordered(execution_s),
        ordered(wanted),
        free_from(state).unsqueeze(1).expand(-1, len(favoured), -1),
        scenario.deadline_s * (1 - _SLACK),
    )
    best = torch.where(share > 0, ordered(worth), 0).sum(-1).argmax(-1)

    def restored(x: Tensor) -> Tensor:
        chosen = best.view(-1, 1, 1).expand(-1, 1, users)
        empty = x.new_zeros(worth.shape)
        return empty.scatter(-1, order.gather(1, chosen).squeeze(1), x.gather(1, chosen).squeeze(1))

    return Allocation(normalise(restored(share)), restored(vm))


def placement(
    bandwidth_s: Float[Tensor, "batch users"], execution_s: Float[Tensor, "batch users"]
) -> Float[Tensor, "batch users"]:
    """Who uploads last: the largest bandwidth work per execution time.

    Of two tasks next to each other on a VM, exchanging them shows that this order needs the least bandwidth (to first
    order in execution time over time left): a long upload gains most from a later start, a short execution costs the
    other task the least.
    """
    return bandwidth_s / execution_s


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

    Args:
        bandwidth_s: time to upload with all of the region's bandwidth.
        free_from_s: when each VM is free; infinite for one that does not exist.

    Returns:
        Shares (zero for those left out; their sum is at most one) and VMs.
    """
    room = deadline_s - free_from_s  # not yet filled
    start = torch.full_like(room, deadline_s)  # of the work placed so far
    free = torch.ones_like(bandwidth_s[..., :1])
    shares, vms = [torch.zeros_like(free)], [torch.zeros_like(free, dtype=torch.int64)]
    for user in range(bandwidth_s.shape[-1]):
        own = execution_s[..., user : user + 1]
        latest, vm = torch.where(room >= own, start, -torch.inf).max(-1, keepdim=True)
        need = bandwidth_s[..., user : user + 1] / (latest - own)
        taken = wanted[..., user : user + 1] & (latest > own) & (need <= free)
        need = torch.where(taken, need, 0)
        free = free - need
        used = torch.where(taken, -own, 0)
        start = start.scatter_add(-1, vm, used)
        room = room.scatter_add(-1, vm, used)
        shares.append(need)
        vms.append(torch.where(taken, vm, 0))
    return torch.cat(shares, -1)[..., 1:], torch.cat(vms, -1)[..., 1:]


def free_from(state: RegionState) -> Float[Tensor, "batch vms"]:
    """When each VM is free, from the slot's start; infinite for one that is not rented; VMs nobody rents left out."""
    vms = torch.arange(int(state.n_vms.max()) if state.n_vms.numel() else 1, device=state.n_vms.device)
    return torch.where(vms < state.n_vms.unsqueeze(-1), state.backlog_s[..., : len(vms)], torch.inf)


def _position(score: Float[Tensor, "batch users"], wanted: Bool[Tensor, "batch users"]) -> Int[Tensor, "batch users"]:
    """Place of each user when sorted by falling score, those not wanted last; ties in the order of users."""
    order = torch.where(wanted, score, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    return torch.empty_like(order).scatter_(
        -1, order, torch.arange(order.shape[-1], device=order.device).expand_as(order)
    )
