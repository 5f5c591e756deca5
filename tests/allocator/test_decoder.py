"""C4 and C5 for whatever a network may say, Eq. 21 by hand, and what the packing is good for."""

from dataclasses import replace
from functools import partial
from operator import itemgetter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from units import scenario_in, state_in

from sliceoff.allocator import Packing, Paper, Prices
from sliceoff.allocator.bid_price import bid_prices
from sliceoff.allocator.decoder import Plans
from sliceoff.errors import InputError
from sliceoff.region import (
    Allocation,
    Greedy,
    RegionEnvironment,
    RegionState,
    Scenario,
    Tasks,
    bandwidth_work,
    check_allocation,
    execution_work,
    map_state,
    serve,
)
from sliceoff.region.packing import SLACK, pack, placement

SCENARIO = Scenario(max_users=9, max_vms=6)


def state_of(present, n_vms, bandwidth_hz=10e6, backlog_s=0.0, scenario=SCENARIO, seed=0):
    present = torch.as_tensor(present, dtype=torch.bool)
    generator = torch.Generator().manual_seed(seed)
    tasks = RegionEnvironment(scenario, mean_users=5.0, n_copies=len(present), seed=seed).state.tasks
    backlog = torch.rand(len(present), scenario.max_vms, generator=generator) * backlog_s
    n_vms = torch.as_tensor(n_vms).expand(len(present)).clone()
    hertz, expected = torch.full((len(present),), float(bandwidth_hz)), present.sum(-1).float()
    return RegionState(Tasks(*tasks[:-1], present), backlog, hertz, n_vms.long(), expected)


raw = st.one_of(st.sampled_from([-1.0, 0.0, 1.0]), st.floats(-1, 1, width=32))


@settings(deadline=None, max_examples=100)
@given(
    data=st.data(),
    decoder=st.sampled_from([Paper(), Packing(stride=2, worth_range=3.0), Prices(stride=1, room=1.0, room_range=4.0)]),
)
def test_every_action_meets_c4_and_c5(data, decoder):
    users = SCENARIO.max_users
    present = [data.draw(st.lists(st.booleans(), min_size=users, max_size=users)) for _ in range(2)]
    rows, actions = decoder.action_shape(users)
    numbers = 2 * rows * actions
    action = torch.tensor(data.draw(st.lists(raw, min_size=numbers, max_size=numbers))).view(2, rows, actions)
    state = state_of(
        present,
        [data.draw(st.integers(1, SCENARIO.max_vms)) for _ in range(2)],
        bandwidth_hz=data.draw(st.sampled_from([0.0, 1.0, 1e6, 80e6])),
        backlog_s=data.draw(st.sampled_from([0.0, 0.5, 3.0])),
        seed=data.draw(st.integers(0, 3)),
    )
    allocation = decoder(SCENARIO, state, action)
    check_allocation(state, allocation)
    assert (allocation.share[~state.tasks.present] == 0).all()


def test_paper_by_hand():
    state = state_of([[True, True, True, False] + [False] * 5], 4)
    action = torch.zeros(1, 9, 2)
    action[0, :4, 0] = torch.tensor([-1.0, 0.0, 1.0, 1.0])  # x = 0, 1/2, 1; the fourth user is absent
    action[0, :4, 1] = torch.tensor([-1.0, -0.01, 1.0, 0.0])  # floor(4 x) = 0, 1, 4 -> 3
    share, vm = Paper()(SCENARIO, state, action)
    assert share[0, :4].tolist() == pytest.approx([0, 1 / 3, 2 / 3, 0])
    assert vm[0, :3].tolist() == [0, 1, 3]


def test_paper_shares_equally_where_all_are_zero():
    state = state_of([[True, True] + [False] * 7], 2)
    share, _ = Paper()(SCENARIO, state, -torch.ones(1, 9, 2))
    assert share[0].tolist() == [0.5, 0.5] + [0.0] * 7


def test_pack_by_hand():
    """Deadline 1, two VMs, the second free from 0.7 on.

    Task 0 (upload 0.1, run 0.5) fits VM 0 only: starts 0.5, share 0.2. Task 1 (0.14, 0.3) must start by 0.7 on VM 1:
    share 0.2. Task 2 (0.12, 0.3) starts on VM 0 by 0.5 - 0.3 = 0.2: share 0.6, exactly what is left. Task 3 finds none.
    """
    share, vm = pack(
        torch.tensor([0.1, 0.14, 0.1199, 0.01]),
        torch.tensor([0.5, 0.3, 0.3, 0.01]),
        torch.ones(4, dtype=torch.bool),
        torch.tensor([0.0, 0.699]),
        1.0,
    )
    assert share.tolist() == pytest.approx([0.2, 0.2, 0.5995, 0.0], abs=1e-5)
    assert vm.tolist() == [0, 1, 0, 0]


