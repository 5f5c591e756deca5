"""Decoders: from a network's raw action, in [-1, 1], to an allocation for which C4 and C5 hold by construction.

To the learner a decoder is part of the environment: no gradient flows through it.
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

# Avoids a division by a price of zero.
_LEAST_PRICE = 1e-12


class Decoder(nn.Module):
    """Interface of all decoders. A module, so that a checkpoint's spec can name it; it has no weights."""

    def action_shape(self, n_users: int) -> tuple[int, int]:
        """Rows and columns of a region's raw action: a row per user, or a single row for the region."""
        raise NotImplementedError

    def forward(
        self, scenario: Scenario, state: RegionState, action: Float[Tensor, "batch rows actions"]
    ) -> Allocation:
        """The allocation that the raw actions in [-1, 1] stand for."""
        raise NotImplementedError

    def at_rest(self, scenario: Scenario, state: RegionState) -> Allocation:
        """The baseline of the reward (`reward="above_rest"`): by default the allocation of action zero."""
        shape = self.action_shape(state.tasks.present.shape[-1])
        return self(scenario, state, state.bandwidth_hz.new_zeros(len(state.n_vms), *shape))


class Paper(Decoder):
    """Eq. 21, two actions per user: its share, normalised over present users, and its VM.

    See `sliceoff.region.allocation_of`.
    """

    def action_shape(self, n_users: int) -> tuple[int, int]:
        return n_users, 2

    def forward(
        self, scenario: Scenario, state: RegionState, action: Float[Tensor, "batch users actions"]
    ) -> Allocation:
        return allocation_of(state, *((action.detach() + 1) / 2).unbind(-1))

    def at_rest(self, scenario: Scenario, state: RegionState) -> Allocation:
        """Equal shares, VMs in turn: action zero puts all users on one VM and earns too little to be a baseline."""
        return Equal().allocate(scenario, state)


class Packing(Decoder):
    """Two actions per user set each task's worth and rank; a search packs the tasks into VMs and bandwidth by these.

    The first action shifts the task's worth from its priority by up to `worth_range` mean priorities, for what serving
    it now costs later slots. Tasks with a worth of zero or less are left out. The second scales the task's rank up or
    down by up to `tilt_range`: its worth per part of the region's bandwidth and VM time that it takes. Action zero is a
    good rule.

    The search: for `n` = 0, stride, 2 stride, ..., the `n` tasks of the highest rank are placed first, ordered to save
    bandwidth (see `placement`), then the others by rank, each if it still fits (`pack`). The `n` with the greatest
    total worth served wins.

    Args:
        stride: step of the search; 1 is best and slowest.
        worth_range: largest shift of a task's worth, in mean priorities.
        tilt_range: largest factor on the rank.
    """

    def __init__(self, stride: int = 3, worth_range: float | int = 1.0, tilt_range: float | int = 3.0):
        super().__init__()
        self.stride = count("stride", stride)
        self.worth_range = not_negative("worth_range", worth_range)
        self.tilt_range = at_least("tilt_range", tilt_range, 1)

    def action_shape(self, n_users: int) -> tuple[int, int]:
        return n_users, 2

    def forward(
        self, scenario: Scenario, state: RegionState, action: Float[Tensor, "batch users actions"]
    ) -> Allocation:
        shift, tilt = action.detach().unbind(-1)
        worth = state.tasks.priority + self.worth_range * fmean(scenario.priorities) * shift
        rank = worth * (log(self.tilt_range) * tilt).exp() / sum(demands(scenario, state))
        plans = packings(scenario, state, worth, rank, self.stride)
        return plans.best(torch.where(plans.allocation.share > 0, worth[plans.row], 0).sum(-1))


