import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from units import scenario_in, state_in

from sliceoff.region import (
    Equal,
    Greedy,
    LookaheadGreedy,
    Proportional,
    Random,
    RegionEnvironment,
    RegionState,
    Scenario,
    Tasks,
    bandwidth_work,
    serve,
)
from sliceoff.region.allocation import check_allocation
from sliceoff.region.rules import least_loaded
from sliceoff.region.state import map_state

RULES = [Equal(), Proportional(), Random(), Greedy(), LookaheadGreedy()]


@st.composite
def states(draw):
    rows, users, vms = draw(st.integers(1, 3)), draw(st.integers(1, 9)), draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64).to(dtype)

    tasks = Tasks(
        data_bits=10 ** (3 + 5 * uniform(rows, users)),
        cycles_per_bit=10 ** (4 * uniform(rows, users)),
        priority=(1 + 3 * uniform(rows, users)).floor(),
        distance_m=10 ** (3 * uniform(rows, users)),
        present=uniform(rows, users) < draw(st.sampled_from([0.0, 0.5, 1.0])),
    )
    bandwidth = draw(st.sampled_from([0.0, 1.0, 1e6, 1e9])) * uniform(rows)
    backlog = draw(st.sampled_from([0.0, 1.0, 3.0])) * uniform(rows, vms)
    n_vms = 1 + (uniform(rows) * vms).long().clamp_max(vms - 1)
    return RegionState(tasks, backlog, bandwidth, n_vms, expected_users=uniform(rows) * users)


@settings(deadline=None, max_examples=150)
@given(states())
def test_every_rule_keeps_c4_and_c5_and_no_nan_appears(state):
    scenario = Scenario()
    for rule in RULES:
        allocation = rule.allocate(scenario, state)
        check_allocation(state, allocation)
        assert (allocation.share[~state.tasks.present] == 0).all()
        outcome = serve(scenario, state, allocation)
        assert all(not x.isnan().any() for x in outcome)
        assert (outcome.on_time <= state.tasks.present).all()


def earned(scenario, rule, *, mean_users=20.0, bandwidth_hz, n_vms, copies=24, slots=40):
    region = RegionEnvironment(scenario, mean_users, copies, 1, bandwidth_hz=bandwidth_hz, n_vms=n_vms)
    got = asked = 0.0
    for _ in range(slots):
        state = region.state
        _, outcome = region.step(rule.allocate(scenario, state))
        got += outcome.revenue.sum().item()
        asked += (scenario.price * state.tasks.priority * state.tasks.present).sum().item()
    return got / asked


def test_the_default_scenario_tells_rules_apart():
    # The rent that Eq. 17 asks for 20 users (kappa 0.5, z 2), then 60 % of it.
    share = {type(rule).__name__: earned(Scenario(), rule, bandwidth_hz=21.7e6, n_vms=12) for rule in RULES}
    assert share["Random"] < 0.72
    assert 0.85 < share["Equal"] < 0.95
    assert share["Proportional"] > 0.98
    assert share["Greedy"] > 0.995
    scarce = {type(rule).__name__: earned(Scenario(), rule, bandwidth_hz=13e6, n_vms=7) for rule in RULES}
    assert scarce["Greedy"] > 0.95 > 0.8 > max(scarce[name] for name in ("Random", "Equal", "Proportional"))


def test_lookahead_earns_more_than_greedy_where_resources_are_scarce():
    greedy, lookahead = (
        earned(Scenario(), rule, bandwidth_hz=8.7e6, n_vms=5) for rule in (Greedy(), LookaheadGreedy())
    )
    assert lookahead > greedy + 0.005


def test_greedy_serves_all_it_places():
    scenario = Scenario()
    region = RegionEnvironment(scenario, 30.0, 50, 2, bandwidth_hz=9e6, n_vms=5)
    for _ in range(20):
        state = region.state
        allocation = Greedy().allocate(scenario, state)
        _, outcome = region.step(allocation)
        assert torch.equal(outcome.on_time, allocation.share > 0)


def test_equal_takes_turns_and_proportional_ends_together():
    scenario = Scenario()
    state = RegionEnvironment(scenario, 20.0, 5, 2, bandwidth_hz=9e6, n_vms=3).reset()
    equal = Equal().allocate(scenario, state)
    for row in range(5):
        n = int(state.tasks.present[row].sum())
        assert equal.vm[row, :n].tolist() == [j % 3 for j in range(n)]
        assert equal.share[row, :n].tolist() == pytest.approx([1 / n] * n)
    share = Proportional().allocate(scenario, state).share
    uploads = bandwidth_work(scenario, state.tasks) / (share * 9e6)
    for row, present in zip(uploads, state.tasks.present, strict=True):
        torch.testing.assert_close(row[present], row[present][:1].expand(int(present.sum())), rtol=1e-4, atol=0)