def test_placement_needs_the_least_bandwidth_of_all_orders_of_two():
    bandwidth, execution = torch.tensor([[0.2, 0.1]]), torch.tensor([[0.05, 0.1]])
    first = int(placement(bandwidth, execution).argmax())
    totals = []
    for order in ([0, 1], [1, 0]):
        share, _ = pack(
            bandwidth[:, order], execution[:, order], torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, 1), 1.0
        )
        totals.append(share.sum().item())
    assert totals[first] < totals[1 - first]


def revenue(scenario, allocate, bandwidth_hz, n_vms, users=20.0, slots=15):
    environment = RegionEnvironment(scenario, 0.0, n_copies=24, seed=5, bandwidth_hz=bandwidth_hz, n_vms=n_vms)
    environment.traffic(users)
    state, earned = environment.reset(), 0.0
    for _ in range(slots):
        state, outcome = environment.step(allocate(state))
        earned += float(outcome.revenue.sum())
    return earned


@pytest.mark.parametrize(("bandwidth_hz", "n_vms"), [(10e6, 5), (5e6, 2)])
@pytest.mark.parametrize("decoder", [Packing(stride=1), Prices(stride=1)])
def test_action_zero_beats_greedy(decoder, bandwidth_hz, n_vms):
    scenario = Scenario()
    packed = revenue(scenario, partial(decoder.at_rest, scenario), bandwidth_hz, n_vms)
    greedy = revenue(scenario, partial(Greedy().allocate, scenario), bandwidth_hz, n_vms)
    assert packed > 1.005 * greedy


@pytest.mark.parametrize(("priorities", "users", "n_vms"), [((1,), 30, 1), ((1, 2), 20, 1), ((1, 2, 3), 40, 2)])
def test_tasks_that_are_all_alike_are_served_as_well_as_greedy_does(priorities, users, n_vms):
    """At the dual price the marginal tasks, here nearly all, are worth exactly nothing."""
    scenario = Scenario(data_bits=(1e6, 1e6), cycles_per_bit=(300, 300), priorities=priorities)
    priced = revenue(scenario, partial(Prices().at_rest, scenario), 40e6, n_vms, users)
    assert priced >= 0.99 * revenue(scenario, partial(Greedy().allocate, scenario), 40e6, n_vms, users) > 0


@pytest.mark.parametrize("max_users", [1, 3, 10])
def test_a_crowd_that_finds_no_room_is_not_counted_on(max_users):
    scenario, users = Scenario(max_users=max_users), 3.0 * max_users
    priced = revenue(scenario, partial(Prices().at_rest, scenario), 20e6, 1, users)
    assert priced >= 0.99 * revenue(scenario, partial(Greedy().allocate, scenario), 20e6, 1, users) > 0


def test_queues_that_ignore_arrivals_get_shares_in_proportion_to_what_is_needed():
    scenario = replace(SCENARIO, queue="paper")
    state = state_of([[True, True] + [False] * 7], n_vms=2, scenario=scenario)
    share, vm = Prices().at_rest(scenario, state)
    bandwidth, execution = bandwidth_work(scenario, state.tasks), execution_work(scenario, state.tasks)
    needed = torch.where(share > 0, bandwidth / (scenario.deadline_s * (1 - SLACK) - execution), 0)
    assert sorted(vm[0, state.tasks.present[0]].tolist()) == [0, 1]
    torch.testing.assert_close(share, needed / needed.sum(-1, keepdim=True))
    hastened, _ = Prices().at_rest(SCENARIO, state)
    assert not torch.allclose(hastened, share)


def test_worthless_tasks_are_left_out_and_worthier_ones_come_first():
    state = state_of([[True] * 9], 1, bandwidth_hz=5e6)
    action = torch.zeros(1, 9, 2)
    action[0, :, 0] = -1.0
    action[0, 4, 0] = 1.0
    share, _ = Packing(worth_range=2.0)(SCENARIO, state, action)
    assert share[0, 4] == pytest.approx(1.0)
    assert (share[0].nonzero() == 4).all()


