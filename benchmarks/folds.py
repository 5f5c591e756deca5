"""Blocked cross-validation before the held-out end of a trace: `windows._target_=folds.Fold +windows.fold=0`."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Subset

from sliceoff.data import TrafficDataModule, Window
from sliceoff.data.windows import Windows

FOLDS = 6


class Fold(TrafficDataModule):
    """The training and validation parts, cut into six blocks of equal length.

    One block is forecast, the one before it (for the first: the last one) is for early stopping, the others are for
    training. No training window overlaps a block that is not for training.

    Args:
        fold: number of the block to forecast.
        longest: the longest input length of the compared networks [steps]; forecasts start that many steps into the
            trace for all of them, so that all are tested on the same windows.
        options: as for `TrafficDataModule`.
    """

    def __init__(self, *, fold: int, longest: int, **options: Any):
        super().__init__(**options)
        length = self.heldout_start // FOLDS
        blocks = [(length * place, length * (place + 1)) for place in range(FOLDS)]
        self._longest, self._forecast, self._stop = longest, blocks[fold], blocks[fold - 1]
        self._trains: list[tuple[int, int]] = []
        for place, (start, end) in enumerate(blocks):
            if place in (fold, (fold - 1) % FOLDS):
                continue
            if self._trains and self._trains[-1][1] == start:
                start = self._trains.pop()[0]
            self._trains.append((start, end))

    @property
    def unit(self) -> Float[Tensor, " regions"]:
        """Standard deviations of the whole training part, the unit of errors in the published protocol."""
        return super().train_values.std(0, correction=0)

    @property
    def train_values(self) -> Float[Tensor, "time regions"]:
        """The values of all training blocks."""
        return torch.cat([self._values[start:end] for start, end in self._trains])

    @property
    def train_windows(self) -> Subset[Window]:  # type: ignore[override]  # not contiguous
        """Windows that lie entirely in training blocks."""
        every = self._windows(self.input_length, self.heldout_start)  # window i starts at the trace's step i
        first_left_out = 1 - self.input_length - self.horizon
        return Subset(every, [i for start, end in self._trains for i in range(start, end + first_left_out)])

    @property
    def validation_windows(self) -> Windows:
        """Windows that forecast within the block for early stopping."""
        start, end = self._stop
        return self._windows(max(start, self.input_length), end)

    @property
    def heldout_windows(self) -> Windows:
        """Windows that forecast within the fold's block."""
        start, end = self._forecast
        return self._windows(max(start, self._longest), end)
