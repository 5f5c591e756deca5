"""Allocation rules, from simple ones to a strong baseline (`LookaheadGreedy`). All work on whole batches."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sliceoff.checks import between, numbers, whole
from sliceoff.region import draws
from sliceoff.region.packing import SLACK, free_from, pack, placement
from sliceoff.region.scenario import Scenario
from sliceoff.region.serve import bandwidth_time, bandwidth_work, execution_work, serve
from sliceoff.region.state import Allocation, RegionState, map_state


class Equal:
    """Equal shares; VMs are assigned in turn."""

    serves_ahead = True

    def allocate(self, scenario: Scenario, state: RegionState) -> Allocation:
        """Give every present user the same share, and the j-th one VM `j mod n_vms`."""
        present = state.tasks.present
        turn = present.cumsum(-1) - 1
        return Allocation(normalise(present.to(state.backlog_s.dtype)), turn.clamp_min(0) % state.n_vms.unsqueeze(-1))


class Proportional:
    """Shares such that all uploads end together; then, longest task first, the least-loaded VM."""

    serves_ahead = True

    def allocate(self, scenario: Scenario, state: RegionState) -> Allocation:
        """Shares proportional to the bandwidth work `d / log2(1 + snr)`."""
        share = normalise(bandwidth_work(scenario, state.tasks) * state.tasks.present)
        return Allocation(share, least_loaded(execution_work(scenario, state.tasks), state))


class Random:
    """Shares uniform on the simplex, VMs uniform.

    Args:
        seed: of the draws, which depend only on it, a task's size and its position.
    """

    serves_ahead = True

    def __init__(self, seed: int = 0):
        self._seed = whole("seed", seed)

    def allocate(self, scenario: Scenario, state: RegionState) -> Allocation:
        """Shares from the flat Dirichlet distribution over the present users."""
        present, dtype = state.tasks.present, state.backlog_s.dtype
        key = draws.child(draws.mix(state.tasks.data_bits.double().view(torch.int64)), self._seed)
        key = draws.child(key, torch.arange(key.shape[-1], device=key.device))  # tasks of one size differ too
        weight, place = (uniform.squeeze(-1).double() for uniform in draws.uniforms(key, 0, 1))
        share = normalise((-torch.log1p(-weight)).to(dtype) * present)
        return Allocation(share, (place * state.n_vms.unsqueeze(-1)).long())


class Greedy:
    """Deadline-aware greedy: tasks in falling order of density, every VM filled backwards from the deadline.

    A task placed on a VM with `later` work after it must start by `deadline - later - own work`, which is also when its
    upload must end; that fixes the bandwidth it needs. It goes to the VM with the least work so far among those where
    it would start after the backlog, and is left out if there is none, or if the bandwidth is used up. Bandwidth left
    over is spread over the tasks served, which makes all of them earlier and leaves less work for the next slot.
    """

    serves_ahead = True

    def allocate(self, scenario: Scenario, state: RegionState) -> Allocation:
        """Pack tasks by priority per resource used; considers the backlogs, but not later slots."""
        return packed(scenario, state, value_density(scenario, state))


class LookaheadGreedy:
    """Greedy with several weightings of the two resources; the plan that earns most over two slots is kept.

    Every plan is packed twice: once as by `Greedy`, then its tasks in the order of bandwidth work per execution time,
    which gives the late starts to long uploads and so makes room for more tasks. The next slot is estimated by `Greedy`
    with the backlog that a plan leaves, and with this slot's tasks.

    Args:
        bandwidth_weights: weights, 0 to 1, of a task's share of bandwidth against its share of VM time in the density.
    """

    serves_ahead = True

    def __init__(self, bandwidth_weights: Sequence[float] = (0.1, 0.35, 0.8)):
        weights = numbers("bandwidth_weights", bandwidth_weights)
        self._weights = tuple(between("bandwidth_weights", weight, 0, 1) for weight in weights)

    def allocate(self, scenario: Scenario, state: RegionState) -> Allocation:
        """Return the best plan; deterministic, and without knowledge of the next slot's tasks."""
        plans = [_repacked(scenario, state, value_density(scenario, state, weight)) for weight in self._weights]
        plan = Allocation(*(torch.stack(parts) for parts in zip(*plans, strict=True)))
        now = map_state(lambda x: x.expand(len(plans), *x.shape), state)
        served = serve(scenario, now, plan)
        then = now._replace(backlog_s=served.backlog_s)
        after = serve(scenario, then, Greedy().allocate(scenario, then))
        best = (served.revenue + after.revenue).sum(-1).argmax(0)
        pick = best.unsqueeze(-1).expand_as(plan.vm[0]).unsqueeze(0)
        return Allocation(plan.share.gather(0, pick)[0], plan.vm.gather(0, pick)[0])


