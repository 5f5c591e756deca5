"""ProbSparse attention (16): dense where nothing is left out, exact about what it leaves out, blind to the future."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sliceoff.predictor import full_attention, prob_sparse_attention
from sliceoff.predictor.attention import ALL_SCORES_UP_TO, sample_keys, sparse_count, sparsity


def qkv(batch=2, heads=3, queries=40, keys=40, size=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(batch, heads, length, size, generator=generator) for length in (queries, keys, keys))


def dense(query, key, value, *, causal):
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:]).triu(1).bool(), -math.inf)
    return scores.softmax(-1) @ value


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 3),
    heads=st.integers(1, 3),
    length=st.integers(1, 20),
    causal=st.booleans(),
    sampling=st.sampled_from(["shared", "independent"]),
)
def test_equals_dense_attention_when_every_query_attends(batch, heads, length, causal, sampling):
    query, key, value = qkv(batch, heads, length, length)
    sparse = prob_sparse_attention(query, key, value, factor=20, causal=causal, sampling=sampling, dense_below=0)
    torch.testing.assert_close(sparse, dense(query, key, value, causal=causal))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sampling", ["shared", "independent"])
def test_active_queries_attend_and_the_others_get_the_mean_or_running_sum(causal, sampling):
    query, key, value = qkv(queries=60, keys=60)
    generator = torch.Generator().manual_seed(1)
    sparse = prob_sparse_attention(
        query, key, value, factor=2, causal=causal, sampling=sampling, generator=generator.manual_seed(1), dense_below=0
    )
    sample = sample_keys(sparse_count(2, 60), 60, 60, sampling, generator.manual_seed(1))
    active = sparsity(query, key, sample, causal).topk(sparse_count(2, 60)).indices
    chosen = torch.zeros(query.shape[:-1], dtype=torch.bool).scatter(-1, active, True)
    lazy = value.cumsum(-2) if causal else value.mean(-2, keepdim=True).expand_as(value)
    expected = torch.where(chosen.unsqueeze(-1), dense(query, key, value, causal=causal), lazy)
    torch.testing.assert_close(sparse, expected)


def test_the_measure_is_max_minus_mean_of_scaled_scores_by_hand():
    query = torch.tensor([[[[2.0, 0.0, 0.0, 0.0]]]])
    key = torch.tensor([[[[1.0, 0, 0, 0], [3.0, 0, 0, 0], [5.0, 0, 0, 0]]]])
    measure = sparsity(query, key, torch.tensor([[0, 2]]), causal=False)  # scores 1 and 5
    assert measure.item() == pytest.approx(5 - 3)


def test_shared_and_independent_sampling_agree_on_the_same_keys():
    query, key, _ = qkv()
    sample = torch.tensor([[3, 7, 7, 20]])
    for causal in (False, True):
        shared = sparsity(query, key, sample, causal)
        torch.testing.assert_close(sparsity(query, key, sample.expand(40, -1), causal), shared)


def test_causal_attention_is_blind_to_later_keys_and_values():
    query, key, value = qkv(queries=12, keys=12)
    changed_key, changed_value = key.clone(), value.clone()
    changed_key[..., 6:, :] += 10
    changed_value[..., 6:, :] -= 10
    before, after = (
        prob_sparse_attention(query, k, v, factor=20, causal=True)
        for k, v in ((key, value), (changed_key, changed_value))
    )
    torch.testing.assert_close(before[..., :6, :], after[..., :6, :])
    assert not torch.allclose(before[..., 6:, :], after[..., 6:, :])
    # A query's own measure does not see later keys either.
    sample = torch.arange(12).unsqueeze(0)
    measured = [sparsity(query, k, sample, causal=True)[..., :6] for k in (key, changed_key)]
    torch.testing.assert_close(*measured)


@pytest.mark.parametrize("sampling", ["shared", "independent"])
def test_causal_sparse_attention_is_blind_to_later_values(sampling):
    query, key, value = qkv(queries=80, keys=80)
    changed = value.clone()
    changed[..., 40:, :] -= 10
    before, after = (
        prob_sparse_attention(
            query,
            key,
            v,
            factor=1,
            causal=True,
            sampling=sampling,
            generator=torch.Generator().manual_seed(0),
            dense_below=0,
        )
        for v in (value, changed)
    )
    torch.testing.assert_close(before[..., :40, :], after[..., :40, :])
    assert not torch.allclose(before[..., 40:, :], after[..., 40:, :])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("keys", [1, ALL_SCORES_UP_TO, ALL_SCORES_UP_TO + 1])
@pytest.mark.parametrize("queries", [5, 96])
def test_dense_attention_is_its_formula_however_it_is_computed(queries, keys, causal):
    inputs = [x.requires_grad_() for x in qkv(queries=queries, keys=keys)]
    results = [form(*inputs, causal=causal) for form in (full_attention, dense)]
    torch.testing.assert_close(*results)
    torch.testing.assert_close(*(torch.autograd.grad(result.square().sum(), inputs) for result in results))


def test_dense_attention_drops_weights_as_often_as_told_and_keeps_their_mean():
    query, key, value = qkv(batch=8, heads=8, queries=64, keys=64)
    dropped = [full_attention(query, key, torch.ones_like(value), dropout=0.25)[..., 0] for _ in range(2)]
    assert not torch.equal(*dropped)
    assert dropped[0].mean() == pytest.approx(1, abs=0.01)  # of 4096 rows, each off by about 0.1
    even = full_attention(torch.zeros_like(query), key, torch.ones_like(value), dropout=0.25)[..., 0]
    assert (even * 64 * 0.75).mean() == pytest.approx(48, abs=0.3)
    assert (even * 64 * 0.75).var() == pytest.approx(64 * 0.25 * 0.75, rel=0.1)  # binomial


@pytest.mark.parametrize("length", [1, 2])
def test_very_short_sequences(length):
    query, key, value = qkv(1, 1, length, length)
    torch.testing.assert_close(prob_sparse_attention(query, key, value), full_attention(query, key, value))


def test_the_generator_decides_the_sample():
    query, key, value = qkv(queries=80, keys=80)
    draws = [
        prob_sparse_attention(query, key, value, factor=1, generator=torch.Generator().manual_seed(seed), dense_below=0)
        for seed in (0, 0, 1)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_gradients_are_those_of_finite_differences(causal, dropout):
    inputs = [x.double().requires_grad_() for x in qkv(1, 2, 9, 9, size=3)]
    sample = torch.tensor([[0, 4, 7]])

    def attended(query, key, value):
        torch.manual_seed(0)  # the same keys dropped every time
        return prob_sparse_attention(
            query, key, value, factor=1, causal=causal, dropout=dropout, sample=sample, dense_below=0
        )

    assert torch.autograd.gradcheck(attended, inputs)
    kept = attended(*inputs).sum()
    once, again = (torch.autograd.grad(kept, inputs, retain_graph=True) for _ in range(2))
    torch.testing.assert_close(once, again)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [12, 80])  # dense, sparse
def test_dropout_changes_a_forward_pass_but_not_the_mean(causal, length):
    query, key, value = (x.expand(4000, -1, -1, -1) for x in qkv(1, 1, length, length, size=2))
    sample = torch.arange(length).unsqueeze(0)

    def attended(dropout):
        torch.manual_seed(0)
        return prob_sparse_attention(
            query, key, value, factor=1, causal=causal, dropout=dropout, sample=sample, dense_below=20
        )

    without, dropped = attended(0.0), attended(0.3)
    assert not torch.allclose(dropped[0], dropped[1])
    torch.testing.assert_close(dropped.mean(0), without[0], atol=0.06, rtol=0)


def test_causal_needs_as_many_queries_as_keys():
    with pytest.raises(ValueError, match="as many queries as keys"):
        prob_sparse_attention(*qkv(queries=5, keys=6), causal=True)


def test_the_gradient_is_made_in_the_precision_of_the_forward_pass():
    gradients = []
    for inside in (True, False):
        tensors = [x.requires_grad_() for x in qkv(queries=128, keys=128)]
        with torch.autocast("cpu", dtype=torch.float16):  # not the default of a CPU
            attended = prob_sparse_attention(*tensors, generator=torch.Generator().manual_seed(0))
            if inside:
                attended.sum().backward()
        if not inside:
            attended.sum().backward()
        gradients.append([x.grad for x in tensors])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)
