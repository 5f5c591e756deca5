"""What a user types: good commands leave a complete run directory, bad ones one clear line and nothing else."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import weakref
from io import BytesIO, TextIOWrapper
from pathlib import Path

import polars
import pytest
import torch
from torch.testing import assert_close
from traces import trace_csv

from sliceoff.allocator import LearningAllocator
from sliceoff.cli import main
from sliceoff.errors import Diverged
from sliceoff.jobs import training_report
from sliceoff.loop import Simulation
from sliceoff.predictor import Forecaster

REPOSITORY = Path(__file__).resolve().parents[1]
FAST = ("debug=fast", "data.days=21", "job.periods=3", "job.slots_per_period=4")


@pytest.fixture(scope="module")
def run(once) -> Path:
    return once(*FAST)


def test_the_default_job_leaves_a_complete_run_directory(run):
    for name in ("config.yaml", "summary.json", "results.parquet", "results.csv", "report.html"):
        assert (run / name).stat().st_size > 0
    for module in ("predictor", "allocator"):
        for name in ("best.ckpt", "last.ckpt"):
            content = torch.load(run / "checkpoints" / module / name, weights_only=True)
            assert "spec" in content
    summary = json.loads((run / "summary.json").read_text())
    table = polars.read_parquet(run / "results.parquet")
    main = table.filter(polars.col("stack") == "main")
    assert summary["main/profit_money"] == pytest.approx(main["profit"].sum())
    assert main["profit"].to_numpy() == pytest.approx((main["revenue"] - main["rent"]).to_numpy())
    assert (table["tasks"] == table["done"] + table["late"] + table["dropped"]).all()
    report = (run / "report.html").read_text()
    assert "http://" not in report.replace("http://www.w3.org", "")
    assert report.count("<svg") >= 4


def test_the_saved_config_repeats_the_run(cli, run):
    again = cli("--config-dir", str(run), "--config-name", "config")
    assert again.code == 0, again.err
    assert again.run.absolute() != run
    summaries = [json.loads((directory / "summary.json").read_text()) for directory in (run, again.run)]
    for summary in summaries:
        summary.pop("wall_seconds")
    assert summaries[0] == summaries[1]


def test_a_wide_csv_of_the_user_runs_with_swapped_modules(cli, tmp_path):
    path = trace_csv(tmp_path / "mine.csv")
    ended = cli(
        "debug=fast",
        "job.periods=3",
        "data=wide_csv",
        f"data.path={path}",
        "predictor=linear",
        "slicer=exact",
        "allocator=greedy",
    )
    assert ended.code == 0, ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predictor=liner"], "did you mean 'linear'"),
        (["predictor=linear", "predictor/optimizer=adam"], "the chosen predictor has no optimizer to choose"),
        (["predictr=linear"], "did you mean 'predictor'"),
        (["windows.horizn=3"], "did you mean 'windows.horizon'"),
        (
            ["trainer.predictor.fast_dev_run=true"],
            "an unlisted option of Lightning: +trainer.predictor.fast_dev_run=true",
        ),
        (["job.slots_per_period=7201"], "lower it to 7200 or less"),
        (["data=wide_csv"], "data.path"),
        (["data=wide_csv", "data.path=absent.csv"], "absent.csv"),
        (["data=wide_csv", "data.path={good}", "data.columns=[r00]"], "did you mean 'r0'"),
        (["data=wide_csv", "data.path={text}"], "line 12"),
        (["data=wide_csv", "data.path={gap}", "data.gaps=error"], "line 12"),
        (["data=wide_csv", "data.path={empty}"], "empty"),
        (["windows.horizon=100000"], "windows.horizon=100000: the training part has"),
        (["offers.bandwidth_price_per_mhz=-1"], "bandwidth_price_per_mhz"),
        (["offers.bandwidth_options_mhz=[]"], "bandwidth_options_mhz"),
        (["init.predictor={other}"], "not a Forecaster"),
        (["init.predictor=absent.ckpt"], "absent.ckpt"),
        (["job.periods=0"], "job.periods"),
        (["init=resume"], "no unfinished run"),
        (["init=resume", "run_dir=mine"], "run_dir=mine is no run directory"),
        (["init=resume", "init.run=mine"], "init.run=mine is no run directory"),
        (["data.days"], "write data.days=VALUE"),
        (["+data.days=3"], "data.days is there already; write data.days=3"),
        (["~data", "data.days=3"], "Could not override 'data.days'"),
        (["~slicer"], "slicer has no value; choose one with slicer=cheapest|exact"),
        (["+rivals.mine=1"], "+slicer@rivals.mine.slicer=cheapest|exact"),
        (["job=market", "job.mechanisms=[]"], "job.mechanisms=[] (Cannot merge DictConfig with ListConfig)"),
        (["slicer._target_=collections.Counter"], "makes a Counter, which is no Slicer"),
        (["allocator=greedy", "allocator._target_=collections.Counter"], "makes a Counter, which is no Allocator"),
        (["data._target_=collections.Counter"], "makes a Counter, which is no Trace"),
        (["region._target_=collections.Counter"], "makes a Counter, which is no Scenario"),
        (["offers._target_=collections.Counter"], "makes a Counter, which is no Offers"),
        (["windows._target_=collections.Counter"], "makes a Counter, which is no TrafficDataModule"),
        (["job._target_=builtins.dict"], "job: builtins.dict makes a dict, which is no Job"),
        (["job=fit_predictor", "predictor.optimizer.fused=x"], "predictor.optimizer.fused='x' is no bool"),
        (["+slicer._args_=3"], "slicer: Unsupported _args_ type: 'int'"),
        (["+predictor.network._args_=3"], "predictor.network: Unsupported _args_ type: 'int'"),
        (["+slicer._recursive_=3"], "slicer: Instantiation: _recursive_ flag must be a bool"),
        (["predictor.network._target_=len"], "predictor"),
        (["windows.calendar=[day,day]"], "names a cycle twice"),
        (["region.short_slot_s=3601"], "region.short_slot_s=3601 is longer"),
        (["allocator.n_critics=3"], "allocator.n_critics=3"),
        (["seed=-1"], "seed=-1"),
        (["threads=0"], "threads=0"),
        (["matmul_precision=low"], "not one of highest, high, medium"),
        (["predictor.learning_rate=-1"], "learning_rate"),
        (["region.deadline_s=0"], "deadline_s"),
        (["region.noise_dbm=1e9"], "region.noise_dbm"),
        (["region.queue=paper"], "job.bound=false"),
        (["mean_users=51"], "region.max_users=50"),
        (["mean_users=51", "allocator=greedy"], "region.max_users=50"),
        (["slicer=cheapest", "offers.vm_options=[2,64]"], "offers.vm_options go up to 64, region.max_vms is 32"),
        (["allocator=dual", "offers.bandwidth_options_mhz=[5,100]"], "region.max_bandwidth_hz=8e+07"),
        (["allocator=greedy", "+logger.project=mine"], "logger: "),
        (["logger=wandb", "logger.online=abc"], "logger.online='abc' is no bool"),
        (["logger=wandb", "logger.entity=3"], "logger.entity=3 is no str | None"),
        (
            ["logger=wandb", "logger.tags=baseline"],
            "logger.tags='baseline' is no list[str] | tuple[str, ...]; write it as a list, [baseline]",
        ),
        (["logger=wandb", "logger.notes=[a]"], "logger.notes=['a'] is no str | None"),
        (["job=fit_predictor", "callbacks.predictor.early_stopping.patience=abc"], "early_stopping.patience='abc'"),
        (["job=fit_predictor", "trainer.predictor.limit_train_batches=abc"], "limit_train_batches='abc'"),
        (["job=fit_predictor", "+trainer.predictor.accumulate_grad_batches=0"], "accumulate_grad_batches=0"),
        (["job=fit_predictor", "+trainer.predictor.val_check_interval=7"], "`val_check_interval` (7)"),
        (["predictor._target_=nowhere.Thing"], "nowhere"),
        (["job=fit_allocator", "allocator=greedy"], "rule"),
        (["allocator=greedy", "init.allocator=absent.ckpt"], "takes no weights"),
        (["init.allocator=absent.ckpt"], "absent.ckpt"),
        (["job=fit_allocator", "allocator.learning_starts=16000"], "never reached"),
        (["init.checkpoint=absent.ckpt"], "makes no use of init.checkpoint"),
        (["job=fit_allocator", "init.checkpoint=absent.ckpt"], "makes no use of init.checkpoint"),
        (["job=fit_predictor", "init.predictor=absent.ckpt"], "makes no use of init.predictor"),
        (["job=market", "init.checkpoint=absent.ckpt"], "makes no use of init.checkpoint"),
        (["job=market_bridge", "init.checkpoint=absent.ckpt"], "makes no use of init.checkpoint"),
        (["+allocator@rivals.mine.allocator=td3", "+slicer@rivals.mine.slicer=cheapest"], "rivals.mine.allocator"),
        (["+slicer@rivals.main.slicer=exact", "+allocator@rivals.main.allocator=equal"], "rivals.main"),
        (
            ["+slicer@rivals.a.slicer=oracle", "+allocator@rivals.a.allocator=equal", "rivals.a.slicer.slicer.kappa=2"],
            "rivals.a.slicer.slicer.kappa=2",
        ),
        (["+slicer@rivals.bound.slicer=exact", "+allocator@rivals.bound.allocator=equal"], "rivals.bound"),
        (["+slicer@rivals.mine.slicer=cheapest"], "rivals.mine.allocator has no value"),
        (["allocator._target_=sliceoff.region.Greedyy"], "Error loading 'sliceoff.region.Greedyy'"),
        (["run_dir=null"], "run_dir=None is no path"),
        (["init.mode=foo"], "not one of scratch, resume"),
        (["trainer=5"], "trainer=5: choose one of default"),
        (["=3"], "write key=value"),
        (["run_dir=runs/lr=0.1"], "value twice: 'run_dir=\"runs/lr=0.1\"'"),
        (["threads=true"], "threads=True"),
        (["mean_users=true"], "mean_users=True"),
        (["job=fit_predictor", "mean_users=-1"], "mean_users=-1 must be above zero"),
        (["job=market", "job.scenario=5"], "5"),
        (["job=finetune", "job.schedule=5"], "job.schedule=5"),
        (["job=finetune", "job.schedule.backbone_initial_ratio_lr=-1"], "backbone_initial_ratio_lr=-1"),
        (["job=finetune", "+job.schedule.backbone_initial_lr=-1"], "backbone_initial_lr=-1"),
        (["job=finetune", "+job.schedule.initial_denom_lr=0"], "initial_denom_lr=0"),
        (["job=finetune", "+job.schedule.lambda_func=3"], "lambda_func=3 is no Callable"),
        (["job=fit_predictor", "callbacks.predictor.checkpoint.mode=x"], "`mode` can be min, max"),
        (["job=fit_predictor", "callbacks.predictor.progress=3"], "=3 is no Lightning callback"),
        (["job=fit_predictor", "logger._target_=os.getcwd"], "logger"),
        (["job=fit_allocator", "allocator.batch_size=1"], "allocator.batch_size"),
        (["job=fit_allocator", "allocator.gradient_steps=0"], "allocator.gradient_steps"),
        (["data=wide_csv", "data.path={zero}"], "no users' traffic"),
        (["data=wide_csv", "data.path={negative}", "data.negative=allow"], "no users' traffic"),
        (["predictor.network.dropout=2"], "predictor.network.dropout"),
    ],
)
def test_bad_input_is_one_line_exit_2_and_no_run_directory(cli, tmp_path, arguments, message):
    (tmp_path / "empty.csv").write_text("")
    torch.save(
        {"spec": {"class": "torch.nn.modules.linear:Linear", "arguments": {}}, "state_dict": {}},
        tmp_path / "other.ckpt",
    )
    files = {
        "good": trace_csv(tmp_path / "good.csv"),
        "text": trace_csv(tmp_path / "text.csv", cell=(10, 1, "many")),
        "gap": trace_csv(tmp_path / "gap.csv", cell=(10, 2, "")),
        "empty": tmp_path / "empty.csv",
        "zero": trace_csv(tmp_path / "zero.csv", scale=0),
        "negative": trace_csv(tmp_path / "negative.csv", scale=-1),
        "other": tmp_path / "other.ckpt",
    }
    ended = cli(*FAST[:1], *(argument.format(**files) for argument in arguments))
    assert ended.code == 2, ended.err
    lines = ended.err.strip().splitlines()
    assert len(lines) == 1, ended.err
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert not (tmp_path / "runs").exists()


FIT = ("debug=fast", "job=fit_predictor", "predictor=mlp", "data.days=10", "windows.input_length=24")
FIT += ("windows.horizon=6",)
SIMULATED = ("data.days=10", "windows.input_length=24", "windows.horizon=6", "allocator=greedy", "slicer=cheapest")
SIMULATED += ("rivals=none", "job.periods=2", "job.slots_per_period=2", "job.bound=false")


@pytest.mark.parametrize(
    ("command", "size", "kept"),
    [(FIT, 16_000, False), ((*SIMULATED, "predictor=linear"), 60_000, True)],
)
def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(
    cli, tmp_path, monkeypatch, disk_full_at, command, size, kept
):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # of modules that are imported now
    with disk_full_at(size):
        ended = cli(*command, "run_dir=mine")
    assert ended.code == 2, ended.err
    (line,) = ended.err.strip().splitlines()
    assert re.search(r"cannot write \S*mine/\S+ .*make room", line), line
    assert ("kept in mine" in line) == (tmp_path / "mine").exists() == kept
    assert not list(tmp_path.rglob(".*.partial"))
    if kept:
        assert cli(*command, "run_dir=mine", "init=resume").code == 0


@pytest.mark.parametrize(
    "arguments",
    [("job=report", "job.runs=[theirs,mine]"), ("job=seeds", "job.runs=[theirs]"), ("init.predictor=theirs",)],
)
def test_a_run_of_somebody_else_that_is_not_for_everybody_is_one_line(cli, monkeypatch, arguments):
    stat = os.stat

    def refuse(path, **options):
        if Path("theirs") in Path(path).parents:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr("os.stat", refuse)
    ended = cli(*arguments)
    assert ended.code == 2, ended.err
    (line,) = ended.err.strip().splitlines()
    assert line.startswith("error: no access to theirs")


def test_a_bar_is_shown_where_the_locale_is_ascii(cli, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["main.py", *FIT])
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(BytesIO(), "ascii"))
    main()
    sys.stdout.flush()
    assert b"val/loss" in sys.stdout.buffer.getvalue()


def test_a_reader_that_has_gone_ends_the_grid_without_a_word(cli, monkeypatch, capfd):
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(sys, "argv", ["main.py", *GRID, "seed=0,1"])
    with os.fdopen(writer, "w", buffering=1) as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        with pytest.raises(SystemExit, match="1"):
            main()
    assert capfd.readouterr().err == ""


def test_the_module_can_be_run_too(tmp_path):
    command = [sys.executable, "-m", "sliceoff.cli", "predictr=linear"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, "did you mean 'predictor'" in ended.stderr) == (2, True)


def press(*_, **__):
    os.kill(os.getpid(), signal.SIGINT)


def terminate(*_, **__):
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("pressed_in", "left"),
    [
        ("sliceoff.predictor.Forecaster.on_test_epoch_start", "go on with init=resume"),
        ("sliceoff.jobs.fit_predictor.learned", "go on with init=resume"),
        ("sliceoff.predictor.Forecaster.__init__", "there was nothing to keep yet"),
        ("sliceoff.run.log_results", "the run is complete but for its log: mine"),
    ],
)
@pytest.mark.parametrize(("signalled", "code"), [(press, 130), (terminate, 143)])
def test_ctrl_c_and_sigterm_have_their_codes_and_say_what_is_left(
    cli, tmp_path, monkeypatch, pressed_in, left, signalled, code
):
    monkeypatch.setattr(pressed_in, signalled)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    ended = cli("debug=fast", "job=fit_predictor", "predictor=linear", "data.days=21", "run_dir=mine")
    assert (ended.code, ended.err.strip().splitlines()[-1]) == (code, f"interrupted; {left}")
    assert (tmp_path / "mine").exists() == (left != "there was nothing to keep yet")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.mark.parametrize(("signalled", "code"), [(press, 130), (terminate, 143)])
@pytest.mark.parametrize("when", ["training_step", "validation_step"])
def test_a_fit_ends_its_step_before_it_stops(cli, tmp_path, monkeypatch, signalled, code, when):
    command = ("job=fit_predictor", "predictor=gru", "data.days=21", "run_dir=mine", "trainer.predictor.max_epochs=1")
    command += ("windows.input_length=24", "trainer.predictor.num_sanity_val_steps=0")
    command += ("+trainer.predictor.limit_val_batches=1", "trainer.predictor.limit_train_batches=3")
    step = getattr(Forecaster, when)
    with monkeypatch.context() as patch:
        patch.setattr(Forecaster, when, lambda *arguments: (signalled(), step(*arguments))[1])
        ended = cli(*command)
    assert (ended.code, ended.err.strip().splitlines()[-1]) == (code, "interrupted; go on with init=resume")
    last = torch.load(tmp_path / "mine" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == (1 if when == "training_step" else 3)
    assert cli(*command, "init=resume").code == 0


FITS = {
    "fit_predictor": (Forecaster, ("predictor=mlp", "data.days=21", "windows.input_length=24")),
    "fit_allocator": (
        LearningAllocator,
        ("allocator.n_copies=2", "allocator.batch_size=8", "allocator.learning_starts=8"),
    ),
}
FEW_STEPS = ("trainer.predictor.max_epochs=3", "trainer.allocator.max_epochs=3", "allocator.gradient_steps=2")
FEW_STEPS += ("allocator.validation_copies=2", "allocator.validation_slots=4")


@pytest.mark.parametrize("job", FITS)
@pytest.mark.parametrize(("step", "steps"), [(2, 3), (3, 3), (2, 1)])  # the last of an epoch comes before a validation
def test_a_fit_stopped_after_any_step_ends_as_one_that_was_not(cli, tmp_path, monkeypatch, job, step, steps):
    module, command = FITS[job]
    command = (f"job={job}", *command, *FEW_STEPS, f"trainer.predictor.limit_train_batches={steps}")
    command += (f"allocator.steps_per_epoch={steps}",)
    assert cli(*command, "run_dir=whole").code == 0
    learn, taken = module.training_step, iter(range(1, 99))
    with monkeypatch.context() as patch:
        patch.setattr(module, "training_step", lambda *given: (next(taken) == step and press(), learn(*given))[1])
        assert cli(*command, "run_dir=stopped").code == 130
    assert next(taken) <= step + 2  # it stopped before the last epoch
    assert cli(*command, "run_dir=stopped", "init=resume").code == 0
    for file, keys in {"last": ("state_dict", "optimizer_states", "global_step"), "best": ("state_dict",)}.items():
        one, other = (
            torch.load(tmp_path / run / "checkpoints" / f"{file}.ckpt", weights_only=True)
            for run in ("whole", "stopped")
        )
        for key in keys:
            assert_close(one[key], other[key], rtol=0, atol=0)


def test_a_fit_that_validates_between_epochs_does_not_stop_before_a_validation(cli, monkeypatch):
    command = ("job=fit_predictor", *FITS["fit_predictor"][1], "trainer.predictor.max_epochs=2", "run_dir=mine")
    command += ("trainer.predictor.limit_train_batches=4", "+trainer.predictor.val_check_interval=3")
    command += ("+trainer.predictor.check_val_every_n_epoch=null", "+trainer.predictor.limit_val_batches=1")
    learn, taken, validated = Forecaster.training_step, iter(range(1, 99)), []
    monkeypatch.setattr(Forecaster, "on_validation_start", lambda self: validated.append(self.global_step))
    with monkeypatch.context() as patch:
        patch.setattr(Forecaster, "training_step", lambda *given: (next(taken) == 6 and press(), learn(*given))[1])
        assert cli(*command).code == 130
    assert cli(*command, "init=resume").code == 0
    assert validated == [3, 6]


def test_a_simulation_ends_at_sigterm_and_resumes(cli, tmp_path, monkeypatch):
    command = ("data.days=21", "predictor=last_value", "allocator=greedy", "rivals=none", "job.bound=false")
    command += ("job.periods=3", "job.slots_per_period=2", "job.checkpoint_s=0", "run_dir=mine")
    step = Simulation.step
    with monkeypatch.context() as patch:
        patch.setattr(Simulation, "step", lambda self: (step(self), self._rows[1:] and terminate()))
        ended = cli(*command)
    assert (ended.code, ended.err.strip().splitlines()[-1]) == (143, "interrupted; go on with init=resume")
    saved = torch.load(tmp_path / "mine" / "checkpoints" / "simulation" / "main.ckpt", weights_only=True)
    assert len(saved["rows"]["users"]) == 1
    assert cli(*command, "init=resume").code == 0


def test_the_bar_of_a_fit_shows_its_metrics_alone(cli):
    ended = cli(*FAST[:2], "job=fit_predictor", "predictor=last_value")
    assert "val/loss" in ended.out
    assert "v_num" not in ended.out


GRID = ("-m", "debug=fast", "job=fit_predictor", "predictor=last_value", "data.days=10", "windows.input_length=24")
GRID += ("callbacks.predictor.progress=null",)


def test_a_grid_goes_on_after_jobs_that_fail_and_ends_with_the_worst_code(cli, tmp_path, monkeypatch):
    ended = cli(*GRID, "windows.horizon=6,-1,7", "seed=0")
    assert ended.code == 2
    (line,) = ended.err.strip().splitlines()
    assert line.startswith("error: windows.horizon=-1 must ")
    assert line.endswith(" windows.horizon=-1 seed=0)")
    assert len(ended.out.split()) == len(list(tmp_path.glob("runs/*/*/summary.json"))) == 2

    def diverge(*_):
        raise Diverged("train/loss is nan")

    monkeypatch.setattr("sliceoff.jobs.fit_predictor.learned", diverge)
    ended = cli(*GRID, "seed=0,1")
    assert ended.code == 1
    assert [line[-8:] for line in ended.err.splitlines()] == [" seed=0)", " seed=1)"]
    assert [file.read_text() for file in tmp_path.glob("runs/*/*/diverged.txt")] == ["train/loss is nan\n"] * 2
    assert cli(*GRID[1:], "-m", "seed=-1,1").code == 2  # wrong input is worse, whatever comes last


def test_a_key_misspelt_in_a_grid_is_told_the_nearest_that_its_first_choice_has(cli, tmp_path):
    ended = cli("debug=fast", "predictor=mlp,gru", "predictor.network.hiden_size=3,4", "-m")
    assert ended.code == 2
    (line,) = ended.err.strip().splitlines()
    assert line.startswith("error: ")
    assert "did you mean 'predictor.network.hidden_size" in line
    assert not list(tmp_path.glob("runs/*/"))


def test_an_unforeseen_error_is_shown_whole_and_the_grid_goes_on(cli, monkeypatch):
    learned = iter([RuntimeError("a bug")])

    def fail_once(*arguments):
        for error in learned:
            raise error
        return training_report.learned(*arguments)

    monkeypatch.setattr("sliceoff.jobs.fit_predictor.learned", fail_once)
    ended = cli(*GRID, "seed=0,1")
    assert ended.code == 1
    assert "Traceback" in ended.err
    assert "RuntimeError: a bug" in ended.err
    assert len(ended.out.split()) == 1


@pytest.mark.parametrize(("signalled", "code"), [(press, 130), (terminate, 143)])
def test_a_signal_ends_the_whole_grid(cli, monkeypatch, signalled, code):
    monkeypatch.setattr("sliceoff.jobs.fit_predictor.learned", signalled)
    ended = cli(*GRID, "seed=0,1")
    assert (ended.code, ended.out) == (code, "")
    assert ended.err == "interrupted; go on with init=resume\n"


def test_a_grid_that_was_stopped_goes_on(cli, tmp_path, monkeypatch):
    grid = (*GRID, "windows.horizon=6", "seed=0,1,2")
    learned = iter([training_report.learned, press])
    with monkeypatch.context() as patch:
        patch.setattr("sliceoff.jobs.fit_predictor.learned", lambda *arguments: next(learned)(*arguments))
        ended = cli(*grid)
    assert ended.code == 130
    finished = Path(ended.out.strip())
    (stopped,) = {run.relative_to(tmp_path) for run in tmp_path.glob("runs/*/*")} - {finished}
    written = (finished / "summary.json").stat().st_mtime_ns
    assert cli(*GRID, "windows.horizon=7", "seed=0,1", "init=resume").code == 0  # another grid is begun afresh
    assert not (stopped / "summary.json").exists()
    ended = cli(*grid, "init=resume")
    assert ended.code == 0, ended.err
    runs = [Path(line) for line in ended.out.split()]
    assert runs[:2] == [finished, stopped]
    assert (finished / "summary.json").stat().st_mtime_ns == written
    assert [json.loads((run / "summary.json").read_text())["seed"] for run in runs] == [0, 1, 2]
    assert len(list(tmp_path.glob("runs/*/*"))) == 5


def test_a_grid_over_budgets_takes_no_run_of_another_budget(cli, tmp_path, monkeypatch):
    fit = ("job=fit_predictor", "predictor=mlp", "data.days=10", "windows.input_length=24", "windows.horizon=6")
    fit += ("trainer.predictor.limit_train_batches=2",)
    with monkeypatch.context() as patch:
        patch.setattr("sliceoff.jobs.fit_predictor.learned", press)
        assert cli(*fit, "trainer.predictor.max_epochs=3").code == 130
    (broken := tmp_path / "runs" / "fit_predictor" / "broken").mkdir()
    (broken / "config.yaml").write_text("a: [")
    ended = cli(*fit, "-m", "trainer.predictor.max_epochs=2,3", "init=resume")
    assert ended.code == 0, ended.err
    runs = [Path(line) for line in ended.out.split() if line.startswith("runs/")]
    epochs = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] + 1 for run in runs]
    assert epochs == [2, 3]
    assert cli(*fit, "trainer.predictor.max_epochs=4", f"run_dir={runs[0]}", "init=resume").code == 0
    assert "max_epochs: 4" in (runs[0] / "config.yaml").read_text()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_that_python_drops_ends_the_grid_after_its_job(cli, monkeypatch):
    def press_in_a_callback(*given):
        thing = Diverged()
        dropped = weakref.ref(thing, press)
        del thing
        assert dropped() is None
        return training_report.learned(*given)

    monkeypatch.setattr("sliceoff.jobs.fit_predictor.learned", press_in_a_callback)
    ended = cli(*GRID, "seed=0,1")
    assert (ended.code, len(ended.out.split())) == (130, 1)
    assert ended.err.endswith("interrupted; go on with init=resume\n")


def test_ctrl_c_over_which_hydra_trips_is_ctrl_c(cli, monkeypatch):
    def trip():
        try:
            press()
        finally:
            raise UnboundLocalError

    monkeypatch.setattr("sliceoff.cli._hydra_main", trip)
    ended = cli()
    assert (ended.code, ended.err) == (130, "interrupted; nothing was done yet\n")


def test_an_unforeseen_error_of_an_own_part_is_shown_whole(cli, tmp_path, monkeypatch):
    (tmp_path / "looking_up.py").write_text("def trace(**options):\n    return {}['traffic']\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyError, match="traffic"):
        cli("job=fit_predictor", "data._target_=looking_up.trace")


def begun(tmp_path, arguments, written):
    """A process of its own that runs `main.py ARGUMENTS`, when it has written a file."""
    command = [sys.executable, str(REPOSITORY / "main.py"), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 90
    while not (files := list(tmp_path.glob(f"runs/*/*/checkpoints/{written}"))):
        assert time.monotonic() < deadline, f"{written} was never written"
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return process, files[0]


@pytest.mark.parametrize("job", ["fit_predictor", "fit_allocator"])
def test_ctrl_c_exits_130_with_last_ckpt_and_resume_goes_on(cli, tmp_path, job):
    arguments = [f"job={job}", "data.days=21", "callbacks.predictor.early_stopping.patience=1000"]
    arguments += ["allocator.n_copies=2", "allocator.gradient_steps=2", "allocator.validation_copies=2"]
    arguments += ["allocator.learning_starts=64", "allocator.batch_size=32", "allocator.steps_per_epoch=4"]
    arguments += ["trainer.predictor.limit_train_batches=4"]
    endless = ["trainer.predictor.max_epochs=9999", "trainer.allocator.max_epochs=9999"]
    process, last = begun(tmp_path, [*arguments, *endless], "last.ckpt")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    stopped = torch.load(last, weights_only=True)
    epochs = stopped["epoch"] + 2
    ended = cli(
        *arguments, "init=resume", f"trainer.predictor.max_epochs={epochs}", f"trainer.allocator.max_epochs={epochs}"
    )
    assert ended.code == 0, ended.err
    assert tmp_path / ended.run == last.parents[1]
    assert torch.load(last, weights_only=True)["global_step"] > stopped["global_step"]


def test_a_killed_simulation_resumes_where_it_was_and_ends_with_the_same_table(cli, tmp_path):
    arguments = ["data.days=28", "predictor=last_value", "slicer=cheapest", "allocator=greedy"]
    arguments += ["job.periods=30", "job.slots_per_period=12", "job.checkpoint_s=0", "job.bound=false", "rivals=none"]
    process, written = begun(tmp_path, arguments, "simulation/main.ckpt")
    process.kill()
    process.communicate()
    assert torch.load(written, weights_only=True)["rows"]
    tables = []
    for mode in ("resume", "scratch"):
        ended = cli(*arguments, f"init={mode}")
        assert ended.code == 0, ended.err
        tables.append(polars.read_parquet(ended.run / "results.parquet"))
    assert (written.parents[2] / "results.parquet").is_file()
    assert tables[0].equals(tables[1])


WITHOUT_EXTRAS = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"botorch", "gpytorch", "cryptography"}:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

sys.meta_path.insert(0, Missing())
from sliceoff.cli import main
main()
"""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("predictor=last_value", "allocator=greedy", "rivals=none", "job.bound=false", *FAST), 0, ""),
        (("job=market", "job.scenarios=1"), 2, "pip install -e '.[market]'"),
    ],
)
def test_the_main_job_needs_no_extra_and_others_name_theirs(tmp_path, arguments, code, said):
    command = [sys.executable, "-c", WITHOUT_EXTRAS, *arguments]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == code, ended.stderr
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) <= 1 or code == 0


