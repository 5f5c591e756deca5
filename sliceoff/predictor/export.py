"""A fitted forecaster as a file that runs without SliceOff: `torch.export` (.pt2) or ONNX (.onnx)."""

import logging
import warnings
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sliceoff.data import Window
from sliceoff.errors import InputError, near_miss
from sliceoff.predictor.forecaster import Forecaster

INPUTS = ("history", "history_calendar", "future_calendar")
_TOLERANCE = 1e-3  # largest difference between the file's forecast and the forecaster's, in standard deviations


class Exported(nn.Module):
    """A forecaster that takes tensors, in the trace's own units: scaling, network and clipping together."""

    def __init__(self, forecaster: Forecaster):
        super().__init__()
        self.forecaster = forecaster

    def forward(
        self,
        history: Float[Tensor, "batch input_length regions"],
        history_calendar: Float[Tensor, "batch input_length calendar"],
        future_calendar: Float[Tensor, "batch horizon calendar"],
    ) -> Float[Tensor, "batch horizon regions outputs"]:
        """Forecast in the trace's own units."""
        empty = history.new_zeros(history.shape[0], future_calendar.shape[1], history.shape[2])
        return self.forecaster.forecast(Window(history, history_calendar, empty, future_calendar))


def export(forecaster: Forecaster, path: str | Path) -> Path:
    """Write `forecaster` to `path`, for any batch size, and check that the file gives the same forecasts.

    Args:
        path: ending in `.pt2` (`torch.export.load(path).module()`) or `.onnx` (needs the extra `export`).

    Raises:
        InputError: another ending, the extra is missing, or the network fixes the batch size.
        RuntimeError: the file gives other forecasts; it is removed.
    """
    path = Path(path)
    writers = {".pt2": _write_pt2, ".onnx": _write_onnx}
    if path.suffix not in writers:
        raise InputError(f"{path}: unknown kind of export{near_miss(path.suffix, writers)}; end it in .pt2 or .onnx")
    module = Exported(forecaster.eval().requires_grad_(False))
    inputs = example(forecaster, 3)
    batch = torch.export.Dim("batch", min=1)
    try:
        program = torch.export.export(module, inputs, dynamic_shapes={name: {0: batch} for name in INPUTS})
    except torch._dynamo.exc.UserError as error:
        if error.error_type is not torch._dynamo.exc.UserErrorType.CONSTRAINT_VIOLATION:
            raise
        raise InputError(f"{path}: the network fixes the batch size; use x.shape[0] rather than len(x)") from error
    run = writers[path.suffix](program, path)
    for size in (1, 5):
        inputs = example(forecaster, size)
        difference = ((run(*inputs) - module(*inputs)) / forecaster.scaler.std.unsqueeze(-1)).abs().max()
        if not difference <= _TOLERANCE:
            path.unlink()
            raise RuntimeError(f"{path.name} forecasts up to {difference:.2g} standard deviations off at batch {size}")
    return path


def example(forecaster: Forecaster, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random inputs of `Exported`, the same ones for every batch size at every call."""
    sizes = forecaster.spec["arguments"]
    generator = torch.Generator().manual_seed(batch)
    noise = torch.randn(batch, sizes["input_length"], sizes["n_regions"], generator=generator)
    history = forecaster.scaler.inverse(noise.unsqueeze(-1)).squeeze(-1)
    past, future = (
        torch.randn(batch, sizes[length], sizes["n_calendar"], generator=generator)
        for length in ("input_length", "horizon")
    )
    return history, past, future


def _write_pt2(program: torch.export.ExportedProgram, path: Path):
    torch.export.save(program, path)
    return torch.export.load(path).module()


def _write_onnx(program: torch.export.ExportedProgram, path: Path):
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  (torch writes ONNX with it)
    except ImportError as error:
        raise InputError(f"{path}: writing ONNX needs {error.name}; pip install -e '.[export]'") from None
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(
        logging.ERROR
    )  # no torchvision: no matter
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated")  # torch 2.13's own, when it copies the program
        written = torch.onnx.export(program, input_names=INPUTS, output_names=["forecast"], dynamo=True, verbose=False)
    assert written is not None
    written.save(path, external_data=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(*inputs: Tensor) -> Tensor:
        named = {name: tensor.numpy() for name, tensor in zip(INPUTS, inputs, strict=True)}
        return torch.from_numpy(session.run(None, named)[0])

    return run
