"""The built-in synthetic trace: cellular traffic with daily and weekly cycles, bursts, drift and noise."""

import numpy as np
from jaxtyping import Float

from sliceoff.checks import between, count, whole
from sliceoff.data.trace import Trace
from sliceoff.errors import OptionError

_START = np.datetime64("2024-01-01T00:00:00", "s")  # a Monday
# Offices, homes, leisure, mixed: the busiest hour of the day, and the level at weekends against workdays.
_PEAK_HOUR = np.array([11.0, 20.5, 16.0, 14.0])
_WEEKEND = np.array([0.45, 1.15, 1.3, 0.9])
_SPACING_M = 500.0


def synthetic_trace(
    n_regions: int = 4,
    days: int = 84,
    step_s: int = 3600,
    seed: int = 0,
    noise: float = 0.06,
    bursts_per_week: float = 1.5,
    drift: float = 0.25,
) -> Trace:
    """Draw users per region, about a thousand each on average.

    Regions lie on a circle, 500 m apart, and are in turn offices, homes, leisure and mixed; each has its own level,
    busiest hour and weekend. These cycles are overlaid by good and bad days (an autoregression with a time constant of
    30 hours), bursts (up within a step, then halved every two hours) and drift: part of a region's users move to its
    next neighbour and back, in a flow that changes over about six hours. Drift moves users and creates none, so a rise
    in one region goes with a fall in its neighbour. The past hours and the neighbours thus predict more than the same
    hour yesterday or last week.

    Args:
        n_regions: number of regions.
        days: length [days].
        step_s: the long slot [s].
        seed: of all draws; the same arguments give the same trace.
        noise: standard deviation of the noise, which cannot be predicted, relative to the traffic.
        bursts_per_week: bursts per region and week on average.
        drift: largest share of a region's users that is elsewhere, at most 1.

    Returns:
        A trace from Monday, 2024-01-01 on; values are not negative.

    Raises:
        InputError: an argument is out of range.
    """
    for name, value in (("n_regions", n_regions), ("days", days), ("step_s", step_s)):
        count(name, value)
    for name, size, most in (("noise", noise, 10), ("bursts_per_week", bursts_per_week, 1000), ("drift", drift, 1)):
        between(name, size, 0, most)
    steps = days * 86_400 // step_s
    if steps < 2:
        raise OptionError("days", f"={days} holds {steps} step(s) of step_s={step_s}; a trace needs at least two")
    hours = np.arange(steps) * (step_s / 3600)
    # One stream of draws per ingredient: turning one off leaves the others as they were.
    levels, days_draws, burst_draws, drift_draws, noise_draws = np.random.default_rng(whole("seed", seed)).spawn(5)
    shape = (steps, n_regions)

    users = _cycles(levels, hours, n_regions)
    users = users * np.exp(0.10 * _wander(days_draws, shape, hours=30, step_s=step_s))
    users = users + users.mean(0) * _bursts(burst_draws, shape, bursts_per_week, step_s)
    flow = drift * np.tanh(_wander(drift_draws, shape, hours=6, step_s=step_s))
    users = _moved(users, flow)
    users = users * np.exp(noise * noise_draws.standard_normal(shape))

    angle = 2 * np.pi * np.arange(n_regions) / n_regions
    radius = _SPACING_M / (2 * np.sin(np.pi / n_regions)) if n_regions > 1 else 0.0
    return Trace(
        values=users,
        times=_START + np.arange(steps) * np.timedelta64(step_s, "s"),
        regions=tuple(f"region_{index}" for index in range(n_regions)),
        step_s=step_s,
        coordinates=radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1),
    )


def _cycles(
    rng: np.random.Generator, hours: Float[np.ndarray, " time"], n_regions: int
) -> Float[np.ndarray, "time regions"]:
    """Users by time of day and of week: a peak that differs by kind of region, over a constant base."""
    level = rng.uniform(750, 1250, n_regions)
    peak = np.resize(_PEAK_HOUR, n_regions) + rng.uniform(-0.5, 0.5, n_regions)
    phase = 2 * np.pi * (hours[:, None] - peak) / 24
    daily = np.exp(0.9 * np.cos(phase) + 0.15 * np.cos(2 * phase))
    weekend = (hours[:, None] // 24) % 7 >= 5
    return level * (0.2 + 0.8 * daily / daily.mean(0)) * np.where(weekend, np.resize(_WEEKEND, n_regions), 1.0)


def _wander(
    rng: np.random.Generator, shape: tuple[int, int], hours: float, step_s: int
) -> Float[np.ndarray, "time regions"]:
    """A stationary first-order autoregression per region, of variance 1 and time constant `hours`."""
    keep = np.exp(-step_s / 3600 / hours)
    shocks = rng.standard_normal(shape)
    shocks[1:] *= np.sqrt(1 - keep**2)
    return _decaying(shocks, keep)


def _bursts(
    rng: np.random.Generator, shape: tuple[int, int], per_week: float, step_s: int
) -> Float[np.ndarray, "time regions"]:
    """Bursts relative to the mean level: at most one start per step, height 0.3 to 1.5, half-life two hours."""
    starts = rng.random(shape) < -np.expm1(-per_week * step_s / 604_800)
    return _decaying(np.where(starts, rng.uniform(0.3, 1.5, shape), 0.0), keep=0.5 ** (step_s / 7200))


def _decaying(jumps: Float[np.ndarray, "time regions"], keep: float) -> Float[np.ndarray, "time regions"]:
    """The recursion `y[t] = keep * y[t - 1] + jumps[t]`."""
    level = jumps.copy()
    for step in range(1, len(level)):
        level[step] += keep * level[step - 1]
    return level


def _moved(
    users: Float[np.ndarray, "time regions"], flow: Float[np.ndarray, "time regions"]
) -> Float[np.ndarray, "time regions"]:
    """Move `flow` times half the smaller side's users from every region to the next on the circle (negative: back).

    Half, so that a region which loses users to both neighbours still keeps some; the sum over regions is unchanged.
    """
    moving = flow * np.minimum(users, np.roll(users, -1, axis=1)) / 2
    return users - moving + np.roll(moving, 1, axis=1)
