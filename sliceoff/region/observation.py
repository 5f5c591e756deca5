"""The observation of learning allocators: Eq. 20, completed and scaled."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sliceoff.region.model import channel_gain, spectral_efficiency
from sliceoff.region.scenario import Scenario
from sliceoff.region.serve import task_efficiency
from sliceoff.region.state import RegionState

Kind = Literal["full", "paper"]


class Observation(NamedTuple):
    """Features of the region and of every user, scaled to [-1, 1]; rows of absent users are zero."""

    region: Float[Tensor, "*batch region_features"]
    users: Float[Tensor, "*batch users user_features"]
    present: Bool[Tensor, "*batch users"]


def region_features(scenario: Scenario, kind: Kind) -> int:
    """Number of features of the region."""
    return 3 + (1 + scenario.max_vms if kind == "full" else 0)


def user_features(kind: Kind) -> int:
    """Number of features of each user."""
    return 5 if kind == "full" else 4


def observe(scenario: Scenario, state: RegionState, kind: Kind = "full") -> Observation:
    """The state (20): B, V, N; d/T_max, d eta/T_max, rho, l of every user.

    `full` adds what (20) lacks and the next slot depends on: the expected users, each VM's backlog in units of the
    deadline (-1 for a VM that is not rented), and each user's log2(1 + snr). Everything lies in [-1, 1]; a bandwidth
    above `max_bandwidth_hz`, a backlog above the deadline, and more expected users than `max_users` are clipped to 1.
    """
    tasks, present = state.tasks, state.tasks.present
    dtype = tasks.data_bits.dtype
    region = [
        _scaled(state.bandwidth_hz, 0.0, scenario.max_bandwidth_hz),
        _scaled(state.n_vms.to(dtype), 0.0, scenario.max_vms),
        _scaled(present.sum(-1).to(dtype), 0.0, scenario.max_users),
    ]
    # The deadline is the same for all, so dividing by it is part of the scaling.
    work = (scenario.data_bits[0] * scenario.cycles_per_bit[0], scenario.data_bits[1] * scenario.cycles_per_bit[1])
    users = [
        _scaled(tasks.data_bits, *scenario.data_bits),
        _scaled(tasks.data_bits * tasks.cycles_per_bit, *work),
        _scaled(tasks.priority, min(scenario.priorities), max(scenario.priorities)),
        _scaled(tasks.distance_m, scenario.min_distance_m, scenario.cell_radius_m),
    ]
    globals_ = torch.stack(region, -1)
    if kind == "full":
        exists = torch.arange(scenario.max_vms, device=present.device) < state.n_vms.unsqueeze(-1)
        expected = _scaled(state.expected_users, 0.0, scenario.max_users).unsqueeze(-1)
        backlog = torch.where(exists, state.backlog_s / scenario.deadline_s, -1)
        globals_ = torch.cat((globals_, expected, backlog), -1)
        users.append(_scaled(task_efficiency(scenario, tasks), *efficiency_range(scenario)))
    features = torch.stack(users, -1).clamp(-1, 1) * present.unsqueeze(-1)
    return Observation(globals_.clamp(-1, 1), features, present)


def efficiency_range(scenario: Scenario) -> tuple[float, float]:
    """Spectral efficiency at the cell's edge and at the least distance, bit/s/Hz."""
    distance = torch.tensor([scenario.cell_radius_m, scenario.min_distance_m], dtype=torch.float64, device="cpu")
    gain = channel_gain(distance, scenario.gain_at_1m, scenario.path_loss_exponent)
    low, high = spectral_efficiency(gain, scenario.transmit_power_w, scenario.noise_w).tolist()
    return low, high


def _scaled(value: Float[Tensor, "*shape"], low: float | int, high: float | int) -> Float[Tensor, "*shape"]:
    """Map [low, high] to [-1, 1]; if low = high, to 0."""
    return (value - (low + high) / 2) * (2 / (high - low) if high > low else 0.0)
