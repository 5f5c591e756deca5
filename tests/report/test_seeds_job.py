"""`job=seeds`: means over seeds with Student intervals, and paired differences, of runs equal but for their seed."""

import json
from pathlib import Path

import polars
import pytest

from sliceoff.errors import InputError
from sliceoff.jobs import Seeds
from sliceoff.report.groups import Run, differences, grouped, labels
from sliceoff.report.seeds import means_over_seeds, plus_minus
from sliceoff.run import Parts, configure
from sliceoff.run_directory import RunDirectory

T_2 = 4.302653  # 97.5 % quantile of Student's t with two degrees of freedom, from tables


def a_run(path, numbers, seed=0, job="fit_predictor", network="Gru", kappa=0.5, head=""):
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(
        f"{head}seed: {seed}\nrun_dir: {path}\njob: {{name: {job}}}\ndata: {{seed: {seed}}}\n"
        f"predictor: {{network: {{_target_: mine.{network}}}}}\nslicer: {{kappa: {kappa}}}\n"
    )
    if numbers is not None:
        about = {"seed": seed, "version_torch": "2", "wall_seconds": 9.0 + seed}
        (path / "summary.json").write_text(json.dumps(numbers | about))


def grid(tmp_path, **values):
    """A run per network and seed, whose loss is the value."""
    for network, of_seeds in values.items():
        for seed, value in enumerate(of_seeds):
            a_run(tmp_path / "runs" / f"{network}{seed}", {"val/loss": value}, seed, network=network)
    return str(tmp_path / "runs" / "*")


def over_seeds(tmp_path, *runs, metric=None):
    directory = RunDirectory(tmp_path / "out", config="")
    return Seeds("seeds", list(runs), metric)(Parts(configure()), directory)


def row(table, group, metric="val/loss"):
    (found,) = table.filter(polars.col("group") == group, polars.col("metric") == metric).to_dicts()
    return found


def test_means_and_paired_differences_have_students_intervals(tmp_path):
    results = over_seeds(tmp_path, grid(tmp_path, Gru=[1.0, 2.0, 3.0], Mlp=[2.0, 4.0, 5.0]))
    assert results.table["metric"].unique().to_list() == ["val/loss"]  # no seeds, no wall seconds
    first, second = row(results.table, "predictor.network=Gru"), row(results.table, "predictor.network=Mlp")
    assert (first["seeds"], first["mean"], first["difference"]) == (3, 2.0, None)
    assert first["half_width_95"] == pytest.approx(T_2 / 3**0.5)
    assert second["mean"] == pytest.approx(11 / 3)
    assert second["difference"] == pytest.approx(5 / 3)  # of 1, 2 and 2, whose standard deviation is the root of 1/3
    assert second["difference_half_width_95"] == pytest.approx(T_2 / 3)
    assert results.summary["predictor.network=Mlp/val/loss/difference"] == second["difference"]
    assert "predictor.network=Gru/val/loss/difference" not in results.summary
    assert "6 runs of job=fit_predictor in 2 groups" in results.report
    assert "These seeds tell 1 of 1 other group from it" in results.report


def test_differences_are_over_the_seeds_that_both_have(tmp_path):
    table = over_seeds(tmp_path, grid(tmp_path, Gru=[1.0, 2.0], Mlp=[2.0, 4.0, 90.0])).table
    second = row(table, "predictor.network=Mlp")
    assert (second["seeds"], second["mean"], second["paired_seeds"], second["difference"]) == (3, 32.0, 2, 1.5)


def test_one_seed_has_no_interval_and_the_page_says_so(tmp_path):
    results = over_seeds(tmp_path, grid(tmp_path, Gru=[1.0], Mlp=[2.5]))
    assert row(results.table, "predictor.network=Gru")["half_width_95"] is None
    second = row(results.table, "predictor.network=Mlp")
    assert (second["difference"], second["difference_half_width_95"]) == (1.5, None)
    assert "no interval: predictor.network=Gru, predictor.network=Mlp" in results.report


