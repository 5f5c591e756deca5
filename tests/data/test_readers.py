"""The same trace comes out of every format, and times are read as people write them."""

import gzip

import numpy as np
import polars
import pytest

from sliceoff.data import (
    Policy,
    Source,
    check_cells,
    read_long_csv,
    read_long_parquet,
    read_npz,
    read_wide_csv,
    read_wide_parquet,
    to_trace,
)
from sliceoff.errors import InputError

HOUR = np.timedelta64(3600, "s")


def assert_same(one, other):
    assert (one.values == other.values).all()
    assert (one.times == other.times).all()
    assert (one.regions, one.step_s) == (other.regions, other.step_s)


@pytest.fixture
def trace(wide_rows, write):
    return read_wide_csv(write(wide_rows))


def test_a_wide_csv_as_it_stands(trace):
    assert trace.regions == ("north", "south")
    assert trace.step_s == 3600
    assert trace.times[0] == np.datetime64("2024-03-04T00:00:00")
    assert len(trace.times) == 12
    assert trace.values[:, 0].tolist() == [10.0 + i for i in range(12)]
    assert trace.values[:, 1].tolist() == [20.0 + 2 * i for i in range(12)]


@pytest.mark.parametrize("order", ["time by time", "region by region"])
def test_every_format_gives_the_same_trace(trace, wide_rows, write, tmp_path, order):
    wide = polars.DataFrame(
        {"time": trace.times.astype("datetime64[us]"), "north": trace.values[:, 0], "south": trace.values[:, 1]}
    )
    long = wide.unpivot(index="time", variable_name="region", value_name="value")
    if order == "time by time":
        long = long.sort("time", maintain_order=True)
    wide.write_parquet(tmp_path / "wide.parquet")
    long.write_parquet(tmp_path / "long.parquet")
    long.write_csv(tmp_path / "long.csv")
    np.savez(tmp_path / "t.npz", values=trace.values, times=trace.times, regions=np.array(trace.regions))
    assert_same(read_wide_parquet(tmp_path / "wide.parquet"), trace)
    assert_same(read_long_parquet(tmp_path / "long.parquet"), trace)
    assert_same(read_long_csv(tmp_path / "long.csv"), trace)
    assert_same(read_npz(tmp_path / "t.npz"), trace)


@pytest.mark.parametrize("chosen", ["south", ["south"], ["south", "north"]])
def test_columns_choose_regions_and_their_order(trace, wide_rows, write, tmp_path, chosen):
    path = write(wide_rows)
    np.savez(
        tmp_path / "t.npz",
        values=trace.values,
        times=trace.times,
        regions=np.array(trace.regions),
        coordinates=np.array([[1, 2], [3, 4]]),
    )
    long = write(
        [[row[0], name, row[column]] for column, name in ((1, "north"), (2, "south")) for row in wide_rows],
        header="time,region,value",
        name="long.csv",
    )
    read = read_wide_csv(path, columns=chosen)
    assert read.regions == (("south",) if chosen != ["south", "north"] else ("south", "north"))
    assert read.values[3, 0] == 26.0
    assert_same(read_long_csv(long, columns=chosen), read)
    archived = read_npz(tmp_path / "t.npz", columns=chosen)
    assert_same(archived, read)
    assert archived.coordinates[0].tolist() == [3.0, 4.0]


def test_region_names_may_be_numbers(wide_rows, write):
    path = write(wide_rows, header="time,5059,5060")
    assert read_wide_csv(path, columns=[5060]).values[0, 0] == 20.0


def test_unused_columns_may_hold_anything(wide_rows, write):
    for row in wide_rows:
        row[2] = "text"
    assert read_wide_csv(write(wide_rows), columns=["north"]).values.shape == (12, 1)


