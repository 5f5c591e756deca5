"""The bandwidth and VMs that a number of users needs: Eq. 17, and the task statistics in it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sliceoff.checks import Number
from sliceoff.region import Scenario, Tasks, bandwidth_work, execution_work

_QUADRATURE = 4096  # points of the integral over users' distances; the prior's means are exact to 1e-6


def bandwidth_demand(
    users: Float[Tensor, "*shape"],
    work_mean: Float[Tensor, "*shape"],
    work_std: Float[Tensor, "*shape"],
    *,
    kappa: Number | Float[Tensor, "*shape"],
    z: Number,
    deadline_s: float,
    short_slot_s: float,
) -> Float[Tensor, "*shape"]:
    """Bandwidth [Hz] that uploads all tasks within a span of `kappa * deadline_s`, Eq. 17a.

    If that span is longer than a short slot, the uploads of several slots share the bandwidth and are counted together.

    Args:
        users: per short slot.
        work_mean, work_std: of a task's `w = d / log2(1 + snr)` [Hz s].
        z: standard deviations kept against an unlucky mix of tasks.
    """
    span = kappa * deadline_s
    sharing = users * _at_least_one(span / short_slot_s)
    return (sharing * work_mean + z * sharing.sqrt() * work_std) / span


def vm_demand(
    users: Float[Tensor, "*shape"],
    work_mean: Float[Tensor, "*shape"],
    work_std: Float[Tensor, "*shape"],
    work_max: Float[Tensor, "*shape"],
    *,
    kappa: Number | Float[Tensor, "*shape"],
    z: Number,
    deadline_s: float,
    short_slot_s: float,
) -> Float[Tensor, "*shape"]:
    """VMs that execute all tasks within `(1 - kappa) * deadline_s` under least-loaded scheduling, Eq. 17b.

    Infinite if even a single task may take longer than that.

    Args:
        users: per short slot.
        work_mean, work_std, work_max: of a task's `c = d eta / f` [s].
        z: standard deviations kept against an unlucky mix of tasks.
    """
    span = (1 - kappa) * deadline_s
    sharing = users * _at_least_one(span / short_slot_s)
    load = (sharing * work_mean + z * sharing.sqrt() * work_std - work_max).clamp_min(0)
    room = span - work_max
    return torch.where(room > 0, load / room, torch.inf)


def upload_span(
    users: Float[Tensor, "*shape"],
    bandwidth_hz: Float[Tensor, "*shape"],
    work_mean: Float[Tensor, "*shape"],
    work_std: Float[Tensor, "*shape"],
    *,
    z: Number,
    short_slot_s: float,
) -> Float[Tensor, "*shape"]:
    """The shortest span `kappa * deadline_s` [s] in which `bandwidth_hz` uploads all tasks: (17a) solved for kappa.

    Infinite if uploads arrive faster than the bandwidth can carry them.
    """
    within = (users * work_mean + z * users.sqrt() * work_std) / bandwidth_hz
    # Over more than a slot, b t = n E + z sqrt(n) S with n = users t / slot is linear in sqrt(t).
    spare = bandwidth_hz - users * work_mean / short_slot_s
    beyond = (z * (users / short_slot_s).sqrt() * work_std / spare).square()
    return torch.where(within <= short_slot_s, within, torch.where(spare > 0, beyond, torch.inf))


def pair_capacity(
    bandwidth_hz: Float[Tensor, "regions bandwidth_offers"],
    n_vms: Tensor,
    statistics: "TaskStatistics",
    *,
    z: Number,
    deadline_s: float,
    short_slot_s: float,
) -> Float[Tensor, "regions bandwidth_offers vm_offers"]:
    """Users per short slot that a pair of offers serves in time at the best kappa, (17a) and (17b) together.

    Found by bisection, to a millionth of an upper bound.

    Args:
        n_vms: (regions, vm_offers).
    """
    moments = [statistics.bandwidth_mean, statistics.bandwidth_std]
    moments += [statistics.vm_mean, statistics.vm_std, statistics.vm_max]
    bandwidth, vms, *work = torch.broadcast_tensors(
        bandwidth_hz.double()[:, :, None], n_vms.double()[:, None, :], *(moment[:, None, None] for moment in moments)
    )
    upload, execution = work[:2], work[2:]
    most = torch.minimum(bandwidth * deadline_s / upload[0], (vms * deadline_s + execution[2]) / execution[0])
    low, high = torch.zeros_like(most), most
    for _ in range(20):
        users = (low + high) / 2
        span = upload_span(users, bandwidth, *upload, z=z, short_slot_s=short_slot_s)
        kappa = (span / deadline_s).clamp_max(1)
        asked = vm_demand(users, *execution, kappa=kappa, z=z, deadline_s=deadline_s, short_slot_s=short_slot_s)
        covered = asked <= vms
        low, high = torch.where(covered, users, low), torch.where(covered, high, users)
    return low


def _at_least_one(ratio: Number | Tensor) -> Number | Tensor:
    return ratio.clamp_min(1) if isinstance(ratio, Tensor) else max(1.0, ratio)


@dataclass(frozen=True)
class TaskStatistics:
    """What one task needs, as (17) uses it, estimated from each region's recent tasks: float64, one entry per region.

    Args:
        n_tasks: number of tasks in the estimate, at most `memory`.
        bandwidth_mean, bandwidth_std: of `w = d / log2(1 + snr)` [Hz s].
        vm_mean, vm_std, vm_max: of `c = d eta / f` [s]; the maximum never falls, as (17b) is a guarantee.
        memory: number of tasks beyond which older ones lose weight, so that the estimate follows a drift.
    """

    n_tasks: Float[Tensor, " regions"]
    bandwidth_mean: Float[Tensor, " regions"]
    bandwidth_std: Float[Tensor, " regions"]
    vm_mean: Float[Tensor, " regions"]
    vm_std: Float[Tensor, " regions"]
    vm_max: Float[Tensor, " regions"]
    memory: Number = 20_000

    @classmethod
    def prior(
        cls, scenario: Scenario, n_regions: int, n_tasks: Number = 200, memory: Number = 20_000
    ) -> "TaskStatistics":
        """The statistics of the scenario's task distribution, with the weight of `n_tasks` observed tasks.

        Users are spread evenly over the ring `min_distance_m .. cell_radius_m`; sizes and densities are uniform and
        independent, as the environment draws them.
        """
        (d_low, d_high), (eta_low, eta_high) = scenario.data_bits, scenario.cycles_per_bit
        size, size_square = (d_low + d_high) / 2, (d_low**2 + d_low * d_high + d_high**2) / 3
        density, density_square = (eta_low + eta_high) / 2, (eta_low**2 + eta_low * eta_high + eta_high**2) / 3
        place = (torch.arange(_QUADRATURE, dtype=torch.float64) + 0.5) / _QUADRATURE
        inner, outer = scenario.min_distance_m**2, scenario.cell_radius_m**2
        one = torch.ones_like(place)
        users = Tasks(one, one, one, (inner + place * (outer - inner)).sqrt(), one.bool())
        per_bit = bandwidth_work(scenario, users)  # [Hz s / bit]
        bandwidth, bandwidth_square = size * per_bit.mean(), size_square * per_bit.square().mean()
        vm, vm_square = size * density / scenario.vm_hz, size_square * density_square / scenario.vm_hz**2

        def each(value: Number | Tensor) -> Tensor:
            return torch.full((n_regions,), float(value), dtype=torch.float64)

        return cls(
            n_tasks=each(n_tasks),
            bandwidth_mean=each(bandwidth),
            bandwidth_std=each(max(0.0, float(bandwidth_square - bandwidth**2)) ** 0.5),
            vm_mean=each(vm),
            vm_std=each(max(0.0, vm_square - vm**2) ** 0.5),
            vm_max=each(scenario.max_execution_s),
            memory=memory,
        )

    def updated(self, scenario: Scenario, tasks: Tasks) -> "TaskStatistics":
        """The statistics after observing further tasks (regions, tasks), padded as in `Tasks`."""
        present = tasks.present
        new = present.sum(-1).double()
        total = self.n_tasks + new
        bandwidth = torch.where(present, bandwidth_work(scenario, tasks), 0).double()
        vm = torch.where(present, execution_work(scenario, tasks), 0).double()
        bandwidth_mean, bandwidth_std = _merge(self.bandwidth_mean, self.bandwidth_std, self.n_tasks, bandwidth, total)
        vm_mean, vm_std = _merge(self.vm_mean, self.vm_std, self.n_tasks, vm, total)
        return type(self)(
            n_tasks=total.clamp_max(self.memory),
            bandwidth_mean=bandwidth_mean,
            bandwidth_std=bandwidth_std,
            vm_mean=vm_mean,
            vm_std=vm_std,
            vm_max=torch.maximum(self.vm_max, vm.amax(-1)),
            memory=self.memory,
        )

    def capacity_users(
        self, bandwidth_hz: Float[Tensor, " regions"], n_vms: Tensor, short_slot_s: float
    ) -> Float[Tensor, " regions"]:
        """The most users per short slot that a slice can carry in the long run: with more, its queues keep growing."""
        return torch.minimum(bandwidth_hz / self.bandwidth_mean, n_vms / self.vm_mean) * short_slot_s


def _merge(mean: Tensor, std: Tensor, weight: Tensor, work: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of old and new tasks together; absent users' work is zero."""
    total = total.clamp_min(1e-9)
    merged = (weight * mean + work.sum(-1)) / total
    square = (weight * (std.square() + mean.square()) + work.square().sum(-1)) / total
    return merged, (square - merged.square()).clamp_min(0).sqrt()
