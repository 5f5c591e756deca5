"""Exported files forecast what the forecaster does; a wrong path is refused."""

from functools import partial

import pytest
import torch

from sliceoff.errors import InputError
from sliceoff.predictor import Forecaster, Informer, Linear, QuantileLoss, export

SIZES = {"n_regions": 3, "n_calendar": 4, "input_length": 80, "horizon": 12, "season_length": 24}


@pytest.mark.filterwarnings("ignore")  # torch's own, of its exporter
@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
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
def test_the_file_forecasts_the_same_at_any_batch_size(forecaster, suffix, tmp_path):
    if suffix == ".onnx":
        pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    module = forecaster(**SIZES)
    module.scaler.mean.fill_(7.0)
    module.scaler.std.copy_(torch.tensor([1.0, 2.0, 30.0]))
    path = export(module, tmp_path / f"forecaster{suffix}")  # raises where the file disagrees
    assert path.stat().st_size > 0


def test_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"\.pt2 or \.onnx"):
        export(Forecaster(Linear, **SIZES), tmp_path / "forecaster.onx")
    assert not list(tmp_path.iterdir())