@pytest.mark.parametrize(
    "stamps",
    [
        ["2024-03-04 00:00:00", "2024-03-04 01:00:00"],
        ["2024-03-04 00:00", "2024-03-04 01:00"],
        ["2024/03/04 00:00:00", "2024/03/04 01:00:00"],
        ["2024-03-04", "2024-03-04 01:00:00"],
        ["2024-03-04T00:00:00.000", "2024-03-04T01:00:00.000"],
        ["2024-03-04T00:00:00Z", "2024-03-04T01:00:00Z"],
        ["2024-03-04T01:00:00+01:00", "2024-03-04T02:00:00+01:00"],
        ["2024-03-04 01:00:00+0100", "2024-03-04 02:00:00+0100"],
        ["2024-03-04T01:00:00+01:00", "2024-03-04T01:00:00Z"],
        ["04.03.2024 00:00:00", "04.03.2024 01:00:00"],
        ["4.3.2024 00:00", "4.3.2024 01:00"],
        ["04.03.2024", "04.03.2024 01:00"],
        [" 2024-03-04 00:00:00", "2024-03-04 01:00:00 "],
        ["1709510400", "1709514000"],
        ["1709510400.0", "1709514000.0"],
        ["1709510400000", "1709514000000"],
        ["1709510400000000", "1709514000000000"],
        ["1709510400000000000", "1709514000000000000"],
    ],
)
def test_times_as_people_write_them(write, stamps):
    trace = read_wide_csv(write([[stamp, "1"] for stamp in stamps], header="when,north"), time_column="when")
    assert trace.times.tolist() == np.array(["2024-03-04T00:00:00", "2024-03-04T01:00:00"], "datetime64[s]").tolist()


def test_clocks_that_change_are_no_gap_when_offsets_are_written(write):
    stamps = ["2024-03-31T01:00:00+01:00", "2024-03-31T03:00:00+02:00", "2024-03-31T04:00:00+02:00"]
    trace = read_wide_csv(write([[stamp, "1"] for stamp in stamps], header="time,a"), gaps="error")
    assert trace.times[0] == np.datetime64("2024-03-31T00:00:00")
    assert trace.step_s == 3600


@pytest.mark.parametrize(
    "times",
    [
        polars.datetime_range(polars.datetime(2024, 3, 4), polars.datetime(2024, 3, 6), "1d", eager=True),
        polars.datetime_range(
            polars.datetime(2024, 3, 4), polars.datetime(2024, 3, 6), "1d", eager=True, time_unit="ns"
        ),
        polars.datetime_range(
            polars.datetime(2024, 3, 4), polars.datetime(2024, 3, 6), "1d", eager=True, time_zone="UTC"
        ).dt.convert_time_zone("Europe/Rome"),
        polars.date_range(polars.date(2024, 3, 4), polars.date(2024, 3, 6), "1d", eager=True),
        polars.Series([1709510400, 1709596800, 1709683200]),
    ],
    ids=lambda series: str(series.dtype),
)
def test_time_columns_of_parquet(tmp_path, times):
    polars.DataFrame({"time": times, "a": [1, 2, 3]}).write_parquet(tmp_path / "t.parquet")
    trace = read_wide_parquet(tmp_path / "t.parquet")
    assert trace.times[0] == np.datetime64("2024-03-04T00:00:00")
    assert trace.step_s == 86_400


@pytest.mark.parametrize("times", [np.arange(3) * 600, np.array(["2024-03-04", "2024-03-05", "2024-03-06"])])
def test_npz_times_may_be_numbers_or_text(tmp_path, times):
    np.savez(tmp_path / "t.npz", values=np.ones((3, 2), np.float32), times=times)
    trace = read_npz(tmp_path / "t.npz")
    assert trace.regions == ("0", "1")
    assert trace.step_s in (600, 86_400)


@pytest.mark.parametrize(("start", "warned"), [(0, True), (1709510400, False)])
def test_times_that_count_from_nothing_are_warned_of(write, caplog, start, warned):
    trace = read_wide_csv(write([[str(start + i), "1"] for i in range(3)], header="time,a"))
    assert trace.times[0] == np.datetime64(start, "s")
    assert any("trace.csv: times count from 0" in line for line in caplog.messages) == warned


@pytest.mark.parametrize(("header", "found"), [("Date,a,b", "Date"), ("a,b,timestamp", "timestamp"), ("x,y,z", "y")])
def test_the_column_of_times_is_found(write, wide_rows, header, found):
    names = header.split(",")
    place = names.index(found)
    rows = [[*row[1 : place + 1], row[0], *row[place + 1 :]] for row in wide_rows]
    trace = read_wide_csv(write(rows, header))
    assert trace.regions == tuple(name for name in names if name != found)


def test_a_name_that_only_looks_repeated(write, wide_rows):
    assert read_wide_csv(write(wide_rows, header="time,x,x_duplicated_0")).regions == ("x", "x_duplicated_0")


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators(wide_rows, write, trace, separator):
    path = write(wide_rows, header=separator.join(["time", "north", "south"]), sep=separator)
    assert_same(read_wide_csv(path), trace)


