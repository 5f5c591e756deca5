"""The embedded trace: made-up cellular traffic with what makes real traffic hard and learnable."""

import numpy as np

from sliceoff.data.trace import Trace
from sliceoff.errors import InputError

_START = np.datetime64("2024-01-01T00:00:00", "s")  # a Monday
# Hour of the day at which a kind of region is busiest, and its level at weekends.
_KINDS = ((11.0, 0.45), (20.5, 1.15), (16.0, 1.3), (14.0, 0.9))  # offices, homes, leisure, mixed


def synthetic_trace(
    n_regions: int = 4,
    days: int = 84,
    step_s: int = 3600,
    seed: int = 0,
    noise: float = 0.06,
    bursts_per_week: float = 1.5,
    drift: float = 0.25,
) -> Trace:
    """Users per region: daily and weekly cycles that differ by region, bursts, drift between neighbours, noise.

    Regions lie on a circle and are in turn offices, homes, leisure and mixed. `drift` moves part of each region's users
    to and from its next neighbour with a slowly changing flow, so that a rise here tells of a fall there. Bursts rise
    within a step and die out over hours. All randomness comes from `seed`.

    Args:
        n_regions: regions.
        days: length.
        step_s: long slot [s].
        seed: of all draws.
        noise: standard deviation of the multiplicative noise.
        bursts_per_week: bursts per region and week on average.
        drift: largest share of a region's users that is with its neighbour.

    Raises:
        InputError: an argument is out of range.
    """
    for name, value, least in (("n_regions", n_regions, 1), ("days", days, 1), ("step_s", step_s, 1)):
        if value < least:
            raise InputError(f"data.{name}={value} must be at least {least}")
    for name, share in (("noise", noise), ("bursts_per_week", bursts_per_week), ("drift", drift)):
        if not 0 <= share < np.inf:
            raise InputError(f"data.{name}={share} must be at least 0 and finite")
    rng = np.random.default_rng(seed)
    steps = days * 86_400 // step_s
    hours = np.arange(steps) * step_s / 3600
    times = _START + np.arange(steps) * np.timedelta64(step_s, "s")
    weekend = ((hours // 24) % 7 >= 5)[:, None]
    peak, weekend_level = (np.resize(np.array(column), n_regions) for column in zip(*_KINDS, strict=True))
    base = rng.uniform(700, 1300, n_regions)
    peak = peak + rng.uniform(-0.5, 0.5, n_regions)
    phase = 2 * np.pi * (hours[:, None] - peak) / 24
    daily = np.exp(1.1 * np.cos(phase) + 0.25 * np.cos(2 * phase))
    level = base * (0.25 + daily / daily.mean(0)) * np.where(weekend, weekend_level, 1.0)
    level = level * np.exp(
        _autoregressive(rng, steps, n_regions, hours=30 * 3600 / step_s, std=0.10)
    )  # good and bad days
    level = level + level.mean(0) * _bursts(rng, steps, n_regions, step_s, bursts_per_week)
    share = drift * np.tanh(_autoregressive(rng, steps, n_regions, hours=6 * 3600 / step_s, std=1.0))
    moved = share * np.minimum(level, np.roll(level, -1, axis=1)) / 2  # to the next region; negative: from it
    if n_regions > 1:
        level = level - moved + np.roll(moved, 1, axis=1)
    values = level * np.exp(noise * rng.standard_normal(level.shape))
    angle = 2 * np.pi * np.arange(n_regions) / n_regions
    return Trace(
        values=values,
        times=times,
        regions=tuple(f"region_{index}" for index in range(n_regions)),
        step_s=step_s,
        coordinates=np.stack([np.cos(angle), np.sin(angle)], axis=-1),
    )


def _autoregressive(rng: np.random.Generator, steps: int, n_regions: int, hours: float, std: float) -> np.ndarray:
    """A stationary AR(1) per region that forgets over `hours` steps."""
    keep = np.exp(-1 / hours)
    state = std * rng.standard_normal(n_regions)
    path = np.empty((steps, n_regions))
    for step, shock in enumerate(std * np.sqrt(1 - keep**2) * rng.standard_normal((steps, n_regions))):
        state = keep * state + shock
        path[step] = state
    return path


def _bursts(rng: np.random.Generator, steps: int, n_regions: int, step_s: int, per_week: float) -> np.ndarray:
    """Bursts relative to the mean level: Poisson in time, each dying out with a half-life of about two hours."""
    starts = rng.random((steps, n_regions)) < per_week * step_s / 604_800
    size = np.where(starts, rng.exponential(0.7, starts.shape), 0.0)
    decay = 0.5 ** (step_s / 7200)
    level = np.empty_like(size)
    state = np.zeros(n_regions)
    for step, jump in enumerate(size):
        state = decay * state + jump
        level[step] = state
    return level
