"""A trace in time order: windows to train, validate and test on, and the held-out end for the loop."""

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader

from sliceoff.checks import count, listed, one_of, whole
from sliceoff.data.calendar import CYCLES, DAY_S, calendar_features
from sliceoff.data.trace import Trace
from sliceoff.data.windows import EpochShuffle, ResumableLoader, Window, Windows, as_gathered
from sliceoff.errors import InputError, OptionError


class TrafficDataModule(pl.LightningDataModule):
    """Split a trace in time order into training part, validation part and held-out end, and serve windows of each.

    The history of a validation or held-out window may start before its part; the steps it forecasts never leave the
    part. Batches are `Window`s in the trace's units: the model scales them, by statistics of `train_values`.

    Attributes:
        trace: the whole trace.
        input_length, horizon, n_regions, n_calendar: sizes of a `Window`.
        calendar: names of the calendar cycles.
        season_length: steps per day, at least 1.
        heldout_start, heldout_end: the held-out end is `trace.values[heldout_start:heldout_end]`.

    Args:
        trace: the traffic.
        input_length: steps of history in a window.
        horizon: steps forecast.
        split: training, validation and held-out part, each a share of the trace (floats that sum to 1) or a number of
            steps (ints; steps left over at the end are not used).
        batch_size: windows per batch; the last batch of an epoch may be smaller and is never dropped.
        seed: of the training windows' order.
        calendar: cycles whose phase is an input of the networks: day, week, year. Use year only if the training part
            covers the seasons of the other parts.
        first_steps: to learn from little data, use only the first `input_length` steps of the trace and this many after
            them, three quarters to train and the last quarter to validate. The held-out end stays the same. None: all.

    Raises:
        InputError: an argument is out of range, or the trace is too short for the windows.
    """

    def __init__(
        self,
        trace: Trace,
        input_length: int,
        horizon: int,
        split: Sequence[float | int] = (0.7, 0.1, 0.2),
        batch_size: int = 32,
        seed: int = 0,
        calendar: Sequence[str] = ("day", "week"),
        first_steps: int | None = None,
    ):
        super().__init__()
        for name, value in (("input_length", input_length), ("horizon", horizon), ("batch_size", batch_size)):
            count(name, value)
        whole("seed", seed)
        for cycle in listed("calendar", calendar, "[day, week]"):
            one_of("calendar", cycle, CYCLES)
        if len(set(calendar)) < len(calendar):
            raise OptionError("calendar", f"={list(calendar)} names a cycle twice; name each once")
        length = len(trace.times)
        train, validation, heldout = split_lengths(split, length)
        for part, steps, needed, rule in (
            ("training", train, input_length + horizon, "input_length + horizon"),
            ("validation", validation, horizon, "horizon"),
            ("held-out", heldout, horizon, "horizon"),
        ):
            if steps < needed:
                least = input_length + 3 * horizon
                missing = (
                    f"the {part} part has {steps} of the trace's {length} steps, but a window needs {needed} of it "
                    f"({rule})"
                )
                if length >= least:
                    cure = f"set it to [{length - 2 * horizon},{horizon},{horizon}]"
                    raise OptionError("split", f"={list(split)}: {missing}; {cure}")
                longer, option = max((input_length, "input_length"), (horizon, "horizon"))
                raise OptionError(
                    option,
                    f"={longer}: {missing}; that takes a trace of {least}: give a longer one, or lower "
                    f"input_length={input_length} or horizon={horizon}",
                )
        self.trace, self.input_length, self.horizon, self.batch_size = trace, input_length, horizon, batch_size
        self.n_regions, self.n_calendar = len(trace.regions), 2 * len(calendar)
        self.season_length = max(1, round(DAY_S / trace.step_s))
        self.calendar = list(calendar)
        self.heldout_start, self.heldout_end = train + validation, train + validation + heldout
        self._train_end, self._validation_end, self._seed = train, train + validation, seed
        if first_steps is not None:
            self._validation_end = input_length + first_steps
            self._train_end = self._validation_end - first_steps // 4
            least, most = self.first_steps_range
            if not least <= first_steps <= most:
                raise OptionError(
                    "first_steps",
                    f"={first_steps} must be at least {least} (four horizons) and leave the held-out end alone: at "
                    f"most {most}",
                )
        self._values = torch.from_numpy(trace.values).float()
        self._calendar = torch.from_numpy(calendar_features(trace.times_at(0, length + horizon), calendar))

    @property
    def description(self) -> dict[str, Any]:
        """What a forecaster is built for: the step [s], sizes of its windows, names of regions and calendar cycles."""
        sizes = ("n_regions", "n_calendar", "input_length", "horizon", "season_length", "calendar")
        step = {"step_s": self.trace.step_s}  # first, because `unsuited` reports the first mismatch
        return step | {name: getattr(self, name) for name in sizes} | {"regions": list(self.trace.regions)}

    @property
    def first_steps_range(self) -> tuple[int, int]:
        """The least `first_steps` (one horizon to validate on) and the most (up to the held-out end).

        The least is above the most if the trace is too short for `first_steps`.
        """
        return 4 * self.horizon, self.heldout_start - self.input_length

    @property
    def train_values(self) -> Float[Tensor, "time regions"]:
        """The training part: the only data that scaling, prices and demand may be fitted on."""
        return self._values[: self._train_end]

    @property
    def train_windows(self) -> Windows:
        """Windows that lie entirely in the training part."""
        return self._windows(self.input_length, self._train_end)

    @property
    def validation_windows(self) -> Windows:
        """Windows that forecast within the validation part."""
        return self._windows(self._train_end, self._validation_end)

    @property
    def heldout_windows(self) -> Windows:
        """Windows that forecast within the held-out end."""
        return self._windows(self.heldout_start, self.heldout_end)

    def train_dataloader(self) -> DataLoader[Window]:
        """Training windows, shuffled every epoch by `seed` and the epoch's number."""
        windows = self.train_windows
        return _in_memory(windows, batch_size=self.batch_size, sampler=EpochShuffle(len(windows), self._seed))

    def val_dataloader(self) -> DataLoader[Window]:
        """Validation windows, all of them, in time order."""
        return _in_memory(self.validation_windows, batch_size=self.batch_size)

    def test_dataloader(self) -> DataLoader[Window]:
        """Held-out windows, all of them, in time order."""
        return _in_memory(self.heldout_windows, batch_size=self.batch_size)

    def predict_dataloader(self) -> DataLoader[Window]:
        """The one window that forecasts beyond the trace's end."""
        return _in_memory([self.history_until(len(self._values))], batch_size=None)

    def history_until(self, index: int) -> Window:
        """The window that forecasts from the trace's step `index` on, as a batch of one.

        Its `future` is zeros even where the trace has values, so that nothing can look ahead; its `future_calendar` is
        real. `index` may be the trace's length: a forecast beyond the data.

        Raises:
            InputError: there are fewer than `input_length` steps before `index`, or it lies beyond the trace's end.
        """
        start, length = index - self.input_length, len(self._values)
        if start < 0 or index > length:
            raise InputError(
                f"a forecast from step {index} needs input_length={self.input_length} steps before it within the "
                f"trace's {length}; forecast from {self.input_length} to {length}, or lower input_length"
            )
        past, future = slice(start, index), slice(index, index + self.horizon)
        return Window(
            self._values[past].unsqueeze(0),
            self._calendar[past].unsqueeze(0),
            self._values.new_zeros(1, self.horizon, self.n_regions),
            self._calendar[future].unsqueeze(0),
        )

    def _windows(self, start: int, end: int) -> Windows:
        """Windows that forecast within the steps `start` to `end`."""
        return Windows(self._values, self._calendar, start, end - self.horizon, self.input_length, self.horizon)


