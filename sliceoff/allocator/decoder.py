"""From a network's raw action, in [-1, 1] per user, to an allocation for which C4 and C5 hold by construction.

A decoder is part of the environment as far as learning is concerned: no gradient flows through it.
"""

from math import log
from operator import itemgetter
from statistics import fmean
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sliceoff.allocator.bid_price import bid_prices, likely_users
from sliceoff.checks import at_least, count, not_negative, positive
from sliceoff.region import (
    Allocation,
    Equal,
    Outcome,
    RegionState,
    Scenario,
    allocation_of,
    bandwidth_work,
    execution_work,
    map_state,
    serve,
)
from sliceoff.region.packing import SLACK, free_from, hasten, pack, placement
from sliceoff.region.rules import demands, normalise
from sliceoff.region.serve import bandwidth_time

# Free tasks are compared by priority all the same.
_LEAST_PRICE = 1e-12


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

    def at_rest(self, scenario: Scenario, state: RegionState) -> Allocation:
        """A rule to measure what is learned against (`reward="above_rest"`): what action zero stands for."""
        shape = self.action_shape(state.tasks.present.shape[-1])
        return self(scenario, state, state.bandwidth_hz.new_zeros(len(state.n_vms), *shape))


class Paper(Decoder):
    """Eq. 21: the first action is the share, normalised over present users, the second picks the VM.

    See `sliceoff.region.allocation_of`.
    """

    def action_shape(self, n_users: int) -> tuple[int, int]:
        """Two per user."""
        return n_users, 2

    def forward(
        self, scenario: Scenario, state: RegionState, action: Float[Tensor, "batch users actions"]
    ) -> Allocation:
        """Decode."""
        return allocation_of(state, *((action.detach() + 1) / 2).unbind(-1))

    def at_rest(self, scenario: Scenario, state: RegionState) -> Allocation:
        """Equal shares, VMs in turn. Action zero, all users on one VM, earns too little to tell luck by."""
        return Equal().allocate(scenario, state)


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
        self.stride = count("stride", stride)
        self.worth_range = not_negative("worth_range", worth_range)
        self.tilt_range = at_least("tilt_range", tilt_range, 1)

    def action_shape(self, n_users: int) -> tuple[int, int]:
        """Two per user."""
        return n_users, 2

    def forward(
        self, scenario: Scenario, state: RegionState, action: Float[Tensor, "batch users actions"]
    ) -> Allocation:
        """Decode."""
        shift, tilt = action.detach().unbind(-1)
        worth = state.tasks.priority + self.worth_range * fmean(scenario.priorities) * shift
        rank = worth * (log(self.tilt_range) * tilt).exp() / sum(demands(scenario, state))
        plans = packings(scenario, state, worth, rank, self.stride)
        return plans.best(torch.where(plans.allocation.share > 0, worth[plans.row], 0).sum(-1))


class Prices(Decoder):
    """Two prices per region instead of two numbers per user: far less to learn.

    What fills the queues now costs the slots to come, of which the forecast knows (`likely_users`). The first action
    sets the price of execution that a task must be worth to be wanted: `bid_prices` for so many slots' VM time, `room`
    at 0, `room_range` times more or less at the bounds. More room means a lower price, and none where there is room for
    all; less than a slot leaves VMs idle. The second is the price of what is left in the queues, for one slot's bid
    price and a mean priority per deadline: that at 0, nothing at -1, twice that at 1. A task's rank is its priority
    less what its VM time and bandwidth cost. Every packing that `packings` finds for the wanted tasks is served in
    thought, and the one chosen that earns most less the price of the backlog it leaves, gaps between late uploads
    included.

    Args:
        stride: of the search; 1 is best and slowest.
        room: VM time that the bid price counts on, in slots.
        room_range: largest factor on it.
        forecast_weight: of the users expected beside those present, see `likely_users`.
    """

    def __init__(
        self,
        stride: int = 3,
        room: float | int = 1.2,
        room_range: float | int = 1.6,
        forecast_weight: float | int = 20.0,
    ):
        super().__init__()
        self.stride = count("stride", stride)
        self.room = positive("room", room)
        self.room_range = at_least("room_range", room_range, 1)
        self.forecast_weight = not_negative("forecast_weight", forecast_weight)

    def action_shape(self, n_users: int) -> tuple[int, int]:
        """Two per region."""
        return 1, 2

    def forward(self, scenario: Scenario, state: RegionState, action: Float[Tensor, "batch one actions"]) -> Allocation:
        """Decode."""
        plans, _, score = self.weighed(scenario, state, action)
        return plans.best(score)

    def weighed(
        self, scenario: Scenario, state: RegionState, action: Float[Tensor, "batch one actions"]
    ) -> tuple["Plans", Outcome, Float[Tensor, " plans"]]:
        """All packings, what serving each would do, and what it earns less the price of the backlog it leaves.

        The last in units of priority.
        """
        execution, waiting = action.detach().squeeze(-2).unbind(-1)
        room = self.room * (-log(self.room_range) * execution).exp()
        users = likely_users(state, self.forecast_weight)
        hertz_s, vm_s = bid_prices(scenario, state, users, torch.stack((room, torch.ones_like(room)), -1))
        worth = state.tasks.priority - vm_s[:, :1] * execution_work(scenario, state.tasks)
        rank = worth - hertz_s[:, :1] * bandwidth_work(scenario, state.tasks)
        plans = packings(scenario, state, worth, rank, self.stride)
        after = serve(scenario, map_state(itemgetter(plans.row), state), plans.allocation)
        earned = after.revenue.sum(-1) / max(scenario.price, _LEAST_PRICE)
        left = (1 + waiting) * backlog_price(scenario, vm_s[:, 1])
        return plans, after, earned - left[plans.row] * after.backlog_s.sum(-1)


