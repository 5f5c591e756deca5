"""Windows of history for training, and the held-out end for the loop."""

from collections.abc import Sequence

import lightning.pytorch as pl
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader

from sliceoff.data.calendar import N_CALENDAR, calendar_features
from sliceoff.data.trace import Trace
from sliceoff.data.windows import Window, Windows
from sliceoff.errors import InputError

_DAY_S = 86_400


class TrafficDataModule(pl.LightningDataModule):
    """Splits a trace in time order into training, validation and held-out end, and serves windows of each.

    A validation or test window's history may reach back over the border; what it forecasts never does. Shuffling draws
    from torch's global generator, which the `RandomState` callback keeps in checkpoints.

    Args:
        trace: the traffic.
        input_length: steps of history in a window.
        horizon: steps forecast.
        split: training, validation and held-out part: shares of the trace (floats) or steps (ints).
        batch_size: windows per batch.

    Raises:
        InputError: the trace is too short for the windows, or the split makes no sense.
    """

    def __init__(
        self,
        trace: Trace,
        input_length: int,
        horizon: int,
        split: Sequence[float | int] = (0.7, 0.1, 0.2),
        batch_size: int = 32,
    ):
        super().__init__()
        for name, value in (("input_length", input_length), ("horizon", horizon), ("batch_size", batch_size)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"windows.{name}={value!r} must be a whole number above zero")
        self.trace, self.input_length, self.horizon, self.batch_size = trace, input_length, horizon, batch_size
        train, validation, heldout = _steps(split, len(trace.times))
        self._train_end, self._heldout_end = train, train + validation + heldout
        self.heldout_start = train + validation
        self.n_regions, self.n_calendar = len(trace.regions), N_CALENDAR
        self.season_length = max(1, round(_DAY_S / trace.step_s))
        for part, steps, needed, rule in (
            ("training", train, input_length + horizon, "input_length + horizon"),
            ("validation", validation, horizon, "horizon"),
            ("held-out", heldout, horizon, "horizon"),
        ):
            if steps < needed:
                raise InputError(
                    f"the {part} part has {steps} of the trace's {len(trace.times)} steps, but windows need {needed} "
                    f"({rule}); lower windows.horizon={horizon} or windows.input_length={input_length}, "
                    f"or give a longer trace"
                )
        self._values = torch.from_numpy(trace.values).float()
        beyond = trace.times_at(0, len(trace.times) + horizon)
        self._calendar = torch.from_numpy(calendar_features(beyond))

    @property
    def train_values(self) -> Float[Tensor, "time regions"]:
        """The training part: all that scaling, prices and demand may be fitted on."""
        return self._values[: self._train_end]

    def windows(self, part: str) -> Windows:
        """The windows of a part: `train`, `validation` or `heldout`."""
        first, end = {
            "train": (self.input_length, self._train_end),
            "validation": (max(self._train_end, self.input_length), self.heldout_start),
            "heldout": (max(self.heldout_start, self.input_length), self._heldout_end),
        }[part]
        return Windows(self._values, self._calendar, first, end - self.horizon, self.input_length, self.horizon)

    def train_dataloader(self) -> DataLoader:
        """Shuffled training windows."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader:
        """Validation windows, all of them, in time order."""
        return self._loader("validation")

    def test_dataloader(self) -> DataLoader:
        """Held-out windows, all of them, in time order."""
        return self._loader("heldout")

    def history_until(self, index: int) -> Window:
        """The window that forecasts from the trace's step `index` on, a batch of one; its `future` is all zeros.

        `index` may be the trace's length: a forecast beyond the data.

        Raises:
            InputError: there are fewer than `input_length` steps before `index`.
        """
        start = index - self.input_length
        if start < 0 or index > len(self._values):
            raise InputError(
                f"a forecast from step {index} needs windows.input_length={self.input_length} steps of history "
                f"within the trace's {len(self._values)}; lower it or give a longer trace"
            )
        past, future = slice(start, index), slice(index, index + self.horizon)
        return Window(
            self._values[past].unsqueeze(0),
            self._calendar[past].unsqueeze(0),
            self._values.new_zeros(1, self.horizon, self.n_regions),
            self._calendar[future].unsqueeze(0),
        )

    def _loader(self, part: str, shuffle: bool = False) -> DataLoader:
        return DataLoader(self.windows(part), batch_size=self.batch_size, shuffle=shuffle, collate_fn=_gathered)


def _gathered(batch: Window) -> Window:
    """The dataset gathers whole batches itself; nothing is left to collate."""
    return batch


def _steps(split: Sequence[float | int], length: int) -> tuple[int, int, int]:
    if len(split) != 3 or any(isinstance(part, bool) or not part > 0 for part in split):
        raise InputError(f"windows.split={list(split)} must be three numbers above zero, such as [0.7, 0.1, 0.2]")
    if all(isinstance(part, int) for part in split):
        train, validation, heldout = (int(part) for part in split)
    else:
        if abs(sum(split) - 1) > 1e-6:
            raise InputError(f"windows.split={list(split)} sums to {sum(split):g}; shares of the trace must sum to 1")
        train, validation = (int(np.floor(length * share + 1e-9)) for share in split[:2])
        heldout = length - train - validation
    if train + validation + heldout > length:
        raise InputError(
            f"windows.split={list(split)} asks for {train + validation + heldout} steps; the trace has {length}"
        )
    return train, validation, heldout