def test_what_is_no_number_is_told_and_not_averaged(tmp_path):
    results = over_seeds(tmp_path, grid(tmp_path, Gru=[1.0, None, 3.0], Mlp=[None, None, None]))
    first, second = row(results.table, "predictor.network=Gru"), row(results.table, "predictor.network=Mlp")
    assert (first["seeds"], first["missing"], first["mean"]) == (2, 1, 2.0)
    assert (second["seeds"], second["missing"], second["mean"]) == (0, 3, None)
    assert "val/loss of predictor.network=Gru is no number with seed 1;" in results.report


def test_only_what_all_runs_of_a_group_have_is_averaged():
    table = means_over_seeds({"a": {0: {"x": 1.0, "y": 1.0}, 1: {"x": 3.0}}, "b": {0: {"y": 5.0}}})
    assert table.select("group", "metric", "mean", "difference").rows() == [("a", "x", 2.0, None), ("b", "y", 5.0, 4.0)]


def test_unfinished_runs_of_a_pattern_are_counted_and_a_run_counts_once(tmp_path):
    pattern = grid(tmp_path, Gru=[1.0, 2.0])
    a_run(tmp_path / "runs" / "Gru2", None, 2)
    (tmp_path / "runs" / "notes.txt").touch()
    results = over_seeds(tmp_path, pattern, str(tmp_path / "runs" / "Gru0"))
    assert row(results.table, "fit_predictor")["seeds"] == 2  # nothing tells a single group apart
    assert (
        "2 runs of job=fit_predictor in 1 group, equal but for the seed. 1 unfinished run left out." in results.report
    )


def test_the_first_group_is_that_of_the_first_run_in_the_order_of_a_grid(tmp_path):
    for number, network in ((10, "Mlp"), (2, "Gru")):
        a_run(tmp_path / "runs" / f"grid-{number}", {"val/loss": 1.0}, network=network)
    table = over_seeds(tmp_path, str(tmp_path / "runs" / "grid*")).table
    assert table["group"].to_list() == ["predictor.network=Gru", "predictor.network=Mlp"]


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["main/rent_money", "main/profit_money"], "main/profit_money"),
        (["val/loss", "test/real_mae"], "test/real_mae"),
        (["auction/revenue", "optimum/revenue"], "auction/revenue"),
    ],
)
def test_the_number_shown_is_what_the_job_is_judged_by_or_the_one_asked_for(tmp_path, names, chosen):
    a_run(tmp_path / "run", dict.fromkeys(names, 1.0))
    assert list(over_seeds(tmp_path, str(tmp_path / "run")).figures) == [chosen]
    assert list(over_seeds(tmp_path, str(tmp_path / "run"), metric=names[0]).figures) == [names[0]]


def test_wrong_runs_are_refused(tmp_path):
    pattern = grid(tmp_path, Gru=[1.0, 2.0])
    with pytest.raises(InputError, match=r"runs=\[\] is not a list"):
        Seeds("seeds", [])
    with pytest.raises(InputError, match=r"nowhere/\* finds no finished run; "):
        over_seeds(tmp_path, str(tmp_path / "nowhere" / "*"))
    for wrong in (tmp_path / "runs", tmp_path / "runs" / "Gru0" / "summary.json"):
        with pytest.raises(InputError, match=f"{wrong} is no run directory"):
            over_seeds(tmp_path, str(wrong))
    with pytest.raises(InputError, match=r"job\.metric='val/los' .*did you mean 'val/loss'"):
        over_seeds(tmp_path, pattern, metric="val/los")
    a_run(tmp_path / "unfinished", None)
    with pytest.raises(InputError, match="unfinished is not finished"):
        over_seeds(tmp_path, pattern, str(tmp_path / "unfinished"))
    with pytest.raises(InputError, match=r"finds no finished run \(1 unfinished run\)"):
        over_seeds(tmp_path, str(tmp_path / "unfin*"))
    a_run(tmp_path / "simulation", {"val/loss": 1.0}, job="simulate")
    with pytest.raises(InputError, match=r"Gru0 is a run of job=fit_predictor, .*simulation of job=simulate"):
        over_seeds(tmp_path, pattern, str(tmp_path / "simulation"))
    a_run(tmp_path / "again", {"val/loss": 1.0}, seed=1)
    with pytest.raises(InputError, match=r"Gru1 and .*again are both runs of seed 1"):
        over_seeds(tmp_path, pattern, str(tmp_path / "again"))
    a_run(tmp_path / "wordy", {"file": "model.onnx"})
    with pytest.raises(InputError, match="have no numbers"):
        over_seeds(tmp_path, str(tmp_path / "wordy"))


