"""Scaling as part of the model: its statistics are buffers, so checkpoints hold them."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Scaler(nn.Module):
    """Standardise every region by the mean and the standard deviation of the training part.

    A region that hardly changes (its standard deviation is below float32's rounding) is only centred. Before `fit`,
    both directions are the identity and `fitted` is zero. Fitting again replaces the statistics.

    Args:
        n_regions: R, the length of the statistics.
    """

    mean: Tensor
    std: Tensor
    fitted: Tensor

    def __init__(self, n_regions: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_regions))
        self.register_buffer("std", torch.ones(n_regions))
        self.register_buffer("fitted", torch.tensor(0.0))  # no bool, so that weights can be averaged, buffers included

    @torch.no_grad()
    def fit(self, values: Float[Tensor, "time regions"]) -> None:
        """Compute the statistics of `values`, which must be the training part only; population standard deviation.

        Raises:
            ValueError: `values` has no rows, or another number of regions.
        """
        if len(values) == 0 or values.shape[1] != len(self.mean):
            raise ValueError(
                f"cannot fit {len(self.mean)} regions' statistics to values of shape {tuple(values.shape)}"
            )
        values = values.double()
        std = values.std(0, correction=0)
        rounding = values.abs().amax(0) * torch.finfo(torch.float32).eps
        self.mean.copy_(values.mean(0))
        self.std.copy_(torch.where(std > rounding, std, 1.0))
        self.fitted.fill_(1.0)

    def transform(self, values: Float[Tensor, "*batch regions"]) -> Float[Tensor, "*batch regions"]:
        """From real units to standard deviations from the mean; regions are the last axis."""
        return (values - self.mean) / self.std

    def inverse(self, scaled: Float[Tensor, "*batch regions outputs"]) -> Float[Tensor, "*batch regions outputs"]:
        """Back to real units; regions are the last axis but one, a network's outputs the last.

        For values without outputs, as `transform` takes them: `inverse(scaled[..., None])[..., 0]`.
        """
        return scaled * self.std.unsqueeze(-1) + self.mean.unsqueeze(-1)