def test_what_was_done_before_wrong_input_showed_is_kept(cli, tmp_path):
    short = ("debug=fast", "data.days=10", "windows.input_length=24", "windows.horizon=6", "predictor=mlp")
    ended = cli(*short, "allocator.learning_starts=10000")
    assert ended.code == 2, ended.err
    assert "is never reached" in ended.err
    kept = Path(ended.err.strip().splitlines()[-1].partition("what was done until then is kept in ")[2])
    again = cli(
        "debug=fast", "data.days=10", *short[2:4], "job.periods=1", "allocator=greedy", f"init.predictor={kept}"
    )
    assert again.code == 0, again.err


def test_what_was_simulated_with_a_predictor_fitted_less_is_not_kept(cli, tmp_path):
    path = trace_csv(tmp_path / "mine.csv")
    command = [
        *("data=wide_csv", f"data.path={path}", "predictor=mlp", "windows.input_length=48", "windows.horizon=4"),
        *("allocator=greedy", "slicer=cheapest", "rivals=none", "job.periods=3", "job.bound=false"),
    ]
    ended = cli(*command, "trainer.predictor.max_epochs=1", "predictor.learning_rate=1e-3")
    assert ended.code == 0, ended.err
    run = ended.run
    before = json.loads((run / "summary.json").read_text())["forecast/mae_users"]
    (run / "summary.json").unlink()  # as if it had been stopped
    more = cli(*command, "trainer.predictor.max_epochs=4", "predictor.learning_rate=1e-3", "init=resume")
    assert more.code == 0, more.err
    after = json.loads((run / "summary.json").read_text())["forecast/mae_users"]
    fresh = cli(*[word for word in command if word != "predictor=mlp"], f"init.predictor={run}")
    assert fresh.code == 0, fresh.err
    apart = json.loads((fresh.run / "summary.json").read_text())["forecast/mae_users"]
    assert before != after == apart


