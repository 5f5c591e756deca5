"""`job=report` compares runs over what they share, and refuses what is no simulation."""

from datetime import datetime, timedelta

import polars
import pytest

from sliceoff.errors import InputError
from sliceoff.jobs import Report
from sliceoff.run import Parts, configure
from sliceoff.run_directory import RunDirectory


def a_run(
    path,
    profit,
    periods=range(5),
    learning_rate=0.1,
    stacks=("main", "reactive_greedy"),
    seed=0,
    users=20.0,
    foresight=False,
):
    rows = [
        {
            "stack": stack,
            "foresight": foresight and stack == "main",
            "period": period,
            "time": datetime(2024, 1, 1) + timedelta(hours=period),
            "region": region,
            "profit": profit if stack == "main" else 1.0,
        }
        | dict.fromkeys(("users", "users_forecast", "users_low", "users_high", "capacity_users"), users)
        | dict.fromkeys(("revenue", "rent", "backlog_s"), 1.0)
        | {"tasks": 10.0, "done": 9.0, "late": 1.0, "dropped": 0.0}
        | {"uncovered": False, "bandwidth_utilisation": 0.5, "vm_utilisation": 0.5, "fallback": ""}
        for stack in stacks
        for period in periods
        for region in ("north", "south")
    ]
    path.mkdir(parents=True)
    polars.DataFrame(rows).write_parquet(path / "results.parquet")
    bound = {"period": list(periods), "time": [datetime(2024, 1, 1) + timedelta(hours=p) for p in periods]}
    polars.DataFrame(bound | {"bound": [8.0] * len(periods)}).write_parquet(path / "bound.parquet")
    (path / "summary.json").write_text("{}")
    (path / "timings.json").write_text('{"main: serve": 2.5}')
    (path / "config.yaml").write_text(
        f"predictor:\n  learning_rate: {learning_rate}\nseed: {seed}\nrivals: {{{path.name}: {{slicer: reactive}}}}\n"
    )
    log = path / "logs" / "predictor" / "version_0"
    log.mkdir(parents=True)
    (log / "metrics.csv").write_text("epoch,val/loss\n0,2.0\n1,1.0\n")
    return str(path)


def compared(tmp_path, *runs):
    directory = RunDirectory(tmp_path / "out", config="")
    return Report("report", list(runs))(Parts(configure()), directory)[:3]


def test_runs_are_compared_over_the_long_slots_they_share(tmp_path):
    first = a_run(tmp_path / "first", 4.0)
    second = a_run(tmp_path / "second", 3.0, periods=range(2, 9), learning_rate=0.2)
    summary, table, page = compared(tmp_path, first, second)
    assert table["stack"].unique(maintain_order=True).to_list() == ["first", "second", "reactive_greedy"]
    assert table["period"].unique().sort().to_list() == [2, 3, 4]
    assert {name: value for name, value in summary.items() if "profit" in name} == {
        "first/profit_money": 24.0,
        "first/profit_of_bound_share": 1.0,
        "second/profit_money": 18.0,
        "second/profit_of_bound_share": 0.75,
        "reactive_greedy/profit_money": 6.0,
        "reactive_greedy/profit_of_bound_share": 0.25,
        "bound/profit_money": 24.0,
    }
    assert summary["second/tasks_done_share"] == 0.9
    for text in ("predictor.learning_rate", "+33.3 %", "first: predictor: val/loss", "first: main: serve"):
        assert text in page
    details = page.split("<svg")[0].split('class="details"')[1]
    assert "seed" not in details
    assert "rivals" not in details


def test_runs_of_one_name_are_told_apart(tmp_path):
    runs = [a_run(tmp_path / parent / "run", profit) for parent, profit in (("a", 1.0), ("b", 2.0))]
    summary, _, _ = compared(tmp_path, *runs)
    assert {"a/run/profit_money", "b/run/profit_money"} <= set(summary)