def _in_memory(windows: Windows | list[Window], **options: Any) -> DataLoader[Window]:
    # A batch is one gather from memory; worker processes, which Lightning recommends, could only slow it down.
    # A loader draws a seed for workers; drawn from the global generator, it would change a resumed run's later draws.
    return ResumableLoader(windows, collate_fn=as_gathered, generator=torch.Generator(), **options)  # type: ignore[arg-type]


def split_lengths(split: Sequence[float | int], length: int) -> tuple[int, int, int]:
    """Steps in the training, validation and held-out part of a trace of `length` steps.

    Args:
        split: three shares that sum to 1 (the held-out end gets what rounding leaves), or three numbers of steps.
        length: steps in the trace.

    Raises:
        InputError: the split makes no sense, or asks for more steps than there are.
    """
    shown = f"={list(listed('split', split, '[0.7, 0.1, 0.2]'))}"
    if len(split) != 3 or any(isinstance(part, bool | str) or not part > 0 for part in split):
        raise OptionError(
            "split", f"{shown} must be three numbers above zero, such as [0.7, 0.1, 0.2] or [8640, 2880, 2880]"
        )
    if all(isinstance(part, int) for part in split):
        train, validation, heldout = (int(part) for part in split)
        if train + validation + heldout > length:
            raise OptionError(
                "split",
                f"{shown} asks for {train + validation + heldout} steps, but the trace has {length}; "
                f"lower them, or give shares that sum to 1",
            )
        return train, validation, heldout
    if abs(sum(split) - 1) > 1e-6:
        raise OptionError("split", f"{shown} sums to {sum(split):g}; shares must sum to 1, numbers of steps be whole")
    train, validation = (int(length * share + 1e-9) for share in split[:2])  # 1e-9: 0.7 * 1000 is 700 despite rounding
    return train, validation, length - train - validation