def test_least_loaded_by_hand():
    # Backlogs 0.5 and 0; longest first: 0.4 -> VM 1 (0.4), 0.3 -> VM 1 (0.7), 0.2 -> VM 0 (0.7), 0.1 -> VM 0.
    tasks = Tasks(*(torch.ones(1, 4) for _ in range(4)), present=torch.ones(1, 4, dtype=torch.bool))
    backlog = torch.tensor([[0.5, 0.0, 0.0]])
    state = RegionState(tasks, backlog, torch.tensor([1e6]), torch.tensor([2]), torch.tensor([4.0]))
    assert least_loaded(torch.tensor([[0.1, 0.3, 0.4, 0.2]]), state).tolist() == [[0, 1, 1, 0]]


def test_random_repeats_with_its_seed():
    state = RegionEnvironment(Scenario(), 20.0, 5, 2, bandwidth_hz=9e6, n_vms=3).reset()
    first, again, other = (Random(seed).allocate(Scenario(), state) for seed in (1, 1, 2))
    assert torch.equal(first.share, again.share)
    assert not torch.equal(first.share, other.share)


def test_random_differs_between_tasks_of_one_size():
    region = RegionEnvironment(Scenario(data_bits=(1e6, 1e6)), 20.0, 4, 0, bandwidth_hz=20e6, n_vms=12)
    allocation = Random().allocate(region.scenario, region.state)
    present = region.state.tasks.present
    for share, vm, here in zip(allocation.share, allocation.vm, present, strict=True):
        assert len(share[here].unique()) == here.sum()
        assert len(vm[here].unique()) > 1


def test_single_precision_plans_the_look_ahead_as_double_does_but_for_near_ties():
    region = RegionEnvironment(Scenario(), 30.0, 256, 0, bandwidth_hz=8e6, n_vms=5)
    double = map_state(lambda x: x.double() if x.is_floating_point() else x, region.state)
    shares = [LookaheadGreedy().allocate(region.scenario, state).share for state in (region.state, double)]
    other = (shares[0] - shares[1]).abs().amax(-1) > 1e-4
    assert other.float().mean() < 0.2


# Powers of four: their products and roots do not round, so that ties remain ties.
UNITS = [{"bits": 4.0**-8}, {"bits": 4.0**6}, {"seconds": 4.0**5}, {"seconds": 4.0**-5}, {"money": 4.0**7}]


@pytest.mark.parametrize("units", UNITS, ids=str)
@pytest.mark.parametrize("queue", ["lindley", "paper"])
@settings(deadline=None, max_examples=10)
@given(state=states())
def test_a_rule_allocates_alike_in_other_units(units, queue, state):
    scenario, state = Scenario(queue=queue), map_state(lambda x: x.double() if x.is_floating_point() else x, state)
    there = state_in(state, **units)
    for rule in (Equal(), Proportional(), Greedy(), LookaheadGreedy()):
        here, moved = rule.allocate(scenario, state), rule.allocate(scenario_in(scenario, **units), there)
        assert torch.equal(here.vm, moved.vm)
        torch.testing.assert_close(here.share, moved.share, rtol=1e-9, atol=1e-12)
        served = serve(scenario, state, here), serve(scenario_in(scenario, **units), there, moved)
        assert torch.equal(served[0].on_time, served[1].on_time)
        assert torch.equal(served[0].backlog_s * units.get("seconds", 1), served[1].backlog_s)


def test_a_user_gets_the_same_whatever_its_place():
    scenario = Scenario()
    region = RegionEnvironment(scenario, 15.0, 24, 0, bandwidth_hz=8e6, n_vms=5, dtype=torch.float64)
    for _ in range(3):
        region.step(Greedy().allocate(scenario, region.state))
    order = torch.randperm(scenario.max_users, generator=torch.Generator().manual_seed(0))
    tasks = region.state.tasks
    shuffled = region.state._replace(tasks=Tasks(*(x[:, order] for x in tasks)))
    for rule in (Proportional(), Greedy()):
        here, there = rule.allocate(scenario, region.state), rule.allocate(scenario, shuffled)
        torch.testing.assert_close(here.share[:, order], there.share, rtol=1e-9, atol=1e-12)
        assert torch.equal((here.vm * tasks.present)[:, order], there.vm * shuffled.tasks.present)
