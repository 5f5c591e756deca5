import dataclasses

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from sliceoff.config import CONFIGS
from sliceoff.errors import InputError
from sliceoff.region import (
    Allocation,
    Equal,
    Greedy,
    LookaheadGreedy,
    Proportional,
    Random,
    RegionEnvironment,
    RegionState,
    Scenario,
    Tasks,
    draws,
    observe,
    slice_bounds,
    upper_bound,
    utilisation,
)
from sliceoff.region.environment import walk

RULES = [Equal(), Greedy(), Proportional(), Random(seed=5), LookaheadGreedy()]


def environment(**options):
    defaults = {"mean_users": 12.0, "n_copies": 6, "seed": 3, "bandwidth_hz": 10e6, "n_vms": 4}
    return RegionEnvironment(Scenario(max_users=30, max_vms=8), **(defaults | options))


def assert_same(left, right, tolerance=0.0):
    for a, b in zip(left, right, strict=True):
        if isinstance(a, tuple):
            assert_same(a, b, tolerance)
        else:
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_config_and_class_have_the_same_defaults():
    from_config = dataclasses.asdict(instantiate(OmegaConf.load(CONFIGS / "region" / "default.yaml"), _convert_="all"))
    for name, value in dataclasses.asdict(Scenario()).items():
        assert from_config[name] == (pytest.approx(value) if isinstance(value, float) else value), name


def test_same_seed_same_tasks_whatever_the_batch_and_what_is_allocated():
    whole, part = environment(), environment(n_copies=2, copy_ids=[4, 1], mean_users=[12.0, 12.0])
    left, right = whole.reset(), part.reset()
    for _ in range(4):
        for mine, theirs in zip(left.tasks, right.tasks, strict=True):
            torch.testing.assert_close(mine[[4, 1]], theirs, rtol=0, atol=0)
        left, _ = whole.step(Equal().allocate(whole.scenario, left))
        right, _ = part.step(Greedy().allocate(part.scenario, right))
    assert not torch.equal(environment(seed=4).reset().tasks.data_bits, environment().reset().tasks.data_bits)


def test_double_precision_sees_the_same_tasks():
    single, double = environment().reset().tasks, environment(dtype=torch.float64).reset().tasks
    assert double.data_bits.dtype == torch.float64
    torch.testing.assert_close(single.distance_m.double(), double.distance_m, rtol=1e-5, atol=0)
    assert torch.equal(single.present, double.present)


def test_resumes_as_if_it_had_never_stopped():
    first = environment(mean_users=20.0)
    state = first.reset()
    for _ in range(5):
        state, _ = first.step(Greedy().allocate(first.scenario, state))
    saved = first.state_dict()
    assert all(isinstance(value, int | torch.Tensor) for value in saved.values())
    second = environment(seed=99, mean_users=1.0, copy_ids=range(10, 16))
    second.load_state_dict(saved)
    assert_same(second.state, first.state)
    for _ in range(5):
        (state, outcome), (other, repeated) = (e.step(Greedy().allocate(e.scenario, e.state)) for e in (first, second))
        assert_same((*state, *outcome), (*other, *repeated))


def test_reset_repeats():
    region = environment()
    start = region.reset()
    region.step(Equal().allocate(region.scenario, start))
    assert_same(region.reset(), start)


def test_queues_carry_over_and_survive_a_change_of_rent():
    region = environment(mean_users=30.0, n_vms=2)
    state = region.reset()
    for _ in range(3):
        state, outcome = region.step(Greedy().allocate(region.scenario, state))
    assert (state.backlog_s[:, :2] > 0).any()
    torch.testing.assert_close(state.backlog_s, outcome.backlog_s)
    changed = region.rent(5e6, 1)
    torch.testing.assert_close(changed.backlog_s, state.backlog_s)
    assert_same(changed.tasks, state.tasks)
    after, outcome = region.step(Greedy().allocate(region.scenario, changed))
    assert outcome.work_s[:, 1:].sum() == 0  # the VM given back takes nothing new ...
    torch.testing.assert_close(after.backlog_s[:, 1], (state.backlog_s[:, 1] - 0.5).clamp_min(0))  # ... but goes on


