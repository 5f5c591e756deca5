"""Exported files forecast what the forecaster does; a wrong path is refused."""

from functools import partial

import pytest
import torch
from torch import nn

from sliceoff.data import Window
from sliceoff.errors import InputError
from sliceoff.predictor import Forecaster, Informer, Linear, QuantileLoss, export

SIZES = {"n_regions": 3, "n_calendar": 4, "input_length": 80, "horizon": 12, "season_length": 24}


def in_torch(path):
    return torch.export.load(path).module()


def in_onnxruntime(path):
    session = pytest.importorskip("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def run(*inputs):
        return torch.from_numpy(session.run(None, dict(zip(names, (each.numpy() for each in inputs), strict=True)))[0])

    return run


@pytest.mark.filterwarnings("ignore", "error::FutureWarning")  # which a user would see
@pytest.mark.parametrize(("suffix", "loaded"), [(".pt2", in_torch), (".onnx", in_onnxruntime)])
@pytest.mark.parametrize(
    "forecaster",
    [
        partial(
            Forecaster,
            partial(Informer, d_model=8, n_heads=2, d_ff=8, factor=2.0),
            loss=partial(QuantileLoss, levels=[0.1, 0.5, 0.9]),
            instance_norm=True,
        ),
        partial(Forecaster, Linear, channels="joint"),
    ],
    ids=["informer", "linear"],
)
def test_the_file_forecasts_the_same_at_any_batch_size(forecaster, suffix, loaded, tmp_path):
    if suffix == ".onnx":  # the extra `export`
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    module = forecaster(**SIZES)
    module.scaler.mean.fill_(7.0)
    module.scaler.std.copy_(torch.tensor([1.0, 2.0, 30.0]))
    run = loaded(export(module, tmp_path / f"forecaster{suffix}"))
    for size in (1, 5):
        history, past, future = 7 + 30 * torch.rand(size, 80, 3), torch.rand(size, 80, 4), torch.rand(size, 12, 4)
        window = Window(history, past, torch.zeros(size, 12, 3), future)
        torch.testing.assert_close(run(history, past, future), module.forecast(window), rtol=1e-4, atol=1e-3)


class FixedBatch(nn.Module):
    """The last value, in a shape that `len` makes a constant of."""

    def __init__(self, sizes):
        super().__init__()
        self.horizon = sizes.horizon

    def forward(self, history, history_calendar, future_calendar):
        return history[:, -1:].expand(-1, self.horizon, -1).reshape(len(history), self.horizon, -1, 1)


def test_a_network_of_one_batch_size_is_refused_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"batch size; use x\.shape\[0\] rather than len\(x\)$"):
        export(Forecaster(FixedBatch, **SIZES), tmp_path / "forecaster.pt2")
    assert not list(tmp_path.iterdir())


def test_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"\.pt2 or \.onnx"):
        export(Forecaster(Linear, **SIZES), tmp_path / "forecaster.onx")
    assert not list(tmp_path.iterdir())
