"""Calendar features: where a time lies in its day and week."""

import numpy as np
from jaxtyping import Float

N_CALENDAR = 4
_DAY_S, _WEEK_S = 86_400, 604_800


def calendar_features(times: np.ndarray) -> Float[np.ndarray, "time 4"]:
    """Sine and cosine of the time of day and of the time of week, all in [-1, 1].

    Args:
        times: `datetime64`, (time,), past or future.
    """
    seconds = times.astype("datetime64[s]").astype(np.int64)
    day = 2 * np.pi * (seconds % _DAY_S) / _DAY_S
    week = 2 * np.pi * (seconds % _WEEK_S) / _WEEK_S
    return np.stack([np.sin(day), np.cos(day), np.sin(week), np.cos(week)], axis=-1).astype(np.float32)
