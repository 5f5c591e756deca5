"""PatchTST: attention between patches of one channel's history."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sliceoff.checks import count
from sliceoff.predictor.dropout import Dropout
from sliceoff.predictor.layers import DenseAttention, EncoderLayer, sinusoids
from sliceoff.predictor.sizes import Sizes


class PatchTST(nn.Module):
    """Cuts every channel's history into patches, encodes them, and maps all of them linearly to the horizon.

    Channels share the weights and do not see each other (Nie et al., ICLR 2023). The calendar is not used.

    Args:
        sizes: of the data.
        patch_length, stride: of the patches; the last value is repeated to fill the last one.
        d_model, n_heads, d_ff: width, number of heads (divides `d_model`), and width of the feed-forward layers.
        n_layers: number of encoder layers.
        dropout: probability, in all layers but the head.
        head_dropout: probability before the last linear map.

    Raises:
        InputError: an option is out of range.
    """

    def __init__(
        self,
        sizes: Sizes,
        *,
        patch_length: int = 16,
        stride: int = 8,
        d_model: int = 16,
        n_heads: int = 4,
        d_ff: int = 128,
        n_layers: int = 2,
        dropout: float = 0.2,
        head_dropout: float = 0.0,
    ):
        super().__init__()
        count("patch_length", patch_length)
        count("stride", stride)
        count("d_model", d_model)
        count("d_ff", d_ff)
        count("n_layers", n_layers)
        self.patch_length, self.stride, self.n_outputs = patch_length, stride, sizes.n_outputs
        n_patches = 1 + max(0, -(-(sizes.input_length - patch_length) // stride))
        self.padding = (n_patches - 1) * stride + patch_length - sizes.input_length
        self.embed = nn.Linear(patch_length, d_model)
        self.dropout = Dropout(dropout)
        self.encoder = nn.Sequential(
            *(EncoderLayer(DenseAttention(d_model, n_heads, dropout), d_model, d_ff, dropout) for _ in range(n_layers)),
            nn.LayerNorm(d_model),
        )
        self.head = nn.Sequential(
            nn.Flatten(-2),
            Dropout(head_dropout, "head_dropout"),
            nn.Linear(n_patches * d_model, sizes.horizon * sizes.n_outputs),
        )

    def forward(
        self,
        history: Float[Tensor, "batch input_length channels"],
        history_calendar: Float[Tensor, "batch input_length calendar"],
        future_calendar: Float[Tensor, "batch horizon calendar"],
    ) -> Float[Tensor, "batch horizon channels outputs"]:
        """Forecast, in scaled units."""
        batch, _, channels = history.shape
        series = F.pad(history.transpose(1, 2), (0, self.padding), mode="replicate").flatten(0, 1)
        tokens = self.embed(series.unfold(-1, self.patch_length, self.stride))
        place = sinusoids(tokens.shape[1], tokens.shape[2], tokens.device)
        mapped = self.head(self.encoder(self.dropout(tokens + place)))
        return mapped.unflatten(-1, (-1, self.n_outputs)).unflatten(0, (batch, channels)).transpose(1, 2)