def test_traffic_follows_mean_users():
    region = environment(mean_users=0.0, n_copies=200)
    state = region.reset()
    assert not state.tasks.present.any()
    state, outcome = region.step(Greedy().allocate(region.scenario, state))
    assert outcome.revenue.sum() == 0
    assert all(not x.isnan().any() for x in outcome)
    region.traffic(torch.linspace(1, 20, 200))
    counts = torch.zeros(200)
    for _ in range(200):
        counts += region.state.tasks.present.sum(-1)
        region.step(Equal().allocate(region.scenario, region.state))
    assert (counts / 200 - region.mean_users).abs().max() < 5 * (20 / 200) ** 0.5


def test_a_trace_drives_the_traffic_and_who_finds_no_room_is_turned_away():
    region = environment(mean_users=0.0, n_copies=400)
    quiet, crowded = torch.full((400,), 5.0), torch.full((400,), 32.0)  # there is room for 30
    seen = []
    for traffic in (quiet, crowded, quiet):
        region.traffic(traffic)
        seen.append(region.state.tasks.present.sum(-1).double())
        state, outcome = region.step(Greedy().allocate(region.scenario, region.state))
        assert_same(state.backlog_s, outcome.backlog_s)  # queues carry over whatever the traffic
    assert seen[1].max() == 30
    room = draws.poisson_mean(draws.poisson_table(torch.tensor([5.0, 32.0, 5.0]), 30))
    assert room[0] == pytest.approx(5.0)
    for count, expected in zip(seen, room, strict=True):
        assert abs(count.mean() - expected) <= 5 * (count.std() / 20)


def test_new_seed_on_reset():
    region = environment()
    first = region.reset()
    region.step(Greedy().allocate(region.scenario, first))
    assert_same(region.reset(seed=4), environment(seed=4).reset())


def test_every_tensor_is_made_on_the_regions_own_device():
    """As on a GPU: what names no device lands elsewhere, here on one where it cannot be read."""
    scenario = Scenario(max_users=6, max_vms=3, speed_mps=1.0)
    with torch.device("meta"):
        region = RegionEnvironment(scenario, [4.0, 5.0], 2, 0, bandwidth_hz=3e6, n_vms=2)
        for rule in RULES:
            state, outcome = region.step(rule.allocate(scenario, region.state))
            assert all(x.device.type == "cpu" for x in outcome)
        list(region.run(Greedy(), 3))
        region.load_state_dict(region.state_dict())
        assert observe(scenario, state).users.isfinite().all()
        assert upper_bound(scenario, [state]).isfinite().all()
        offers = torch.tensor([[1e6, 2e6]] * 2, device="cpu")
        vms = torch.tensor([[1.0, 2.0]] * 2, device="cpu")
        assert slice_bounds(scenario, [state], offers, vms, torch.zeros(2, 2, 2, device="cpu")).isfinite().all()


def test_walkers_stay_spread_evenly_and_move_at_their_speed():
    torch.manual_seed(0)
    start, angle = torch.rand(50_000).double().sqrt() * 300, torch.rand(50_000).double() * 6.283185307
    for walked in (0.0, 100.0, 12_345.0):
        inside = walk(start, angle, walked, 300.0) / 300
        # Evenly over the disc: the squared radius is uniform.
        assert torch.histc(inside**2, 10, 0, 1).sub(5000).abs().max() < 350
    step = (walk(start, angle, 51.0, 300.0) - walk(start, angle, 50.0, 300.0)).abs()
    assert step.max() <= 1.0 + 1e-9
    assert step.mean() > 0.3


def test_mobile_users_keep_their_identity():
    scenario = Scenario(max_users=30, max_vms=8, speed_mps=10.0)
    region = RegionEnvironment(scenario, 30.0, 4, 0, bandwidth_hz=1e7, n_vms=4)
    before = region.reset()
    after, _ = region.step(Equal().allocate(scenario, before))
    assert (after.tasks.distance_m - before.tasks.distance_m).abs().max() <= 5.0 + 1e-3
    assert not torch.equal(after.tasks.distance_m, before.tasks.distance_m)
    assert not torch.equal(after.tasks.data_bits, before.tasks.data_bits)


def test_utilisation_stays_below_one_on_average():
    region = environment(mean_users=25.0)
    total = torch.zeros(2)
    for _ in range(100):
        state = region.state
        _, outcome = region.step(Greedy().allocate(region.scenario, state))
        total += torch.stack([part.mean() for part in utilisation(region.scenario, state, outcome)])
    assert ((total / 100 > 0.3) & (total / 100 < 1.01)).all()


