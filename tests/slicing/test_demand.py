import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sliceoff.errors import InputError
from sliceoff.region import Equal, RegionEnvironment, Scenario
from sliceoff.slicing import FixedKappa, TaskStatistics, bandwidth_demand, vm_demand


def one(value):
    return torch.tensor([value], dtype=torch.float64)


def test_eq_17a_by_hand():
    # (16 * 0.2 MHz s + 2 * 4 * 0.1 MHz s) / 0.5 s = 8 MHz
    demand = bandwidth_demand(one(16), one(0.2e6), one(0.1e6), kappa=0.5, z=2.0, deadline_s=1.0, short_slot_s=0.5)
    assert demand.item() == pytest.approx(8e6)


def test_eq_17b_by_hand():
    # (16 * 0.06 + 2 * 4 * 0.02 - 0.1) / (0.5 - 0.1) = 1.02 / 0.4
    demand = vm_demand(one(16), one(0.06), one(0.02), one(0.1), kappa=0.5, z=2.0, deadline_s=1.0, short_slot_s=0.5)
    assert demand.item() == pytest.approx(2.55)


def test_slots_that_share_a_deadline_are_counted_together():
    # kappa T = 0.75 s spans 1.5 slots: 24 users; (24 * 0.2 + 2 * sqrt(24) * 0.1) / 0.75
    demand = bandwidth_demand(one(16), one(0.2), one(0.1), kappa=0.75, z=2.0, deadline_s=1.0, short_slot_s=0.5)
    assert demand.item() == pytest.approx((4.8 + 0.2 * math.sqrt(24)) / 0.75)
    # (1 - kappa) T = 0.25 s lies within a slot: 16 users; (16 * 0.06 - 0.1) / (0.25 - 0.1)
    demand = vm_demand(one(16), one(0.06), one(0.0), one(0.1), kappa=0.75, z=2.0, deadline_s=1.0, short_slot_s=0.5)
    assert demand.item() == pytest.approx(0.86 / 0.15)
    # (1 - kappa) T = 0.75 s: 24 users
    demand = vm_demand(one(16), one(0.06), one(0.0), one(0.1), kappa=0.25, z=2.0, deadline_s=1.0, short_slot_s=0.5)
    assert demand.item() == pytest.approx(1.34 / 0.65)


def test_no_users_ask_for_nothing_and_impossible_tasks_for_everything():
    constants = {"kappa": 0.5, "z": 2.0, "deadline_s": 1.0, "short_slot_s": 0.5}
    assert bandwidth_demand(one(0), one(0.2), one(0.1), **constants).item() == 0
    assert vm_demand(one(0), one(0.06), one(0.02), one(0.1), **constants).item() == 0
    assert vm_demand(one(1), one(0.06), one(0.02), one(0.5), **constants).item() == math.inf


@settings(max_examples=50, deadline=None)
@given(users=st.floats(0, 100), more=st.floats(0, 100), kappa=st.floats(0.05, 0.85))
def test_demand_grows_with_users(users, more, kappa):
    constants = {"kappa": kappa, "z": 2.0, "deadline_s": 1.0, "short_slot_s": 0.5}
    low, high = (bandwidth_demand(one(n), one(0.4), one(0.3), **constants) for n in (users, users + more))
    assert low <= high
    low, high = (vm_demand(one(n), one(0.06), one(0.02), one(0.12), **constants) for n in (users, users + more))
    assert low <= high


def test_the_prior_is_what_the_environment_draws(scenario):
    statistics = TaskStatistics.prior(scenario, 2)
    environment = RegionEnvironment(scenario, mean_users=40.0, n_copies=200, seed=1, bandwidth_hz=20e6, n_vms=12)
    seen = TaskStatistics.prior(scenario, 200, n_tasks=0.0, memory=1e9)
    for _ in range(5):
        seen = seen.updated(scenario, environment.state.tasks)
        environment.step(Equal().allocate(scenario, environment.state))
    assert seen.n_tasks.sum() > 35_000
    for name, tolerance in (("bandwidth_mean", 0.02), ("bandwidth_std", 0.03), ("vm_mean", 0.01), ("vm_std", 0.02)):
        mean = getattr(seen, name).square().mean().sqrt() if "std" in name else getattr(seen, name).mean()
        assert float(mean) == pytest.approx(float(getattr(statistics, name)[0]), rel=tolerance), name
    assert bool((seen.vm_max == statistics.vm_max[0]).all())  # the distribution's maximum is never exceeded


def test_the_estimate_follows_the_tasks_and_forgets(scenario):
    heavier = Scenario(data_bits=(1.4e6, 1.5e6), cycles_per_bit=(390.0, 400.0), vm_hz=5e9)
    environment = RegionEnvironment(heavier, mean_users=40.0, n_copies=1, seed=1)
    statistics = TaskStatistics.prior(scenario, 1, n_tasks=100.0, memory=100.0)
    for _ in range(10):
        statistics = statistics.updated(scenario, environment.state.tasks)
    assert float(statistics.vm_mean[0]) == pytest.approx(1.45e6 * 395 / 5e9, rel=0.03)
    assert float(statistics.n_tasks[0]) == 100.0


def test_absent_users_do_not_count(scenario):
    environment = RegionEnvironment(scenario, mean_users=0.0, n_copies=2, seed=1)
    before = TaskStatistics.prior(scenario, 2)
    after = before.updated(scenario, environment.state.tasks)
    for name in ("bandwidth_mean", "bandwidth_std", "vm_mean", "vm_std", "vm_max"):
        torch.testing.assert_close(getattr(after, name), getattr(before, name), rtol=1e-9, atol=0)


def test_capacity_by_hand():
    statistics = TaskStatistics(*(one(value) for value in (1, 0.4e6, 0, 0.06, 0, 0.1)))
    # 20 MHz / 0.4 MHz s = 50 tasks/s; 2 VMs / 0.06 s = 33.3 tasks/s: 16.7 in half a second
    assert statistics.capacity_users(one(20e6), torch.tensor([2]), 0.5).item() == pytest.approx(100 / 6)


@pytest.mark.parametrize(
    ("kappa", "z", "named"),
    [(0.0, 2, "kappa"), (1.0, 2, "kappa"), (0.9, 2, "lower it below 0.88"), (0.5, -1, "z")],
)
def test_wrong_constants(scenario, kappa, z, named):
    with pytest.raises(InputError, match=named):
        FixedKappa(scenario, kappa, z)
