"""The dual prices of bandwidth and VM time, against a linear program."""

import mip
import pytest
import torch

from sliceoff.allocator.bid_price import bid_prices
from sliceoff.region import (
    RegionEnvironment,
    RegionState,
    Scenario,
    Tasks,
    bandwidth_work,
    execution_work,
    typical_tasks,
)

SCENARIO = Scenario()
UPLOADING_S = 0.8 * SCENARIO.deadline_s


def state_of(users, bandwidth_hz, n_vms, seed=0):
    state = RegionEnvironment(SCENARIO, 0.0, 1, seed, bandwidth_hz=bandwidth_hz, n_vms=n_vms).state
    return state._replace(tasks=state.tasks._replace(present=torch.arange(SCENARIO.max_users).unsqueeze(0) < users))


def price(state: RegionState, room: float = 1.0) -> tuple[float, float]:
    hertz_s, vm_s = bid_prices(SCENARIO, state, torch.tensor([[room]]))
    return hertz_s.item(), vm_s.item()


def fractional_knapsack(tasks: Tasks, hertz_s: float, vm_s: float) -> float:
    """Greatest priority of parts of tasks that fit into so much bandwidth and VM time."""
    model = mip.Model(sense=mip.MAXIMIZE, solver_name=mip.HIGHS)
    model.verbose = 0
    part = [model.add_var(ub=1.0) for _ in tasks.priority]
    model.objective = mip.xsum(p * x for p, x in zip(tasks.priority.tolist(), part, strict=True))
    work, execution_s = bandwidth_work(SCENARIO, tasks).tolist(), execution_work(SCENARIO, tasks).tolist()
    model += mip.xsum(w / hertz_s * x for w, x in zip(work, part, strict=True)) <= 1
    model += mip.xsum(e / vm_s * x for e, x in zip(execution_s, part, strict=True)) <= 1
    assert model.optimize() == mip.OptimizationStatus.OPTIMAL
    return model.objective_value


@pytest.mark.parametrize(
    ("bandwidth_hz", "n_vms", "room"), [(40e6, 2, 1.0), (4e6, 3, 1.0), (2e6, 3, 1.0), (1e6, 20, 1.0), (4e6, 2, 1.5)]
)
def test_prices_are_the_dual_solution_of_the_fractional_knapsack(bandwidth_hz, n_vms, room):
    users = 20
    tasks = typical_tasks(SCENARIO, 400)
    slots = len(tasks.priority) / users  # that these tasks fill
    hertz_s = slots * bandwidth_hz * UPLOADING_S
    vm_s = slots * n_vms * SCENARIO.short_slot_s * room
    priced, executed = price(state_of(users, bandwidth_hz, n_vms), room)
    surplus = tasks.priority - priced * bandwidth_work(SCENARIO, tasks) - executed * execution_work(SCENARIO, tasks)
    dual = priced * hertz_s + executed * vm_s + float(surplus.clamp_min(0).sum())
    best = fractional_knapsack(tasks, hertz_s, vm_s)
    assert best < float(tasks.priority.sum()) - 1  # something is scarce
    assert best * (1 - 1e-5) <= dual <= best * 1.01


def test_what_is_plentiful_costs_nothing():
    assert price(state_of(9, 80e6, 32)) == (0, 0)
    assert price(state_of(0, 1e6, 1)) == (0, 0)
    assert price(state_of(40, 80e6, 3))[0] == 0


def test_prices_know_how_many_users_there_are_but_not_what_they_ask_for():
    first, second = (state_of(20, 8e6, 2, seed) for seed in (0, 1))
    assert not torch.equal(first.tasks.data_bits, second.tasks.data_bits)
    assert price(first) == price(second)
    assert price(state_of(30, 8e6, 2))[1] > price(first)[1] > price(first, room=1.5)[1] > 0


def test_vm_time_is_cheaper_where_bandwidth_is_short_too():
    assert 0 <= price(state_of(20, 1e6, 2))[1] < price(state_of(20, 80e6, 2))[1]


def test_no_bandwidth_at_all_is_priced():
    hertz_s, vm_s = price(state_of(20, 0.0, 2))
    assert hertz_s > 0
    assert vm_s == pytest.approx(0, abs=1e-6)


def test_typical_tasks_are_always_the_same_and_no_runs():
    tasks = typical_tasks(SCENARIO, 60)
    assert tasks.present.shape == (100,)
    assert tasks.present.all()
    assert torch.equal(tasks.data_bits, typical_tasks(SCENARIO, 60).data_bits)
    first = typical_tasks(SCENARIO, SCENARIO.max_users).data_bits
    for seed in range(3):
        assert (RegionEnvironment(SCENARIO, 0.0, 4, seed).state.tasks.data_bits != first).any(-1).all()