def test_a_price_leaves_out_what_is_not_worth_it():
    state = state_of([[True] * 9], 2, bandwidth_hz=80e6)
    execution_s = state.tasks.data_bits * state.tasks.cycles_per_bit / SCENARIO.vm_hz
    prices = Prices(stride=1, room=1.0, room_range=2.0)
    dear, _ = prices(SCENARIO, state, torch.tensor([[[1.0, -1.0]]]))
    _, price = bid_prices(SCENARIO, state, torch.tensor([9.0]), torch.tensor([[0.5]]))
    worth = state.tasks.priority - price * execution_s
    assert torch.equal(dear > 0, worth > 0)
    cheap, _ = prices(SCENARIO, state, torch.tensor([[[-1.0, -1.0]]]))
    assert (cheap > 0).sum() > (dear > 0).sum()


def test_a_price_of_backlog_leaves_less_of_it_and_never_nothing_done():
    scenario = Scenario(short_slot_s=0.1)
    environment = RegionEnvironment(scenario, 20.0, 32, seed=3, bandwidth_hz=8e6, n_vms=8)
    state = environment.state
    left, earned = [], []
    for waiting in (-1.0, 1.0):
        outcome = serve(scenario, state, Prices()(scenario, state, torch.tensor([0.0, waiting]).expand(32, 1, 2)))
        left.append(float(outcome.backlog_s.sum()))
        earned.append(float(outcome.revenue.sum()))
    assert left[1] < left[0]
    assert 0 < earned[1] <= earned[0]


def test_every_region_gets_its_plan_of_the_highest_score():
    plans = Plans(
        Allocation(torch.rand(5, 4), torch.randint(5, (5, 4))),
        row=torch.tensor([0, 0, 0, 1, 1]),
        place=torch.tensor([0, 1, 2, 0, 1]),
    )
    best = plans.best(torch.tensor([0.0, 2.0, 1.0, 3.0, 3.0]))
    for field, picked in zip(plans.allocation, best, strict=True):
        assert torch.equal(picked, field[[1, 3]])  # the first of equals


@pytest.mark.parametrize("decoder", [Paper(), Packing(), Prices()])
def test_no_region_gets_no_allocation(decoder):
    state = state_of([[True] * 9], 2)
    none = map_state(itemgetter(slice(0)), state)
    share, vm = decoder(SCENARIO, none, torch.zeros(0, *decoder.action_shape(9)))
    assert share.shape == vm.shape == (0, 9)


@pytest.mark.parametrize("wrong", [{"stride": 0}, {"worth_range": -1.0}, {"tilt_range": 0.5}])
def test_wrong_options_are_named(wrong):
    with pytest.raises(InputError, match=f"^{next(iter(wrong))}"):
        Packing(**wrong)


@pytest.mark.parametrize("wrong", [{"stride": 0}, {"room": 0.0}, {"room_range": 0.5}, {"forecast_weight": -1.0}])
def test_wrong_prices_are_named(wrong):
    with pytest.raises(InputError, match=f"^{next(iter(wrong))}"):
        Prices(**wrong)


@pytest.mark.parametrize("units", [{"bits": 4.0**6}, {"seconds": 4.0**-5}, {"money": 4.0**7}], ids=str)
@pytest.mark.parametrize("decoder", [Paper(), Packing(), Prices()], ids=lambda decoder: type(decoder).__name__)
def test_an_action_means_the_same_in_other_units(decoder, units):
    scenario = Scenario()
    region = RegionEnvironment(scenario, 15.0, 12, 0, bandwidth_hz=8e6, n_vms=5, dtype=torch.float64)
    for _ in range(3):
        region.step(Greedy().allocate(scenario, region.state))
    generator = torch.Generator().manual_seed(0)
    action = torch.rand(12, *decoder.action_shape(50), generator=generator, dtype=torch.float64) * 2 - 1
    here = decoder(scenario, region.state, action)
    there = decoder(scenario_in(scenario, **units), state_in(region.state, **units), action)
    assert torch.equal(here.vm, there.vm)
    torch.testing.assert_close(here.share, there.share, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("decoder", [Paper(), Packing()], ids=lambda decoder: type(decoder).__name__)
def test_users_in_another_order_with_their_actions_get_the_same(decoder):
    scenario = Scenario()
    region = RegionEnvironment(scenario, 15.0, 12, 0, bandwidth_hz=8e6, n_vms=5, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    action = torch.rand(12, *decoder.action_shape(50), generator=generator, dtype=torch.float64) * 2 - 1
    order = torch.randperm(50, generator=generator)
    tasks = Tasks(*(x[:, order] for x in region.state.tasks))
    here = decoder(scenario, region.state, action)
    there = decoder(scenario, region.state._replace(tasks=tasks), action[:, order])
    torch.testing.assert_close(here.share[:, order], there.share, rtol=1e-6, atol=1e-9)
    assert torch.equal((here.vm * region.state.tasks.present)[:, order], there.vm * tasks.present)
