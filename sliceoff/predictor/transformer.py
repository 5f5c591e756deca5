"""The Transformer: an encoder-decoder with dense attention."""

from jaxtyping import Float
from torch import Tensor, nn

from sliceoff.checks import count
from sliceoff.predictor.layers import DecoderLayer, DenseAttention, EncoderDecoder, EncoderLayer
from sliceoff.predictor.sizes import Sizes


class Transformer(nn.Module):
    """Encoder-decoder over traffic windows, every query on every key; forecasts the whole horizon in one pass.

    Args:
        sizes: of the data.
        label_length: steps of history that the decoder starts from.
        d_model, n_heads, d_ff: width, number of heads (divides `d_model`), and width of the feed-forward layers.
        encoder_layers, decoder_layers: numbers of layers.
        dropout: probability, in all layers.

    Raises:
        InputError: an option is out of range.
    """

    def __init__(
        self,
        sizes: Sizes,
        *,
        label_length: int = 24,
        d_model: int = 32,
        n_heads: int = 4,
        d_ff: int = 64,
        encoder_layers: int = 2,
        decoder_layers: int = 1,
        dropout: float = 0.0,
    ):
        super().__init__()
        count("d_ff", d_ff)
        count("encoder_layers", encoder_layers)
        count("decoder_layers", decoder_layers)
        self.body = EncoderDecoder(
            sizes,
            label_length=label_length,
            d_model=d_model,
            dropout=dropout,
            encoder=[
                EncoderLayer(DenseAttention(d_model, n_heads, dropout), d_model, d_ff, dropout)
                for _ in range(encoder_layers)
            ],
            decoder=[
                DecoderLayer(
                    DenseAttention(d_model, n_heads, dropout, causal=True),
                    DenseAttention(d_model, n_heads, dropout),
                    d_model,
                    d_ff,
                    dropout,
                )
                for _ in range(decoder_layers)
            ],
        )

    def forward(
        self,
        history: Float[Tensor, "batch input_length channels"],
        history_calendar: Float[Tensor, "batch input_length calendar"],
        future_calendar: Float[Tensor, "batch horizon calendar"],
    ) -> Float[Tensor, "batch horizon channels outputs"]:
        """Forecast, in scaled units."""
        return self.body(history, history_calendar, future_calendar)
