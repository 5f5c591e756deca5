"""Windows over a trace, as views: an index each, gathered a whole batch at a time from one tensor."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset


class Window(NamedTuple):
    """A batch of windows in real units."""

    history: Float[Tensor, "batch input_length regions"]
    history_calendar: Float[Tensor, "batch input_length calendar"]
    future: Float[Tensor, "batch horizon regions"]
    future_calendar: Float[Tensor, "batch horizon calendar"]


class Windows(Dataset[Window]):
    """The windows whose first forecast step is `first`, `first + 1`, ..., `last`.

    Memory does not grow with their number: a batch is one gather from `values`.

    Args:
        values: (time, regions), the whole trace.
        calendar: (time, calendar).
    """

    def __init__(
        self,
        values: Float[Tensor, "time regions"],
        calendar: Float[Tensor, "time calendar"],
        first: int,
        last: int,
        input_length: int,
        horizon: int,
    ):
        self._values, self._calendar, self._first = values, calendar, first
        self._length = last - first + 1
        self._input_length = input_length
        self._offsets = torch.arange(-input_length, horizon)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Window:
        """One window, as a batch of one."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Window:
        """A batch; called by the DataLoader with all its indices at once."""
        return self.gather(self._first + torch.as_tensor(indices))

    def gather(self, origins: Int[Tensor, " batch"]) -> Window:
        """The windows whose forecasts start at the trace's steps `origins`."""
        rows = origins.unsqueeze(-1) + self._offsets
        values, calendar, cut = self._values[rows], self._calendar[rows], self._input_length
        return Window(values[:, :cut], calendar[:, :cut], values[:, cut:], calendar[:, cut:])
