"""Weights & Biases is offline unless asked and logged in, never prompts, and never stops a run."""

import time
from math import nan
from types import SimpleNamespace
from unittest.mock import MagicMock

import polars
import pytest
import wandb
from lightning.pytorch.loggers import CSVLogger
from matplotlib.figure import Figure

from sliceoff import loggers
from sliceoff.errors import InputError
from sliceoff.loggers import Guarded, csv_logger, log_figures, log_results, wandb_logger
from sliceoff.run_directory import Results, RunDirectory


def recorded(directory, names, without=frozenset()):
    """Which names the offline W&B runs in `directory` but those `without` hold, once their process has written them."""
    deadline = time.monotonic() + 30
    found = []
    while len(found) < len(names) and time.monotonic() < deadline:
        time.sleep(0.1)
        runs = set(directory.glob("wandb/offline-run-*")) - without
        content = b"".join(file.read_bytes() for run in runs for file in run.glob("*.wandb"))
        found = [name for name in names if name.encode() in content]
    return found


def test_csv_opens_a_new_version_and_keeps_the_old(tmp_path):
    for loss in (1.0, 2.0):
        made = csv_logger("predictor", tmp_path)
        made.log_metrics({"val/loss": loss}, step=0)
        made.finalize("success")
    files = sorted(tmp_path.glob("logs/predictor/version_*/metrics.csv"))
    assert ["1.0" in files[0].read_text(), "2.0" in files[1].read_text()] == [True, True]