def test_products_are_as_precise_as_the_run_says(cli):
    for precision in ("medium", "highest"):  # the last is what other tests expect
        ended = cli("job=fit_predictor", "predictor=last_value", f"matmul_precision={precision}")
        assert ended.code == 0, ended.err
        assert torch.get_float32_matmul_precision() == precision


@pytest.mark.usefixtures("as_at_run_time")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["allocator=greedy", "slicer=cheapest", "slicer._target_=silent.Slicer"],
            "stack main: rent returned NoneType",
        ),
        (["allocator=greedy", "allocator._target_=silent.Rule"], "stack main: allocate returned NoneType"),
        (["job=market", "+job.mechanisms.mine={_target_: silent.Mechanism}"], "job.mechanisms.mine: its clear()"),
    ],
)
def test_own_modules_that_return_nothing_are_named(cli, tmp_path, monkeypatch, arguments, message):
    (tmp_path / "silent.py").write_text(
        "class Slicer:\n"
        "    def __init__(self, **options): ...\n"
        "    def rent(self, request): ...\n"
        "class Rule:\n"
        "    def allocate(self, scenario, state): ...\n"
        "class Mechanism:\n"
        "    def clear(self, scenario): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    few = ["job.mechanisms.centralised=null", "job.mechanisms.decentralised=null", "job.scenarios=1"]
    quick = few if "job=market" in arguments else ["predictor=last_value", "rivals=none", "job.periods=1"]
    ended = cli(*arguments, *quick)
    assert ended.code == 2
    assert message in ended.err
