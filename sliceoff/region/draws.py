"""Counter-based random numbers: a draw is a hash of (seed, copy, step, stream, user) only.

So a copy sees the same tasks in any batch, on any device, after a resume, and for any allocation; there is no generator
whose state must be kept. The hash is SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA 2014), applied once per
counter.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Added to a run's seed, so that different uses do not share draws; the simulation and its bound use the seed itself.
VALIDATION, TRAINING, REVENUE = 1_000_003, 2_000_003, 3_000_017
TYPICAL = -1  # no run has a negative seed

_GOLDEN = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MULTIPLIERS = (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)  # 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def mix(value: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """SplitMix64's finaliser, a bijection of the 64-bit integers."""
    value = (value ^ _shift(value, 30)) * _MULTIPLIERS[0]
    value = (value ^ _shift(value, 27)) * _MULTIPLIERS[1]
    return value ^ _shift(value, 31)


def keys(seed: int, copies: Int[Tensor, " copies"], step: int | Int[Tensor, "slots 1"]) -> Int[Tensor, "*slots copies"]:
    """One key per copy, for one step or for each of several."""
    return child(child(mix(torch.full_like(copies, _signed(seed)) + _GOLDEN), copies), step)


def child(key: Int[Tensor, "*shape"], counter: int | Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """Derive the `counter`-th key of a key; broadcasts."""
    stride = _signed((counter + 1) * _GOLDEN) if isinstance(counter, int) else (counter + 1) * _GOLDEN
    return mix(key + stride)


def uniforms(key: Int[Tensor, "*copies"], stream: int, users: int) -> tuple[Tensor, Tensor]:
    """Two independent uniform numbers in [0, 1) per copy and user, in steps of 2^-24 (exact in single precision).

    Returns:
        Two tensors (*copies, users), float32.
    """
    counters = torch.arange(users, device=key.device)
    bits = child(child(key, stream).unsqueeze(-1), counters)
    return _fraction(_shift(bits, 40)), _fraction(bits & 0xFFFFFF)


def poisson_table(mean: Float[Tensor, " copies"], largest: int) -> Float[Tensor, "copies largest"]:
    """`P(X <= k)` of a Poisson variable for k < largest, double precision."""
    counts = torch.arange(1, largest + 1, device=mean.device, dtype=torch.float64)
    return torch.special.gammaincc(counts, mean.double().unsqueeze(-1))


def poisson(
    key: Int[Tensor, "*slots copies"], stream: int, table: Float[Tensor, "copies largest"]
) -> Int[Tensor, "*slots copies"]:
    """Poisson counts, clipped to `largest`, by inversion of `poisson_table`."""
    uniform = _shift(child(key, stream), 11).double() * 2.0**-53
    return (uniform.unsqueeze(-1) >= table).sum(-1)


def poisson_mean(table: Float[Tensor, "copies largest"]) -> Float[Tensor, " copies"]:
    """Mean of the counts that `poisson` draws, clipped to `largest`."""
    return (1 - table).sum(-1)


def _shift(value: Tensor, bits: int) -> Tensor:
    """Logical shift to the right; torch's own is arithmetic."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _fraction(bits: Tensor) -> Tensor:
    return bits.float() * 2.0**-24


def _signed(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63