def test_observation_ranges():
    for kind in ("full", "paper"):
        region = environment(mean_users=25.0)
        for _ in range(10):
            seen = observe(region.scenario, region.state, kind)
            assert seen.region.shape == (6, 3 + 9 * (kind == "full"))
            assert seen.users.shape == (6, 30, 5 if kind == "full" else 4)
            for features in (seen.region, seen.users):
                assert features.abs().max() <= 1 + 1e-5
            assert (seen.users[~seen.present] == 0).all()
            region.step(Greedy().allocate(region.scenario, region.state))
    constant = Scenario(data_bits=(1e6, 1e6), priorities=(1,), max_users=30, max_vms=8)
    assert observe(constant, region.state).users.isfinite().all()


def test_an_observation_by_hand():
    """Each feature from its least value, -1, over the middle, 0, to its largest, 1."""
    scenario = Scenario(
        max_users=4,
        max_vms=4,
        max_bandwidth_hz=80e6,
        data_bits=(1e6, 3e6),
        cycles_per_bit=(100, 300),
        priorities=(1, 2, 3),
        min_distance_m=100,
        cell_radius_m=300,
    )
    low, middle, high = [1e6, 100, 1, 100], [2e6, 250, 2, 200], [3e6, 300, 3, 300]
    data, cycles, priority, distance = torch.tensor([low, middle, high, high]).T.unsqueeze(1)
    present = torch.tensor([[True, True, True, False]])
    tasks = Tasks(data_bits=data, cycles_per_bit=cycles, priority=priority, distance_m=distance, present=present)
    backlog = torch.tensor([[0.0, 0.5 * scenario.deadline_s, 9.0, 0.0]])
    state = RegionState(tasks, backlog, torch.tensor([20e6]), torch.tensor([3]), torch.tensor([1.0]))
    seen = observe(scenario, state)
    torch.testing.assert_close(seen.region, torch.tensor([[-0.5, 0.5, 0.5, -0.5, 0.0, 0.5, 1.0, -1.0]]))
    users = torch.tensor([[[-1.0] * 4, [0.0] * 4, [1.0] * 4, [0.0] * 4]])
    torch.testing.assert_close(seen.users[..., :4], users)
    efficiency = seen.users[0, :, 4]  # falls with the distance
    torch.testing.assert_close(efficiency[[0, 2, 3]], torch.tensor([1.0, -1.0, 0.0]), atol=1e-5, rtol=0)
    assert -1 < efficiency[1] < 1
    paper = observe(scenario, state, "paper")
    torch.testing.assert_close(paper.region, seen.region[:, :3])
    torch.testing.assert_close(paper.users, seen.users[..., :4])


def test_allocators_are_told_the_forecast_and_without_one_the_mean():
    region = environment(mean_users=25.0)
    assert (region.state.expected_users == 25).all()
    region.traffic(25.0, 12.0)
    assert (region.state.expected_users == 12).all()
    told, _ = observe(region.scenario, region.state).region.split([4, 8], dim=-1)
    torch.testing.assert_close(told[:, 3], torch.full((6,), 2 * 12 / 30 - 1))
    other = environment(mean_users=1.0)
    other.load_state_dict(region.state_dict())
    assert (other.state.expected_users == 12).all()
    assert (other.mean_users == 25).all()
    region.traffic(20.0)
    assert (region.state.expected_users == 20).all()
    older = {name: value for name, value in region.state_dict().items() if name != "expected_users"}
    with pytest.raises(InputError, match="lacks expected_users: another version"):
        other.load_state_dict(older)
    for wrong in (-1.0, torch.nan):
        with pytest.raises(InputError, match="expected_users"):
            region.traffic(10.0, wrong)
    assert (region.mean_users == 20).all()  # a refused forecast changes nothing


