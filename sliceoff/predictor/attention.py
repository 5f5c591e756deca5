"""ProbSparse attention (16) and its dense counterpart, as pure functions.

All take queries (batch, heads, L_Q, size), keys and values (batch, heads, L_K, size), and return one row per query.
"""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from sliceoff.predictor.dropout import dropout_mask

Sampling = Literal["shared", "independent"]

# Below about this many queries, dense attention is faster on two cores (`benchmarks/attention.py`), by `sampling`.
DENSE_BELOW: dict[Sampling, int] = {"shared": 64, "independent": 1024}

# Up to this length, three operations on all scores are faster on a CPU than torch's fused one: by up to a half in
# single precision, two to ten times if products use oneDNN (bfloat16, `matmul_precision=medium`). Beyond it they take
# more memory.
ALL_SCORES_UP_TO = 96


def full_attention(
    query: Float[Tensor, "batch heads queries size"],
    key: Float[Tensor, "batch heads keys size"],
    value: Float[Tensor, "batch heads keys size"],
    *,
    causal: bool = False,
    dropout: float = 0.0,
) -> Float[Tensor, "batch heads queries size"]:
    """`softmax(Q K^T / sqrt(size)) V`, every query on every key (when causal, on keys up to its own position)."""
    n_queries, n_keys = query.shape[-2], key.shape[-2]
    if query.device.type != "cpu" or max(n_queries, n_keys) > ALL_SCORES_UP_TO:
        return F.scaled_dot_product_attention(query, key, value, is_causal=causal, dropout_p=dropout)
    places = torch.arange(n_queries) if causal else None
    weights = _weights(query / math.sqrt(query.shape[-1]), key, places)
    return (weights * dropout_mask(weights, dropout) if dropout > 0 else weights) @ value


def prob_sparse_attention(
    query: Float[Tensor, "batch heads queries size"],
    key: Float[Tensor, "batch heads keys size"],
    value: Float[Tensor, "batch heads keys size"],
    *,
    factor: float = 5.0,
    causal: bool = False,
    sampling: Sampling = "shared",
    dropout: float = 0.0,
    generator: torch.Generator | None = None,
    sample: Int[Tensor, "rows sampled"] | None = None,
    dense_below: int | None = None,
) -> Float[Tensor, "batch heads queries size"]:
    """Attention for the few queries whose attention is far from uniform; the other rows get the mean of the values.

    Every query is measured on `U = factor ln L_K` sampled keys by the max minus the mean of its scaled scores; the top
    `u = factor ln L_Q` attend to all keys. When causal, a query is measured on sampled keys up to its own position, and
    the other rows get the running sum of the values; the top queries are chosen over the whole sequence, as published.
    With `u >= L_Q`, or where dense attention is faster, this is exactly dense attention.

    Args:
        sampling: `independent` keys for every query (as published), or keys `shared` by all (one dense product).
        generator: of the sampling, on the CPU; None: torch's global one.
        sample: the keys to measure on (one row per query, or one row shared by all) instead of random ones.
        dense_below: with fewer queries than this, attention is dense; None: `DENSE_BELOW`, as measured.

    Raises:
        ValueError: causal attention with different numbers of queries and keys.
    """
    n_queries, n_keys = query.shape[-2], key.shape[-2]
    if causal and n_queries != n_keys:
        raise ValueError(f"causal attention needs as many queries as keys, got {n_queries} and {n_keys}")
    top = sparse_count(factor, n_queries)
    dense_below = DENSE_BELOW[sampling] if dense_below is None else dense_below
    if n_queries < dense_below or top >= n_queries:
        return full_attention(query, key, value, causal=causal, dropout=dropout)
    if sample is None:
        sample = sample_keys(sparse_count(factor, n_keys), n_queries, n_keys, sampling, generator)
    # Heads become part of the batch: heads split from one projection are copied here once, not in every product.
    queries, keys, values = (tensor.flatten(0, 1) for tensor in (query, key, value))
    with torch.no_grad():  # the measure chooses queries; no gradient flows through a choice
        measure = sparsity(queries, keys, sample.to(query.device), causal)
        active = measure.topk(top, dim=-1, sorted=False).indices
    return _Sparse.apply(queries, keys, values, active, causal, dropout).unflatten(0, query.shape[:2])


