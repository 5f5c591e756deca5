"""A traffic trace: how much traffic every region has in every long slot."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Trace:
    """Traffic on a regular time grid, without gaps (the readers fill them); it keeps `values` as float64.

    Args:
        values: traffic in the trace's own unit (users, bits, calls), one column per region.
        times: start of every step, `datetime64[s]`, (time,), one every `step_s`. UTC where the file had zones.
        regions: one name per column of `values`, all different.
        step_s: the long slot [s].
        coordinates: where the regions lie, any planar unit, if known.

    Raises:
        ValueError: the arguments do not fit together.
    """

    values: Float[np.ndarray, "time regions"]
    times: np.ndarray
    regions: tuple[str, ...]
    step_s: int
    coordinates: Float[np.ndarray, "regions 2"] | None = None

    def __post_init__(self) -> None:
        if np.ma.is_masked(self.values):
            raise ValueError("values have masked entries; fill them in, as values.filled(0) does")
        plain = {
            # torch takes no negative strides, foreign byte orders or read-only arrays.
            "values": np.require(self.values, float, ["C", "W", "E"]),
            "regions": tuple(map(str, self.regions)),
            "step_s": self.step_s.item() if isinstance(self.step_s, np.generic) else self.step_s,
        }
        for name, value in plain.items():
            object.__setattr__(self, name, value)
        if self.times.dtype != np.dtype("datetime64[s]"):
            raise ValueError(f"times are {self.times.dtype}, not datetime64[s]")
        if self.values.shape != (len(self.times), len(self.regions)) or self.values.size == 0:
            raise ValueError(
                f"values {self.values.shape} are not ({len(self.times)} times, {len(self.regions)} regions)"
            )
        if not np.isfinite(self.values).all():
            raise ValueError("values hold NaN or infinity")
        if self.step_s < 1 or (np.diff(self.times) != np.timedelta64(self.step_s, "s")).any():
            raise ValueError(f"times are not one every {self.step_s} s")
        if len(set(self.regions)) < len(self.regions):
            raise ValueError(f"two regions have the same name: {', '.join(self.regions)}")
        if self.coordinates is not None and self.coordinates.shape != (len(self.regions), 2):
            raise ValueError(f"coordinates {self.coordinates.shape} are not ({len(self.regions)} regions, 2)")

    def times_at(self, start: int, length: int) -> np.ndarray:
        """The times of `length` steps from index `start` on, also beyond the trace's end."""
        return self.times[0] + np.arange(start, start + length) * np.timedelta64(self.step_s, "s")