class Prices(Decoder):
    """Two prices per region instead of two numbers per user: far less to learn.

    Work that fills the queues now takes VM time from later slots, whose load the forecast predicts (`likely_users`).
    The first action sets the price of VM time that a task's priority must exceed for the task to be wanted:
    `bid_prices` for `room` slots' VM time at action 0, `room_range` times as much or as little at the bounds. More room
    means a lower price, zero if there is room for all tasks; room below one slot leaves VMs idle. The second action
    scales the price of work left in the queues (`backlog_price`, at the bid price for one slot of VM time): by 1 at 0,
    by 0 at -1, by 2 at 1. A task's rank is its priority less the prices of its VM time and bandwidth. Every packing
    that `packings` finds for the wanted tasks is evaluated with `serve`, and the one is chosen that earns most less the
    price of the backlog it leaves, which includes gaps where a VM waits for an upload.

    Args:
        stride: step of the search; 1 is best and slowest.
        room: VM time available for the bid price at action 0, in slots.
        room_range: largest factor on `room`.
        forecast_weight: weight of the expected users against those present, see `likely_users`.
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
        return 1, 2

    def forward(self, scenario: Scenario, state: RegionState, action: Float[Tensor, "batch one actions"]) -> Allocation:
        plans, _, score = self.weighed(scenario, state, action)
        return plans.best(score)

    def weighed(
        self, scenario: Scenario, state: RegionState, action: Float[Tensor, "batch one actions"]
    ) -> tuple["Plans", Outcome, Float[Tensor, " plans"]]:
        """All packings, the outcome of serving each, and its score: revenue less the price of the backlog it leaves.

        The score is in units of priority.
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
    """Price, in priority, of a second left in a queue: its VM time, and a mean priority per deadline for the delay."""
    return vm_s + fmean(scenario.priorities) / scenario.deadline_s


class Plans(NamedTuple):
    """Several allocations for every region of a batch, concatenated region by region."""

    allocation: Allocation  # (plans, users)
    row: Int[Tensor, " plans"]  # the region of each plan, rising
    place: Int[Tensor, " plans"]  # index of each among its region's plans

    @property
    def first(self) -> Int[Tensor, " batch"]:
        """The index of every region's first plan."""
        return (self.place == 0).nonzero().squeeze(-1)

    def by_region(self, score: Float[Tensor, " plans"]) -> Float[Tensor, "batch places"]:
        """The scores as one row per region, padded with minus infinity where a region has fewer plans."""
        scores = score.new_full((len(self.first), 1 + max(self.place.tolist(), default=0)), -torch.inf)
        scores[self.row, self.place] = score
        return scores

    def best(self, score: Float[Tensor, " plans"]) -> Allocation:
        """Every region's plan with the highest score, the first if several have it; (batch, users)."""
        best = self.first + self.by_region(score).argmax(-1)
        return Allocation(*(x[best] for x in self.allocation))


def packings(
    scenario: Scenario,
    state: RegionState,
    worth: Float[Tensor, "batch users"],
    rank: Float[Tensor, "batch users"],
    stride: int,
) -> Plans:
    """Pack the tasks with worth above zero, the first n by rank before the others, for n = 0, stride, 2 stride, ...

    Every region has one plan per n, up to all of its tasks. Bandwidth that is left over speeds up uploads so that VMs
    finish sooner (`hasten`).
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
    if scenario.queue == "lindley":  # in the paper's queues, the end of an upload does not matter
        share = hasten(bandwidth_s, share, vm, free_from_s, deadline_s, scenario.short_slot_s)
    nothing = share.new_zeros(*key.shape)
    packed = Allocation(normalise(nothing.scatter(-1, order, share)), nothing.long().scatter(-1, order, vm))
    return Plans(packed, row, place)


def _position(score: Float[Tensor, "batch users"], wanted: Bool[Tensor, "batch users"]) -> Int[Tensor, "batch users"]:
    """Position of each user when sorted by falling score, those not wanted last; ties in the order of users."""
    order = torch.where(wanted, score, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    return torch.empty_like(order).scatter_(
        -1, order, torch.arange(order.shape[-1], device=order.device).expand_as(order)
    )
