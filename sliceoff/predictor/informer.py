"""The Informer: ProbSparse attention, distilling encoder, a decoder that forecasts the whole horizon in one pass."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sliceoff.errors import InputError
from sliceoff.predictor.attention import Sampling, full_attention, prob_sparse_attention

_EVAL_SEED = 0


class Informer(nn.Module):
    """Encoder-decoder over traffic windows.

    The decoder reads the last `label_length` steps of history, then zeros for the horizon.

    Args:
        n_channels, n_calendar, input_length, horizon, n_outputs, season_length: of the data, as for every network.
        label_length: steps of history that the decoder starts from.
        d_model, n_heads, d_ff: widths; `n_heads` divides `d_model`.
        encoder_layers, decoder_layers: layers; between encoder layers the length is halved.
        factor, sampling: of ProbSparse attention. In eval mode its random keys are always the same.
        dropout: everywhere.

    Raises:
        InputError: an option is out of range.
    """

    def __init__(
        self,
        n_channels: int,
        n_calendar: int,
        input_length: int,
        horizon: int,
        n_outputs: int,
        season_length: int,
        *,
        label_length: int = 48,
        d_model: int = 64,
        n_heads: int = 4,
        d_ff: int = 128,
        encoder_layers: int = 2,
        decoder_layers: int = 1,
        factor: float = 5.0,
        sampling: Sampling = "shared",
        dropout: float = 0.1,
    ):
        super().__init__()
        if d_model < 1 or n_heads < 1 or d_model % n_heads:
            raise InputError(
                f"predictor.network.n_heads={n_heads} does not divide d_model={d_model}; choose one that does"
            )
        if min(encoder_layers, decoder_layers) < 1:
            raise InputError("predictor.network.encoder_layers and decoder_layers must be at least 1")
        if sampling not in ("shared", "independent"):
            raise InputError(f"predictor.network.sampling={sampling!r} is neither shared nor independent")
        self.horizon, self.n_outputs = horizon, n_outputs
        self.label_length = min(label_length, input_length)
        sparse: dict[str, Any] = {"factor": factor, "sampling": sampling, "dropout": dropout}
        self.embed_history = Embedding(n_channels, n_calendar, d_model, dropout)
        self.embed_decoder = Embedding(n_channels, n_calendar, d_model, dropout)
        self.encoder = nn.ModuleList(
            EncoderLayer(ProbSparse(d_model, n_heads, **sparse), d_model, d_ff, dropout) for _ in range(encoder_layers)
        )
        self.distil = nn.ModuleList(Distil(d_model) for _ in range(encoder_layers - 1))
        self.decoder = nn.ModuleList(
            DecoderLayer(
                ProbSparse(d_model, n_heads, causal=True, **sparse),
                Full(d_model, n_heads, dropout),
                d_model,
                d_ff,
                dropout,
            )
            for _ in range(decoder_layers)
        )
        self.head = nn.Linear(d_model, n_channels * n_outputs)

    def forward(
        self,
        history: Float[Tensor, "batch input_length channels"],
        history_calendar: Float[Tensor, "batch input_length calendar"],
        future_calendar: Float[Tensor, "batch horizon calendar"],
    ) -> Float[Tensor, "batch horizon channels outputs"]:
        """Forecast the whole horizon, in scaled units."""
        memory = self.embed_history(history, history_calendar)
        for layer, distil in zip(self.encoder, [*self.distil, nn.Identity()], strict=True):
            memory = distil(layer(memory))
        label = history[:, history.shape[1] - self.label_length :]
        start = F.pad(label, (0, 0, 0, self.horizon))
        calendar = torch.cat([history_calendar[:, history.shape[1] - self.label_length :], future_calendar], dim=1)
        state = self.embed_decoder(start, calendar)
        for layer in self.decoder:
            state = layer(state, memory)
        return self.head(state[:, -self.horizon :]).unflatten(-1, (-1, self.n_outputs))


class Embedding(nn.Module):
    """Values, calendar and place in the window, added up."""

    def __init__(self, n_channels: int, n_calendar: int, d_model: int, dropout: float):
        super().__init__()
        self.values = nn.Linear(n_channels, d_model)
        self.calendar = nn.Linear(n_calendar, d_model, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, values: Float[Tensor, "batch length channels"], calendar: Float[Tensor, "batch length calendar"]
    ) -> Float[Tensor, "batch length d_model"]:
        """Embed a window."""
        place = sinusoids(values.shape[1], self.values.out_features, values.device)
        return self.dropout(self.values(values) + self.calendar(calendar) + place)


def sinusoids(length: int, d_model: int, device: torch.device) -> Float[Tensor, "length d_model"]:
    """Sine and cosine of the place at wavelengths from 2 pi to 20000 pi."""
    wave = torch.exp(torch.arange(0, d_model, 2, device=device) * (-math.log(10_000.0) / d_model))
    angle = torch.arange(length, device=device).unsqueeze(-1) * wave
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)[:, :d_model]


class Heads(nn.Module):
    """The projections around an attention function."""

    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.query, self.key, self.value, self.out = (nn.Linear(d_model, d_model) for _ in range(4))

    def split(
        self, query: Float[Tensor, "batch queries d_model"], memory: Float[Tensor, "batch keys d_model"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (batch, heads, length, size)."""
        projected = (self.query(query), self.key(memory), self.value(memory))
        query, key, value = (x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for x in projected)
        return query, key, value

    def merge(self, attended: Float[Tensor, "batch heads length size"]) -> Float[Tensor, "batch length d_model"]:
        """Heads side by side again, every time step in its place."""
        return self.out(attended.transpose(1, 2).flatten(-2))


