"""A recurrent encoder-decoder (GRU or LSTM)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sliceoff.checks import count, one_of
from sliceoff.predictor.dropout import check_dropout
from sliceoff.predictor.sizes import Sizes

CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}


class Recurrent(nn.Module):
    """Encodes the history step by step, then decodes the horizon's calendar from the encoder's final state.

    The decoder is never fed its own forecasts, so errors do not accumulate along the horizon.

    Args:
        sizes: of the data.
        cell: `gru` or `lstm`.
        hidden_size, n_layers: of the encoder and of the decoder.
        dropout: probability, between layers.

    Raises:
        InputError: an option is out of range.
    """

    def __init__(
        self,
        sizes: Sizes,
        *,
        cell: str = "gru",
        hidden_size: int = 32,
        n_layers: int = 1,
        dropout: float = 0.0,
    ):
        super().__init__()
        recurrent = CELLS[one_of("cell", cell, CELLS)]
        count("hidden_size", hidden_size)
        count("n_layers", n_layers)
        check_dropout("dropout", dropout)
        self.n_outputs = sizes.n_outputs
        self.encoder, self.decoder = (
            recurrent(n_inputs, hidden_size, n_layers, batch_first=True, dropout=dropout)
            for n_inputs in (sizes.n_channels + sizes.n_calendar, sizes.n_calendar)
        )
        self.head = nn.Linear(hidden_size, sizes.n_channels * sizes.n_outputs)

    def forward(
        self,
        history: Float[Tensor, "batch input_length channels"],
        history_calendar: Float[Tensor, "batch input_length calendar"],
        future_calendar: Float[Tensor, "batch horizon calendar"],
    ) -> Float[Tensor, "batch horizon channels outputs"]:
        """Forecast, in scaled units."""
        _, state = self.encoder(torch.cat([history, history_calendar], dim=-1))
        decoded, _ = self.decoder(future_calendar, state)
        return self.head(decoded).unflatten(-1, (-1, self.n_outputs))
