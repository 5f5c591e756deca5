"""Whatever is wrong with a file, one line names file, column and line, and says how to mend it."""

import gzip

import numpy as np
import polars
import pytest

from sliceoff.data import read_long_csv, read_long_parquet, read_npz, read_wide_csv, read_wide_parquet
from sliceoff.data.readers.table import existing
from sliceoff.errors import InputError


def message(read, *arguments, **options) -> str:
    with pytest.raises(InputError) as caught:
        read(*arguments, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_file_without_a_header_is_told(write, wide_rows):
    first, *rest = wide_rows
    said = message(read_wide_csv, write(rest, header=",".join(str(cell) for cell in first)))
    assert f"has '{first[0]}', a time, for a column's name; give the file a header" in said


def test_what_is_no_path_is_told():
    assert message(existing, None) == "path=None is no path; give the name of a file or directory"
    assert "no file 3" in message(existing, 3)


def replaced(row, column, text):
    def spoil(rows):
        rows[row][column] = text

    return spoil


def deleted(*indices):
    def spoil(rows):
        for index in sorted(indices, reverse=True):
            del rows[index]

    return spoil


def swapped(rows):
    rows[4], rows[7] = rows[7], rows[4]


def repeated(rows):
    rows.insert(5, rows[4].copy())


def repeated_later(rows):
    rows.append(rows[4].copy())


def half_hour(rows):
    rows[6][0] = "2024-03-04T05:30:00"


def two_hourly_from_the_eighth(rows):
    for i in range(8, 12):
        rows[i][0] = str(np.datetime64("2024-03-04T07:00:00") + np.timedelta64(2 * (i - 7), "h"))


CASES = {
    "text": (replaced(3, 2, "many"), {}, ["column 'south'", "line 5", "'many' is no number", "data.columns"]),
    "decimal comma": (
        replaced(3, 1, '"1,5"'),
        {},
        ["column 'north'", "line 5", "'1,5' is no number; write numbers like 1234.5"],
    ),
    "thousands": (replaced(3, 1, '"1,500.25"'), {}, ["line 5", "'1,500.25' is no number; write numbers like 1234.5"]),
    "negative": (replaced(10, 1, "-0.5"), {}, ["column 'north'", "line 12", "-0.5 is negative", "data.negative=zero"]),
    "infinite": (replaced(0, 2, "inf"), {}, ["column 'south'", "line 2", "infinite"]),
    "overflow": (replaced(0, 2, "1e400"), {}, ["column 'south'", "line 2", "too large"]),
    "empty cell": (replaced(9, 2, ""), {"gaps": "error"}, ["column 'south'", "line 11", "empty", "data.gaps"]),
    "NaN": (replaced(9, 2, "NaN"), {"gaps": "error"}, ["column 'south'", "line 11", "empty", "data.gaps"]),
    "missing time": (
        deleted(4, 5),
        {"gaps": "error"},
        ["line 6", "2 time(s) are missing between 2024-03-04T03:00:00 and 2024-03-04T06:00:00", "data.gaps"],
    ),
    "empty time": (replaced(4, 0, ""), {}, ["column 'time'", "line 6", "the time is missing"]),
    "no time": (replaced(4, 0, "noon"), {}, ["column 'time'", "line 6", "'noon' is no time", "data.time_column"]),
    "American time": (replaced(4, 0, "03/04/2024 04:00"), {}, ["line 6", "'03/04/2024 04:00' is no time"]),
    "impossible time": (replaced(4, 0, "2024-02-30T04:00:00"), {}, ["line 6", "is no time"]),
    "duplicate": (repeated, {}, ["line 7", "2024-03-04T04:00:00 was there already on line 6", "drop one"]),
    "duplicate at the end": (repeated_later, {}, ["line 14", "was there already on line 6"]),
    "unsorted": (swapped, {}, ["line 7", "2024-03-04T05:00:00 comes after 2024-03-04T07:00:00", "sort"]),
    "off the grid": (half_hour, {}, ["line 8", "1800 s after", "step is 3600 s"]),
    "mixed steps": (two_hourly_from_the_eighth, {}, ["line 10", "7200 s after", "step is 3600 s", "mixed steps"]),
    "mistyped year": (replaced(11, 0, "2042-03-04T11:00:00"), {}, ["line 13", "are missing between", "mend the times"]),
    "mistyped year, zeros": (replaced(11, 0, "2042-03-04T11:00:00"), {"gaps": "zero"}, ["line 13", "mend the times"]),
    "one row": (deleted(*range(1, 12)), {}, ["1 time(s)", "at least two"]),
    "no rows": (deleted(*range(12)), {}, ["empty but for its header"]),
    "column near miss": (
        replaced(0, 1, "1"),
        {"columns": ["nort"]},
        ["'nort'", "did you mean 'north'?", "data.columns"],
    ),
    "time as region": (replaced(0, 1, "1"), {"columns": ["time"]}, ["has no 'time'"]),
    "column twice": (replaced(0, 1, "1"), {"columns": ["north", "north"]}, ["none twice"]),
    "no columns": (replaced(0, 1, "1"), {"columns": []}, ["at least one"]),
    "time column near miss": (
        replaced(0, 1, "1"),
        {"time_column": "tine"},
        ["did you mean 'time'?", "data.time_column"],
    ),
    "policy near miss": (replaced(0, 1, "1"), {"gaps": "interpolat"}, ["gaps", "did you mean 'interpolate'?"]),
    "negative policy": (replaced(0, 1, "1"), {"negative": "keep"}, ["negative='keep'", "error, zero, allow"]),
    "resampling between steps": (replaced(0, 1, "1"), {"resample_s": 5000}, ["no multiple", "3600 s"]),
    "resampling to a finer step": (replaced(0, 1, "1"), {"resample_s": 60}, ["no multiple", "3600 s"]),
    "resampling by nothing": (replaced(0, 1, "1"), {"resample_s": 0}, ["above zero"]),
    "resampling to more than there is": (replaced(0, 1, "1"), {"resample_s": 86400}, ["no whole interval"]),
    "too many cells": (lambda rows: rows[5].append("7"), {}, ["line 7", "4 cells", "header has 3"]),
    "too many cells, of which one is used": (
        lambda rows: rows[5].insert(1, "7"),
        {"columns": "north"},
        ["line 7", "4 cells, but the header has 3"],
    ),
    "never closed quote": (replaced(5, 1, '"7'), {}, ["cannot be read"]),
}


@pytest.mark.parametrize("case", CASES)
def test_wide_csv(wide_rows, write, case):
    spoil, options, expected = CASES[case]
    spoil(wide_rows)
    path = write(wide_rows)
    text = message(read_wide_csv, path, **options)
    for words in expected:
        assert words in text
    if not case.startswith(("column twice", "no columns", "policy", "negative policy", "resampling by")):
        assert str(path) in text


def test_mostly_empty_columns(wide_rows, write):
    for row in wide_rows[:7]:
        row[1] = ""
    text = message(read_wide_csv, write(wide_rows))
    assert "'north' has no value at 7 of 12 times" in text
    for row in wide_rows:
        row[1] = ""
    assert "'north' has no value at 12 of 12" in message(read_wide_csv, write(wide_rows), gaps="zero")


@pytest.mark.parametrize("read", [read_wide_csv, read_long_csv, read_wide_parquet, read_long_parquet, read_npz])
def test_a_missing_an_empty_and_a_wrong_file(tmp_path, read):
    suffix = read.__name__.split("_")[-1]
    (tmp_path / f"traffic.{suffix}").write_bytes(b"")
    assert f"did you mean 'traffic.{suffix}'?" in message(read, tmp_path / f"trafic.{suffix}")
    assert "is empty" in message(read, tmp_path / f"traffic.{suffix}")
    assert "is a folder" in message(read, tmp_path)
    assert "there is no file" in message(read, tmp_path / "nowhere" / "traffic.csv")
    (tmp_path / f"binary.{suffix}").write_bytes(bytes(range(256)) * 4)
    assert f"binary.{suffix}" in message(read, tmp_path / f"binary.{suffix}")


@pytest.mark.parametrize("spoil", [lambda packed: packed[:15], lambda packed: packed[:-9], lambda _: b"time,a\n"])
@pytest.mark.parametrize("copies", [1, 3000])  # a small file is read whole with its header
def test_a_compressed_csv_that_is_damaged_or_none(tmp_path, wide_rows, spoil, copies):
    text = "\n".join(",".join(row) for row in [["time", "north", "south"], *wide_rows * copies])
    (tmp_path / "t.csv.gz").write_bytes(spoil(gzip.compress(text.encode())))
    assert "t.csv.gz cannot be read" in message(read_wide_csv, tmp_path / "t.csv.gz")


def test_a_csv_of_blank_lines(tmp_path):
    (tmp_path / "t.csv").write_text("\n\n\n")
    assert "is empty" in message(read_wide_csv, tmp_path / "t.csv")


def test_lines_are_counted_from_the_top_of_the_file_whatever_is_blank(tmp_path):
    (tmp_path / "t.csv").write_text("\n\ntime,a\n2024-01-01,1\n\n2024-01-02,x\n")
    assert "line 6" in message(read_wide_csv, tmp_path / "t.csv")


def test_no_column_of_times(write):
    text = message(read_wide_csv, write([["1", "2"], ["3", "4"]], header="a,b"))
    assert "no column that looks like times" in text
    assert "data.time_column" in text


def test_numbers_that_are_dates_are_not_taken_for_epoch_seconds(write):
    text = message(read_wide_csv, write([["20240101", "2"], ["20240102", "4"]], header="time,b"))
    assert "line 2" in text
    assert "1970" in text


def test_only_times(write):
    assert "no column beside 'time'" in message(read_wide_csv, write([["2024-01-01"], ["2024-01-02"]], header="time"))


def test_two_columns_of_one_name(wide_rows, write):
    for header in ("time,north,north", "time,north, north"):
        assert "line 1: two columns are called 'north'" in message(read_wide_csv, write(wide_rows, header))


@pytest.fixture
def long_rows(wide_rows):
    return [[row[0], name, row[column]] for row in wide_rows for column, name in ((1, "north"), (2, "south"))]


LONG = {
    "text": (replaced(5, 2, "many"), {}, ["column 'value'", "line 7", "'many' is no number"]),
    "negative": (replaced(5, 2, "-1"), {}, ["column 'value'", "line 7", "negative"]),
    "empty value": (replaced(5, 2, ""), {"gaps": "error"}, ["column 'value'", "line 7", "empty"]),
    "empty region": (replaced(5, 1, ""), {}, ["column 'region'", "line 7", "the region is missing"]),
    "empty time": (replaced(5, 0, ""), {}, ["column 'time'", "line 7", "the time is missing"]),
    "duplicate": (repeated, {}, ["line 7", "was there already on line 6"]),
    "duplicate at the end": (repeated_later, {}, ["line 26", "was there already on line 6"]),
    "missing line": (deleted(7), {"gaps": "error"}, ["'south' has no value at 2024-03-04T03:00:00", "data.gaps"]),
    "missing time": (deleted(6, 7), {"gaps": "error"}, ["line 8", "1 time(s) are missing"]),
    "off the grid": (replaced(5, 0, "2024-03-04T02:30:00"), {}, ["line 7", "mixed steps"]),
    "region near miss": (replaced(0, 2, "1"), {"columns": ["nort"]}, ["did you mean 'north'?", "data.columns"]),
    "region column": (
        replaced(0, 2, "1"),
        {"region_column": "regoin"},
        ["did you mean 'region'?", "data.region_column"],
    ),
    "value column": (replaced(0, 2, "1"), {"value_column": "valu"}, ["did you mean 'value'?", "data.value_column"]),
    "one column for two": (replaced(0, 2, "1"), {"value_column": "region"}, ["must be three columns"]),
}


@pytest.mark.parametrize("case", LONG)
def test_long_csv(long_rows, write, case):
    spoil, options, expected = LONG[case]
    spoil(long_rows)
    path = write(long_rows, header="time,region,value")
    text = message(read_long_csv, path, **options)
    for words in (str(path), *expected):
        assert words in text


def test_every_region_of_a_long_file_must_be_in_time_order(long_rows, write):
    long_rows[5], long_rows[7] = long_rows[7], long_rows[5]  # south at 02:00 and 03:00
    path = write(long_rows, header="time,region,value")
    text = message(read_long_csv, path)
    assert "line 9" in text
    assert "02:00:00 comes after 2024-03-04T03:00:00" in text
    assert read_long_csv(path, columns=["north"]).values.shape == (12, 1)


def test_parquet_names_rows(tmp_path, wide_rows):
    frame = polars.DataFrame(wide_rows, schema=["time", "north", "south"], orient="row")
    frame = frame.with_columns(polars.col("north", "south").cast(polars.Float64))
    frame[4, "south"] = -1.0
    frame.write_parquet(tmp_path / "t.parquet")
    text = message(read_wide_parquet, tmp_path / "t.parquet")
    assert "column 'south', row 5" in text
    assert "line" not in text.split(":")[0]
    frame.with_columns(polars.lit([1]).alias("south")).write_parquet(tmp_path / "t.parquet")
    assert "column 'south' holds List" in message(read_wide_parquet, tmp_path / "t.parquet")
    frame.with_columns(polars.lit(True).alias("time")).write_parquet(tmp_path / "t.parquet")
    assert "no times" in message(read_wide_parquet, tmp_path / "t.parquet", time_column="time")


TIMES = np.datetime64("2024-03-04T00:00:00", "s") + np.arange(4) * np.timedelta64(3600, "s")


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"value": np.ones((4, 2)), "times": TIMES}, "did you mean 'value'?"),
        ({"values": np.ones(4), "times": TIMES}, "must be (time, regions)"),
        ({"values": np.ones((3, 2)), "times": TIMES}, "must be (time, regions)"),
        ({"values": np.ones((4, 2)), "times": TIMES, "regions": np.array(["a"])}, "one row per column"),
        ({"values": np.ones((4, 2)), "times": TIMES, "regions": np.array(["a", "a"])}, "two regions are called 'a'"),
        ({"values": np.ones((4, 2)), "times": TIMES, "coordinates": np.ones((1, 2))}, "one row per column"),
        ({"values": np.array([[1, 2], [3, -4], [5, 6], [7, 8]]), "times": TIMES}, "column '1', row 2: -4 is negative"),
        ({"values": np.array([["a"]] * 4), "times": TIMES}, "'a' is no number"),
        ({"values": np.ones((4, 2)), "times": TIMES[[0, 2, 1, 3]]}, "row 3: the time 2024-03-04T01:00:00 comes after"),
        (
            {"values": np.ones((4, 2)), "times": np.array([*TIMES[:3], "NaT"], "datetime64[s]")},
            "row 4: the time is missing",
        ),
        ({"values": np.ones((4, 2)), "times": np.array([0.0, 1.0, np.nan, 3.0])}, "row 3: the time is missing"),
        ({"values": np.array([[object()]] * 4), "times": TIMES}, "no .npz archive"),
    ],
)
def test_npz(tmp_path, arrays, expected):
    np.savez(tmp_path / "t.npz", **arrays)
    text = message(read_npz, tmp_path / "t.npz")
    assert expected in text
    assert "t.npz" in text


def test_a_damaged_npz(tmp_path):
    np.savez_compressed(tmp_path / "t.npz", values=np.random.default_rng(0).random((4, 2)), times=TIMES)
    packed = (tmp_path / "t.npz").read_bytes()
    (tmp_path / "t.npz").write_bytes(packed[:80] + b"\xff" * 20 + packed[100:])
    assert "t.npz is no .npz archive" in message(read_npz, tmp_path / "t.npz")
