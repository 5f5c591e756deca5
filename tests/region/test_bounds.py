"""The exact optimum against brute force written differently, and the bound against the optimum."""

from dataclasses import replace
from functools import partial
from itertools import count, permutations
from types import SimpleNamespace

import mip
import pytest
import torch
from units import scenario_in, state_in

from sliceoff.errors import InputError
from sliceoff.region import (
    Equal,
    Greedy,
    RegionEnvironment,
    RegionState,
    Scenario,
    Tasks,
    bandwidth_work,
    bounds,
    execution_work,
    map_state,
    no_allocation,
    optimum,
    slice_bounds,
    upper_bound,
)


def instance(*, users, vms, slots, seed, bandwidth_hz, **options):
    """A region of scarce resources, with backlog, and its states over the slots."""
    scenario = Scenario(max_users=users, max_vms=vms, **options)
    region = RegionEnvironment(
        scenario, users * 0.9, 1, seed, bandwidth_hz=bandwidth_hz, n_vms=vms, dtype=torch.float64
    )
    for _ in range(2):
        region.step(Greedy().allocate(scenario, region.state))
    saved, states = region.state_dict(), []
    for _ in range(slots):
        states.append(region.state)
        region.step(Equal().allocate(scenario, region.state))
    region.load_state_dict(saved)
    return scenario, region, states


def numbers(scenario, state):
    present = state.tasks.present[0]
    works = (bandwidth_work(scenario, state.tasks) / state.bandwidth_hz)[0, present].tolist()
    executions = execution_work(scenario, state.tasks)[0, present].tolist()
    values = (scenario.price * state.tasks.priority)[0, present].tolist()
    return works, executions, values


def best_single_slot(scenario, state):
    """Over all ways to split users over VMs, by dynamic programming over subsets; least bandwidth of each subset."""
    works, executions, values = numbers(scenario, state)
    n = len(works)
    time = [sum(executions[j] for j in range(n) if s >> j & 1) for s in range(1 << n)]
    need = [0.0] * (1 << n)
    for s in range(1, 1 << n):
        start = scenario.deadline_s - time[s]
        first = [need[s ^ 1 << j] + works[j] / start for j in range(n) if s >> j & 1] if start > 0 else []
        need[s] = min(first, default=float("inf"))
    total = [0.0] + [float("inf")] * ((1 << n) - 1)
    for backlog in state.backlog_s[0, : int(state.n_vms)].tolist():
        before = list(total)
        for s in range(1, 1 << n):
            part = s
            while part:
                if scenario.deadline_s - time[part] >= backlog:
                    total[s] = min(total[s], before[s ^ part] + need[part])
                part = (part - 1) & s
    return max(sum(values[j] for j in range(n) if s >> j & 1) for s in range(1 << n) if total[s] <= 1)


def best_of_one_vm(scenario, states):
    """Every ordered choice of tasks in every slot, the last one up to its deadline, each one before it as late as the
    work of those after it allows."""
    deadline, slot = scenario.deadline_s, scenario.short_slot_s
    earliest = [max(0.0, states[0].backlog_s.item() - place * slot) for place in range(len(states))]

    def choices(state):
        works, executions, values = numbers(scenario, state)
        for size in range(len(works) + 1):
            for order in permutations(range(len(works)), size):
                yield [works[j] for j in order], [executions[j] for j in order], sum(values[j] for j in order)

    def start(works, executions, end):
        """When the first task starts, if the bandwidth is enough for all uploads to end in time."""
        begin, need = end, 0.0
        for work, execution in zip(reversed(works), reversed(executions), strict=True):
            begin -= execution
            if begin <= 0:
                return -1.0
            need += work / begin
        return begin if need <= 1 else -1.0

    def best(place, latest):
        """What slots `0..place` earn if the VM must be free by `latest`, from the start of slot `place` on."""
        if place < 0:
            return 0.0
        values = [best(place - 1, latest + slot)]
        for works, executions, value in choices(states[place]):
            if works:
                begin = start(works, executions, min(latest, deadline))
                if begin >= earliest[place]:
                    values.append(value + best(place - 1, begin + slot))
        return max(values)

    return best(len(states) - 1, deadline)


@pytest.mark.parametrize("solver", ["HIGHS", "CBC"])
@pytest.mark.parametrize("seed", range(4))
def test_single_slot_optimum(seed, solver):
    scenario, _, states = instance(users=7, vms=3, slots=1, seed=seed, bandwidth_hz=2.5e6)
    assert (states[0].backlog_s > 0).any()
    found = optimum(scenario, states, solver=solver)
    assert found.proven
    assert found.revenue == pytest.approx(best_single_slot(scenario, states[0]), abs=1e-9)