class Full(nn.Module):
    """Multi-head attention of every query on every key."""

    def __init__(self, d_model: int, n_heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = Heads(d_model, n_heads), dropout

    def forward(
        self, query: Float[Tensor, "batch queries d_model"], memory: Float[Tensor, "batch keys d_model"]
    ) -> Float[Tensor, "batch queries d_model"]:
        """Attend."""
        dropout = self.dropout if self.training else 0.0
        return self.heads.merge(full_attention(*self.heads.split(query, memory), dropout=dropout))


class ProbSparse(nn.Module):
    """Multi-head ProbSparse self-attention; random in training, the same keys at every call in eval mode."""

    def __init__(
        self, d_model: int, n_heads: int, factor: float, sampling: Sampling, dropout: float, causal: bool = False
    ):
        super().__init__()
        self.heads = Heads(d_model, n_heads)
        self.factor, self.sampling, self.dropout, self.causal = factor, sampling, dropout, causal

    def forward(self, state: Float[Tensor, "batch length d_model"]) -> Float[Tensor, "batch length d_model"]:
        """Attend to itself."""
        attended = prob_sparse_attention(
            *self.heads.split(state, state),
            factor=self.factor,
            causal=self.causal,
            sampling=self.sampling,
            dropout=self.dropout if self.training else 0.0,
            generator=None if self.training else torch.Generator().manual_seed(_EVAL_SEED),
        )
        return self.heads.merge(attended)


class FeedForward(nn.Sequential):
    """Two layers, applied to every step alike."""

    def __init__(self, d_model: int, d_ff: int, dropout: float):
        super().__init__(nn.Linear(d_model, d_ff), nn.GELU(), nn.Dropout(dropout), nn.Linear(d_ff, d_model))


class EncoderLayer(nn.Module):
    """Self-attention, then feed-forward, each with a residual and a norm before it."""

    def __init__(self, attention: nn.Module, d_model: int, d_ff: int, dropout: float):
        super().__init__()
        self.attention, self.feed_forward = attention, FeedForward(d_model, d_ff, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, state: Float[Tensor, "batch length d_model"]) -> Float[Tensor, "batch length d_model"]:
        """Encode."""
        state = state + self.dropout(self.attention(self.norms[0](state)))
        return state + self.dropout(self.feed_forward(self.norms[1](state)))


class DecoderLayer(nn.Module):
    """Masked self-attention, attention on the encoded history, feed-forward."""

    def __init__(self, attention: nn.Module, cross: nn.Module, d_model: int, d_ff: int, dropout: float):
        super().__init__()
        self.attention, self.cross, self.feed_forward = attention, cross, FeedForward(d_model, d_ff, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, state: Float[Tensor, "batch length d_model"], memory: Float[Tensor, "batch keys d_model"]
    ) -> Float[Tensor, "batch length d_model"]:
        """Decode."""
        state = state + self.dropout(self.attention(self.norms[0](state)))
        state = state + self.dropout(self.cross(self.norms[1](state), memory))
        return state + self.dropout(self.feed_forward(self.norms[2](state)))


class Distil(nn.Module):
    """Distilling (15): `MaxPool(ELU(Conv1d(.)))` halves the length, rounding up."""

    def __init__(self, d_model: int):
        super().__init__()
        self.convolution = nn.Conv1d(d_model, d_model, kernel_size=3, padding=1, padding_mode="circular")

    def forward(self, state: Float[Tensor, "batch length d_model"]) -> Float[Tensor, "batch halved d_model"]:
        """Halve."""
        convolved = F.elu(self.convolution(state.transpose(1, 2)))
        return F.max_pool1d(convolved, kernel_size=3, stride=2, padding=1).transpose(1, 2)
