"""What a fit makes of the machine it runs on."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from lightning.fabric.accelerators.mps import MPSAccelerator

from sliceoff.config import configure
from sliceoff.errors import InputError
from sliceoff.parts import Parts
from sliceoff.run import run
from sliceoff.run_directory import RunDirectory

SMALL = ("windows.input_length=24", "predictor.network.d_model=8", "predictor.network.d_ff=8")
ONE_STEP = ("trainer.predictor.max_epochs=1", "trainer.predictor.limit_train_batches=1")


@pytest.mark.parametrize(
    ("able", "precision", "slow"),
    [
        ({"avx2": True, "avx512_bf16": False}, "bf16-mixed", True),
        ({"avx512_bf16": True}, "bf16-mixed", False),
        ({"amx_bf16": True}, "bf16-mixed", False),
        ({"bf16": True}, "bf16-mixed", False),  # ARM
        ({"avx2": True}, "32-true", False),
    ],
)
def test_bfloat16_where_the_processor_has_none_is_warned_of(monkeypatch, tmp_path, able, precision, slow):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    cfg = configure(
        "job=fit_predictor",
        *SMALL,
        *ONE_STEP,
        "trainer.predictor.accelerator=cpu",
        f"trainer.predictor.precision={precision}",
        "callbacks.predictor.progress=null",
        f"run_dir={tmp_path}/run",
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(cfg)
    assert any("trainer.predictor.precision=bf16-mixed is slow" in str(each.message) for each in caught) == slow


def test_the_processor_stands_in_for_a_gpu_without_double_precision(monkeypatch, tmp_path):
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: True))
    parts = Parts(configure("job=fit_predictor", *SMALL, *ONE_STEP, "callbacks.predictor.progress=null"))
    with pytest.warns(UserWarning, match="Apple's GPU has no double precision"):
        fitted = parts.fit_predictor(RunDirectory(tmp_path / "run", ""))
    assert fitted.device.type == "cpu"


def test_a_schedule_shorter_than_the_epochs_is_told_in_one_line(tmp_path):
    cfg = configure(
        "job=fit_predictor",
        *SMALL,
        *ONE_STEP,
        "trainer.predictor.max_epochs=2",
        "trainer.predictor.accelerator=cpu",
        "callbacks.predictor.progress=null",
        "~predictor.scheduler.factor",
        "predictor.scheduler._target_=torch.optim.lr_scheduler.OneCycleLR",
        "+predictor.scheduler.max_lr=0.01",
        "+predictor.scheduler.total_steps=1",
        f"run_dir={tmp_path}/run",
    )
    with pytest.raises(InputError, match=r"^predictor\.scheduler, which steps once per epoch: Tried to step 2 times"):
        run(cfg)


def test_a_run_in_a_thread_listens_to_no_signal(tmp_path):
    cfg = configure(
        "job=fit_predictor",
        *SMALL,
        *ONE_STEP,
        "trainer.predictor.accelerator=cpu",
        "callbacks.predictor.progress=null",
        f"run_dir={tmp_path}/run",
    )
    with ThreadPoolExecutor(1) as thread:  # as `wandb.agent(..., function=...)` does
        assert thread.submit(run, cfg).result().summary["test/real_mae"] > 0
