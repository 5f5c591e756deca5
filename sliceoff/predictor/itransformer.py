"""iTransformer: attention between channels, each a token made of its whole history."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sliceoff.checks import count
from sliceoff.predictor.dropout import Dropout
from sliceoff.predictor.layers import DenseAttention, EncoderLayer
from sliceoff.predictor.sizes import Sizes


class ITransformer(nn.Module):
    """Every channel's whole history is a token; the tokens attend to each other, and each is mapped to the horizon.

    The calendar's features are further tokens (Liu et al., ICLR 2024). Designed for `channels: joint`; with independent
    channels a region attends only to itself and its calendar.

    Args:
        sizes: of the data.
        d_model, n_heads, d_ff: width, number of heads (divides `d_model`), and width of the feed-forward layers.
        n_layers: number of encoder layers.
        dropout: probability, in all layers.

    Raises:
        InputError: an option is out of range.
    """

    def __init__(
        self,
        sizes: Sizes,
        *,
        d_model: int = 64,
        n_heads: int = 4,
        d_ff: int = 64,
        n_layers: int = 2,
        dropout: float = 0.1,
    ):
        super().__init__()
        count("d_model", d_model)
        count("d_ff", d_ff)
        count("n_layers", n_layers)
        self.n_outputs = sizes.n_outputs
        self.embed = nn.Linear(sizes.input_length, d_model)
        self.dropout = Dropout(dropout)
        self.encoder = nn.Sequential(
            *(EncoderLayer(DenseAttention(d_model, n_heads, dropout), d_model, d_ff, dropout) for _ in range(n_layers)),
            nn.LayerNorm(d_model),
        )
        self.head = nn.Linear(d_model, sizes.horizon * sizes.n_outputs)

    def forward(
        self,
        history: Float[Tensor, "batch input_length channels"],
        history_calendar: Float[Tensor, "batch input_length calendar"],
        future_calendar: Float[Tensor, "batch horizon calendar"],
    ) -> Float[Tensor, "batch horizon channels outputs"]:
        """Forecast, in scaled units."""
        series = torch.cat([history, history_calendar], dim=-1).transpose(1, 2)
        tokens = self.encoder(self.dropout(self.embed(series)))[:, : history.shape[-1]]
        return self.head(tokens).unflatten(-1, (-1, self.n_outputs)).transpose(1, 2)
