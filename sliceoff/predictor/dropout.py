"""Dropout that draws four mask values at a time on a CPU: one at a time they take a quarter of a training step."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sliceoff.checks import not_negative
from sliceoff.errors import OptionError


class Dropout(nn.Dropout):
    """torch's dropout, with the masks of `dropout_mask` on a CPU.

    Args:
        p: probability of dropping a value.
        option: name of the probability in error messages.

    Raises:
        InputError: the probability is below 0, or at least 1.
    """

    def __init__(self, p: float, option: str = "dropout"):
        super().__init__(check_dropout(option, p))

    def forward(self, input: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        if not (self.training and self.p > 0 and input.device.type == "cpu"):
            return super().forward(input)
        return input * dropout_mask(input, self.p)


def check_dropout(option: str, value: float) -> float:
    """`value` as a dropout probability, at least 0 and below 1.

    Raises:
        InputError: it is below 0, or at least 1.
    """
    if not_negative(option, value) >= 1:
        raise OptionError(option, f"={value} must be at least 0 and below 1")
    return float(value)


def dropout_mask(like: Float[Tensor, "*shape"], p: float) -> Float[Tensor, "*shape"]:
    """A mask to multiply by, of the shape of `like`: 0 with probability `p`, 1 / (1 - p) otherwise; without gradient.

    On a CPU the probability is rounded to 1 / 65536.
    """
    if like.device.type != "cpu":
        return F.dropout(torch.ones_like(like), p)
    words = torch.empty(-(-like.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    drawn = words.view(torch.int16)[: like.numel()].view(like.shape)  # uniform from -2^15 to 2^15 - 1
    return (drawn >= round(p * 2**16) - 2**15).to(like.dtype).mul_(1 / (1 - p))
