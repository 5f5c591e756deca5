"""Calendar features: where a time lies in its day, its week and its year."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

DAY_S, WEEK_S, YEAR_S = 86_400, 604_800, 31_556_952
_EPOCH_WEEKDAY_S = 3 * DAY_S  # 1970-01-01 was a Thursday
# Length, and where 1970-01-01 00:00 lies in it: days start at midnight, weeks on Mondays.
CYCLES = {"day": (DAY_S, 0), "week": (WEEK_S, _EPOCH_WEEKDAY_S), "year": (YEAR_S, 0)}


def calendar_features(
    times: np.ndarray, cycles: Sequence[str] = ("day", "week")
) -> Float[np.ndarray, "time two_per_cycle"]:
    """Sine and cosine of the time within every cycle, float32 in [-1, 1].

    They depend only on the time, so they exist beyond the data's end.

    Args:
        times: `datetime64` of any resolution, (time,).
        cycles: names in `CYCLES`.
    """
    seconds = times.astype("datetime64[s]").astype(np.int64)
    columns = []
    for cycle in cycles:
        length, offset = CYCLES[cycle]
        phase = 2 * np.pi * ((seconds + offset) % length) / length
        columns += [np.sin(phase), np.cos(phase)]
    return np.stack(columns, axis=-1).astype(np.float32)
