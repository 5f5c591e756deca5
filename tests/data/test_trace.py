"""A trace is checked when it is made; calendar features follow the calendar."""

import datetime

import numpy as np
import pytest
import torch

from sliceoff.data import Trace, calendar_features

TIMES = np.datetime64("2024-03-04T00:00:00", "s") + np.arange(3) * np.timedelta64(600, "s")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"values": np.zeros((2, 2))}, "values"),
        ({"values": np.zeros((3, 1))}, "values"),
        ({"values": np.full((3, 2), np.nan)}, "NaN"),
        ({"values": np.full((3, 2), np.inf)}, "infinity"),
        ({"values": np.ma.masked_equal(np.zeros((3, 2)), 0)}, "filled"),
        ({"times": TIMES[[0, 2, 1]]}, "one every 600 s"),
        ({"times": TIMES.astype("datetime64[ns]")}, "datetime64"),
        ({"step_s": 300}, "one every 300 s"),
        ({"regions": ("a", "a")}, "same name"),
    ],
)
def test_arguments_must_fit_together(changed, words):
    good = {"values": np.zeros((3, 2)), "times": TIMES, "regions": ("a", "b"), "step_s": 600}
    Trace(**good, coordinates=np.zeros((2, 2)))
    with pytest.raises(ValueError, match=words):
        Trace(**{**good, **changed})


@pytest.mark.filterwarnings("error")
@pytest.mark.usefixtures("as_at_run_time")  # a byte order of its own is no `Float`
def test_arrays_as_numpy_makes_them_become_plain():
    values = np.arange(6.0).reshape(3, 2)
    fixed = values.copy()
    fixed.flags.writeable = False
    for given in (values[::-1], values[:, ::-1], values.astype(">f8"), fixed, np.ma.array(values)):
        trace = Trace(given, TIMES, tuple(np.array(["a", "b"])), np.int64(600))
        assert torch.from_numpy(trace.values).tolist() == given.tolist()
        assert [type(name) for name in (*trace.regions, trace.step_s)] == [str, str, int]


def test_times_go_on_beyond_the_end():
    trace = Trace(np.zeros((3, 1)), TIMES, ("a",), 600)
    assert trace.times_at(2, 3).tolist() == [datetime.datetime(2024, 3, 4, 0, minute) for minute in (20, 30, 40)]


def test_calendar_features_at_known_times():
    times = np.array(["2024-03-04T00:00", "2024-03-04T06:00", "2024-03-07T12:00", "2035-03-05T00:00"], "datetime64[m]")
    monday, morning, thursday_noon, another_monday = calendar_features(times)
    assert monday == pytest.approx([0, 1, 0, 1], abs=1e-6)
    assert morning[:2] == pytest.approx([1, 0], abs=1e-6)
    assert thursday_noon == pytest.approx([0, -1, 0, -1], abs=1e-6)  # the middle of day and week
    assert another_monday == pytest.approx(monday, abs=1e-6)


def test_the_year_is_a_cycle_of_its_own():
    times = np.array(["2024-01-01", "2024-07-01", "2025-01-01"], "datetime64[D]")
    january, july, next_january = calendar_features(times, ("day", "year"))[:, 2:]
    assert next_january == pytest.approx(january, abs=0.02)
    assert july == pytest.approx(-january, abs=0.05)


def test_calendar_features_recur_weekly_also_before_1970():
    times = np.datetime64("1969-06-01T00:00:00") + np.arange(3 * 168) * np.timedelta64(3600, "s")
    features = calendar_features(times)
    assert features.dtype == np.float32
    assert features[168:] == pytest.approx(features[:-168])
    assert len(np.unique(features[:168].round(4), axis=0)) == 168
