"""Scaling that lives in the model: its statistics are buffers, so they travel in the checkpoint."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Scaler(nn.Module):
    """Standardises every region by the mean and spread of the training part.

    A region that never changes is only centred.
    """

    mean: Tensor
    std: Tensor
    fitted: Tensor

    def __init__(self, n_regions: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_regions))
        self.register_buffer("std", torch.ones(n_regions))
        self.register_buffer("fitted", torch.tensor(False))

    @torch.no_grad()
    def fit(self, values: Float[Tensor, "time regions"]) -> None:
        """Take the statistics from `values`, the training part."""
        values = values.double()
        std = values.std(0, correction=0)
        self.mean.copy_(values.mean(0))
        self.std.copy_(torch.where(std > 0, std, 1.0))
        self.fitted.fill_(True)

    def transform(self, values: Float[Tensor, "*batch regions"]) -> Float[Tensor, "*batch regions"]:
        """Real units to standard deviations."""
        return (values - self.mean) / self.std

    def inverse(self, scaled: Float[Tensor, "*batch regions outputs"]) -> Float[Tensor, "*batch regions outputs"]:
        """Standard deviations back to real units."""
        return scaled * self.std.unsqueeze(-1) + self.mean.unsqueeze(-1)
