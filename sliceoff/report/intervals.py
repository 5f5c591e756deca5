"""95 % intervals: by bootstrap over blocks of time or markets, and by Student's t over seeds."""

from collections.abc import Sequence
from statistics import fmean, stdev

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

_RESAMPLES, _SEED = 2000, 0


def resampled(blocks: Float[np.ndarray, "blocks ..."]) -> Float[np.ndarray, "resamples ..."]:
    """Bootstrap: sums over blocks drawn with replacement, the same draws for every column."""
    chosen = np.random.default_rng(_SEED).integers(len(blocks), size=(_RESAMPLES, len(blocks)))
    return blocks[chosen].sum(1)


def bootstrap_interval(blocks: Float[np.ndarray, " blocks"]) -> tuple[float, float] | None:
    """Both ends of the 95 % bootstrap interval of the sum; None for a single block."""
    if len(blocks) < 2:
        return None
    low, high = np.quantile(resampled(blocks), (0.025, 0.975))
    return float(low), float(high)


def t_interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean, and half the width of its 95 % interval by Student's t; None if there are too few values."""
    if len(values) < 2:
        return (values[0] if values else None), None
    return fmean(values), float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / len(values) ** 0.5