def bad(state, **changes):
    allocation = Equal().allocate(Scenario(), state)
    return allocation._replace(**{name: change(getattr(allocation, name)) for name, change in changes.items()})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": lambda x: x.masked_fill(torch.eye(*x.shape).bool(), torch.nan)}, "share is not finite in row 0"),
        ({"share": lambda x: x - 0.5}, "share is negative"),
        ({"share": lambda x: x * 1.01}, "share sums to more than 1"),
        ({"share": lambda x: x[:, :-1]}, r"share has shape \(6, 29\)"),
        ({"share": lambda x: x.long()}, "share is of type"),
        ({"vm": lambda x: x + 3}, "vm names a VM that is not rented"),
        ({"vm": lambda x: x - 1}, "vm names a VM that is not rented"),
        ({"vm": lambda x: x.float()}, "vm is of type"),
    ],
)
@pytest.mark.usefixtures("as_at_run_time")
def test_invalid_allocations_are_refused(changes, message):
    region = environment(mean_users=25.0)
    with pytest.raises(InputError, match=message):
        region.step(bad(region.reset(), **changes))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean_users": -1.0}, "mean_users"),
        ({"mean_users": float("nan")}, "mean_users"),
        ({"mean_users": [1.0, 2.0]}, "mean_users has shape"),
        ({"mean_users": 31.0}, "mean_users=31 is above region.max_users=30"),
        ({"n_copies": 0}, "n_copies"),
        ({"copy_ids": [1]}, "copy_ids"),
        ({"n_vms": 0}, "n_vms"),
        ({"n_vms": 9}, "max_vms=8"),
        ({"n_vms": torch.full((6,), 2.5)}, "n_vms.*whole"),
        ({"bandwidth_hz": -1.0}, "bandwidth_hz"),
        ({"bandwidth_hz": None}, "go together"),
    ],
)
@pytest.mark.usefixtures("as_at_run_time")
def test_invalid_arguments_are_named(options, message):
    with pytest.raises(InputError, match=message):
        environment(**options)


def test_nothing_rented_yet():
    region = environment(bandwidth_hz=None, n_vms=None)
    state = region.reset()
    with pytest.raises(InputError, match="rent"):
        region.step(Allocation(torch.zeros(6, 30), torch.zeros(6, 30, dtype=torch.int64)))
    assert state.n_vms.tolist() == [0] * 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"price": -0.1}, "price"),
        ({"vm_hz": 0.0}, "vm_hz"),
        ({"deadline_s": float("nan")}, "deadline_s"),
        ({"max_users": 0}, "max_users"),
        ({"data_bits": (2e6, 1e6)}, "data_bits"),
        ({"data_bits": (1e6,)}, "data_bits"),
        ({"priorities": ()}, "priorities"),
        ({"priorities": 3}, "priorities"),
        ({"priorities": [1, 0]}, "priorities"),
        ({"queue": "lifo"}, "queue"),
        ({"min_distance_m": 400.0}, "min_distance_m"),
        ({"speed_mps": -1.0}, "speed_mps"),
    ],
)
@pytest.mark.usefixtures("as_at_run_time")
def test_invalid_scenarios_are_named(options, message):
    with pytest.raises(InputError, match=message):
        Scenario(**options)


@pytest.mark.parametrize("level", ["high", None, float("inf"), 1e9])
@pytest.mark.parametrize("name", ["gain_at_1m_db", "noise_dbm"])
@pytest.mark.usefixtures("as_at_run_time")
def test_invalid_decibels_are_named(name, level):
    with pytest.raises(InputError, match=f"{name}"):
        Scenario.from_decibels(**({"gain_at_1m_db": -40.0, "noise_dbm": -100.0} | {name: level}))


@pytest.mark.parametrize("rule", RULES)
def test_many_slots_at_once_are_what_one_after_the_other_are(rule):
    tolerance = 1e-5  # the last bit of a logarithm depends on where in the batch it is
    # Short of VMs, so that backlogs go on from slot to slot; 70 slots, so that they are drawn in several parts.
    together, singly = (environment(mean_users=25.0, n_vms=2) for _ in range(2))
    for environ in (together, singly):
        state = environ.reset()
    served = list(together.run(rule, 70))
    states, outcomes = (type(part[0])(*map(_cat, zip(*part, strict=True))) for part in zip(*served, strict=True))
    for slot in range(70):
        assert_same(_slot(states, slot), state, tolerance)
        state, outcome = singly.step(rule.allocate(singly.scenario, state))
        assert_same(_slot(outcomes, slot), outcome, tolerance)
    assert_same(together.state, singly.state, tolerance)


def _cat(parts):
    if isinstance(parts[0], tuple):
        return type(parts[0])(*map(_cat, zip(*parts, strict=True)))
    return torch.cat(parts)


def _slot(fields, slot):
    return type(fields)(*(_slot(field, slot) if isinstance(field, tuple) else field[slot] for field in fields))
