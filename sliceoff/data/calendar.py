"""Calendar features: where a time lies in its day and in its week."""

import numpy as np
from jaxtyping import Float

DAY_S, WEEK_S = 86_400, 604_800
N_CALENDAR = 4
_EPOCH_WEEKDAY_S = 3 * DAY_S  # 1970-01-01 was a Thursday


def calendar_features(times: np.ndarray) -> Float[np.ndarray, "time 4"]:
    """Sine and cosine of the time of day, then of the time of week (from Monday 00:00), float32 in [-1, 1].

    They depend on the time alone, so they exist beyond the data's end.

    Args:
        times: `datetime64` of any resolution, (time,).
    """
    seconds = times.astype("datetime64[s]").astype(np.int64)
    day = 2 * np.pi * (seconds % DAY_S) / DAY_S
    week = 2 * np.pi * ((seconds + _EPOCH_WEEKDAY_S) % WEEK_S) / WEEK_S
    return np.stack([np.sin(day), np.cos(day), np.sin(week), np.cos(week)], axis=-1).astype(np.float32)
