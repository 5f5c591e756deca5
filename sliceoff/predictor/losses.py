"""The quantile loss; like all losses it takes (batch, horizon, regions, outputs) and a target with one output."""

from collections.abc import Sequence
from typing import Any

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

    _level: Tensor

    def __init__(self, levels: Sequence[float]):
        super().__init__()
        self.levels = _centred("levels", levels)
        self.register_buffer("_level", torch.tensor(self.levels, dtype=torch.float32), persistent=False)

    def forward(
        self, forecast: Float[Tensor, "batch horizon regions outputs"], target: Float[Tensor, "batch horizon regions 1"]
    ) -> Float[Tensor, ""]:
        """Mean over all entries of `max(level * e, (level - 1) * e)`, `e = target - forecast`."""
        error = target - forecast
        return torch.maximum(self._level * error, (self._level - 1) * error).mean()


def levels_of(loss: nn.Module) -> tuple[float, ...]:
    """The quantile levels that a loss is for, from its attribute `levels`; empty if it has none.

    Raises:
        InputError: they do not rise within (0, 1) with the median in the middle.
    """
    levels = getattr(loss, "levels", None)
    return () if levels is None else _centred("levels", levels.tolist() if isinstance(levels, Tensor) else levels)


def _centred(key: str, value: Any) -> tuple[float, ...]:
    """`value` as quantile levels with the median, which serves as the point forecast, in the middle."""
    levels = checks.levels(key, value)
    if len(levels) % 2 == 0 or levels[len(levels) // 2] != 0.5:
        raise OptionError(key, f"={list(levels)} must have the median 0.5 in the middle")
    return levels
