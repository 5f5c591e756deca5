"""Raw Milan files, made up: the data set itself is not here."""

import numpy as np
import pytest

from sliceoff.data import read_milan
from sliceoff.errors import InputError

START_MS = 1_383_260_400_000  # 2013-10-31 23:00 UTC, the data set's first interval


def line(square: int, step: int, country: int = 39, cells: str = "\t\t\t\t", internet: str = "") -> str:
    return f"{square}\t{START_MS + 600_000 * step}\t{country}\t{cells}{internet}"


@pytest.fixture
def day(tmp_path):
    """Two squares and two countries over four intervals, in the data set's order: square by square."""
    path = tmp_path / "sms-call-internet-mi-2013-11-01.txt"
    path.write_text(
        "\n".join(
            [
                line(1, 0, 0, "0.5\t\t\t\t"),
                line(1, 0, 39, "0.25\t0.5\t1.5\t2\t", "10.5"),
                line(1, 0, 33, "\t\t\t\t", "0.5"),
                line(1, 1, 39, "\t\t\t\t", "12"),
                line(1, 2, 39, "1\t\t\t\t"),
                line(1, 3, 39, "\t\t\t\t", "14"),
                line(205, 0, 39, "\t\t\t\t", "1"),
                line(205, 1, 39, "\t\t\t\t", "2"),
                line(205, 3, 39, "\t\t\t\t", "4"),
            ]
        )
        + "\n"
    )
    return path


def test_countries_are_summed_and_absence_is_no_activity(day):
    trace = read_milan(day)
    assert trace.regions == ("1", "205")
    assert trace.step_s == 600
    assert trace.times[0] == np.datetime64("2013-10-31T23:00:00")
    assert trace.values.tolist() == [[11.0, 1.0], [12.0, 2.0], [0.0, 0.0], [14.0, 4.0]]


def test_a_file_name_is_no_pattern(day):
    other = day.rename(day.with_name("day[1].txt"))
    day.with_name("day1.txt").write_text(line(7, 0, 39, "\t\t\t\t", "1") + "\n")
    assert read_milan(other).regions == ("1", "205")
    (broken := day.with_name("day[2].txt")).write_text(line(7, 0, 39, "\t\t\t\t", "x") + "\n")
    with pytest.raises(InputError, match=r"day\[2\]\.txt, column 'internet', line 1: 'x'"):
        read_milan(broken)


@pytest.mark.parametrize(
    ("activity", "first"), [("sms_in", 0.75), ("sms_out", 0.5), ("call_in", 1.5), ("call_out", 2.0), ("internet", 11.0)]
)
def test_every_activity(day, activity, first):
    assert read_milan(day, activity=activity).values[0, 0] == first


def test_squares_are_chosen_in_order_and_know_where_they_lie(day):
    trace = read_milan(day, columns=[205, 1])
    assert trace.regions == ("205", "1")
    assert trace.values[0].tolist() == [1.0, 11.0]
    assert trace.coordinates.tolist() == [[235 * 4.5, 235 * 2.5], [117.5, 117.5]]


def test_a_folder_of_days_is_one_trace(day):
    (day.parent / "sms-call-internet-mi-2013-11-02.txt").write_text(line(1, 4, 39, internet="16") + "\n")
    (day.parent / "readme.md").write_text("not data")
    trace = read_milan(day.parent, columns=["1"])
    assert trace.values[:, 0].tolist() == [11.0, 12.0, 0.0, 14.0, 16.0]


def test_gaps_may_be_interpolated_and_steps_coarser(day):
    assert read_milan(day, columns=[205], gaps="interpolate").values[:, 0].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert read_milan(day, columns=[1], resample_s=1200).values[:, 0].tolist() == [11.5, 7.0]


def test_empty_cells_at_the_end_may_be_cut_off(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text(f"1\t{START_MS}\t39\t\t\t\t\t2\n1\t{START_MS + 600_000}\t39\t0.5\n")
    assert read_milan(path).values[:, 0].tolist() == [2.0, 0.0]


@pytest.mark.parametrize(
    ("bad", "options", "expected"),
    [
        (line(1, 4, internet="much"), {}, "column 'internet', line 10: 'much' is no number"),
        (line(1, 4, internet="-1"), {}, "column 'internet', line 10: -1 is negative"),
        (line(205, 4, internet="-1"), {"columns": [205]}, "column 'internet', line 10: -1 is negative"),
        (line(1, 3, 39, internet="1"), {}, "line 6: square 1"),
        ("one\t1383262800000\t39\t\t\t\t\t1", {}, "column 'square', line 10: 'one' is no number"),
        ("1\t\t39\t\t\t\t\t1", {}, "column 'time', line 10: the cell is empty"),
        ("1\t2013\t39\t\t\t\t\t1", {}, "line 10"),
        (line(1, 4), {"columns": [2]}, "has no line for square 2"),
        (line(1, 4), {"columns": ["centre"]}, "'centre' is no square"),
        (line(1, 4), {"activity": "internt"}, "did you mean 'internet'?"),
        (line(1, 4), {"columns": [205], "gaps": "error"}, "time(s) are missing between 2013-10-31T23:10:00"),
    ],
)
def test_bad_files(day, bad, options, expected):
    day.write_text(day.read_text() + bad + "\n")
    with pytest.raises(InputError) as caught:
        read_milan(day, **options)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_files_and_files_of_another_kind(tmp_path):
    with pytest.raises(InputError, match=r"holds no \.txt"):
        read_milan(tmp_path)
    (tmp_path / "t.txt").write_text("time,a\n2024-01-01,1\n")
    with pytest.raises(InputError, match="a Milan file has 8"):
        read_milan(tmp_path)
    with pytest.raises(InputError, match="there is no file"):
        read_milan(tmp_path / "absent.txt")


def test_a_day_that_is_there_twice(day):
    (day.parent / "copy.txt").write_text(day.read_text())
    with pytest.raises(InputError, match=r"is in both copy\.txt and sms-call-internet-mi-2013-11-01\.txt"):
        read_milan(day.parent)
