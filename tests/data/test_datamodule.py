"""Windows and splits: nothing of another part is ever forecast, nothing of the future is ever seen."""

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quiet import trainer
from torch import nn

from sliceoff.data import Trace, TrafficDataModule, Window, Windows, calendar_features
from sliceoff.data.datamodule import split_lengths
from sliceoff.errors import InputError


def counting_trace(length: int, n_regions: int = 1, step_s: int = 3600) -> Trace:
    """Every value tells its own step (and, after the point, its region)."""
    values = np.arange(length)[:, None] + np.arange(n_regions) / 8
    times = np.datetime64("2024-03-04T00:00:00", "s") + np.arange(length) * np.timedelta64(step_s, "s")
    return Trace(values, times, tuple(f"r{i}" for i in range(n_regions)), step_s)


def changed_from(trace: Trace, step: int) -> Trace:
    values = trace.values.copy()
    values[step:] = -1e6
    return Trace(values, trace.times, trace.regions, trace.step_s)


def joined(loader) -> Window:
    return Window(*(torch.cat(parts) for parts in zip(*loader, strict=True)))


@st.composite
def arguments_of_a_datamodule(draw):
    input_length, horizon = draw(st.integers(1, 30)), draw(st.integers(1, 12))
    counts = [
        draw(st.integers(input_length + horizon, input_length + horizon + 60)),
        draw(st.integers(horizon, horizon + 40)),
        draw(st.integers(horizon, horizon + 40)),
    ]
    unused = draw(st.integers(0, 5))
    return {
        "trace": (sum(counts) + unused, draw(st.integers(1, 3))),  # made in the test: type checks draw random numbers
        "input_length": input_length,
        "horizon": horizon,
        "split": counts,
        "batch_size": draw(st.integers(1, 64)),
    }


@settings(max_examples=40, deadline=None)
@given(arguments_of_a_datamodule())
def test_every_window_of_a_part_once_and_no_other(arguments):
    arguments["trace"] = counting_trace(*arguments["trace"])
    datamodule = TrafficDataModule(**arguments)
    input_length, horizon, (train, validation, heldout) = (arguments[k] for k in ("input_length", "horizon", "split"))
    for loader, start, end in (
        (datamodule.train_dataloader(), input_length, train),
        (datamodule.val_dataloader(), train, train + validation),
        (datamodule.test_dataloader(), train + validation, train + validation + heldout),
    ):
        window = joined(loader)
        origins = window.future[:, 0, 0].long()
        assert sorted(origins.tolist()) == list(range(start, end - horizon + 1))  # none dropped, none twice
        steps = torch.arange(-input_length, horizon)
        whole = torch.cat([window.history, window.future], 1)
        assert (whole[..., 0].long() == origins[:, None] + steps).all()  # history, then future, without a hole
        assert ((whole - whole[..., :1]) == torch.arange(whole.shape[-1]) / 8).all()
        assert whole[..., 0].min() >= 0
        assert window.future[..., 0].max() < end
        calendar = torch.cat([window.history_calendar, window.future_calendar], 1)
        assert (calendar == torch.from_numpy(calendar_features(arguments["trace"].times))[whole[..., 0].long()]).all()
        assert whole.dtype == calendar.dtype == torch.float32
    assert (datamodule.heldout_start, datamodule.heldout_end) == (train + validation, train + validation + heldout)


@settings(max_examples=25, deadline=None)
@given(arguments_of_a_datamodule())
def test_training_never_sees_what_comes_after_its_part(arguments):
    train, validation, _ = arguments["split"]
    arguments["trace"] = counting_trace(*arguments["trace"])
    datamodule = TrafficDataModule(**arguments)
    assert (datamodule.train_values[:, 0] == torch.arange(train)).all()
    blind = TrafficDataModule(**{**arguments, "trace": changed_from(arguments["trace"], train)})
    assert (blind.train_values == datamodule.train_values).all()
    for one, other in zip(blind.train_dataloader(), datamodule.train_dataloader(), strict=True):
        assert all((a == b).all() for a, b in zip(one, other, strict=True))
    blind = TrafficDataModule(**{**arguments, "trace": changed_from(arguments["trace"], train + validation)})
    for one, other in zip(blind.val_dataloader(), datamodule.val_dataloader(), strict=True):
        assert all((a == b).all() for a, b in zip(one, other, strict=True))


@settings(max_examples=25, deadline=None)
@given(arguments_of_a_datamodule(), st.data())
def test_the_loop_never_sees_the_future(arguments, data):
    trace = arguments["trace"] = counting_trace(*arguments["trace"])
    index = data.draw(st.integers(arguments["input_length"], len(trace.times)))
    window = TrafficDataModule(**arguments).history_until(index)
    assert window.history[0, :, 0].tolist() == list(range(index - arguments["input_length"], index))
    assert (window.future == 0).all()
    assert window.future.shape[1] == arguments["horizon"]
    expected = calendar_features(trace.times_at(index, arguments["horizon"]))
    assert (window.future_calendar[0] == torch.from_numpy(expected)).all()
    blind = TrafficDataModule(**{**arguments, "trace": changed_from(trace, index)}).history_until(index)
    assert all((a == b).all() for a, b in zip(window, blind, strict=True))


