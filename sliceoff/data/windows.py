"""Windows over a trace, as views of one tensor from which whole batches are gathered."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler


class Window(NamedTuple):
    """A batch of windows in the trace's own units, float32."""

    history: Float[Tensor, "batch input_length regions"]
    history_calendar: Float[Tensor, "batch input_length calendar"]
    future: Float[Tensor, "batch horizon regions"]
    future_calendar: Float[Tensor, "batch horizon calendar"]


class Windows(Dataset[Window]):
    """The windows whose forecast starts at the steps `first`, `first + 1`, ..., `last` of a trace.

    Memory does not grow with their number: all are views of `values`, and a batch is one gather from it. A
    `DataLoader` hands all of a batch's indices to `__getitems__`, so give it `collate_fn=as_gathered`.

    Args:
        values: the whole trace.
        calendar: its calendar features.
        first, last: at least `input_length` steps lie before `first`, and at least `horizon` from `last` on.
    """

    def __init__(
        self,
        values: Float[Tensor, "time regions"],
        calendar: Float[Tensor, "time_and_beyond calendar"],
        first: int,
        last: int,
        input_length: int,
        horizon: int,
    ):
        if not input_length <= first <= last <= len(values) - horizon:
            raise ValueError(f"windows at {first}..{last} leave the trace's {len(values)} steps")
        self._first, self._length, self._input_length = first, last - first + 1, input_length
        self._values, self._calendar = (
            series.unfold(0, input_length + horizon, 1).transpose(1, 2)  # (window, step, column), a view
            for series in (values, calendar)
        )

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Window:
        """One window, as a batch of one."""
        if not 0 <= index < self._length:
            raise IndexError(f"window {index} of {self._length}")
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Window:
        """The windows at `indices`, as one batch."""
        return self.gather(self._first + torch.as_tensor(indices))

    def gather(self, origins: Int[Tensor, " batch"]) -> Window:
        """The windows whose forecasts start at the trace's steps `origins`."""
        cut = self._input_length
        values, calendar = self._values[origins - cut], self._calendar[origins - cut]
        return Window(values[:, :cut], calendar[:, :cut], values[:, cut:], calendar[:, cut:])


class EpochShuffle(Sampler[int]):
    """A new order every epoch, drawn from (seed, epoch) only.

    Lightning calls `set_epoch` before every epoch, also after a resume, so a resumed run sees the order that an
    uninterrupted one would have seen, independent of all other random draws.

    Args:
        length: number of windows.
        seed: of all orders.
    """

    def __init__(self, length: int, seed: int):
        self._length, self._seed, self._epoch = length, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch whose order is drawn next."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        # The factor keeps (seed, epoch) = (0, 1) and (1, 0) apart.
        generator = torch.Generator().manual_seed((self._seed * 1_000_003 + self._epoch) % 2**63)
        yield from torch.randperm(self._length, generator=generator).tolist()


class ResumableLoader(DataLoader[Any]):
    """A `DataLoader` that a checkpoint can resume in the middle of an epoch; without worker processes.

    Lightning keeps `state_dict` in its checkpoints. After a resume, only the interrupted epoch is shorter.
    """

    _taken, _skipped = 0, 0

    def state_dict(self) -> dict[str, int]:
        """How many batches of the current epoch have been taken."""
        return {"taken": self._taken % len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Skip that many batches in the next epoch."""
        self._skipped = state["taken"]

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """The batches that are left of this epoch."""
        skipped, self._skipped = self._skipped, 0
        for self._taken, batch in enumerate(super().__iter__(), 1):
            if self._taken > skipped:
                yield batch


def as_gathered(batch: Any) -> Any:
    """A `collate_fn` for `Windows`, which already returns whole batches: returns `batch` unchanged."""
    return batch