def test_a_run_is_told_apart_from_a_rival_of_its_name(tmp_path):
    first = a_run(tmp_path / "runs" / "first", 4.0)
    for name in ("reactive_greedy", "bound"):
        summary, table, _ = compared(tmp_path, first, a_run(tmp_path / "runs" / name, 3.0))
        assert table["stack"].unique(maintain_order=True).to_list() == [
            "runs/first", f"runs/{name}", "reactive_greedy"
        ]  # fmt: skip
        assert summary[f"runs/{name}/profit_money"] == 30
        assert summary["reactive_greedy/profit_money"] == 10
        assert summary["bound/profit_money"] == 40


@pytest.mark.parametrize(("name", "hours"), [("long slot", 5), ("day", 96), ("clairvoyant bound", 5)])
def test_a_run_may_have_any_name(tmp_path, name, hours):
    first = a_run(tmp_path / "first", 4.0, periods=range(hours))
    _, table, page = compared(tmp_path, first, a_run(tmp_path / name, 3.0, periods=range(hours)))
    assert table["stack"].unique(maintain_order=True).to_list() == ["first", name, "reactive_greedy"]
    assert "75.0 % (75.0 to 75.0)" in page  # of the bound, which the first reaches


def test_runs_whose_parents_have_one_name_too_are_told_apart_by_numbers(tmp_path):
    summary, _, _ = compared(tmp_path, *(a_run(tmp_path / place / "runs" / "first", 4.0) for place in "ab"))
    assert {"1: runs/first/profit_money", "2: runs/first/profit_money"} <= set(summary)


def test_a_pattern_stands_for_its_finished_runs_each_once_in_the_order_of_a_grid(tmp_path):
    first, *_ = (a_run(tmp_path / "runs" / f"grid-{number}", 4.0) for number in (10, 2, 3))
    (tmp_path / "runs" / "grid-3" / "summary.json").unlink()
    _, table, page = compared(tmp_path, first, str(tmp_path / "runs" / "*"))
    assert table["stack"].unique(maintain_order=True).to_list() == ["grid-10", "grid-2", "reactive_greedy"]
    assert "2 runs, compared over" in page
    assert "1 unfinished run left out." in page


def test_a_run_that_is_told_the_future_is_no_alternative_whatever_its_directory(tmp_path):
    first = a_run(tmp_path / "first", 4.0)
    told, honest = a_run(tmp_path / "profit", 3.0, foresight=True), a_run(tmp_path / "oracle_avenue", 2.0)
    _, _, page = compared(tmp_path, first, told, honest)
    assert "against oracle_avenue, the best alternative" in page


def test_a_table_of_an_older_version_has_its_oracles_by_name(tmp_path):
    first = a_run(tmp_path / "first", 4.0, stacks=("main", "oracle", "reactive_greedy"))
    file = tmp_path / "first" / "results.parquet"
    old = polars.read_parquet(file).drop("foresight")
    old.with_columns(profit=polars.col("profit") + (polars.col("stack") == "oracle")).write_parquet(file)
    _, _, page = compared(tmp_path, first)
    assert "against reactive_greedy, the best alternative" in page


@pytest.mark.parametrize(("other", "what"), [({"seed": 1}, "seed"), ({"users": 40.0}, "traffic")])
def test_runs_of_other_tasks_or_traffic_share_no_bound_and_are_refused(tmp_path, other, what):
    with pytest.raises(InputError, match=f"b has another {what}"):
        compared(tmp_path, a_run(tmp_path / "a", 1.0), a_run(tmp_path / "b", 1.0, **other))


def test_wrong_runs_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"runs=\[\] is not a list"):
        Report("report", [])
    with pytest.raises(InputError, match="nowhere is no run directory"):
        compared(tmp_path, str(tmp_path / "nowhere"))
    far = a_run(tmp_path / "far", 1.0, periods=range(50, 55))
    with pytest.raises(InputError, match="in common"):
        compared(tmp_path, a_run(tmp_path / "near", 1.0), far)
    polars.DataFrame({"epoch": [0]}).write_parquet(tmp_path / "far" / "results.parquet")
    with pytest.raises(InputError, match="no simulation"):
        compared(tmp_path, far)
    (tmp_path / "far" / "results.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(InputError, match=r"results\.parquet cannot be read"):
        compared(tmp_path, far)
