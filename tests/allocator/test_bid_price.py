"""The dual prices of bandwidth and VM time, against a linear program."""

import mip
import pytest
import torch

from sliceoff.allocator.bid_price import bid_prices, likely_users
from sliceoff.region import (
    RegionEnvironment,
    RegionState,
    Scenario,
    Tasks,
    bandwidth_work,
    execution_work,
    map_state,
    typical_tasks,
)

SCENARIO = Scenario()
UPLOADING_S = 0.8 * SCENARIO.deadline_s


def state_of(bandwidth_hz, n_vms, users=0, expected_users=0.0, seed=0) -> RegionState:
    environment = RegionEnvironment(SCENARIO, 0.0, 1, seed, bandwidth_hz=bandwidth_hz, n_vms=n_vms)
    environment.traffic(0.0, expected_users)
    state, present = environment.state, torch.arange(SCENARIO.max_users).unsqueeze(0) < users
    return state._replace(tasks=state.tasks._replace(present=present))


def price(users: float, bandwidth_hz: float, n_vms: int, room: float = 1.0, seed: int = 0) -> tuple[float, float]:
    hertz_s, vm_s = bid_prices(
        SCENARIO, state_of(bandwidth_hz, n_vms, seed=seed), torch.tensor([users]), torch.tensor([[room]])
    )
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
    users = 20.0
    tasks = typical_tasks(SCENARIO, 400)
    slots = len(tasks.priority) / users  # that these tasks fill
    hertz_s = slots * bandwidth_hz * UPLOADING_S
    vm_s = slots * n_vms * SCENARIO.short_slot_s * room
    priced, executed = price(users, bandwidth_hz, n_vms, room)
    surplus = tasks.priority - priced * bandwidth_work(SCENARIO, tasks) - executed * execution_work(SCENARIO, tasks)
    dual = priced * hertz_s + executed * vm_s + float(surplus.clamp_min(0).sum())
    best = fractional_knapsack(tasks, hertz_s, vm_s)
    assert best < float(tasks.priority.sum()) - 1  # something is scarce
    assert best * (1 - 1e-5) <= dual <= best * 1.01


def test_what_is_plentiful_costs_nothing():
    assert price(9.0, 80e6, 32) == (0, 0)
    assert price(0.0, 1e6, 1) == (0, 0)
    assert price(40.0, 80e6, 3)[0] == 0


def test_prices_do_not_depend_on_what_this_slot_asks_for():
    assert price(20.0, 8e6, 2, seed=0) == price(20.0, 8e6, 2, seed=1)


def test_vm_time_is_dearer_for_more_users_and_cheaper_with_more_room_or_too_little_bandwidth():
    dear, plain, roomy, starved = (
        price(30.0, 80e6, 2),
        price(20.0, 80e6, 2),
        price(20.0, 80e6, 2, 1.5),
        price(20.0, 1e6, 2),
    )
    assert dear[1] > plain[1] > roomy[1] > 0
    assert starved[1] < plain[1]


def test_no_bandwidth_at_all_is_priced():
    hertz_s, vm_s = price(20.0, 0.0, 2)
    assert hertz_s > 0
    assert vm_s == pytest.approx(0, abs=1e-6)


def test_likely_users_are_the_posterior_mean_of_a_poisson_rate():
    """Against the prior and likelihood on a grid."""
    present, expected, weight = 17, 24.0, 20.0
    rate = torch.linspace(0.01, 80, 8000, dtype=torch.float64)
    log_prior = (weight - 1) * rate.log() - rate * weight / expected
    posterior = (log_prior + present * rate.log() - rate).softmax(0)
    state = state_of(1e6, 1, present, expected)
    assert likely_users(state, weight).item() == pytest.approx(float((posterior * rate).sum()), rel=1e-5)


@pytest.mark.parametrize("present", [0, 1, 9, 50])
@pytest.mark.parametrize("expected", [0.0, 1.0, 9.0, 1000.0])
def test_likely_users_lie_between_those_present_and_those_expected(present, expected):
    state = state_of(1e6, 1, present, expected)
    likely = likely_users(state, 20.0).item()
    assert min(present, expected) <= likely <= min(max(present, expected) + 0.1, SCENARIO.max_users)
    assert likely_users(state, 0.0).item() == pytest.approx(present)
    # The users present refute a wild forecast.
    assert abs(likely - present) <= 3 * max(present, 1) ** 0.5


def test_prices_are_the_same_in_double_precision():
    state = state_of(8e6, 2)
    double = map_state(lambda x: x.double() if x.is_floating_point() else x, state)
    for single, same in zip(
        bid_prices(SCENARIO, state, torch.tensor([20.0]), torch.ones(1, 1)),
        bid_prices(SCENARIO, double, torch.tensor([20.0]).double(), torch.ones(1, 1).double()),
        strict=True,
    ):
        assert same.dtype == torch.float64
        torch.testing.assert_close(same.float(), single)


def test_typical_tasks_are_always_the_same_and_no_runs():
    tasks = typical_tasks(SCENARIO, 60)
    assert tasks.present.shape == (60,)
    assert tasks.present.all()
    assert torch.equal(tasks.data_bits, typical_tasks(SCENARIO, 60).data_bits)
    first = typical_tasks(SCENARIO, SCENARIO.max_users).data_bits
    for seed in range(3):
        assert (RegionEnvironment(SCENARIO, 0.0, 4, seed).state.tasks.data_bits != first).any(-1).all()