@pytest.mark.parametrize("part", [0.7, 0.95])
def test_a_backlog_leaves_less_time_for_tasks(part):
    scenario, _, states = instance(users=5, vms=1, slots=1, seed=0, bandwidth_hz=4e6)
    idle, busy = (
        states[0]._replace(backlog_s=torch.full_like(states[0].backlog_s, backlog))
        for backlog in (0.0, part * scenario.deadline_s)
    )
    found = optimum(scenario, [busy])
    assert found.revenue == pytest.approx(best_single_slot(scenario, busy), abs=1e-9)
    assert found.revenue < optimum(scenario, [idle]).revenue


@pytest.mark.parametrize(("slots", "users"), [(2, 4), (3, 3)])
@pytest.mark.parametrize("seed", range(5))
def test_optimum_of_one_vm_over_slots(slots, users, seed):
    scenario, _, states = instance(users=users, vms=1, slots=slots, seed=seed, bandwidth_hz=1.5e6, vm_hz=2.5e9)
    found = optimum(scenario, states)
    assert found.proven
    assert found.revenue == pytest.approx(best_of_one_vm(scenario, states), abs=1e-9)


@pytest.mark.parametrize(("slots", "users", "vms"), [(1, 8, 3), (2, 6, 2), (3, 5, 2)])
@pytest.mark.parametrize("seed", range(2))
def test_greedy_at_most_optimum_at_most_bound_and_the_plan_earns_it(slots, users, vms, seed):
    scenario, region, states = instance(users=users, vms=vms, slots=slots, seed=seed, bandwidth_hz=2e6)
    saved = region.state_dict()
    greedy = sum(region.step(Greedy().allocate(scenario, region.state))[1].revenue.sum().item() for _ in states)
    found = optimum(scenario, states)
    region.load_state_dict(saved)
    earned = sum(region.step(allocation)[1].revenue.sum().item() for allocation in found.plan)
    assert earned == pytest.approx(found.revenue)
    assert greedy <= found.revenue + 1e-9
    for resolution in (1, 2, 5):
        assert upper_bound(scenario, states, resolution=resolution).item() >= found.revenue - 1e-9


@pytest.mark.parametrize("deadline_s", [0.4, 0.8, 1.0, 1.3])
def test_bound_holds_at_any_prices(deadline_s):
    """Weak duality itself, where the descent would not go."""
    scenario, _, states = instance(users=6, vms=2, slots=2, seed=1, bandwidth_hz=2e6, deadline_s=deadline_s)
    best = optimum(scenario, states).revenue
    generator = torch.Generator().manual_seed(0)
    lowest = float("inf")
    for resolution in (1, 3):
        relaxed = bounds._relax(scenario, states, resolution)
        for _ in range(60):
            price, rate = (
                torch.rand(1, n, generator=generator, dtype=torch.float64) ** 4 for n in (2, relaxed.free.shape[-1])
            )
            lowest = min(lowest, bounds._dual(relaxed, price, rate).item())
    assert lowest >= best - 1e-9


def test_best_start_is_the_least_cost_of_a_fine_grid():
    scenario, _, states = instance(users=8, vms=2, slots=2, seed=3, bandwidth_hz=4e6)
    relaxed = bounds._relax(scenario, states, 3)
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        price = torch.rand(1, 2, generator=generator, dtype=torch.float64)
        rate = torch.rand(relaxed.free.shape, generator=generator, dtype=torch.float64)
        rates = rate.unfold(-1, 6, 3)
        paid = torch.nn.functional.pad(rates.cumsum(-1), (1, 0))

        def cost(start, price=price, rates=rates, paid=paid):
            time = bounds._integral(paid, rates, start + relaxed.execution) - bounds._integral(paid, rates, start)
            return price.unsqueeze(-1) * relaxed.work / start + time

        found = cost(bounds._best_start(relaxed, price, rates, paid))
        latest = relaxed.deadline - relaxed.execution
        for part in torch.linspace(1e-4, 1, 500, dtype=torch.float64):
            assert (found <= cost(latest * part) + 1e-9).all()


