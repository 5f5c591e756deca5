"""The batched queues against an independent event-by-event simulation (SimPy), task by task."""

import pytest
import simpy
import torch

from sliceoff.region import Allocation, RegionState, Scenario, Tasks, bandwidth_work, execution_work, map_state, serve

N_SLOTS, USERS, VMS = 1500, 12, 4


def simulate_slot(scenario, uploads, executions, vms, backlogs):
    """One slot: per user (completion or None if it never arrives, dropped), per VM the time it becomes free."""
    environment = simpy.Environment()
    free_at = list(backlogs)
    servers = [simpy.Resource(environment) for _ in backlogs]
    result = {}

    def waits_as_printed(j):
        """Eq. 3's plain sum: nothing queued before is done while a task uploads, and its VM does not idle."""
        vm, execution = vms[j], executions[j]
        expected = environment.now + free_at[vm] + execution
        dropped = scenario.late_tasks == "drop" and expected > scenario.deadline_s
        free_at[vm] += 0.0 if dropped else execution
        yield environment.timeout(expected - environment.now)
        result[j] = (environment.now, dropped)

    def earlier_work(vm):
        with servers[vm].request() as turn:
            yield turn
            yield environment.timeout(backlogs[vm])

    def user(j):
        if uploads[j] > scenario.deadline_s:  # given up while uploading
            result[j] = (None, False)
            return
        yield environment.timeout(uploads[j])
        if scenario.queue == "paper":
            yield from waits_as_printed(j)
            return
        vm = vms[j]
        expected = max(free_at[vm], environment.now) + executions[j]
        if scenario.late_tasks == "drop" and expected > scenario.deadline_s:
            result[j] = (expected, True)
            return
        free_at[vm] = expected
        with servers[vm].request() as turn:
            yield turn
            yield environment.timeout(executions[j])
        result[j] = (environment.now, False)

    for vm, backlog in enumerate(backlogs):
        if backlog > 0:
            environment.process(earlier_work(vm))
    for j in range(len(uploads)):
        environment.process(user(j))
    environment.run()
    return result, free_at


def random_slots(scenario, seed, *, ties):
    """Slots from idle to hopelessly overloaded; some users without bandwidth, some slots without users."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    data = 0.2e6 + 2e6 * uniform(N_SLOTS, USERS)
    share = uniform(N_SLOTS, USERS) * (uniform(N_SLOTS, USERS) < 0.9)
    if ties:  # equal sizes, densities, places and shares for all: everyone arrives at once
        data[:] = 1e6
        share[:] = 1.0
    present = uniform(N_SLOTS, USERS) < uniform(N_SLOTS, 1) * 1.3
    present[:20] = False
    tasks = Tasks(
        data_bits=data,
        cycles_per_bit=200 + 800 * uniform(N_SLOTS, USERS),
        priority=torch.ones(N_SLOTS, USERS, dtype=torch.float64),
        distance_m=torch.full_like(data, 50.0) if ties else 10 + 190 * uniform(N_SLOTS, USERS),
        present=present,
    )
    n_vms = 1 + (uniform(N_SLOTS) * VMS).long()
    n_vms[:300] = 1
    backlog = uniform(N_SLOTS, VMS) * 1.1 * (uniform(N_SLOTS, 1) < 0.7)
    backlog[300:350] = scenario.deadline_s  # full to the brim
    bandwidth = 30e6 * uniform(N_SLOTS)
    bandwidth[350:370] = 0.0
    state = RegionState(tasks, backlog, bandwidth, n_vms, expected_users=0 * bandwidth)
    share = share * present / (share * present).sum(-1, keepdim=True).clamp_min(1e-12)
    return state, Allocation(share, (uniform(N_SLOTS, USERS) * n_vms.unsqueeze(-1)).long())


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("late_tasks", ["drop", "run"])
@pytest.mark.parametrize("queue", ["lindley", "paper"])
def test_equals_event_by_event_simulation(queue, late_tasks, ties):
    scenario = Scenario(queue=queue, late_tasks=late_tasks, max_users=USERS, max_vms=VMS)
    state, allocation = random_slots(scenario, seed=7, ties=ties)
    outcome = serve(scenario, state, allocation)
    efficiency = state.tasks.data_bits / bandwidth_work(scenario, state.tasks)
    uploads = state.tasks.data_bits / (allocation.share * state.bandwidth_hz[:, None] * efficiency)
    executions = execution_work(scenario, state.tasks)
    n_dropped = n_late = n_never = 0
    for slot in range(N_SLOTS):
        who = state.tasks.present[slot].nonzero().flatten().tolist()
        result, free_at = simulate_slot(
            scenario,
            *(x[slot, who].tolist() for x in (uploads, executions, allocation.vm)),
            state.backlog_s[slot].tolist(),
        )
        for place, j in enumerate(who):
            completion, dropped = result[place]
            assert bool(outcome.dropped[slot, j]) == dropped
            if completion is None:
                n_never += 1
                assert outcome.completion_s[slot, j] == torch.inf
                assert not outcome.on_time[slot, j]
                continue
            assert outcome.completion_s[slot, j].item() == pytest.approx(completion, rel=1e-9)
            assert bool(outcome.on_time[slot, j]) == (completion <= scenario.deadline_s)
            n_dropped += dropped
            n_late += not dropped and completion > scenario.deadline_s
        left = [max(0.0, free - scenario.short_slot_s) for free in free_at]
        assert outcome.backlog_s[slot].tolist() == pytest.approx(left, abs=1e-9)
    # The slots must have exercised what they are for.
    assert n_never > 100
    assert (n_dropped if late_tasks == "drop" else n_late) > 1000


@pytest.mark.parametrize("late_tasks", ["drop", "run"])
@pytest.mark.parametrize("queue", ["lindley", "paper"])
def test_single_precision_agrees_with_double(queue, late_tasks):
    scenario = Scenario(queue=queue, late_tasks=late_tasks, max_users=USERS, max_vms=VMS)
    state, allocation = random_slots(scenario, seed=3, ties=False)
    double = serve(scenario, state, allocation)
    single = serve(
        scenario,
        map_state(lambda x: x.float() if x.is_floating_point() else x, state),
        Allocation(allocation.share.float(), allocation.vm),
    )
    assert single.completion_s.dtype == torch.float32
    # A task on the brink, such as one behind a queue full to the deadline, may be dropped in one precision alone.
    same = (single.dropped == double.dropped).all(-1)
    assert same.float().mean() > 0.99
    torch.testing.assert_close(single.completion_s.double()[same], double.completion_s[same], rtol=1e-4, atol=1e-5)


def test_any_leading_batch_shape():
    scenario = Scenario(max_users=USERS, max_vms=VMS)
    state, allocation = random_slots(scenario, seed=5, ties=False)
    flat = serve(scenario, state, allocation)
    folded = serve(
        scenario,
        map_state(lambda x: x.unflatten(0, (30, 50)), state),
        Allocation(*(x.unflatten(0, (30, 50)) for x in allocation)),
    )
    for expected, actual in zip(flat, folded, strict=True):
        torch.testing.assert_close(actual.flatten(0, 1), expected, rtol=0, atol=0)
    row = serve(
        scenario,
        map_state(lambda x: x[400], state),
        Allocation(*(x[400] for x in allocation)),
    )
    torch.testing.assert_close(row.completion_s, flat.completion_s[400], rtol=0, atol=0)
