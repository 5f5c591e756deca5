"""A traffic trace: how much traffic every region has in every long slot."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Trace:
    """Traffic on a regular time grid, without gaps (the readers see to that).

    Args:
        values: traffic in the trace's own unit.
        times: start of every step, `datetime64[s]`, one every `step_s`.
        regions: one name per column of `values`.
        step_s: the long slot [s].
        coordinates: where the regions lie, (regions, 2), if known.

    Raises:
        ValueError: the arguments do not fit together.
    """

    values: Float[np.ndarray, "time regions"]
    times: np.ndarray
    regions: tuple[str, ...]
    step_s: int
    coordinates: Float[np.ndarray, "regions 2"] | None = None

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.times), len(self.regions)):
            raise ValueError(
                f"values {self.values.shape} are not ({len(self.times)} times, {len(self.regions)} regions)"
            )
        if not np.isfinite(self.values).all():
            raise ValueError("values hold NaN or infinity")
        if len(self.times) > 1 and not (np.diff(self.times).astype("timedelta64[s]").astype(int) == self.step_s).all():
            raise ValueError(f"times are not one every {self.step_s} s")

    def times_at(self, start: int, length: int) -> np.ndarray:
        """The times of `length` steps from index `start`, also beyond the trace's end."""
        return self.times[0] + np.arange(start, start + length) * np.timedelta64(self.step_s, "s")
