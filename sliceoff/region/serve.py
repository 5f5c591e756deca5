"""One short slot: the outcome of an allocation, Eqs. 1-7."""

import torch
from jaxtyping import Float
from torch import Tensor

from sliceoff.region import model
from sliceoff.region.queues import fifo
from sliceoff.region.scenario import Scenario
from sliceoff.region.state import Allocation, Outcome, RegionState, Tasks


def task_efficiency(scenario: Scenario, tasks: Tasks) -> Float[Tensor, "*batch users"]:
    """Spectral efficiency of every user's channel, bit/s/Hz."""
    gain = model.channel_gain(tasks.distance_m, scenario.gain_at_1m, scenario.path_loss_exponent)
    return model.spectral_efficiency(gain, scenario.transmit_power_w, scenario.noise_w)


def bandwidth_work(scenario: Scenario, tasks: Tasks) -> Float[Tensor, "*batch users"]:
    """`w = d / log2(1 + snr)` [Hz s]: the bandwidth that uploads a task in one second."""
    return tasks.data_bits / task_efficiency(scenario, tasks)


def bandwidth_time(scenario: Scenario, state: RegionState) -> Float[Tensor, "*batch users"]:
    """`w / B` [s]: a task's upload time with all of its region's bandwidth B; huge if there is none."""
    return bandwidth_work(scenario, state.tasks) / state.bandwidth_hz.unsqueeze(-1).clamp_min(1e-9)


def execution_work(scenario: Scenario, tasks: Tasks) -> Float[Tensor, "*batch users"]:
    """`c = d eta / f` [s]: a task's time on a VM."""
    return model.execution_time(tasks.data_bits, tasks.cycles_per_bit, scenario.vm_hz)


def need_per_user(scenario: Scenario, tasks: Tasks) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """What one user needs on average over `tasks`, in double precision.

    Returns:
        Bandwidth [Hz] that uploads a task within a deadline, and VMs that execute one within a short slot.
    """
    return (
        bandwidth_work(scenario, tasks).double().mean() / scenario.deadline_s,
        execution_work(scenario, tasks).double().mean() / scenario.short_slot_s,
    )


def serve(scenario: Scenario, state: RegionState, allocation: Allocation) -> Outcome:
    """Serve one slot's tasks as allocated. A pure function, without randomness or checks (see `check_allocation`).

    A task still uploading at the deadline is given up and never reaches its VM; one that can no longer meet the
    deadline on arrival is dropped or run (`late_tasks`).

    The equations imply two simplifications. Every slot has the whole bandwidth, even while late uploads of the slot
    before still run (Eq. 1); and a VM serves slot after slot, so a task that arrives early in a slot waits until the
    work of earlier slots is done.

    Args:
        state: any batch shape.
        allocation: same batch shape; `share` sums to at most 1, `vm` in [0, n_vms).
    """
    tasks, present = state.tasks, state.tasks.present
    rate = model.uplink_rate(allocation.share, state.bandwidth_hz, task_efficiency(scenario, tasks))
    upload = model.upload_time(tasks.data_bits, rate)
    execution = execution_work(scenario, tasks)
    joins = present & (upload <= scenario.deadline_s)
    queued = fifo(
        allocation.vm,
        upload,
        execution,
        joins,
        state.backlog_s,
        deadline_s=scenario.deadline_s,
        queue=scenario.queue,
        late_tasks=scenario.late_tasks,
    )
    completion = torch.where(joins, model.completion_time(upload, queued.wait_s, execution), torch.inf)
    on_time = queued.admitted & (completion <= scenario.deadline_s)
    airing = torch.where(present, allocation.share * upload.clamp_max(scenario.short_slot_s), 0)
    return Outcome(
        upload_s=torch.where(present, upload, 0),
        wait_s=queued.wait_s,
        execution_s=torch.where(present, execution, 0),
        completion_s=torch.where(present, completion, 0),
        on_time=on_time,
        dropped=joins & ~queued.admitted,
        revenue=torch.where(on_time, model.task_revenue(on_time, tasks.priority, scenario.price), 0),
        backlog_s=(queued.busy_until_s - scenario.short_slot_s).clamp_min(0),
        work_s=torch.zeros_like(state.backlog_s).scatter_add(
            -1, torch.where(present, allocation.vm, 0), torch.where(queued.admitted, execution, 0)
        ),
        airtime=airing.sum(-1) / scenario.short_slot_s,
    )
