import math

import pytest
import torch

from sliceoff.region import draws


def test_mix_is_splitmix64():
    # First outputs of SplitMix64 seeded with 0 and with 1234567 (reference values of the algorithm's authors' code).
    golden = 0x9E3779B97F4A7C15

    def outputs(seed, n):
        states = [(seed + golden * (i + 1)) % 2**64 for i in range(n)]
        signed = torch.tensor([s - 2**64 if s >= 2**63 else s for s in states])
        return [value % 2**64 for value in draws.mix(signed).tolist()]

    assert outputs(0, 3) == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert outputs(1234567, 2) == [6457827717110365317, 3203168211198807973]


def test_uniforms_are_uniform_and_independent():
    first, second = draws.uniforms(draws.keys(0, torch.arange(400), 3), stream=1, users=500)
    other, _ = draws.uniforms(draws.keys(0, torch.arange(400), 3), stream=2, users=500)
    later, _ = draws.uniforms(draws.keys(0, torch.arange(400), 4), stream=1, users=500)
    n = first.numel()
    for u in (first, second, other, later):
        assert u.min() >= 0
        assert u.max() < 1
        counts = torch.histc(u, bins=100, min=0, max=1)
        chi2 = ((counts - n / 100) ** 2 / (n / 100)).sum().item()
        assert abs(chi2 - 99) < 5 * math.sqrt(2 * 99)
    pairs = [(first, second), (first, other), (first, later), (first[:, 1:], first[:, :-1]), (first[1:], first[:-1])]
    for left, right in pairs:
        correlation = torch.corrcoef(torch.stack((left.flatten(), right.flatten())))[0, 1].item()
        assert abs(correlation) < 5 / math.sqrt(left.numel())


def test_seeds_copies_and_steps_differ():
    keys = [draws.keys(seed, torch.arange(100), step) for seed in (0, 1, -1, 2**63) for step in (-1, 0, 1, 10**9)]
    assert torch.cat(keys).unique().numel() == 16 * 100


@pytest.mark.parametrize("mean", [0.0, 0.3, 7.0, 40.0])
def test_poisson(mean):
    table = draws.poisson_table(torch.full((20_000,), mean, dtype=torch.float64), 50)
    counts = draws.poisson(draws.keys(1, torch.arange(20_000), 0), 0, table).double()
    assert counts.max() <= 50
    expected = [math.exp(-mean) * mean**k / math.factorial(k) for k in range(50)]
    clipped_mean = sum(k * p for k, p in enumerate(expected)) + 50 * (1 - sum(expected))
    assert abs(counts.mean().item() - clipped_mean) <= 5 * math.sqrt(mean / 20_000)
    clipped_square = sum(k**2 * p for k, p in enumerate(expected)) + 50**2 * (1 - sum(expected))
    assert counts.var().item() == pytest.approx(clipped_square - clipped_mean**2, rel=0.05)
