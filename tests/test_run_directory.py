"""A run never writes into another's directory, appears only when it has something to write, and appears whole."""

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from unittest.mock import Mock

import polars
import pytest

from sliceoff.config import configure
from sliceoff.errors import InputError
from sliceoff.resuming import begun_in_grid, newest_unfinished
from sliceoff.run_config import choices_of, config_of, deciding, repeatable
from sliceoff.run_directory import LOCK, Results, RunDirectory

IMPORT = "from sliceoff.run_directory import RunDirectory"
TABLE = polars.DataFrame({"period": [1, 2], "profit": [0.5, -1.0]})


def test_nothing_is_created_before_the_first_file(tmp_path):
    directory = RunDirectory(tmp_path / "run", config="seed: 0\n")
    assert not (tmp_path / "run").exists()
    assert directory.path == tmp_path / "run"
    assert (tmp_path / "run" / "config.yaml").read_text() == "seed: 0\n"


def test_an_existing_run_is_never_written_into(tmp_path):
    first, second = (RunDirectory(tmp_path / "run", config="") for _ in range(2))
    assert (first.path.name, second.path.name) == ("run", "run-2")


def test_a_directory_that_another_process_took_at_the_same_moment_is_left_to_it(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("fcntl.lockf", taken := Mock(side_effect=[BlockingIOError, None]))
        assert RunDirectory(tmp_path / "run", config="").path.name == "run-2"
    assert taken.call_count == 2


def test_what_is_not_a_number_is_null_in_the_summary(tmp_path):
    directory = RunDirectory(tmp_path / "run", config="")
    directory.write(Results({"a": float("nan"), "b": float("inf")}, TABLE, ""))
    assert json.loads((directory.path / "summary.json").read_text()) == {"a": None, "b": None}


def test_files_round_trip(tmp_path):
    directory = RunDirectory(tmp_path / "run", config="")
    directory.write(Results({"profit_money": 1.5, "seed": 0}, TABLE, "<html>"))
    assert json.loads((directory.path / "summary.json").read_text()) == {"profit_money": 1.5, "seed": 0}
    assert polars.read_parquet(directory.path / "results.parquet").equals(TABLE)
    assert polars.read_csv(directory.path / "results.csv").equals(TABLE)
    assert (directory.path / "report.html").read_text() == "<html>"
    assert not list(directory.path.glob(".*.partial"))


@pytest.mark.parametrize("content", [b"a: [", b"[1, 2]", b"\xff"])
def test_a_config_that_cannot_be_read_is_refused(tmp_path, content):
    run = RunDirectory(tmp_path / "runs" / "mine", config="").path
    (run / "config.yaml").write_bytes(content)
    with pytest.raises(InputError, match=r"config\.yaml"):
        newest_unfinished(run.parent, "simulate")


def test_wrong_input_discards_a_new_run_but_never_a_resumed_one(tmp_path):
    new = RunDirectory(tmp_path / "run", config="")
    assert new.path.exists()
    resumed = RunDirectory(new.path, config="", resume=True)
    resumed.discard()
    assert new.path.exists()
    new.discard()
    assert not new.path.exists()


@pytest.mark.parametrize("name", ["checkpoints/predictor/best.ckpt", "cleared.jsonl"])
def test_what_took_time_is_worth_keeping(tmp_path, name):
    directory = RunDirectory(tmp_path / "run", config="")
    assert not directory.worth_keeping
    assert not (tmp_path / "run").exists()
    file = directory.path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    assert not directory.worth_keeping  # opened, but nothing written yet
    file.write_text("something")
    assert directory.worth_keeping


def test_resume_finds_the_newest_unfinished_run(tmp_path):
    finished, unfinished = (RunDirectory(tmp_path / name, config="job: {name: simulate}") for name in ("a", "b"))
    assert RunDirectory(tmp_path / "c", config="job: {name: forecast}").path.exists()
    assert unfinished.path.exists()
    finished.write(Results({}, TABLE, ""))
    assert newest_unfinished(tmp_path, "simulate") == unfinished.path
    unfinished.write(Results({}, TABLE, ""))
    with pytest.raises(InputError, match="no unfinished run"):
        newest_unfinished(tmp_path, "simulate")


def test_a_run_that_goes_on_in_another_process_is_not_resumed(tmp_path):
    script = (
        f"import sys; {IMPORT}\n"
        f"run = RunDirectory({str(tmp_path / 'a')!r}, config='job: {{name: simulate}}')\n"
        "print(run.path, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        run = Path(other.stdout.readline().decode().strip())
        with pytest.raises(InputError, match="1 going on in other processes"):
            newest_unfinished(tmp_path, "simulate")
        with pytest.raises(InputError, match="written by another process"):
            RunDirectory(run, config="", resume=True)
        other.kill()
    assert newest_unfinished(tmp_path, "simulate") == run
    resumed = RunDirectory(run, config="", resume=True)
    assert newest_unfinished(tmp_path, "simulate") == run  # to ask does not let go of it
    ask = [sys.executable, "-c", f"{IMPORT}\nRunDirectory({str(run)!r}, config='', resume=True)"]
    assert subprocess.run(ask, capture_output=True, check=False).returncode == 1
    resumed.close()
    assert subprocess.run(ask, capture_output=True, check=False).returncode == 0


def test_a_grid_that_goes_on_leaves_out_a_run_that_another_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("sliceoff.resuming._grid_goes_on", lambda cfg: True)
    monkeypatch.setattr("sliceoff.resuming.is_free", lambda run: run.name != "newest")
    cfg = configure(f"run_dir={tmp_path / 'new'}")
    for name, written in (("older", 500), ("newest", 900)):
        os.utime(RunDirectory(tmp_path / name, config=repeatable(cfg)).path, (written, written))
    assert begun_in_grid(cfg) == tmp_path / "older"
    monkeypatch.setattr("sliceoff.resuming.is_free", lambda run: False)
    assert begun_in_grid(cfg) == tmp_path / "newest"  # which is then refused, rather than run twice


def test_a_grid_that_goes_on_reads_a_config_once_unless_it_is_written_again(tmp_path, monkeypatch):
    monkeypatch.setattr("sliceoff.resuming._grid_goes_on", lambda cfg: True)
    read = []
    monkeypatch.setattr("sliceoff.resuming.config_of", lambda run: read.append(run.name) or config_of(run))
    cfg, other = (configure(f"run_dir={tmp_path / 'new'}", f"seed={seed}") for seed in (0, 1))
    for name, each in (("zero", cfg), ("one", other)):
        with closing(RunDirectory(tmp_path / name, config=repeatable(each))) as run:
            assert run.path.is_dir()
    assert (begun_in_grid(cfg), begun_in_grid(other)) == (tmp_path / "zero", tmp_path / "one")
    assert sorted(read) == ["one", "zero"]
    (tmp_path / "one" / "config.yaml").write_text(repeatable(configure("seed=2")))
    assert begun_in_grid(other) is None
    assert sorted(read) == ["one", "one", "zero"]


def test_the_newest_run_is_the_one_written_last(tmp_path):
    for name, written in (("a", 500), ("b", 9000), ("c", 700)):
        run = RunDirectory(tmp_path / name, config="job: {name: simulate}")
        lock = run.path / LOCK
        run.close()
        lock.unlink()  # as in runs of earlier versions
        os.utime(run.path, (written, written))
    assert newest_unfinished(tmp_path, "simulate") == tmp_path / "b"


def test_a_run_of_somebody_else_is_passed_over(tmp_path, monkeypatch):
    for name in ("mine", "theirs"):
        run = RunDirectory(tmp_path / name, config="job: {name: simulate}")
        assert run.path.is_dir()
        run.close()
    opened = os.open

    def refuse(path, *rest):
        if "theirs" in str(path):
            raise PermissionError(13, "Permission denied")
        return opened(path, *rest)

    monkeypatch.setattr("os.open", refuse)
    assert newest_unfinished(tmp_path, "simulate") == tmp_path / "mine"
    with pytest.raises(InputError, match="cannot write to"):
        RunDirectory(tmp_path / "theirs", config="", resume=True)


def test_a_run_that_does_not_fit_on_the_disk_leaves_nothing(tmp_path, disk_full_at):
    with disk_full_at(10), pytest.raises(InputError, match="run_dir=PATH"):
        _ = RunDirectory(tmp_path / "new" / "run", config="seed: 0\n" * 10).path
    assert not list(tmp_path.iterdir())


def test_a_run_is_written_and_read_in_any_locale_and_under_any_name(tmp_path):
    script = f"""if True:
        from pathlib import Path
        from sliceoff.run_config import choices_of, config_of
        from sliceoff.run_directory import RunDirectory, logs_of
        run = RunDirectory({str(tmp_path / "[a] #1")!r}, config="# data=\\xfc\\ndata: {{path: \\xfc.csv}}\\n")
        run.write_text("report.html", "\\xb1")
        (log := run.path / "logs" / "predictor" / "version_0").mkdir(parents=True)
        (log / "metrics.csv").write_text("epoch\\n0\\n")
        assert config_of(run.path) == {{"data": {{"path": "\\xfc.csv"}}}}, config_of(run.path)
        assert choices_of(run.path) == {{"data": "\\xfc"}}, choices_of(run.path)
        assert list(logs_of(run.path)) == ["predictor"]
    """
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    assert (tmp_path / "[a] #1" / "report.html").read_bytes() == "±".encode()


def test_an_unwritable_place_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="run_dir=PATH"):
        _ = RunDirectory(tmp_path / "file" / "run", config="").path


def test_what_decides_results_is_told_from_what_does_not(tmp_path):
    config = "# predictor=gru\n# predictor/loss=mae\nseed: 1\nrun_dir: x\nthreads: 2\nlogger: {_target_: csv}\n"
    config += "job: {name: simulate, workers: 2, periods: 3}\ninit: {predictor: runs/a}\nrivals: {}\n"
    config += "callbacks: {predictor: {progress: {_target_: Bar}, early_stopping: {patience: 5}}}\n"
    run = RunDirectory(tmp_path / "run", config=config).path
    assert deciding(config_of(run)) == {
        "seed": 1,
        "job.name": "simulate",
        "job.periods": 3,
        "init.predictor": str(Path("runs/a").resolve()),
        "callbacks.predictor.early_stopping.patience": 5,
    }
    assert choices_of(run) == {"predictor": "gru", "predictor/loss": "mae"}