@pytest.mark.parametrize(("name", "content"), [("summary.json", "{"), ("summary.json", "[1]"), ("config.yaml", "a: [")])
def test_broken_files_are_named(tmp_path, name, content):
    pattern = grid(tmp_path, Gru=[1.0, 2.0])
    (tmp_path / "runs" / "Gru1" / name).write_text(content)
    with pytest.raises(InputError, match=f"Gru1/{name}"):
        over_seeds(tmp_path, pattern)


def test_from_the_command_line(tmp_path, cli):
    grid(tmp_path, Gru=[1.0, 2.0])
    refused = cli("job=seeds", "job.runs=[runs/*]", "job.metric=profit", "run_dir=out")
    assert (refused.code, refused.err.count("\n"), Path("out").exists()) == (2, 1, False)
    ended = cli("job=seeds", "job.runs=[runs/*]", "run_dir=out")
    assert (ended.code, ended.run) == (0, Path("out"))
    assert "1.5 ± 6.4" in ended.out  # the t quantile of one degree of freedom, 12.7, over two
    assert json.loads(Path("out/summary.json").read_text())["fit_predictor/val/loss/mean"] == 1.5
    assert Path("out/results.csv").is_file()
    assert Path("out/report.html").read_text().count("<svg") == 1


def runs_of(*settings, choices=None):
    """Runs with these settings, the seed among them."""
    return [
        Run(Path(), int(each["seed"]), each, choices[place] if choices else {}, {})
        for place, each in enumerate(settings)
    ]


@pytest.mark.parametrize(
    ("key", "values", "together"),
    [
        ("data.seed", ("0", "1", "2"), True),
        ("data.seed", ("7", "7", "7"), True),
        ("data.seed", ("0", "0", "0"), True),
        ("data.seed", ("0", "1", "7"), False),
        ("data.seed", ("0", "0", "2"), False),
        ("init.predictor", ("/runs/gru_0", "/runs/gru_1", "/runs/gru_2"), True),
        ("init.predictor", ("/runs/gru_1", "/runs/gru_1", "/runs/gru_1"), True),
        ("init.predictor", ("/runs/gru_0", "/runs/gru_1", "/runs/gru_12"), False),
        ("init.predictor", ("/runs/30", "/runs/31", "/runs/32"), False),
        ("data.path", ("trace_0.csv", "trace_1.csv", "trace_2.csv"), True),
        ("slicer.copies", ("0", "1", "2"), False),
    ],
)
def test_what_follows_the_seed_tells_nobody_apart(key, values, together):
    groups = grouped(runs_of(*({"seed": str(seed), key: value} for seed, value in enumerate(values))))
    assert (len(groups) == 1) == together


def named(*settings, choices=None):
    return labels(grouped(runs_of(*({"seed": "0"} | each for each in settings), choices=choices)), single="simulate")


