"""The layers of the attention networks: embedding, heads, encoder and decoder layers.

Every attention module maps queries (batch, queries, d_model) and a memory (batch, keys, d_model) to one row per query;
self-attention is given the same tensor twice.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sliceoff.checks import count, one_of, positive, whole
from sliceoff.errors import OptionError
from sliceoff.predictor.attention import (
    Sampling,
    full_attention,
    prob_sparse_attention,
    sparse_count,
    spread_keys,
)
from sliceoff.predictor.dropout import Dropout
from sliceoff.predictor.sizes import Sizes


class EncoderDecoder(nn.Module):
    """Encodes the history, then decodes the whole horizon in one pass.

    The decoder reads the last `label_length` steps of history, then zeros for the horizon.

    Args:
        sizes: of the data.
        label_length: steps of history that the decoder starts from; a shorter history gives all it has.
        encoder: modules that map the embedded history to the memory, in order.
        decoder: layers called with (state, memory); the last one also with the number of steps to return.
    """

    def __init__(
        self,
        sizes: Sizes,
        *,
        label_length: int,
        d_model: int,
        dropout: float,
        encoder: Sequence[nn.Module],
        decoder: Sequence[nn.Module],
    ):
        super().__init__()
        self.horizon, self.n_outputs = sizes.horizon, sizes.n_outputs
        self.label_length = min(whole("label_length", label_length), sizes.input_length)
        self.embed_history = Embedding(sizes.n_channels, sizes.n_calendar, d_model, dropout)
        self.embed_decoder = Embedding(sizes.n_channels, sizes.n_calendar, d_model, dropout)
        # Layers normalise their input, not their output: without a last norm, the head would get an unscaled sum.
        self.encoder, self.decoder = nn.Sequential(*encoder, nn.LayerNorm(d_model)), nn.ModuleList(decoder)
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, sizes.n_channels * sizes.n_outputs)

    def forward(
        self,
        history: Float[Tensor, "batch input_length channels"],
        history_calendar: Float[Tensor, "batch input_length calendar"],
        future_calendar: Float[Tensor, "batch horizon calendar"],
    ) -> Float[Tensor, "batch horizon channels outputs"]:
        """Forecast the whole horizon, in scaled units."""
        memory = self.encoder(self.embed_history(history, history_calendar))
        label = slice(history.shape[1] - self.label_length, None)
        start = F.pad(history[:, label], (0, 0, 0, self.horizon))
        state = self.embed_decoder(start, torch.cat([history_calendar[:, label], future_calendar], dim=1))
        *layers, last = self.decoder
        for layer in layers:
            state = layer(state, memory)
        return self.head(self.norm(last(state, memory, self.horizon))).unflatten(-1, (-1, self.n_outputs))


class Embedding(nn.Module):
    """The sum of embeddings of the values, the calendar and the position in the window."""

    def __init__(self, n_channels: int, n_calendar: int, d_model: int, dropout: float):
        super().__init__()
        self.values = nn.Linear(n_channels, d_model)
        self.calendar = nn.Linear(n_calendar, d_model, bias=False)
        self.dropout = Dropout(dropout)

    def forward(
        self, values: Float[Tensor, "batch length channels"], calendar: Float[Tensor, "batch length calendar"]
    ) -> Float[Tensor, "batch length d_model"]:
        place = sinusoids(values.shape[1], self.values.out_features, values.device)
        return self.dropout(self.values(values) + self.calendar(calendar) + place)


def sinusoids(length: int, d_model: int, device: torch.device) -> Float[Tensor, "length d_model"]:
    """Positional encoding: sine and cosine of the position at wavelengths from 2 pi to 20000 pi."""
    wave = torch.exp(torch.arange(0, d_model, 2, device=device) * (-math.log(10_000.0) / d_model))
    angle = torch.arange(length, device=device).unsqueeze(-1) * wave
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)[:, :d_model]


class Heads(nn.Module):
    """The projections before and after a multi-head attention function.

    Raises:
        InputError: a size is no whole number above zero, or `n_heads` does not divide `d_model`.
    """

    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        count("d_model", d_model)
        count("n_heads", n_heads)
        if d_model % n_heads:
            raise OptionError("n_heads", f"={n_heads} does not divide d_model={d_model}; choose one that does")
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
        """Concatenate the heads and project the result."""
        return self.out(attended.transpose(1, 2).flatten(-2))


class DenseAttention(nn.Module):
    """Multi-head attention of every query on every key (when causal, on keys up to its own position)."""

    def __init__(self, d_model: int, n_heads: int, dropout: float, causal: bool = False):
        super().__init__()
        self.heads, self.dropout, self.causal = Heads(d_model, n_heads), dropout, causal

    def forward(
        self, query: Float[Tensor, "batch queries d_model"], memory: Float[Tensor, "batch keys d_model"]
    ) -> Float[Tensor, "batch queries d_model"]:
        dropout = self.dropout if self.training else 0.0
        attended = full_attention(*self.heads.split(query, memory), causal=self.causal, dropout=dropout)
        return self.heads.merge(attended)


class ProbSparseAttention(nn.Module):
    """Multi-head ProbSparse attention; queries are measured on random keys in training, on evenly spread ones in eval.

    Raises:
        InputError: an option is out of range.
    """

    def __init__(
        self, d_model: int, n_heads: int, dropout: float, factor: float, sampling: Sampling, causal: bool = False
    ):
        super().__init__()
        one_of("sampling", sampling, ("shared", "independent"))
        positive("factor", factor)
        self.heads = Heads(d_model, n_heads)
        self.factor, self.sampling, self.dropout, self.causal = factor, sampling, dropout, causal

    def forward(
        self, query: Float[Tensor, "batch queries d_model"], memory: Float[Tensor, "batch keys d_model"]
    ) -> Float[Tensor, "batch queries d_model"]:
        n_keys = memory.shape[1]
        attended = prob_sparse_attention(
            *self.heads.split(query, memory),
            factor=self.factor,
            causal=self.causal,
            sampling=self.sampling,
            dropout=self.dropout if self.training else 0.0,
            sample=None if self.training else spread_keys(sparse_count(self.factor, n_keys), n_keys),
        )
        return self.heads.merge(attended)


class FeedForward(nn.Sequential):
    """Two linear layers with a GELU between them, applied to every step."""

    def __init__(self, d_model: int, d_ff: int, dropout: float):
        super().__init__(nn.Linear(d_model, d_ff), nn.GELU(), Dropout(dropout), nn.Linear(d_ff, d_model))


class EncoderLayer(nn.Module):
    """Self-attention, then feed-forward, each with a residual and a norm before it."""

    def __init__(self, attention: nn.Module, d_model: int, d_ff: int, dropout: float):
        super().__init__()
        self.attention, self.feed_forward = attention, FeedForward(d_model, d_ff, dropout)
        self.norms = _norms(2, d_model)
        self.dropout = Dropout(dropout)

    def forward(self, state: Float[Tensor, "batch length d_model"]) -> Float[Tensor, "batch length d_model"]:
        normed = self.norms[0](state)
        state = state + self.dropout(self.attention(normed, normed))
        return state + self.dropout(self.feed_forward(self.norms[1](state)))


class DecoderLayer(nn.Module):
    """Self-attention, attention on the encoded history and feed-forward, each with a residual and a norm before it."""

    def __init__(self, attention: nn.Module, cross: nn.Module, d_model: int, d_ff: int, dropout: float):
        super().__init__()
        self.attention, self.cross, self.feed_forward = attention, cross, FeedForward(d_model, d_ff, dropout)
        self.norms = _norms(3, d_model)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        state: Float[Tensor, "batch length d_model"],
        memory: Float[Tensor, "batch keys d_model"],
        n_last: int = 0,
    ) -> Float[Tensor, "batch decoded d_model"]:
        """Returns the last `n_last` steps (0: all); the others only serve as keys of the self-attention."""
        normed = self.norms[0](state)
        state = (state + self.dropout(self.attention(normed, normed)))[:, -n_last:]
        state = state + self.dropout(self.cross(self.norms[1](state), memory))
        return state + self.dropout(self.feed_forward(self.norms[2](state)))


def _norms(count: int, d_model: int) -> nn.ModuleList:
    return nn.ModuleList(nn.LayerNorm(d_model) for _ in range(count))


class Distil(nn.Module):
    """Distilling (15): `MaxPool(ELU(Conv1d(.)))` halves the length, rounding up."""

    def __init__(self, d_model: int):
        super().__init__()
        self.convolution = nn.Conv1d(d_model, d_model, kernel_size=3, padding=1, padding_mode="circular")

    def forward(self, state: Float[Tensor, "batch length d_model"]) -> Float[Tensor, "batch halved d_model"]:
        convolved = F.elu(self.convolution(state.transpose(1, 2)))
        return F.max_pool1d(convolved, kernel_size=3, stride=2, padding=1).transpose(1, 2)
