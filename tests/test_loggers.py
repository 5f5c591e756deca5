"""Weights & Biases is offline unless asked and logged in, never prompts, and never stops a run."""

import time

import pytest
from matplotlib.figure import Figure

from sliceoff.loggers import Guarded, csv_logger, finish, log_figures, log_files, wandb_logger


def recorded(directory, names):
    """Which names an offline W&B run in `directory` holds; its process may still be writing when the run has ended."""
    deadline = time.monotonic() + 30
    found = []
    while len(found) < len(names) and time.monotonic() < deadline:
        time.sleep(0.1)
        content = b"".join(file.read_bytes() for file in directory.glob("wandb/offline-run-*/*.wandb"))
        found = [name for name in names if name.encode() in content]
    return found


def test_csv_opens_a_new_version_and_keeps_the_old(tmp_path):
    for loss in (1.0, 2.0):
        loggers = csv_logger("predictor", tmp_path)
        loggers[0].log_metrics({"val/loss": loss}, step=0)
        finish(loggers)
    files = sorted(tmp_path.glob("logs/predictor/version_*/metrics.csv"))
    assert ["1.0" in files[0].read_text(), "2.0" in files[1].read_text()] == [True, True]


def test_wandb_logs_offline_without_a_prompt_and_csv_goes_on(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr("wandb.api", type("Nobody", (), {"api_key": None}))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("prompted"))
    loggers = wandb_logger("predictor", tmp_path, online=True)
    for logger in loggers:
        logger.log_metrics({"val/loss": 1.0}, step=0)
    log_figures(loggers, {"empty": Figure()})
    finish(loggers)
    assert recorded(tmp_path, ["val/loss"]) == ["val/loss"]
    assert "1.0" in next(tmp_path.glob("logs/predictor/version_0/metrics.csv")).read_text()


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


def test_figures_and_files_reach_an_offline_wandb_run(tmp_path, caplog):
    table, checkpoint = tmp_path / "results.parquet", tmp_path / "checkpoints" / "best.ckpt"
    checkpoint.parent.mkdir()
    for file in (table, checkpoint):
        file.write_bytes(b"content of " + file.name.encode())
    loggers = wandb_logger("summary", tmp_path)
    log_figures(loggers, {"Profit by stack": Figure(figsize=(2, 1))})
    log_files(loggers, "results", [table, checkpoint])
    log_files(loggers, "nothing", [])
    finish(loggers)
    assert "W&B logging is off" not in caplog.text
    names = ["checkpoints/best.ckpt", "results.parquet", "Profit by stack"]
    assert recorded(tmp_path, names) == names


def test_a_wandb_run_holds_the_config(cli, tmp_path):
    ended = cli("debug=fast", "job=fit_predictor", "predictor=linear", "data.days=21", "logger=wandb", "seed=4711")
    assert ended.code == 0, ended.err
    (run,) = tmp_path.glob("runs/fit_predictor/*")
    names = ["4711", "sliceoff.predictor.Linear"]
    assert recorded(run, names) == names
