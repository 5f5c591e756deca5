"""A predictor's life on the command line: fitted, tuned to another trace, forecasting beyond it, exported."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import polars
import pytest
import torch
from traces import trace_csv

from sliceoff import checkpoint
from sliceoff.config import configure
from sliceoff.data import Window
from sliceoff.errors import InputError
from sliceoff.predictor import Forecaster
from sliceoff.run import run
from sliceoff.run_config import choices_of, config_of

NETWORK = ("predictor.network.d_model=8", "predictor.network.d_ff=8", "predictor.network.n_heads=2")
WINDOWS = ("windows.input_length=72", "windows.horizon=12")
BUDGET = ("trainer.predictor.max_epochs=3", "trainer.predictor.limit_train_batches=4")
SMALL = (*NETWORK, *WINDOWS, *BUDGET)


@pytest.fixture(scope="module")
def fitted_once(once, tmp_path_factory) -> Path:
    trace = trace_csv(tmp_path_factory.mktemp("traces") / "first.csv", regions=2)
    return once("job=fit_predictor", "data=wide_csv", f"data.path={trace}", *SMALL)


@pytest.fixture
def fitted(fitted_once, tmp_path) -> Path:
    return shutil.copytree(fitted_once, tmp_path / "runs" / "fit_predictor" / "fitted")


def test_tuning_to_other_regions_compares_and_leaves_a_checkpoint_that_forecasts(cli, fitted, tmp_path):
    trace = trace_csv(tmp_path / "second.csv", regions=3)
    data = ("data=wide_csv", f"data.path={trace}")
    tuned = cli("job=finetune", f"init.checkpoint={fitted}", *data, *BUDGET, "job.days=[2,4]")
    assert tuned.code == 0, tuned.err
    assert "tensors loaded" in tuned.out
    run = tuned.run
    table = polars.read_csv(run / "results.csv")
    assert table["forecaster"].unique().sort().to_list() == [
        "from scratch", "ridge", "seasonal naive", "tuned", "zero-shot"
    ]  # fmt: skip
    # Two and four days of steps after the first history, three quarters of them targets to train on.
    assert table["training windows"].unique().sort().to_list() == [36 - 12 + 1, 72 - 12 + 1]
    summary = json.loads((run / "summary.json").read_text())
    most = table.filter(**{"training windows": 72 - 12 + 1})
    for forecaster, prefix in (("tuned", ""), ("ridge", "ridge/")):
        (error,) = most.filter(forecaster=forecaster)["test/real_mae"]
        assert summary[f"{prefix}test/real_mae"] == pytest.approx(error)
    naive = table.filter(forecaster="seasonal naive")["test/real_mae"]
    assert naive.to_numpy() == pytest.approx(0, abs=1e-3)  # the trace repeats itself every day
    assert all(line.startswith("loaded") for line in (run / "transfer.txt").read_text().splitlines())

    ahead = cli("job=forecast", f"init.checkpoint={run}", *data)
    assert ahead.code == 0, ahead.err
    directory = ahead.run
    forecast = polars.read_parquet(directory / "results.parquet")
    again = cli("job=forecast", f"init.predictor={run}", *data, *WINDOWS)
    assert again.code == 0, again.err
    same = again.run
    assert polars.read_parquet(same / "results.parquet").equals(forecast)  # used as it is, not trained on
    assert forecast.columns == ["time", "region", "mean", "q0.1", "q0.5", "q0.9"]
    assert forecast.height == 12 * 3
    assert str(forecast["time"].min()) == "2024-01-21 20:00:00"  # the hour after the last of 500
    assert (forecast["q0.1"] <= forecast["q0.9"]).all()
    assert (directory / "forecast.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(("unfrozen_at", "backbone_moves"), [(99, False), (0, True)])
def test_the_backbone_is_frozen_until_the_schedule_says(cli, fitted, tmp_path, unfrozen_at, backbone_moves):
    trace = trace_csv(tmp_path / "second.csv", regions=2)
    command = ("job=finetune", f"init.checkpoint={fitted}", "data=wide_csv", f"data.path={trace}", *BUDGET)
    ended = cli(*command, f"job.schedule.unfreeze_backbone_at_epoch={unfrozen_at}", "job.learning_rate=1e-2")
    assert ended.code == 0, ended.err
    start = checkpoint.load(fitted, expect=Forecaster)
    last = torch.load(ended.run / "checkpoints/last.ckpt", weights_only=True)
    moved = {id(w) for name, w in start.named_parameters() if not torch.equal(w, last["state_dict"][name])}
    backbone = {id(weight) for weight in start.backbone.parameters()}
    assert bool(moved & backbone) == backbone_moves
    assert moved - backbone


def test_another_step_is_refused_unless_kept(cli, fitted, tmp_path):
    trace = trace_csv(tmp_path / "half_hours.csv", regions=2, step_minutes=30, rows=900)
    command = ("job=finetune", f"init.checkpoint={fitted}", "data=wide_csv", f"data.path={trace}", *BUDGET)
    refused = cli(*command)
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert "data.resample_s=3600" in refused.err
    daily = trace_csv(tmp_path / "days.csv", regions=2, step_minutes=24 * 60, rows=900)
    assert "choose a trace of that step" in cli(*command, f"data.path={daily}").err
    assert cli(*command, "job.other_step=keep", "job.scaler=keep").code == 0
    assert cli(*command, "data.resample_s=3600", "job.input_length=48").code == 0


def test_a_trace_too_short_for_the_checkpoints_windows_is_told_which_options_are_the_tunings(cli, fitted, tmp_path):
    trace = trace_csv(tmp_path / "short.csv", regions=2, rows=25)
    refused = cli("job=finetune", f"init.checkpoint={fitted}", "data=wide_csv", f"data.path={trace}", *BUDGET)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert refused.err.endswith("(here: job.input_length, job.horizon)\n")
    assert "windows.input_length=" in refused.err


def test_a_stopped_tuning_resumes_in_its_own_directory_and_leaves_the_pretrained_run_alone(cli, fitted, tmp_path):
    trace = trace_csv(tmp_path / "second.csv", regions=2)
    command = ("job=finetune", f"init.checkpoint={fitted}", "data=wide_csv", f"data.path={trace}", *BUDGET)
    ended = cli(*command)
    assert ended.code == 0, ended.err
    run = ended.run
    table, before = (run / "results.csv").read_text(), {file: file.read_bytes() for file in fitted.rglob("*.ckpt")}
    (run / "summary.json").unlink()  # as if it had been stopped
    elsewhere = cli(*command, "init=resume", f"init.checkpoint={run}")
    assert elsewhere.code == 2
    assert "begun with another init.checkpoint" in elsewhere.err
    resumed = cli(*command, "init=resume")
    assert resumed.code == 0, resumed.err
    assert resumed.run == run
    assert (run / "results.csv").read_text() == table
    assert {file: file.read_bytes() for file in fitted.rglob("*.ckpt")} == before
    other = cli(*command, "init=resume", f"init.run={fitted}")
    assert other.code == 2
    assert "is a run of job=fit_predictor, not of job=finetune" in other.err


@pytest.mark.parametrize(
    ("rows", "days", "told"),
    [
        (500, "[2,40]", "job.days=[2, 40] must each be at least 2, "),  # 48 steps: four horizons
        (500, "[1]", " at most 13.66, "),  # 328 steps from the first history's 72 to the held-out end at 400
        (140, "[2]", "job.days=[2]: the trace is too short"),  # 40 steps
    ],
)
def test_amounts_of_days_that_the_trace_does_not_have_are_told_in_days(cli, fitted, tmp_path, rows, days, told):
    trace = trace_csv(tmp_path / "second.csv", regions=2, rows=rows)
    ended = cli("job=finetune", f"init.checkpoint={fitted}", "data=wide_csv", f"data.path={trace}", f"job.days={days}")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert told in ended.err
    assert "first_steps" not in ended.err


@pytest.mark.parametrize("pressed_in", ["on_train_batch_start", "on_validation_start"])
def test_a_tuning_stopped_after_the_unfreezing_resumes_as_if_it_had_not_been(
    cli, fitted, tmp_path, monkeypatch, pressed_in
):
    trace = trace_csv(tmp_path / "second.csv", regions=2)
    command = ("job=finetune", f"init.checkpoint={fitted}", "data=wide_csv", f"data.path={trace}", *BUDGET)
    command += ("job.schedule.unfreeze_backbone_at_epoch=0", "job.learning_rate=1e-2")
    ended = cli(*command)
    assert ended.code == 0, ended.err
    whole = ended.run

    def press(module, *_):
        if module.trainer.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Forecaster, pressed_in, press)
        assert cli(*command, f"run_dir={tmp_path / 'own'}").code == 130
    resumed = cli(*command, f"run_dir={tmp_path / 'own'}", "init=resume")
    assert resumed.code == 0, resumed.err
    run = resumed.run
    weights, uninterrupted = (
        torch.load(directory / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for directory in (run, whole)
    )
    assert all(torch.equal(weight, uninterrupted[name]) for name, weight in weights.items())


EARLY = (
    "trainer.predictor.max_epochs=9",
    "callbacks.predictor.early_stopping.patience=1",
    "predictor.learning_rate=0.1",
)


def test_a_fit_that_stopped_early_is_not_trained_further_by_a_resume(cli, tmp_path):
    trace = trace_csv(tmp_path / "trace.csv", regions=2)
    command = ("job=fit_predictor", "data=wide_csv", f"data.path={trace}", *SMALL, *EARLY)
    ended = cli(*command, f"run_dir={tmp_path / 'own'}")
    assert ended.code == 0, ended.err
    run = ended.run
    before = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert before["epoch"] < 8  # it did stop early
    (run / "summary.json").unlink()  # as if stopped after the fit
    resumed = cli(*command, f"run_dir={tmp_path / 'own'}", "init=resume")
    assert resumed.code == 0, resumed.err
    assert resumed.run == run
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"] == before["global_step"]


def test_ctrl_c_in_the_last_validation_counts(cli, monkeypatch, tmp_path):
    def press(module):
        if module.trainer.current_epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Forecaster, "on_validation_start", press)
    ended = cli("job=fit_predictor", *SMALL, f"run_dir={tmp_path / 'own'}")
    assert ended.code == 130
    assert not (tmp_path / "own" / "summary.json").exists()
    monkeypatch.undo()
    assert (tmp_path / "own" / "checkpoints" / "last.ckpt").is_file()


def test_a_resume_with_other_data_is_refused(cli, fitted):
    refused = cli("job=fit_predictor", "init=resume", f"init.run={fitted}", "seed=5")
    assert refused.code == 2
    assert "was begun with another" in refused.err


def test_a_resume_with_fewer_epochs_than_were_trained_is_refused(cli, fitted):
    data = ("data=wide_csv", f"data.path={config_of(fitted)['data']['path']}")
    command = ("job=fit_predictor", *data, *SMALL, "trainer.predictor.max_epochs=2")
    refused = cli(*command, "init=resume", f"init.run={fitted}")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "trainer.predictor.max_epochs=2, but 3 epochs are trained already" in refused.err


def test_a_size_that_is_no_whole_number_is_one_line(cli):
    refused = cli("job=fit_predictor", "debug=fast", "predictor.network.n_heads=4.0")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "n_heads" in refused.err


def test_regions_in_another_order_are_told_apart(cli, fitted, tmp_path):
    data = ("data=wide_csv", f"data.path={trace_csv(tmp_path / 'again.csv', regions=2)}", "data.columns=[r1,r0]")
    for command in (
        ("job=forecast", f"init.checkpoint={fitted}"),
        ("allocator=greedy", f"init.predictor={fitted}", *WINDOWS),
        ("job=finetune", f"init.checkpoint={fitted}", "job.scaler=keep"),
    ):
        ended = cli(*command, *data)
        assert ended.code == 2
        assert ended.err.count("\n") == 1
        assert "region" in ended.err


def test_the_summary_of_a_fit_is_that_of_the_weights_it_leaves(cli, tmp_path):
    trace = trace_csv(tmp_path / "trace.csv", regions=2)
    ended = cli("job=fit_predictor", "data=wide_csv", f"data.path={trace}", *SMALL, *EARLY)
    assert ended.code == 0, ended.err
    run = ended.run
    log = polars.read_csv(next(run.glob("logs/predictor/*/metrics.csv")))["val/loss"].drop_nulls()
    assert log[-1] > log.min()  # it went on after its best
    assert json.loads((run / "summary.json").read_text())["val/loss"] == pytest.approx(log.min())


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (("job=finetune", "init.checkpoint={run}"), "predictor.learning_rate=1e-3"),
        (("job=finetune", "init.checkpoint={run}"), "windows.horizon=6"),
        (("job=forecast", "init.checkpoint={run}"), "predictor/loss=mae"),
        (("job=forecast", "init.predictor={run}", *WINDOWS), "predictor=gru"),
    ],
)
def test_options_that_a_checkpoint_would_overrule_are_refused(cli, fitted, tmp_path, command, option):
    command = [word.format(run=fitted) for word in command]
    command += [option, "data=wide_csv", f"data.path={trace_csv(tmp_path / 'first.csv', regions=2)}"]
    ended = cli(*command)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert f"{option} has no effect with init." in ended.err
    with pytest.raises(InputError, match=f"^{option} has no effect with init."):  # in a notebook too
        run(configure(*command))


def test_tuning_and_forecasting_take_the_windows_and_calendar_of_the_checkpoint(cli, tmp_path):
    data = ("data=wide_csv", f"data.path={trace_csv(tmp_path / 'again.csv', regions=2)}")
    ended = cli("job=fit_predictor", *data, *SMALL, "windows.calendar=[week,day]")
    assert ended.code == 0, ended.err
    start = f"init.checkpoint={ended.run}"
    tuned = cli("job=finetune", start, *data, "trainer.predictor.max_epochs=1")
    assert tuned.code == 0, tuned.err
    lines = (tuned.run / "transfer.txt").read_text().splitlines()
    assert all(line.startswith("loaded") for line in lines)
    ahead = cli("job=forecast", start, *data)
    assert ahead.code == 0, ahead.err
    for made in (tuned.run, ahead.run):  # their configs do not name a predictor and windows that they did not have
        config, choices = config_of(made), choices_of(made)
        assert not {"predictor", "predictor/loss"} & {*config, *choices}
        assert not {"input_length", "horizon", "calendar"} & set(config["windows"])
        assert {"slicer", "slicer@rivals.paper_greedy.slicer"} <= set(choices)
    again = cli("--config-dir", str(tuned.run), "--config-name", "config", f"run_dir={tmp_path / 'repeated'}")
    assert again.code == 0, again.err
    assert again.run.joinpath("results.csv").read_text() == tuned.run.joinpath("results.csv").read_text()


FIT = ("job=fit_predictor", "predictor=linear")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("job=finetune",), "init.checkpoint"),
        (("job=export",), "init.checkpoint"),
        (("job=finetune", "job.scaler=new"), "not one of refit, keep"),
        (("job=fit_predictor", "init.checkpoint=runs/a"), "makes no use of init.checkpoint"),
        (("job=finetune", "job.days=[0]"), "must be above zero"),
        (("job=forecast", "job.levels=[]"), "not a list of numbers"),
        (("job=fit_predictor", "predictor=gru", "predictor.network.dropout=1.5"), "dropout"),
        (("job=export", "job.format=tflite"), "not one of pt2, onnx"),
        (("job=forecast", "job.levels=[0.9,0.1]"), "job.levels"),
        (("job=forecast", "init.checkpoint=nowhere"), "nowhere"),
        ((*FIT, "windows.seed=-1"), "windows.seed=-1"),
        ((*FIT, "predictor=mlp", "predictor/loss=huber", "predictor.loss.delta=0"), "predictor.loss"),
        ((*FIT, "trainer.predictor.max_epochs=0"), "trains nothing"),
        ((*FIT, "trainer.predictor.max_epochs=x"), "max_epochs='x'"),
        ((*FIT, "trainer.predictor.limit_train_batches=0"), "trains nothing"),
        ((*FIT, "trainer.predictor.limit_train_batches=-1"), "trainer.predictor: You have passed invalid value -1"),
        ((*FIT, "trainer.predictor.accelerator=cpu", "trainer.predictor.devices=2"), "one device, not 2"),
        (
            (*FIT, "predictor=mlp", "debug=fast", "callbacks.predictor.checkpoint.monitor=val/los"),
            "could not find the monitored key",
        ),
        (
            (
                *FIT,
                "+callbacks.predictor.mean={_target_:lightning.pytorch.callbacks.StochasticWeightAveraging,swa_lrs:0.1}",
            ),
            "use lightning.pytorch.callbacks.EMAWeightAveraging",
        ),
        ((*FIT, "callbacks.predictor.early_stopping.monitor=val/los"), "metric `val/los` which is not available"),
        (("logger=null",), "logger=null: choose one of csv, wandb"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(cli, tmp_path, arguments, message):
    ended = cli(*arguments)
    assert ended.code == 2
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_forecast_without_a_checkpoint_fits_first(cli, tmp_path):
    trace = trace_csv(tmp_path / "first.csv", regions=1)
    ended = cli(
        "job=forecast",
        "data=wide_csv",
        f"data.path={trace}",
        "predictor=linear",
        "windows.horizon=12",
        "windows.input_length=48",
    )
    assert ended.code == 0, ended.err
    forecast = polars.read_parquet(ended.run / "results.parquet")
    hours = np.arange(500, 512)
    assert forecast["mean"].to_numpy() == pytest.approx(50 + 30 * np.sin(2 * np.pi * hours / 24), abs=0.5)


def test_the_forecast_of_quantiles_is_their_median_and_not_called_mean(cli, tmp_path):
    trace = trace_csv(tmp_path / "first.csv", regions=2)
    data = ("data=wide_csv", f"data.path={trace}", *WINDOWS, *BUDGET)
    ended = cli("job=forecast", *data, "predictor=mlp", "predictor/loss=quantiles")
    assert ended.code == 0, ended.err
    forecast = polars.read_parquet(ended.run / "results.parquet")
    assert forecast.columns == ["time", "region", "q0.1", "q0.5", "q0.9"]
    assert "<th>q0.5</th>" in (ended.run / "report.html").read_text()


def test_a_checkpoint_of_other_regions_does_not_forecast(cli, fitted, tmp_path):
    trace = trace_csv(tmp_path / "one.csv", regions=1)
    ended = cli("job=forecast", f"init.checkpoint={fitted}", "data=wide_csv", f"data.path={trace}")
    assert ended.code == 2
    assert "job=finetune" in ended.err


def test_export_writes_a_file_that_torch_loads_and_that_forecasts_the_same(cli, fitted):
    ended = cli("job=export", f"init.checkpoint={fitted}", "job.format=pt2")
    assert ended.code == 0, ended.err
    exported = torch.export.load(ended.run / "forecaster.pt2").module()
    forecaster = checkpoint.load(fitted, expect=Forecaster)
    calendar = forecaster.spec["arguments"]["n_calendar"]
    history, past, future = 100 * torch.rand(5, 72, 2), torch.rand(5, 72, calendar), torch.rand(5, 12, calendar)
    forecast = forecaster.forecast(Window(history, past, torch.zeros(5, 12, 2), future))
    torch.testing.assert_close(exported(history, past, future), forecast, rtol=1e-4, atol=1e-3)
