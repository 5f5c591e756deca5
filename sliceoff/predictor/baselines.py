"""Baseline networks without weights to fit."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sliceoff.predictor.sizes import Sizes


class LastValue(nn.Module):
    """Repeats the last value of the history."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.n_outputs = sizes.n_outputs

    def forward(
        self,
        history: Float[Tensor, "batch input_length channels"],
        history_calendar: Float[Tensor, "batch input_length calendar"],
        future_calendar: Float[Tensor, "batch horizon calendar"],
    ) -> Float[Tensor, "batch horizon channels outputs"]:
        """Forecast, in scaled units."""
        return history[:, -1:, :, None].expand(-1, future_calendar.shape[1], -1, self.n_outputs)


class SeasonalNaive(nn.Module):
    """Repeats the last day (`season_length` steps); the last value where the history is shorter than a day."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.n_outputs = sizes.n_outputs
        self.season_length = sizes.season_length if sizes.season_length <= sizes.input_length else 1

    def forward(
        self,
        history: Float[Tensor, "batch input_length channels"],
        history_calendar: Float[Tensor, "batch input_length calendar"],
        future_calendar: Float[Tensor, "batch horizon calendar"],
    ) -> Float[Tensor, "batch horizon channels outputs"]:
        """Forecast, in scaled units."""
        step = torch.arange(future_calendar.shape[1], device=history.device) % self.season_length
        last = history[:, history.shape[1] - self.season_length :]
        return last[:, step, :, None].expand(-1, -1, -1, self.n_outputs)
