"""Losses beyond torch's own. All compare a forecast (batch, horizon, regions, outputs) with a target of one output."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sliceoff import checks
from sliceoff.errors import OptionError


class QuantileLoss(nn.Module):
    """The pinball loss, averaged over quantiles: one output of the network per level.

    Args:
        levels: rising quantile levels between 0 and 1, with the median in the middle, such as (0.1, 0.5, 0.9).

    Raises:
        InputError: the levels are not as described.
    """

    levels: Tensor

    def __init__(self, levels: Sequence[float]):
        super().__init__()
        levels = checks.levels("levels", levels)
        if len(levels) % 2 == 0 or levels[len(levels) // 2] != 0.5:
            raise OptionError("levels", f"={list(levels)} must have the median 0.5 in the middle")
        self.register_buffer("levels", torch.tensor(levels, dtype=torch.float32), persistent=False)

    def forward(
        self, forecast: Float[Tensor, "batch horizon regions outputs"], target: Float[Tensor, "batch horizon regions 1"]
    ) -> Float[Tensor, ""]:
        """Mean over everything of `max(level * e, (level - 1) * e)`, `e = target - forecast`."""
        error = target - forecast
        return torch.maximum(self.levels * error, (self.levels - 1) * error).mean()