def normalise(weight: Float[Tensor, "*batch users"]) -> Float[Tensor, "*batch users"]:
    """Shares proportional to the weights; all zero if all weights are."""
    return weight / weight.sum(-1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)


def allocation_of(
    state: RegionState, weight: Float[Tensor, "*batch users"], machine: Float[Tensor, "*batch users"]
) -> Allocation:
    """Eq. 21 from two numbers in [0, 1] per user: shares proportional to `weight` (equal if all are zero), and VM
    `min(floor(machine V), V - 1)` of V."""
    present, n_vms = state.tasks.present, state.n_vms.unsqueeze(-1)
    weight = weight * present
    nobody = weight.sum(-1, keepdim=True) <= 0
    vm = (machine * n_vms).long().clamp_min(0)
    return Allocation(normalise(torch.where(nobody, present.to(weight.dtype), weight)), torch.minimum(vm, n_vms - 1))


def value_density(
    scenario: Scenario, state: RegionState, bandwidth_weight: float = 0.5
) -> Float[Tensor, "*batch users"]:
    """Priority per part of the region's bandwidth and VM time that a task takes; minus infinity for absent users."""
    bandwidth_s, execution_s = demands(scenario, state)
    taken = bandwidth_weight * bandwidth_s + (1 - bandwidth_weight) * execution_s
    return torch.where(state.tasks.present, state.tasks.priority / taken, -torch.inf)


def demands(
    scenario: Scenario, state: RegionState
) -> tuple[Float[Tensor, "*batch users"], Float[Tensor, "*batch users"]]:
    """Time [s] that each task takes of all of the region's bandwidth, and of all its VMs together."""
    return bandwidth_time(scenario, state), execution_work(scenario, state.tasks) / state.n_vms.unsqueeze(-1)


def least_loaded(work_s: Float[Tensor, "*batch users"], state: RegionState) -> Int[Tensor, "*batch users"]:
    """Assign VMs, longest task first, each to the VM that is free first, including its backlog."""
    present = state.tasks.present
    ranked, order = torch.where(present, work_s, 0).sort(dim=-1, descending=True, stable=True)
    load = free_from(state)
    vm = torch.zeros_like(order)
    for rank in range(int(present.sum(-1).max()) if present.numel() else 0):
        chosen = load.argmin(-1, keepdim=True)
        vm[..., rank : rank + 1] = chosen
        load = load.scatter_add(-1, chosen, ranked[..., rank : rank + 1])
    return torch.zeros_like(vm).scatter(-1, order, vm)


def packed(scenario: Scenario, state: RegionState, density: Float[Tensor, "*batch users"]) -> Allocation:
    """Place tasks in the order of falling `density` (minus infinity: leave out), as `Greedy` describes."""
    ranked, order = density.sort(dim=-1, descending=True, stable=True)
    wanted = ranked > -torch.inf
    share, vm = pack(
        bandwidth_time(scenario, state).gather(-1, order),
        execution_work(scenario, state.tasks).gather(-1, order),
        wanted,
        free_from(state),
        scenario.deadline_s * (1 - SLACK),
    )
    share = torch.zeros_like(share).scatter(-1, order, share)
    return Allocation(normalise(share), torch.zeros_like(vm).scatter(-1, order, vm))


def _repacked(scenario: Scenario, state: RegionState, density: Float[Tensor, "*batch users"]) -> Allocation:
    """`packed`, then again: first the tasks placed, by bandwidth work per execution time, then the others."""
    first = packed(scenario, state, density)
    placed = first.share > 0
    ratio = placement(bandwidth_work(scenario, state.tasks), execution_work(scenario, state.tasks))
    # Both orders are mapped to (0, 1], and 1 is added for the placed tasks.
    ratio = ratio / torch.where(placed, ratio, 0).amax(-1, keepdim=True).clamp_min(torch.finfo(ratio.dtype).tiny)
    order = torch.where(placed, 1 + ratio, density / (1 + density))
    second = packed(scenario, state, torch.where(state.tasks.present, order, -torch.inf))
    better = _placed_priority(state, second) >= _placed_priority(state, first)
    return Allocation(*(torch.where(better, new, old) for new, old in zip(second, first, strict=True)))


def _placed_priority(state: RegionState, allocation: Allocation) -> Float[Tensor, "*batch 1"]:
    return (state.tasks.priority * (allocation.share > 0)).sum(-1, keepdim=True)
