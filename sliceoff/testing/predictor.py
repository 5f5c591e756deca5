"""Conformance check for forecasting networks."""

import io
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sliceoff import checkpoint
from sliceoff.predictor import Sizes

_CALENDAR, _SEASON = 4, 24


def check_predictor(network: Callable[..., nn.Module], **options: Any) -> None:
    """Check that a network works in a `Forecaster`: shapes, gradients, determinism in eval mode, and checkpoints.

    Args:
        network: the class, or a `functools.partial` of it with options.
        options: further keyword arguments for it.

    Raises:
        AssertionError: it does not conform; the message says how.
    """
    for n_channels, input_length, horizon, n_outputs in ((1, 48, 12, 1), (3, 48, 12, 3), (2, 30, 40, 1), (1, 7, 1, 1)):
        sizes = Sizes(n_channels, _CALENDAR, input_length, horizon, n_outputs, _SEASON)
        where = ", ".join(f"{name}={size}" for name, size in sizes._asdict().items())
        torch.manual_seed(0)
        made = partial(network, **options)
        module = made(sizes)
        inputs = _inputs(5, n_channels, input_length, horizon)
        _check_shape(module, inputs, (5, horizon, n_channels, n_outputs), where)
        _check_eval(module, inputs, where)
        _check_gradients(module, inputs, where)
        _check_checkpoint(made, module, sizes, inputs, where)


def _inputs(batch: int, n_channels: int, input_length: int, horizon: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((input_length, n_channels), (input_length, _CALENDAR), (horizon, _CALENDAR))
    history, past, future = (torch.randn(batch, *shape, generator=generator) for shape in shapes)
    return history, past, future


def _check_shape(module: nn.Module, inputs: tuple[Tensor, ...], shape: tuple[int, ...], where: str) -> None:
    kept = [x.clone() for x in inputs]
    forecast = module(*inputs)
    assert isinstance(forecast, Tensor), f"forward returns {type(forecast).__name__}, not a tensor ({where})"
    assert tuple(forecast.shape) == shape, (
        f"forward returns {tuple(forecast.shape)}, not (batch, horizon, channels, outputs) = {shape} ({where})"
    )
    assert forecast.dtype == torch.float32, f"forward returns {forecast.dtype} for float32 ({where})"
    assert all(map(torch.equal, inputs, kept)), f"forward changes its input ({where})"
    flat = [torch.zeros_like(x) for x in inputs]
    assert module(*flat).isfinite().all(), f"a history of zeros gives NaN or infinity ({where})"


def _check_eval(module: nn.Module, inputs: tuple[Tensor, ...], where: str) -> None:
    module.eval()
    with torch.no_grad():
        forecast = module(*inputs)
        torch.manual_seed(1)
        assert torch.equal(module(*inputs), forecast), f"in eval mode the same input gives two forecasts ({where})"
        alone = torch.cat([module(*(x[row : row + 1] for x in inputs)) for row in range(len(forecast))])
    assert torch.allclose(alone, forecast, rtol=1e-3, atol=1e-4), (
        f"in eval mode a window's forecast depends on the others in its batch ({where})"
    )


def _check_gradients(module: nn.Module, inputs: tuple[Tensor, ...], where: str) -> None:
    weights = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
    if not weights:
        return
    module.train()
    module(*inputs).square().mean().backward()
    without = [name for name, weight in weights.items() if weight.grad is None]
    assert not without, f"no gradient reaches {', '.join(without)} ({where})"
    broken = [name for name, weight in weights.items() if not weight.grad.isfinite().all()]  # type: ignore[union-attr]
    assert not broken, f"the gradient of {', '.join(broken)} is NaN or infinite ({where})"


def _check_checkpoint(made: partial, module: nn.Module, sizes: Sizes, inputs: tuple[Tensor, ...], where: str) -> None:
    file = io.BytesIO()
    torch.save({"spec": checkpoint.describe(type(module), made.keywords), "state_dict": module.state_dict()}, file)
    content = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    again = checkpoint.revive(content["spec"])(sizes)
    again.load_state_dict(content["state_dict"])
    module.eval(), again.eval()
    with torch.no_grad():
        assert torch.equal(again(*inputs), module(*inputs)), (
            f"rebuilt from its checkpoint it forecasts something else: keep all that it learns in parameters or "
            f"buffers ({where})"
        )