def test_options_stand_for_what_they_set_and_keys_tell_apart_what_has_them_in_common():
    gru = {"predictor.network._target_": "a.Gru", "predictor.rate": "0.1", "slicer.kappa": "0.5"}
    mlp = {"predictor.network._target_": "a.Mlp", "predictor.rate": "0.2", "slicer.kappa": "0.5"}
    slow = gru | {"predictor.rate": "0.01"}
    options = [{"predictor": name, "logger": log} for name, log in (("gru", "csv"), ("mlp", "wandb"), ("gru", "csv"))]
    assert named(gru, mlp, slow, choices=options) == [
        "predictor=gru predictor.rate=0.1",
        "predictor=mlp",
        "predictor=gru predictor.rate=0.01",
    ]
    tight = {"slicer.kappa": "0.3"}
    assert named(gru, mlp | tight, choices=options[:2]) == [
        "predictor=gru slicer.kappa=0.5",
        "predictor=mlp slicer.kappa=0.3",
    ]
    fast = [{"debug": "None", "predictor": "gru"}, {"debug": "fast", "predictor": "mlp"}]
    assert named(gru, mlp, choices=fast) == ["debug=null", "debug=fast"]


def test_without_options_classes_and_keys_are_named():
    own = {"slicer._target_": "mine.Headroom", "slicer.share": "0.5"}
    assert named(own, {"slicer._target_": "sliceoff.slicing.Cheapest", "slicer.z": "2"}) == [
        "slicer=Headroom",
        "slicer=Cheapest",
    ]
    assert named(own, own | {"slicer._target_": "other.Headroom"}) == [
        "slicer=mine.Headroom",
        "slicer=other.Headroom",
    ]
    assert named({"a.b": "1"}, {}) == ["a.b=1", "no a.b"]
    assert named({"init.predictor": "/runs/x/gru"}, {"init.predictor": "/runs/x/mlp"}) == [
        "init.predictor=gru",
        "init.predictor=mlp",
    ]
    assert named({"data.path": "/a/x.csv"}, {"data.path": "/b/x.csv"}) == ["data.path=/a/x.csv", "data.path=/b/x.csv"]
    assert named(own) == ["simulate"]
    assert labels([runs_of({"seed": "0"})] * 2, single="simulate") == ["1: simulate", "2: simulate"]


def test_differing_settings_are_told_key_by_key_and_another_class_in_one_line():
    learning = {"allocator._target_": "mine.Learning", "allocator.network.width": "64"}
    first = {"seed": "0", "slicer.z": "2.0", "rivals.a.kappa": "0.5"} | learning
    second = {"seed": "1", "schedule": "null", "rivals.a.kappa": "0.4", "allocator._target_": "mine.Greedy"}
    assert differences({"a": first, "b": second}) == [
        {"config key": "allocator", "a": "Learning", "b": "Greedy"},
        {"config key": "seed", "a": "0", "b": "1"},
        {"config key": "slicer.z", "a": "2.0", "b": ""},
        {"config key": "schedule", "a": "", "b": "null"},
    ]
    assert differences({"a": first, "b": first | {"allocator.network.width": "128"}}) == [
        {"config key": "allocator.network.width", "a": "64", "b": "128"}
    ]


@pytest.mark.parametrize(
    ("mean", "half", "text"),
    [
        (152_200.4, 312.0, "152,200 ± 312"),
        (0.99625, 0.00012, "0.99625 ± 0.00012"),
        (0.5, 2.0, "0.5 ± 2.0"),
        (2 / 3, None, "0.66667"),
        (0.0, 0.0, "0 ± 0"),
        (None, None, "-"),
    ],
)
def test_numbers_are_as_exact_as_their_interval(mean, half, text):
    assert plus_minus(mean, half) == text


def test_a_difference_is_no_more_exact_than_what_it_is_of():
    assert plus_minus(2e-12, 1.8e-11, "+", scale=21.4) == "+0.00000 ± 0.00000"
    assert plus_minus(-1.5, None, "+", scale=152_200.0) == "-2"