def backlog_price(scenario: Scenario, vm_s: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """Priority that a second left in a queue costs: its VM time, and a mean priority per deadline for those delayed."""
    return vm_s + fmean(scenario.priorities) / scenario.deadline_s


class Plans(NamedTuple):
    """Several allocations for every region of a batch, one below the other."""

    allocation: Allocation  # (plans, users)
    row: Int[Tensor, " plans"]  # the region that each is for, rising
    place: Int[Tensor, " plans"]  # among the region's plans

    @property
    def first(self) -> Int[Tensor, " batch"]:
        """Where every region's plans begin."""
        return (self.place == 0).nonzero().squeeze(-1)

    def by_region(self, score: Float[Tensor, " plans"]) -> Float[Tensor, "batch places"]:
        """The scores, minus infinity where a region has no more plans."""
        scores = score.new_full((len(self.first), 1 + max(self.place.tolist(), default=0)), -torch.inf)
        scores[self.row, self.place] = score
        return scores

    def best(self, score: Float[Tensor, " plans"]) -> Allocation:
        """Every region's plan of the highest score, the first of equals; (batch, users)."""
        best = self.first + self.by_region(score).argmax(-1)
        return Allocation(*(x[best] for x in self.allocation))


def packings(
    scenario: Scenario,
    state: RegionState,
    worth: Float[Tensor, "batch users"],
    rank: Float[Tensor, "batch users"],
    stride: int,
) -> Plans:
    """Pack the tasks that are worth something, the first n by rank before the others, for n = 0, stride, 2 stride, ...

    Every region has one plan per n up to all of its tasks. What bandwidth is left over lets the VMs be done sooner
    (`hasten`).
    """
    bandwidth_s, execution_s = bandwidth_time(scenario, state), execution_work(scenario, state.tasks)
    wanted = state.tasks.present & (worth > 0)
    by_rank, by_place = _position(rank, wanted), _position(placement(bandwidth_s, execution_s), wanted)
    count = wanted.sum(-1)
    n_plans = (count + (stride - 1)) // stride + 1
    row = torch.arange(len(count), device=count.device).repeat_interleave(n_plans)
    place = torch.arange(len(row), device=count.device) - (n_plans.cumsum(0) - n_plans)[row]
    key = torch.where(by_rank[row] < (place * stride).unsqueeze(-1), by_place[row], wanted.shape[-1] + by_rank[row])
    order = key.argsort(-1)[:, : max([1, *count.tolist()])]  # (plans, users wanted)
    bandwidth_s, execution_s, wanted = (x[row].gather(-1, order) for x in (bandwidth_s, execution_s, wanted))
    free_from_s, deadline_s = free_from(state)[row], scenario.deadline_s * (1 - SLACK)
    share, vm = pack(bandwidth_s, execution_s, wanted, free_from_s, deadline_s)
    if scenario.queue == "lindley":  # the paper's queues take no notice of when an upload ends
        share = hasten(bandwidth_s, share, vm, free_from_s, deadline_s, scenario.short_slot_s)
    nothing = share.new_zeros(*key.shape)
    packed = Allocation(normalise(nothing.scatter(-1, order, share)), nothing.long().scatter(-1, order, vm))
    return Plans(packed, row, place)


def _position(score: Float[Tensor, "batch users"], wanted: Bool[Tensor, "batch users"]) -> Int[Tensor, "batch users"]:
    """Place of each user when sorted by falling score, those not wanted last; ties in the order of users."""
    order = torch.where(wanted, score, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    return torch.empty_like(order).scatter_(
        -1, order, torch.arange(order.shape[-1], device=order.device).expand_as(order)
    )