def test_a_forecast_needs_its_history_and_starts_at_the_end_at_the_latest():
    datamodule = TrafficDataModule(counting_trace(100), 24, 6)
    for index in (23, 101):
        with pytest.raises(InputError, match=f"from step {index} needs input_length=24"):
            datamodule.history_until(index)


def test_windows_are_views_of_one_tensor():
    values, calendar = torch.zeros(50, 2), torch.zeros(60, 4)
    windows = Windows(values, calendar, first=10, last=40, input_length=10, horizon=10)
    values += 1  # had they been copied, they would not follow
    assert (windows[30].future == 1).all()
    assert len(windows) == 31
    with pytest.raises(IndexError):
        windows[31]
    with pytest.raises(ValueError, match="leave the trace"):
        Windows(values, calendar, first=10, last=41, input_length=10, horizon=10)


def test_memory_does_not_grow_with_the_number_of_windows():
    import pickle

    sizes = [
        len(pickle.dumps(TrafficDataModule(counting_trace(20_000), length, 24).train_windows)) for length in (24, 2400)
    ]
    assert sizes[1] < 1.2 * sizes[0]  # materialised, 100 times more


@pytest.mark.parametrize(
    ("split", "length", "expected"),
    [
        ([0.7, 0.1, 0.2], 1000, (700, 100, 200)),
        ([0.7, 0.1, 0.2], 1008, (705, 100, 203)),
        ([0.6, 0.2, 0.2], 10, (6, 2, 2)),
        ([8640, 2880, 2880], 17420, (8640, 2880, 2880)),
        ((5, 3, 2), 10, (5, 3, 2)),
    ],
)
def test_splits(split, length, expected):
    assert split_lengths(split, length) == expected


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ([0.7, 0.3], "three numbers"),
        ([0.7, 0.3, 0.0], "above zero"),
        ([0.7, -0.1, 0.4], "above zero"),
        ([0.7, 0.2, 0.2], "sums to 1.1"),
        ([float("nan"), 0.5, 0.5], "above zero"),
        ([True, 1, 1], "three numbers"),
        ([80, 20, 20], "120 steps, but the trace has 100"),
        ([60, 0.2, 0.2], "sums to"),
    ],
)
def test_impossible_splits(split, words):
    with pytest.raises(InputError, match=r"^split=") as caught:
        split_lengths(split, 100)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"input_length": 10_000}, ["training part has 70", "trace's 100 steps", "lower input_length=10000"]),
        ({"horizon": 11}, ["validation part has 10", "set it to [78,11,11]"]),
        ({"split": [80, 11, 5]}, ["held-out part has 5"]),
        ({"horizon": 0}, ["horizon=0", "above zero"]),
        ({"batch_size": -1}, ["batch_size=-1"]),
        ({"calendar": ["day", "moon"]}, ["calendar='moon'", "day, week, year"]),
        ({"calendar": []}, ["calendar=[]"]),
    ],
)
def test_windows_that_do_not_fit(options, words):
    with pytest.raises(InputError) as caught:
        TrafficDataModule(counting_trace(100), **{"input_length": 24, "horizon": 6, **options})
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(("step_s", "season"), [(3600, 24), (600, 144), (120, 720), (86_400, 1), (604_800, 1)])
def test_a_season_is_a_day(step_s, season):
    assert TrafficDataModule(counting_trace(100, step_s=step_s), 24, 6).season_length == season


class Recorder(pl.LightningModule):
    """Notes which windows it was given, in order."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[list[int]] = []

    def training_step(self, window: Window, index: int):
        if index == 0:
            self.seen.append([])
        self.seen[-1] += window.future[:, 0, 0].int().tolist()
        torch.rand(3)  # others draw random numbers too
        return self.weight * 0

    def validation_step(self, window: Window, index: int):
        assert window.history.shape[1:] == (24, 1)

    def predict_step(self, window: Window, index: int):
        return window

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_epochs_differ_and_a_resumed_run_goes_on_as_if_it_had_never_stopped(tmp_path, monkeypatch):
    # As on a machine with many cores, where Lightning would advise worker processes.
    monkeypatch.setattr("lightning.pytorch.trainer.connectors.data_connector.suggested_max_num_workers", lambda _: 16)
    whole, first, rest = Recorder(), Recorder(), Recorder()

    def datamodule(seed=5):
        return TrafficDataModule(counting_trace(100), 24, 6, seed=seed)

    trainer(tmp_path, 3).fit(whole, datamodule())
    torch.manual_seed(99)
    engine = trainer(tmp_path, 1)
    engine.fit(first, datamodule())
    engine.save_checkpoint(tmp_path / "one.ckpt")
    torch.manual_seed(7)
    trainer(tmp_path, 3).fit(rest, datamodule(), ckpt_path=tmp_path / "one.ckpt")
    assert first.seen + rest.seen == whole.seen
    assert len({tuple(epoch) for epoch in whole.seen}) == 3
    assert all(sorted(epoch) == list(range(24, 65)) for epoch in whole.seen)
    other = Recorder()
    trainer(tmp_path, 1).fit(other, datamodule(seed=6))
    assert other.seen[0] != whole.seen[0]


def test_predicting_goes_beyond_the_end_of_the_data(tmp_path):
    datamodule = TrafficDataModule(counting_trace(100), 24, 6)
    (window,) = trainer(tmp_path, 1).predict(Recorder(), datamodule=datamodule)
    assert window.history[0, -1, 0] == 99
