"""Eqs. 1-6 as pure tensor functions: any leading batch shape, any device, single or double precision.

The waiting time, Eq. 3, is in `queues`; the rental, Eqs. 8-10, in `sliceoff.slicing.rental`.
"""

from math import log

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def channel_gain(
    distance_m: Float[Tensor, "*shape"], gain_at_1m: float, path_loss_exponent: float
) -> Float[Tensor, "*shape"]:
    """`g = beta0 l^-theta`, the gain in Eq. 1."""
    return gain_at_1m * distance_m**-path_loss_exponent


def spectral_efficiency(
    gain: Float[Tensor, "*shape"], transmit_power_w: float, noise_w: float
) -> Float[Tensor, "*shape"]:
    """`log2(1 + p g / noise)` in bit/s/Hz, the factor in Eq. 1."""
    return torch.log1p(gain * (transmit_power_w / noise_w)) / log(2)


def uplink_rate(
    share: Float[Tensor, "*batch users"],
    bandwidth_hz: Float[Tensor, "*batch"],
    efficiency: Float[Tensor, "*batch users"],
) -> Float[Tensor, "*batch users"]:
    """Eq. 1: `r = b B log2(1 + p g / noise)` in bit/s."""
    return share * bandwidth_hz.unsqueeze(-1) * efficiency


def upload_time(data_bits: Float[Tensor, "*shape"], rate_bps: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Eq. 2: `d / r` in s; infinite at rate 0."""
    return data_bits.clamp_min(torch.finfo(data_bits.dtype).tiny) / rate_bps


def execution_time(
    data_bits: Float[Tensor, "*shape"], cycles_per_bit: Float[Tensor, "*shape"], vm_hz: float
) -> Float[Tensor, "*shape"]:
    """Eq. 4: `d eta / f` in s."""
    return data_bits * cycles_per_bit / vm_hz


def completion_time(
    upload_s: Float[Tensor, "*shape"], wait_s: Float[Tensor, "*shape"], execution_s: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Eq. 5: the sum of upload, waiting and execution time in s."""
    return upload_s + wait_s + execution_s


def task_revenue(
    on_time: Bool[Tensor, "*shape"], priority: Float[Tensor, "*shape"], price: float
) -> Float[Tensor, "*shape"]:
    """Eq. 6: `price * priority` for a task done in time, else 0."""
    return price * priority * on_time