def test_bound_is_close_where_it_matters():
    # 60 % of the rent that Eq. 17 asks: greedy leaves little to be earned above it.
    scenario = Scenario()
    region = RegionEnvironment(scenario, 20.0, 24, 5, bandwidth_hz=13e6, n_vms=7)
    states, earned = [], torch.zeros(24)
    for _ in range(20):
        states.append(region.state)
        _, outcome = region.step(Greedy().allocate(scenario, region.state))
        earned += outcome.revenue.sum(-1)
    bound = upper_bound(scenario, states)
    assert (earned <= bound).all()
    assert 0.97 < (earned.sum() / bound.sum()).item() < 1


def test_bound_with_nothing_to_earn():
    scenario = Scenario(max_users=4, max_vms=2)
    region = RegionEnvironment(scenario, [0.0, 3.0], 2, 0, bandwidth_hz=torch.tensor([1e6, 0.0]), n_vms=1)
    assert upper_bound(scenario, [region.reset()]).tolist() == [0.0, 0.0]


def test_bound_where_nobody_ever_asks():
    scenario = Scenario(short_slot_s=0.1, max_users=12, max_vms=8)
    region = RegionEnvironment(scenario, [0.0, 6.0], 2, 0, bandwidth_hz=5e6, n_vms=1)
    states = [region.step(Greedy().allocate(scenario, region.state))[0] for _ in range(20)]
    asleep, busy = upper_bound(scenario, states).tolist()
    assert asleep == 0
    assert busy > 0


def test_all_rounds_of_the_solver_share_its_time(monkeypatch):
    scenario, _, states = instance(users=4, vms=1, slots=2, seed=3, bandwidth_hz=1.5e6, vm_hz=2.5e9)  # three rounds
    ten_seconds_each = SimpleNamespace(perf_counter=count(step=10.0).__next__)
    monkeypatch.setattr("sliceoff.solver.time", ten_seconds_each)
    solve, limits = mip.Model.optimize, []

    def limited(model, *args, max_seconds, **options):
        limits.append(max_seconds)
        return solve(model, *args, max_seconds=max_seconds, **options)

    monkeypatch.setattr(mip.Model, "optimize", limited)
    assert optimum(scenario, states, max_seconds=25).proven
    assert limits == [25, 15, 5]
    limits.clear()
    with pytest.raises(RuntimeError, match=r"no plan.*time limit"):
        optimum(scenario, states, max_seconds=20)
    assert limits == [20, 10]


def test_vms_that_come_and_go():
    """The second slot rents one VM more than the first, or one less, which still finishes what it has."""
    scenario, _, (first, second) = instance(users=5, vms=3, slots=2, seed=2, bandwidth_hz=2e6)
    for counts in ((3, 1), (1, 3)):
        states = [state._replace(n_vms=torch.tensor([n])) for state, n in zip((first, second), counts, strict=True)]
        found = optimum(scenario, states)
        region = RegionEnvironment(scenario, 4.5, 1, 2, bandwidth_hz=2e6, n_vms=3, dtype=torch.float64)
        for _ in range(2):
            region.step(Greedy().allocate(scenario, region.state))
        earned = 0.0
        for n, allocation in zip(counts, found.plan, strict=True):
            region.rent(2e6, n)
            earned += region.step(allocation)[1].revenue.sum().item()
        assert earned == pytest.approx(found.revenue)
        assert upper_bound(scenario, states).item() >= found.revenue - 1e-9


def test_refused():
    paper, _, states = instance(users=4, vms=2, slots=1, seed=0, bandwidth_hz=2e6, queue="paper")
    size, vms, cost = torch.tensor([[2e6]]), torch.tensor([[2.0]]), torch.zeros(1, 1, 1)
    for bound in (optimum, upper_bound, partial(slice_bounds, bandwidth_hz=size, n_vms=vms, cost=cost)):
        with pytest.raises(InputError, match="lindley"):
            bound(paper, states)
    region = RegionEnvironment(Scenario(), 20.0, 2, 0, bandwidth_hz=2e6, n_vms=2)
    with pytest.raises(InputError, match="one region"):
        optimum(Scenario(), [region.reset()])
    crowd = RegionEnvironment(Scenario(), 40.0, 1, 0, bandwidth_hz=2e6, n_vms=2)
    busy = crowd.reset()
    idle = busy._replace(tasks=busy.tasks._replace(present=torch.zeros_like(busy.tasks.present)))
    with pytest.raises(InputError, match="up to 12 tasks"):
        optimum(Scenario(), [idle, busy])