class _Sparse(torch.autograd.Function):
    """Dense attention of the `active` queries; the other rows get the mean of the values, or their running sum.

    Queries, keys and values are (batch, length, size), `active` (batch, top). The gradient is written by hand, because
    autograd copies and keeps more (`benchmarks/attention.py`). In the softmax's gradient, `attended` replaces a sum
    over keys, as in FlashAttention (Dao et al., NeurIPS 2022).
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, active: Tensor, causal: bool, dropout: float):
        rows = _rows(active)
        chosen = query[rows].div_(math.sqrt(query.shape[-1]))
        weights = _weights(chosen, key, active if causal else None)
        kept = dropout_mask(weights, dropout) if dropout > 0 else None
        attended = (weights if kept is None else weights * kept) @ value
        ctx.save_for_backward(key, value, active, chosen, weights, kept, attended)
        device = query.device.type
        ctx.causal = causal
        ctx.autocast = {"enabled": torch.is_autocast_enabled(device), "dtype": torch.get_autocast_dtype(device)}
        lazy = value.cumsum(-2) if causal else value.mean(-2, keepdim=True).expand_as(query)
        return lazy.index_put(rows, attended.to(lazy.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor):  # type: ignore[override]
        key, value, active, chosen, weights, kept, attended = ctx.saved_tensors
        rows = _rows(active)
        with torch.autocast(gradient.device.type, **ctx.autocast):
            received = gradient[rows]
            along = received @ value.transpose(-1, -2)
            if kept is not None:
                along, kept = along * kept, weights * kept
            if ctx.causal:
                lazy = gradient.index_put(rows, gradient.new_zeros(())).flip(-2).cumsum(-2).flip(-2)
            else:
                lazy = (gradient.sum(-2, keepdim=True) - received.sum(-2, keepdim=True)) / value.shape[-2]
            to_value = torch.baddbmm(lazy, (weights if kept is None else kept).transpose(-1, -2), received)
            to_scores = along.sub_((received * attended).sum(-1, keepdim=True)).mul_(weights)
            if not torch.compiler.is_compiling():  # a compiler plans memory itself
                ctx.maybe_clear_saved_tensors()  # unless the graph is retained
            del weights, kept
            to_chosen = (to_scores @ key).div_(math.sqrt(key.shape[-1]))
            to_key = to_scores.transpose(-1, -2) @ chosen
            del along, to_scores, received, chosen, attended  # small tensors between large ones would fragment the heap
            to_query = to_chosen.new_zeros(gradient.shape).index_put_(rows, to_chosen)
        return to_query, to_key, to_value, None, None, None


def _weights(
    scaled: Float[Tensor, "*batch queries size"],
    key: Float[Tensor, "*batch keys size"],
    places: Int[Tensor, "*queries"] | None,
) -> Float[Tensor, "*batch queries keys"]:
    """Attention weights of `scaled` queries (over `sqrt(size)`) on keys; with `places`, on keys up to those only."""
    scores = scaled @ key.transpose(-1, -2)
    if places is not None:
        scores = scores.masked_fill(torch.arange(key.shape[-2], device=key.device) > places.unsqueeze(-1), -math.inf)
    return scores.softmax(-1)


def _rows(active: Int[Tensor, "batch top"]) -> tuple[Tensor, Tensor]:
    """Indices of the active rows of (batch, length, size); about twice as fast as gather and scatter."""
    batch, _ = active.shape  # not `len`, which an export makes a constant
    return torch.arange(batch, device=active.device).unsqueeze(-1), active


def sparse_count(factor: float, length: int) -> int:
    """`factor ln length` rounded up, between 1 and `length`."""
    return min(length, max(1, math.ceil(factor * math.log(length))))


def sample_keys(
    count: int, n_queries: int, n_keys: int, sampling: Sampling, generator: torch.Generator | None
) -> Int[Tensor, "rows sampled"]:
    """Indices of the sampled keys: one row per query, or one row shared by all."""
    rows = {"shared": 1, "independent": n_queries}[sampling]
    return torch.randint(n_keys, (rows, count), generator=generator)


def spread_keys(count: int, n_keys: int) -> Int[Tensor, "1 sampled"]:
    """Indices of `count` evenly spread keys, to measure on without randomness."""
    return ((torch.arange(count) * n_keys + n_keys // 2) // count).unsqueeze(0)


def sparsity(
    query: Float[Tensor, "*batch queries size"],
    key: Float[Tensor, "*batch keys size"],
    sample: Int[Tensor, "rows sampled"],
    causal: bool,
) -> Float[Tensor, "*batch queries"]:
    """The measure M of (16): max minus mean of a query's scaled scores on its sampled keys.

    For a causal query without a sampled key up to its own position, it is minus infinity.
    """
    # (batch, sampled, queries): reducing over an outer dimension is several times as fast as over the last.
    if len(sample) == 1:
        scores = key.index_select(-2, sample[0]) @ query.transpose(-1, -2)
    else:
        scores = torch.einsum("...qd,...qsd->...sq", query, key[..., sample, :])
    scale = math.sqrt(query.shape[-1])
    if not causal:
        return (scores.amax(-2) - scores.mean(-2)) / scale
    seen = torch.arange(query.shape[-2], device=query.device) >= sample.T
    count = seen.sum(0)
    mean = scores.masked_fill(~seen, 0).sum(-2) / count.clamp_min(1)
    measure = (scores.masked_fill(~seen, -math.inf).amax(-2) - mean) / scale
    return measure.masked_fill(count == 0, -math.inf)