def test_a_compressed_csv(wide_rows, write, trace):
    path = write(wide_rows, header="\n\ntime,north,south")
    packed = path.with_suffix(".csv.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert_same(read_wide_csv(packed), trace)


def test_files_as_spreadsheets_save_them(wide_rows, trace, tmp_path):
    lines = ['"time", "north" ,"south"', *(f'"{a}","{b}","{c}"' for a, b, c in wide_rows), "", ""]
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).replace(', "north" ,', ",north ,").encode())
    assert_same(read_wide_csv(path), trace)


@pytest.mark.parametrize(
    ("gaps", "expected"), [("interpolate", [12.0, 13.0, 14.0, 15.0]), ("zero", [12.0, 0, 0, 15.0])]
)
def test_gaps_by_policy(wide_rows, write, gaps, expected, caplog):
    missing_times = read_wide_csv(write(wide_rows[:3] + wide_rows[5:]), gaps=gaps)
    for row, text in ((3, ""), (4, "NaN")):
        wide_rows[row][1] = text
    empty_cells = read_wide_csv(write(wide_rows), gaps=gaps)
    for trace in (missing_times, empty_cells):
        assert trace.values[2:6, 0].tolist() == expected
        assert len(trace.times) == 12
    assert empty_cells.values[3, 1] == 26.0  # the other region is left alone
    said = ["4 of 24 values are missing", "2 of 24 values are missing"] if gaps == "interpolate" else []
    assert [line.partition(": ")[2].partition(" and")[0] for line in caplog.messages] == said


def test_a_line_that_a_long_file_lacks_is_a_gap(wide_rows, write):
    rows = [[row[0], name, row[column]] for row in wide_rows for column, name in ((1, "north"), (2, "south"))]
    del rows[7]  # south at 03:00
    trace = read_long_csv(write(rows, header="time,region,value"))
    assert trace.values[3].tolist() == [13.0, 26.0]


@pytest.mark.parametrize("kind", [float, int])
@pytest.mark.parametrize("check", [check_cells, lambda _, values, *__: values])
def test_what_a_reader_of_ones_own_masks_is_a_gap_whatever_lies_under_the_mask(tmp_path, check, kind):
    source = Source(tmp_path / "mine.txt", np.arange(1, 4), "row")
    times = np.datetime64("2024-01-01T00:00:00", "s") + np.arange(3) * np.timedelta64(3600, "s")
    values = np.ma.masked_less(np.array([[1], [-99], [3]], dtype=kind), 0)

    def read(policy):
        return to_trace(source, times, check(source, values, ["a"], policy), ["a"], policy)

    for negative in ("error", "zero"):
        assert read(Policy(negative=negative)).values.tolist() == [[1.0], [2.0], [3.0]]
    with pytest.raises(InputError, match=r"mine\.txt.*(is empty|no value)"):
        read(Policy(gaps="error"))


def test_gaps_at_the_ends_take_the_nearest_value(wide_rows, write):
    wide_rows[0][1] = wide_rows[11][1] = ""
    assert read_wide_csv(write(wide_rows)).values[[0, 11], 0].tolist() == [11.0, 20.0]


@pytest.mark.parametrize(("negative", "expected"), [("zero", 0.0), ("allow", -3.0)])
def test_negative_values_by_policy(wide_rows, write, negative, expected):
    wide_rows[5][1] = "-3"
    assert read_wide_csv(write(wide_rows), negative=negative).values[5, 0] == expected


def test_resampling_takes_means_of_whole_intervals_of_the_clock(wide_rows, write):
    trace = read_wide_csv(write(wide_rows[1:]), resample_s=3 * 3600)  # starts at 01:00, so the first is incomplete
    assert trace.step_s == 3 * 3600
    assert trace.times[0] == np.datetime64("2024-03-04T03:00:00")
    assert trace.values[:, 0].tolist() == [14.0, 17.0, 20.0]


def test_a_million_lines_in_seconds(tmp_path):
    import time

    steps, regions = 100_000, 10
    stamps = np.datetime64("2020-01-01T00:00:00") + np.arange(steps) * np.timedelta64(60, "s")
    frame = polars.DataFrame(
        {
            "time": np.repeat(stamps.astype("datetime64[ms]"), regions),
            "region": [f"r{i}" for i in range(regions)] * steps,
            "value": np.random.default_rng(0).random(steps * regions),
        }
    )
    frame.write_csv(tmp_path / "long.csv", datetime_format="%Y-%m-%d %H:%M:%S")
    started = time.process_time()
    trace = read_long_csv(tmp_path / "long.csv")
    assert time.process_time() - started < 15  # about 1.5 s alone; a loop over rows takes minutes
    assert trace.values.shape == (steps, regions)
    assert trace.values.ravel().tolist() == frame["value"].to_list()
