"""The Informer: ProbSparse attention, distilling encoder, a decoder that forecasts the whole horizon in one pass."""

from jaxtyping import Float
from torch import Tensor, nn

from sliceoff.checks import count
from sliceoff.predictor.attention import Sampling
from sliceoff.predictor.layers import (
    DecoderLayer,
    DenseAttention,
    Distil,
    EncoderDecoder,
    EncoderLayer,
    ProbSparseAttention,
)
from sliceoff.predictor.sizes import Sizes


class Informer(nn.Module):
    """Encoder-decoder over traffic windows with ProbSparse self-attention (Zhou et al., AAAI 2021).

    Args:
        sizes: of the data.
        label_length: steps of history that the decoder starts from.
        d_model, n_heads, d_ff: width, number of heads (divides `d_model`), and width of the feed-forward layers.
        encoder_layers, decoder_layers: numbers of layers; between encoder layers the length is halved.
        factor, sampling: of ProbSparse attention. In eval mode the keys are spread evenly instead of random.
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
        factor: float = 5.0,
        sampling: Sampling = "shared",
        dropout: float = 0.0,
    ):
        super().__init__()
        count("d_ff", d_ff)
        count("encoder_layers", encoder_layers)
        count("decoder_layers", decoder_layers)

        def sparse(causal: bool = False) -> ProbSparseAttention:
            return ProbSparseAttention(d_model, n_heads, dropout, factor, sampling, causal)

        pyramid: list[nn.Module] = [EncoderLayer(sparse(), d_model, d_ff, dropout)]
        for _ in range(encoder_layers - 1):
            pyramid += [Distil(d_model), EncoderLayer(sparse(), d_model, d_ff, dropout)]
        self.body = EncoderDecoder(
            sizes,
            label_length=label_length,
            d_model=d_model,
            dropout=dropout,
            encoder=pyramid,
            decoder=[
                DecoderLayer(sparse(causal=True), DenseAttention(d_model, n_heads, dropout), d_model, d_ff, dropout)
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