def test_wandb_logs_offline(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    made = wandb_logger("predictor", tmp_path)
    made.log_metrics({"val/loss": 1.0}, step=0)
    log_figures([made], {"empty": Figure()})
    made.finalize("success")
    assert recorded(tmp_path, ["val/loss"]) == ["val/loss"]


def unreachable():
    raise OSError("no network")


@pytest.mark.parametrize(
    ("login", "asked_for", "mode"),
    [
        (lambda: True, True, "online"),
        (lambda: False, True, "offline"),
        (unreachable, True, "offline"),
        (lambda: True, False, "offline"),
    ],
)
def test_wandb_is_online_only_where_asked_for_and_logged_in_and_never_prompts(
    tmp_path, monkeypatch, login, asked_for, mode
):
    prompts, modes = [], []
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr("wandb.login", lambda prompt: (prompts.append(prompt), login())[1])
    monkeypatch.setattr("wandb.init", lambda mode, **_: (modes.append(mode), MagicMock())[1])
    loggers._logged_in.cache_clear()
    for name in ("predictor", "summary"):
        wandb_logger(name, tmp_path, online=asked_for)
    loggers._logged_in.cache_clear()
    assert modes == [mode, mode]
    assert prompts == ([False] if asked_for else [])  # asked once


def test_a_logger_that_fails_leaves_the_others_ended(tmp_path):
    class Full(CSVLogger):
        def log_metrics(self, *_):
            raise OSError("disk full")

        def finalize(self, status):
            ended.append(status)

    ended, run = [], MagicMock()
    other = Guarded(lambda: run)
    with pytest.raises(OSError, match="disk full"):
        log_results(
            [Full(tmp_path), other], Results({}, polars.DataFrame(), ""), RunDirectory(tmp_path / "run", config="")
        )
    assert ended == ["failed"]
    run.experiment.finish.assert_called_once()


def test_a_figure_that_cannot_be_drawn_stops_nothing(caplog, monkeypatch):
    monkeypatch.setattr("wandb.Image", MagicMock(side_effect=RuntimeError("no pillow")))
    Guarded(MagicMock).log_figures({"broken": Figure()})
    assert "W&B logging is off" in caplog.text


def test_a_wandb_that_cannot_start_is_dropped(caplog):
    def refuse():
        raise OSError("no space left on device")

    logger = Guarded(refuse)
    logger.log_metrics({"val/loss": 1.0}, step=0)
    logger.finalize("success")
    assert logger.experiment is None
    assert "no space left" in caplog.text


def test_a_wandb_that_breaks_later_is_dropped_once(caplog):
    class Broken:
        calls = 0

        def log_metrics(self, *_):
            self.calls += 1
            raise RuntimeError("connection lost")

    broken = Broken()
    logger = Guarded(lambda: broken)
    logger.log_metrics({"val/loss": 1.0})
    logger.log_metrics({"val/loss": 1.0})
    assert broken.calls == 1
    assert caplog.text.count("connection lost") == 1


def test_results_reach_an_offline_wandb_run_and_the_csv(tmp_path, caplog):
    directory = RunDirectory(tmp_path / "run", config="")
    checkpoint = directory.checkpoints("predictor") / "best.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"weights")
    figures = {"Profit by stack": Figure(figsize=(2, 1)), "On the map": None}
    results = Results(
        {"main/profit_money": 17.25, "half_width": nan, "file": "a.onnx"},
        polars.DataFrame({"a": [1]}),
        "<html>",
        figures,
    )
    directory.write(results)
    directory.write_text("mine.txt", "a job's own file")
    both = [csv_logger("summary", directory.path), wandb_logger("summary", directory.path)]
    log_results(both, results, directory)
    assert "W&B logging is off" not in caplog.text
    names = ["best.ckpt", "results.parquet", "report.html", "Profit by stack", "main/profit_money", "mine.txt"]
    assert recorded(directory.path, names) == names
    logged = next(directory.path.glob("logs/summary/version_0/metrics.csv")).read_text()
    assert "17.25" in logged
    assert "half_width" not in logged


@pytest.mark.parametrize(("status", "code"), [("success", 0), ("failed", 1), ("interrupted", 1)])
def test_a_run_ends_as_the_fit_did(status, code):
    ended = []
    run = SimpleNamespace(experiment=SimpleNamespace(finish=lambda exit_code: ended.append(exit_code)))
    Guarded(lambda: run).finalize(status)
    assert ended == [code]


def test_a_resume_that_trains_nothing_further_opens_no_run_for_it(cli, tmp_path):
    small = ("data.days=21", "allocator=greedy", "rivals=none", "slicer=peak", "job.periods=1", "job.bound=false")
    command = ("debug=fast", "predictor=linear", *small, "logger=wandb", f"run_dir={tmp_path / 'own'}")
    assert cli(*command).code == 0
    runs = set(tmp_path.glob("own/wandb/offline-run-*"))
    assert len(runs) == 2  # of predictor and summary
    (tmp_path / "own" / "summary.json").unlink()  # as if stopped after the fit
    assert cli(*command, "init=resume").code == 0
    assert len(set(tmp_path.glob("own/wandb/offline-run-*")) - runs) == 1
    assert recorded(tmp_path / "own", ["main/profit_money"], without=runs)


@pytest.fixture
def in_sweep(monkeypatch):
    """As in a process that `wandb agent` started."""
    wandb.teardown()  # W&B looks at the environment once
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    monkeypatch.setenv("WANDB_RUN_ID", "theone")
    yield
    wandb.teardown()


@pytest.mark.usefixtures("in_sweep")
def test_in_a_sweep_all_parts_are_one_wandb_run(tmp_path, caplog):
    directory = RunDirectory(tmp_path / "run", config="")
    for part in ("predictor", "allocator"):
        made = wandb_logger(part, directory.path)
        made.log_metrics({"train/loss": 1.0}, step=3)
        log_figures([made], {"slot": Figure(figsize=(2, 1))})
        made.finalize("success")  # as Lightning does after a fit
    last = wandb_logger("summary", directory.path)
    assert last.version == "theone"
    results = Results({"main/profit_money": 17.25}, polars.DataFrame({"a": [1]}), "<html>")
    directory.write(results)
    log_results([last], results, directory)
    assert "W&B logging is off" not in caplog.text
    assert wandb.run is None
    assert len(list(directory.path.glob("wandb/offline-run-*"))) == 1
    names = ["predictor/train/loss", "allocator/train/loss", "predictor/slot", "main/profit_money", "report.html"]
    assert recorded(directory.path, names) == names
    written = b"".join(file.read_bytes() for file in directory.path.glob("wandb/offline-run-*/*.wandb"))
    assert b"summary/main" not in written


@pytest.mark.usefixtures("in_sweep")
def test_in_a_sweep_the_wandb_run_ends_with_a_run_that_fails(cli, tmp_path, monkeypatch):
    def refuse(*_):
        ids.append(wandb.run.id)
        raise InputError("nothing learned")

    ids, ended = [], []
    monkeypatch.setattr("sliceoff.jobs.fit_predictor.learned", refuse)
    finish = wandb.finish
    monkeypatch.setattr(wandb, "finish", lambda exit_code: (ended.append(exit_code), finish(exit_code)))
    command = ("debug=fast", "job=fit_predictor", "predictor=linear", "data.days=21", "logger=wandb")
    assert cli(*command).code == 2
    assert (ids, ended, wandb.run) == (["theone"], [1], None)


def test_what_a_wandb_run_is_told_about_itself(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("wandb.init", lambda **about: (told.append(about), MagicMock())[1])
    wandb_logger("predictor", tmp_path / "mine", tags=["baseline"], notes="the first", group="august")
    wandb_logger("predictor", tmp_path / "mine")
    asked = [{name: about[name] for name in ("name", "tags", "notes", "group")} for about in told]
    assert asked == [
        {"name": "mine/predictor", "tags": ["baseline"], "notes": "the first", "group": "august"},
        {"name": "mine/predictor", "tags": (), "notes": None, "group": "mine"},
    ]


@pytest.mark.parametrize("online", [True, False])
def test_a_resumed_run_goes_on_in_the_wandb_runs_it_had_where_the_server_has_them(tmp_path, monkeypatch, online):
    told = []
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(loggers, "_logged_in", lambda: True)
    monkeypatch.setattr("wandb.init", lambda **about: (told.append(about), MagicMock())[1])
    for name in ("predictor", "summary", "predictor"):
        wandb_logger(name, tmp_path, online=online)
    first, other, again = (about.get("id") for about in told)
    assert (first is not None and first == again) is online
    assert (first != other) is online
    assert {about.get("resume") for about in told} == {"allow" if online else None}


NOTES = """
from lightning.pytorch.loggers.logger import DummyLogger

class Notes(DummyLogger):
    def __init__(self, file):
        super().__init__()
        self.file = file

    def note(self, *words):
        with self.file.open("a") as notes:
            print(*words, file=notes)

    def log_metrics(self, metrics, step=None):
        self.note(*metrics)

    def log_figures(self, figures):
        self.note(*figures)

    def log_files(self, kind, files):
        self.note(kind, *(file.name for file in files))

def notes(name, directory):
    return Notes(directory / "notes.txt")
"""


def test_an_own_logger_is_one_function_and_csv_goes_on(cli, tmp_path, monkeypatch):
    (tmp_path / "own_notes.py").write_text(NOTES)
    monkeypatch.syspath_prepend(tmp_path)
    small = ("debug=fast", "job=fit_predictor", "predictor=gru", "data.days=21")
    ended = cli(*small, "logger._target_=own_notes.notes")
    assert ended.code == 0, ended.err
    (run,) = tmp_path.glob("runs/fit_predictor/*")
    notes = (run / "notes.txt").read_text()
    for word in ("val/loss", "test/scaled_mse", "report.html", "best.ckpt", "Learning"):
        assert word in notes
    assert "val/loss" in next(run.glob("logs/predictor/version_0/metrics.csv")).read_text()


def test_what_makes_no_logger_is_told(cli):
    ended = cli(
        "debug=fast", "job=fit_predictor", "predictor=linear", "data.days=21", "logger._target_=collections.Counter"
    )
    assert (ended.code, ended.err) == (
        2,
        "error: logger: collections.Counter makes a Counter, which is no Logger (see its docs)\n",
    )


def test_a_logger_needs_no_partial_in_its_config(cli):
    ended = cli("debug=fast", "job=fit_predictor", "predictor=linear", "data.days=21", "~logger._partial_")
    assert ended.code == 0, ended.err


def test_a_wandb_run_holds_the_config(cli, tmp_path):
    ended = cli("debug=fast", "job=fit_predictor", "predictor=linear", "data.days=21", "logger=wandb", "seed=4711")
    assert ended.code == 0, ended.err
    (run,) = tmp_path.glob("runs/fit_predictor/*")
    names = ["4711", "sliceoff.predictor.Linear"]
    assert recorded(run, names) == names
