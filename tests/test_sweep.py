"""A W&B sweep file runs offline, each combination once."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from sliceoff.config import CONFIGS, configure
from sliceoff.errors import InputError
from sliceoff.sweep import combinations, main, run_sweep

PROGRAM = """
import json, pathlib, sys
given = dict(word.split("=") for word in sys.argv[1:])
if given["b"] == "bad":
    sys.exit(2)
run = pathlib.Path(given["run_dir"])
run.mkdir(parents=True)
if given["b"] == "steep":
    (run / "diverged.txt").write_text("train/loss is nan")
    sys.exit(1)
(run / "summary.json").write_text(json.dumps({"profit": 10 * float(given["a"]) + len(given["b"])}))
"""


@pytest.fixture
def sweep(tmp_path):
    def write(**changed):
        (tmp_path / "program.py").write_text(PROGRAM)
        content = {
            "program": str(tmp_path / "program.py"),
            "method": "grid",
            "metric": {"name": "profit", "goal": "maximize"},
            "parameters": {"a": {"values": [1, 2]}, "b": {"values": ["x", "long"]}},
            "command": ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"],
        }
        (tmp_path / "sweep.yaml").write_text(OmegaConf.to_yaml(content | changed))
        return tmp_path / "sweep.yaml"

    return write


def test_a_grid_runs_every_combination_once_and_ranks_them(sweep, tmp_path):
    rows = run_sweep(sweep(), tmp_path / "runs")
    assert [(row["a"], row["b"], row["profit"]) for row in rows] == [
        (2, "long", 24.0),
        (2, "x", 21.0),
        (1, "long", 14.0),
        (1, "x", 11.0),
    ]
    times = [file.stat().st_mtime_ns for file in sorted((tmp_path / "runs").glob("*/summary.json"))]
    assert run_sweep(sweep(metric={"name": "profit", "goal": "minimize"}), tmp_path / "runs") == rows[::-1]
    assert [file.stat().st_mtime_ns for file in sorted((tmp_path / "runs").glob("*/summary.json"))] == times


def test_a_run_that_was_stopped_is_resumed(sweep, tmp_path):
    file = sweep(parameters={"a": {"value": 1}, "b": {"value": "x"}})
    (program := tmp_path / "program.py").write_text(
        PROGRAM.replace("run.mkdir(parents=True)", "assert given['init'] == 'resume'")
    )
    assert program.read_text() != PROGRAM
    with pytest.raises(InputError, match="exit code 1"):
        run_sweep(file, tmp_path / "runs")  # nothing to resume
    program.write_text(PROGRAM)
    row = run_sweep(file, tmp_path / "runs")[0]
    run = Path(row["run"])
    (run / "summary.json").unlink()
    (run / "config.yaml").write_text("")  # as it is left by a run that was stopped
    program.write_text(PROGRAM.replace("run.mkdir(parents=True)", "assert given['init'] == 'resume'"))
    assert run_sweep(file, tmp_path / "runs") == [row]


@pytest.mark.parametrize("goal", ["maximize", "minimize"])
def test_a_run_that_came_to_no_number_is_last(sweep, tmp_path, goal):
    file = sweep(metric={"name": "profit", "goal": goal})
    program = PROGRAM.replace('10 * float(given["a"])', 'None if given["a"] == "1" else float(given["a"])')
    (tmp_path / "program.py").write_text(program.replace(' + len(given["b"])', ""))
    rows = run_sweep(file, tmp_path / "runs")
    assert [row["profit"] for row in rows] == [2.0, 2.0, None, None]


def test_a_run_that_diverged_is_a_row_and_is_not_tried_again(sweep, tmp_path, capfd):
    file = sweep(parameters={"a": {"values": [1, 2]}, "b": {"values": ["steep", "x"]}})
    rows = run_sweep(file, tmp_path / "runs")
    assert [(row["a"], row["b"], row["profit"]) for row in rows] == [
        (2, "x", 21.0),
        (1, "x", 11.0),
        (1, "steep", None),
        (2, "steep", None),
    ]
    capfd.readouterr()
    assert run_sweep(file, tmp_path / "runs") == rows
    assert capfd.readouterr().out == ""  # nothing was run


def test_the_words_of_the_command_are_told_to_every_run(sweep, tmp_path):
    command = ["${env}", "A=1", "python", "${program}", "${args_no_hyphens}", "${envvar:B}", "logger.online=true"]
    parameters = {"a": {"value": 1}, "b": {"value": "x"}}
    plain = run_sweep(sweep(parameters=parameters), tmp_path / "runs")
    assert run_sweep(sweep(parameters=parameters, command=command), tmp_path / "runs") == plain
    file = sweep(parameters=parameters, command=[*command, "job.periods=24"])
    (tmp_path / "program.py").write_text(PROGRAM + "(run / 'told.txt').write_text(sys.argv[1])")
    (longer,) = run_sweep(file, tmp_path / "runs")
    assert longer["run"] != plain[0]["run"]
    assert (Path(longer["run"]) / "told.txt").read_text() == "job.periods=24"


def test_a_run_that_leaves_no_summary_is_told(sweep, tmp_path):
    file = sweep()
    (tmp_path / "program.py").write_text("")
    with pytest.raises(InputError, match="exit code 0"):
        run_sweep(file, tmp_path / "runs")


def test_keys_that_are_for_wandb_alone_change_nothing(sweep, tmp_path):
    known = run_sweep(sweep(), tmp_path / "runs")
    early = {"type": "hyperband", "min_iter": 3}
    file = sweep(name="mine", description="all", project="p", entity="e", early_terminate=early, controller={})
    assert run_sweep(file, tmp_path / "runs") == known
    assert len(run_sweep(sweep(run_cap=3), tmp_path / "runs")) == 3


INTERRUPTED = """
import os, pathlib, signal, sys, time
os.kill(os.getppid(), signal.SIGINT)
time.sleep(0.6)  # longer than Python's own `subprocess.run` waits
pathlib.Path("stopped").write_text("in peace")
sys.exit(130)
"""


def test_ctrl_c_waits_for_the_run_and_says_how_to_go_on(sweep, tmp_path, monkeypatch, capsys):
    file = sweep()
    (tmp_path / "program.py").write_text(INTERRUPTED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["sweep", str(file)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 130
    assert Path("stopped").read_text() == "in peace"
    assert capsys.readouterr().err == "interrupted; the same command goes on with the run that was stopped\n"


@pytest.mark.parametrize("code", [130, 143])
def test_a_run_that_was_interrupted_alone_ends_the_sweep_too(sweep, tmp_path, code):
    file = sweep()
    (tmp_path / "program.py").write_text(f"import sys\nsys.exit({code})")
    with pytest.raises(KeyboardInterrupt):
        run_sweep(file, tmp_path / "runs")


def test_random_draws_repeat():
    given = {"method": "random", "run_cap": 6, "parameters": {"a": {"values": [1, 2, 3]}, "b": {"value": None}}}
    assert list(combinations(given)) == list(combinations(given))
    assert len(list(combinations(given))) == 6


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"method": "bayes"}, "method=bayes"),
        ({"parameters": {"a": {"min": 0, "max": 1}}}, r"parameters\.a"),
        ({"parameters": {"a": 3}}, r"parameters\.a=3 has neither"),
        ({"parameters": {"a": {"values": []}}}, r"parameters\.a\.values=\[\] is not a list"),
        ({"parameters": {"a": {"values": 3}}}, r"parameters\.a\.values=3 is not a list"),
        ({"parameters": {"a": {"valus": [1]}}}, r"parameters\.a={'valus': \[1\]} has neither"),
        ({"parameters": [1]}, r"parameters=\[1\] must"),
        ({"metric": {"nam": "profit"}}, "metric={'nam': 'profit'} has no name"),
        ({"metric": {"name": "profit", "goal": "maximise"}}, "did you mean 'maximize'"),
        ({"run_cap": "few"}, "run_cap='few' must"),
        ({"method": "random", "run_cap": None}, "random with a run_cap"),
        ({"command": "python main.py threads=2"}, "command='python main.py threads=2' is not a list"),
        ({"command": ["python", "./main.py", "threads=2"]}, "does not name the program"),
        ({"runcap": 2}, "runcap; did you mean 'run_cap'"),
        ({"metric": {"name": "loss"}}, "has no loss"),
        ({"parameters": {"a": {"value": 1}, "b": {"value": "bad"}}}, "exit code 2"),
    ],
)
def test_what_cannot_be_run_is_told(sweep, tmp_path, changed, message):
    with pytest.raises(InputError, match=message):
        run_sweep(sweep(**changed), tmp_path / "runs")


@pytest.mark.parametrize("content", [b"a: [", b"\x82\x80", b"words", b"[a, b]", b"", None])
def test_a_file_that_is_no_sweep_is_told(tmp_path, content):
    file = tmp_path / "sweep.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=r"sweep\.yaml (cannot be read|holds no keys|needs program)"):
        run_sweep(file, tmp_path / "runs")


def test_the_sweep_that_comes_with_it_names_real_options():
    content = OmegaConf.to_container(OmegaConf.load(CONFIGS / "sweep.yaml"))
    chosen = list(combinations(content))
    assert len(chosen) == 27
    for parameters in chosen[:: len(chosen) // 3]:
        configure(*(f"{name}={value}" for name, value in parameters.items()))
