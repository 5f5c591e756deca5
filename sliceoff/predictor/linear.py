"""Ridge regression from the history to the horizon: the baseline to beat."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sliceoff.checks import memory, numbers, positive
from sliceoff.predictor.sizes import Sizes

_MATRICES = 5  # of all pairs of inputs, that `solve` holds at once: moments of both parts, the system and its factors


class Linear(nn.Module):
    """A linear map from a window's history, all channels together, to its future; fitted in closed form by `solve`.

    Args:
        penalties: ridge penalties to choose from, relative to the inputs' mean variance, by the validation error.
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        sizes: Sizes,
        *,
        penalties: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0),
    ):
        super().__init__()
        self.penalties = tuple(positive("penalties", penalty) for penalty in numbers("penalties", penalties))
        self.n_channels, self.n_outputs, self.horizon = sizes.n_channels, sizes.n_outputs, sizes.horizon
        n_inputs, n_targets = sizes.input_length * sizes.n_channels, sizes.horizon * sizes.n_channels
        self.register_buffer("weight", torch.zeros(n_targets, n_inputs))
        self.register_buffer("bias", torch.zeros(n_targets))

    def forward(
        self,
        history: Float[Tensor, "batch input_length channels"],
        history_calendar: Float[Tensor, "batch input_length calendar"],
        future_calendar: Float[Tensor, "batch horizon calendar"],
    ) -> Float[Tensor, "batch horizon channels outputs"]:
        """Forecast, in scaled units."""
        flat = F.linear(history.flatten(1), self.weight, self.bias)
        return flat.unflatten(1, (self.horizon, self.n_channels)).unsqueeze(-1).expand(-1, -1, -1, self.n_outputs)

    @torch.no_grad()
    def solve(
        self, train: Iterable[tuple[Tensor, Tensor, Tensor]], validation: Iterable[tuple[Tensor, Tensor, Tensor]]
    ) -> None:
        """Fit on batches: history (batch, input_length, channels), future (batch, horizon, channels), weight (batch,).

        The weight is that of an example's squared error. Only moments are kept, so memory does not grow with the number
        of windows, but with the square of `input_length * channels`.

        Raises:
            InputError: the machine has too little memory.
        """
        n_inputs = self.weight.shape[1]
        memory(
            f"a ridge regression on {n_inputs} inputs (windows.input_length times channels)",
            _MATRICES * 8 * n_inputs**2,
            "lower windows.input_length, or set predictor.channels=independent",
        )
        seen, unseen = _moments(train), _moments(validation)
        centred = seen.xx - torch.outer(seen.x, seen.x)
        target = seen.xy - torch.outer(seen.x, seen.y)
        scale = centred.diagonal().mean().clamp_min(1e-12)
        fits = [_solved(centred, penalty * scale, target) for penalty in self.penalties]
        weight = min(fits, key=lambda fit: float(_error(unseen, fit, seen.y - seen.x @ fit)))
        self.weight.copy_(weight.T)
        self.bias.copy_(seen.y - seen.x @ weight)


class _Moments(NamedTuple):
    """Weighted means over all windows, in double precision."""

    x: Tensor
    y: Tensor
    xx: Tensor
    xy: Tensor
    yy: Tensor


def _moments(batches: Iterable[tuple[Tensor, Tensor, Tensor]]) -> _Moments:
    total, sums = 0.0, cast(tuple[Tensor, ...] | None, None)
    for history, future, weight in batches:
        x, y, w = history.flatten(1).double(), future.flatten(1).double(), weight.double()
        weighted = x.T * w
        terms = (weighted.sum(1), w @ y, weighted @ x, weighted @ y, w @ (y * y))
        sums = terms if sums is None else tuple(a + b for a, b in zip(sums, terms, strict=True))
        total += float(w.sum())
    assert sums is not None, "no windows"
    return _Moments(*(term / total for term in sums))


def _solved(centred: Tensor, penalty: Tensor, target: Tensor) -> Tensor:
    system = centred.clone()
    system.diagonal().add_(penalty)
    return torch.linalg.solve(system, target)


def _error(data: _Moments, weight: Tensor, bias: Tensor) -> Tensor:
    """Mean squared error of `x weight + bias`, computed from the moments."""
    fitted = (weight * (data.xx @ weight)).sum(0) + 2 * bias * (data.x @ weight) + bias**2
    return (data.yy - 2 * (weight * data.xy).sum(0) - 2 * bias * data.y + fitted).mean()