def test_no_tasks():
    tasks = Tasks(*(torch.ones(1, 3) for _ in range(4)), present=torch.zeros(1, 3, dtype=torch.bool))
    state = RegionState(tasks, torch.zeros(1, 2), torch.tensor([1e6]), torch.tensor([2]), torch.zeros(1))
    found = optimum(Scenario(), [state])
    assert found.revenue == 0
    assert found.proven
    assert found.plan[0].share.sum() == 0


def test_one_descent_bounds_every_slice():
    scenario = Scenario(price=1e-3)
    sizes, machines = torch.tensor([[5e6, 10e6, 15e6, 30e6]]), torch.tensor([[2.0, 4.0, 8.0]])
    environment = RegionEnvironment(scenario, 15.0, 1, seed=3, bandwidth_hz=1e6, n_vms=1)
    cost = sizes.unsqueeze(2) * 3e-9 * 8 + machines.unsqueeze(1) * 0.01 * 8
    drawn = []
    for _ in range(8):
        drawn.append(environment.state)
        environment.step(no_allocation(drawn[-1]))
    bounds = slice_bounds(scenario, drawn, sizes, machines, cost)
    best = (bounds - cost).flatten().argmax()
    for pair in range(12):
        bandwidth, vms = sizes[0, pair // 3], int(machines[0, pair % 3])
        slots = [state._replace(bandwidth_hz=bandwidth.expand(1), n_vms=torch.tensor([vms])) for state in drawn]
        alone = upper_bound(scenario, slots)
        environment = RegionEnvironment(scenario, 15.0, 1, seed=3, bandwidth_hz=float(bandwidth), n_vms=vms)
        earned = torch.zeros(1)
        for _ in range(8):
            earned += environment.step(Greedy().allocate(scenario, environment.state))[1].revenue.sum(-1)
        assert bounds.flatten()[pair] >= earned * (1 - 1e-6)
        if pair == best:  # the one that was aimed at
            assert bounds.flatten()[pair] == pytest.approx(float(alone), rel=0.01)


def test_a_vm_that_late_tasks_keep_busy_for_long_is_no_use_and_no_harm():
    scenario, _, states = instance(users=4, vms=3, slots=2, seed=3, bandwidth_hz=2e6, late_tasks="run")
    for state in states:
        state.backlog_s[:, 2] = 5 * scenario.deadline_s
    without = [state._replace(n_vms=state.n_vms - 1) for state in states]
    assert optimum(scenario, states).revenue == pytest.approx(optimum(scenario, without).revenue)


@pytest.mark.parametrize("units", [{"money": 1e-9}, {"money": 1e9}, {"seconds": 1e3}, {"bits": 1e-6}], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_optimum_and_bound_are_the_same_in_other_units(seed, units):
    scenario, _, states = instance(users=5, vms=2, slots=2, seed=seed, bandwidth_hz=2e6)
    there = scenario_in(scenario, **units), [state_in(state, **units) for state in states]
    money = units.get("money", 1)
    assert optimum(*there).revenue == pytest.approx(money * optimum(scenario, states).revenue, rel=1e-9)
    assert upper_bound(*there).item() == pytest.approx(money * upper_bound(scenario, states).item(), rel=1e-3)


@pytest.mark.parametrize("seed", range(2))
def test_more_of_anything_never_earns_less(seed):
    scenario, _, states = instance(users=5, vms=2, slots=2, seed=seed, bandwidth_hz=1.5e6)

    def every(**fields):
        return [
            state._replace(**{name: change(getattr(state, name)) for name, change in fields.items()})
            for state in states
        ]

    best, most = optimum(scenario, states).revenue, upper_bound(scenario, states).item()
    for more in (
        (scenario, every(bandwidth_hz=lambda hz: 1.3 * hz)),
        (scenario, every(backlog_s=lambda s: s / 2)),
        (replace(scenario, deadline_s=1.2 * scenario.deadline_s), states),
    ):
        assert optimum(*more).revenue >= best * (1 - 1e-9)
        assert upper_bound(*more).item() >= most * (1 - 1e-3)  # the descent ends near its least value


def test_a_regions_bound_does_not_depend_on_the_others():
    scenario = Scenario()
    region = RegionEnvironment(scenario, 15.0, 24, 0, bandwidth_hz=8e6, n_vms=5, dtype=torch.float64)
    states = [region.step(Greedy().allocate(scenario, region.state))[0] for _ in range(6)]
    together = upper_bound(scenario, states)
    alone = [
        upper_bound(scenario, [map_state(lambda x, i=i: x[i : i + 1], state) for state in states]) for i in range(6)
    ]
    torch.testing.assert_close(torch.cat(alone), together[:6], rtol=2e-5, atol=0)
