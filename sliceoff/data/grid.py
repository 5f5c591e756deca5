"""From the rows of a file to a regular time grid: missing times, empty cells, coarser steps."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Num

from sliceoff.checks import count, one_of, optional
from sliceoff.data.checks import Source, check_filled, check_signs, check_step
from sliceoff.data.trace import Trace
from sliceoff.errors import InputError, OptionError

log = logging.getLogger(__name__)

_GAPS = ("interpolate", "zero", "error")
_NEGATIVE = ("error", "zero", "allow")


@dataclass(frozen=True)
class Policy:
    """How a reader treats missing and negative values.

    Args:
        gaps: missing times and empty cells become: `interpolate`, the straight line between the neighbours in time (at
            the ends, the nearest value); `zero`, no traffic; or `error`. Interpolation uses the value after the gap.
            It is refused if more than half of the values are missing.
        negative: negative values are an `error`, become `zero`, or are kept (`allow`, for data that is not traffic).
        resample_s: mean over this many seconds, a multiple of the file's step; None: the file's own step. Intervals
            start at whole multiples on the clock; incomplete ones at the ends are dropped.

    Raises:
        InputError: a policy is unknown, or `resample_s` is below one.
    """

    gaps: str = "interpolate"
    negative: str = "error"
    resample_s: int | None = None

    def __post_init__(self) -> None:
        one_of("gaps", self.gaps, _GAPS)
        one_of("negative", self.negative, _NEGATIVE)
        optional(count, "resample_s", self.resample_s)


def check_cells(
    source: Source, values: Num[np.ndarray, "rows columns"], names: Sequence[str], policy: Policy
) -> Float[np.ndarray, "rows columns"]:
    """Apply the policy to a file's cells, while their line numbers are known.

    Args:
        values: NaN or masked where empty; what is returned is not masked.

    Raises:
        InputError: a cell is negative or empty and its policy is `error`.
    """
    values = _unmasked(values)
    if policy.gaps == "error":
        check_filled(source, values, names)
    return check_signs(source, values, names, policy.negative)


def to_trace(
    source: Source,
    times: np.ndarray,
    values: Num[np.ndarray, "rows regions"],
    regions: Sequence[str],
    policy: Policy,
    coordinates: Float[np.ndarray, "regions 2"] | None = None,
) -> Trace:
    """Put rows on a regular grid, fill gaps, and resample.

    Args:
        times: rising, `datetime64[s]`, (rows,).
        values: NaN or masked where missing.

    Raises:
        InputError: the times are not on a regular grid, or the policy refuses a gap.
    """
    step = check_step(source, times, policy.gaps)
    times, values = _filled(source, times, values, regions, step, policy)
    if policy.resample_s is not None:
        times, values = _means(source, times, values, step, policy.resample_s)
        step = policy.resample_s
    return Trace(values, times, tuple(regions), step, coordinates)


def _unmasked(values: Num[np.ndarray, "rows columns"]) -> Float[np.ndarray, "rows columns"]:
    return np.ma.filled(values.astype(float, copy=False), np.nan)


def _filled(
    source: Source,
    times: np.ndarray,
    values: Num[np.ndarray, "rows regions"],
    regions: Sequence[str],
    step: int,
    policy: Policy,
) -> tuple[np.ndarray, Float[np.ndarray, "time regions"]]:
    """The full grid of times, and values on it without gaps."""
    place = (times - times[0]).astype(np.int64) // step
    _check_length(source, times, np.diff(place), policy.gaps)
    full = np.full((int(place[-1]) + 1, values.shape[1]), np.nan)
    full[place] = _unmasked(values)
    grid = np.arange(len(full))
    whens = times[0] + grid * np.timedelta64(step, "s")
    missing = np.isnan(full)
    for column, region in enumerate(regions):
        gap = missing[:, column]
        if not gap.any():
            continue
        if policy.gaps == "error":
            raise InputError(
                f"{source.path}: '{region}' has no value at {whens[gap.argmax()]}; add it, or set "
                f"data.gaps=interpolate or data.gaps=zero"
            )
        if gap.all() or (policy.gaps == "interpolate" and 2 * gap.sum() > len(gap)):
            advice = "" if gap.all() else ", or set data.gaps=zero if absent means no traffic"
            raise InputError(
                f"{source.path}: '{region}' has no value at {gap.sum()} of {len(gap)} times; leave it out with "
                f"data.columns{advice}"
            )
        full[gap, column] = 0.0 if policy.gaps == "zero" else np.interp(grid[gap], grid[~gap], full[~gap, column])
    if missing.any() and policy.gaps == "interpolate":
        log.warning(
            "%s: %d of %d values are missing and interpolated (data.gaps); forecasts are measured on those, too",
            source.path,
            missing.sum(),
            missing.size,
        )
    return whens, full


def _check_length(source: Source, times: np.ndarray, jumps: np.ndarray, gaps: str) -> None:
    """Refuse missing times: any with gaps=error, more than half with `interpolate`, more than 99 % with `zero`.

    An absent line may mean no traffic, but a grid a hundred times as long as the file means a mistyped time.
    """
    present, length = len(times), int(jumps.sum()) + 1
    if length <= present * {"error": 1, "interpolate": 2, "zero": 100}[gaps]:
        return
    place = int((jumps > 1).argmax() if gaps == "error" else jumps.argmax())
    before, after = times[place : place + 2]
    advice = (
        "fill them in, or set data.gaps=interpolate or data.gaps=zero"
        if gaps == "error"
        else f"in all, {length - present} of {length} are; mend the times, or cut the file"
    )
    raise InputError(
        f"{source.at(place + 1)}: {jumps[place] - 1} time(s) are missing between {before} and {after}; {advice}"
    )


def _means(
    source: Source, times: np.ndarray, values: Float[np.ndarray, "time regions"], step: int, resample_s: int
) -> tuple[np.ndarray, Float[np.ndarray, "coarse regions"]]:
    if resample_s % step:
        raise OptionError(
            "resample_s", f"={resample_s} is no multiple of the step of {source.path}, {step} s; choose one"
        )
    factor = resample_s // step
    skipped = -(int(times[0].astype(np.int64)) % -resample_s // step)  # up to the next whole multiple on the clock
    whole = (len(values) - skipped) // factor
    if whole < 1:
        raise OptionError(
            "resample_s", f"={resample_s}: {source.path} covers no whole interval of that length; choose a shorter one"
        )
    kept = slice(skipped, skipped + whole * factor)
    return times[kept][::factor], values[kept].reshape(whole, factor, -1).mean(1)
