from dataclasses import replace
from functools import partial

import numpy as np
import polars
import pytest
import torch

from sliceoff.errors import InputError
from sliceoff.region import Scenario
from sliceoff.slicing import (
    Cheapest,
    Exact,
    ForecastErrors,
    Newsvendor,
    Profit,
    Quantiles,
    adapted_miss,
    newsvendor_miss,
)


def follow(actual, forecast, miss, rate=0.05):
    """Coverage per period of the online bound, `forecast[t]` being made when `actual[:t]` is known."""
    errors, covered = ForecastErrors.none_yet(actual.shape[1]), []
    aim = torch.full((actual.shape[1],), miss, dtype=torch.float64)
    for now, expected in zip(actual, forecast, strict=True):
        bound = errors.upper(expected, aim)
        errors, aim = errors.forecasting(expected).observed(now), adapted_miss(aim, now > bound, miss, rate)
        covered.append(now <= bound)
    return torch.stack(covered).double()


def test_quantiles_between_and_beyond_the_known_ones_by_hand():
    """10, 20 and 60 users at the levels 0.1, 0.5 and 0.9: 2.5 users per tenth below the median, 10 above it."""
    known = Quantiles(torch.tensor([0.1, 0.5, 0.9]).double(), torch.tensor([[10.0, 20.0, 60.0]] * 2).double())
    levels = torch.tensor([0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98]).double()
    for users in known.at(levels).tolist():
        assert users == pytest.approx([8, 10, 15, 20, 40, 60, 68])
    assert Quantiles(known.levels, known.users / 100 - 0.1).at(levels).min() == 0
    assert Quantiles.certain(torch.tensor([7.0])).at(levels).tolist() == [[7.0] * 7]


EVENLY = Quantiles(torch.tensor([0.1, 0.9]).double(), torch.tensor([[8.0, 32.0]]).double())


def test_profit_rents_for_the_bound_that_newsvendor_hands_it(offers, scenario, ask):
    request = replace(ask([20.0], last=[20.0], truth=[20.0]), quantiles=EVENLY)
    rented = [Newsvendor(offers(1), scenario, Profit, miss=miss).rent(request).bandwidth_hz for miss in (0.95, 0.05)]
    assert rented[0] < rented[1]


@pytest.mark.parametrize("miss", [0.05, 0.1, 0.2, 0.3, 0.5])
def test_coverage_is_within_two_points_after_a_shift(miss):
    """The errors triple half way, and are skewed throughout: the calibration follows."""
    random = np.random.default_rng(0)
    noise = torch.from_numpy(random.gamma(2.0, 1.0, (1000, 5)))
    noise[500:] *= 3
    forecast = torch.full_like(noise, 20.0)
    covered = follow(forecast + noise, forecast, miss)
    assert float(covered[24:].mean()) == pytest.approx(1 - miss, abs=0.02)


@pytest.mark.parametrize("miss", [0.05, 0.1, 0.2, 0.3, 0.5])
def test_coverage_is_within_two_points_on_real_traffic(real_data, miss):
    """Repeat-last forecasts on the held-out part of real cellular traffic, calibrated on the part before."""
    users = torch.from_numpy(
        polars.read_csv(real_data / "lte" / "week_users.csv").drop("time").to_numpy().astype(float)
    )
    covered = follow(users[1:], users[:-1], miss)[int(0.7 * len(users)) :]
    assert float(covered.mean()) == pytest.approx(1 - miss, abs=0.02)


def test_without_errors_there_is_only_the_forecast():
    errors, forecast = ForecastErrors.none_yet(2), torch.tensor([3.0, 7.0])
    assert errors.upper(forecast, torch.full((2,), 0.1).double()).tolist() == [3.0, 7.0]
    assert errors.users_at(forecast, EVENLY.levels).tolist() == [[3.0, 3.0], [7.0, 7.0]]
    assert errors.observed(forecast) is errors  # nothing was forecast yet


def test_quantiles_spread_as_the_errors_did():
    errors, forecast = ForecastErrors.none_yet(1), torch.tensor([9.0])
    for actual in (4.0, 9.0, 14.0):
        errors = errors.forecasting(forecast).observed(torch.tensor([actual]))
    assert errors.relative[:, 0].tolist() == [-0.5, 0.0, 0.5]
    users = errors.users_at(torch.tensor([19.0]), torch.tensor([0.0, 0.25, 0.5, 1.0]).double())
    assert users.tolist() == [[9.0, 14.0, 19.0, 29.0]]


def test_errors_of_168_long_slots_are_kept():
    errors = ForecastErrors.none_yet(3)
    for _ in range(300):
        errors = errors.forecasting(torch.ones(3)).observed(torch.ones(3))
    assert errors.relative.shape == (168, 3)


def test_the_newsvendor_rents_more_when_users_earn_more(offers, scenario, ask):
    market = offers(3)
    miss = {price: newsvendor_miss(market, Scenario(price=price)) for price in (5e-4, 2e-3)}
    assert miss[2e-3] == pytest.approx(miss[5e-4] / 4)
    assert newsvendor_miss(market, Scenario(price=1e-9)) == 0.99
    with pytest.raises(InputError, match=r"region\.price"):
        newsvendor_miss(market, Scenario(price=0.0))
    random, rented = np.random.default_rng(0), {}
    noise = random.normal(0, 5, (40, 3))
    for miss in (0.05, 0.5):
        slicer = Newsvendor(market, scenario, partial(Exact, kappa="joint", z=0.0), miss=miss)
        previous, total, last = None, 0.0, np.full(3, 20.0)
        for step in noise[:25]:
            previous = slicer.rent(ask(np.full(3, 20.0), last=last, previous=previous))
            last = np.clip(20.0 + step, 0, 60)
            total += float(previous.rent.sum())
        rented[miss] = total
    assert rented[0.05] > 1.1 * rented[0.5]


def test_quantile_forecasts_are_calibrated_too(offers, scenario, ask):
    """A predictor whose quantiles are far too narrow: the bound is exceeded as often as asked all the same."""
    random, miss = np.random.default_rng(1), 0.2
    slicer = Newsvendor(offers(8), scenario, partial(Cheapest, kappa=0.5, z=0.0), miss=miss)
    previous, last, exceeded = None, np.full(8, 15.0), []
    for step in random.normal(0, 4, (200, 8)):
        request = replace(
            ask(np.full(8, 15.0), last=last, previous=previous),
            quantiles=Quantiles(torch.arange(1, 6).double() / 6, torch.full((8, 5), 15.0) + torch.arange(5) / 5),
        )
        previous = slicer.rent(request)
        last = np.clip(15 + step, 0, 60)
        exceeded.append(torch.from_numpy(last) > previous.memory["bound"])
    assert float(torch.stack(exceeded)[24:].double().mean()) == pytest.approx(miss, abs=0.02)


class Counting(Cheapest):
    """Keeps how many long slots it has rented, under a name that the newsvendor has in use."""

    def rent(self, request):
        before = torch.zeros(1) if request.previous is None else request.previous.memory["miss"]
        return replace(super().rent(request), memory={"miss": before + 1})


def test_the_newsvendor_leaves_the_memory_of_the_slicer_inside_to_it(offers, scenario, ask):
    inside = partial(Counting, kappa=0.5, z=0.0)
    slicer, plain = (Newsvendor(offers(1), scenario, each) for each in (partial(Newsvendor, slicer=inside), inside))
    twice, once = None, None
    for _ in range(3):
        twice, once = slicer.rent(ask([15.0], previous=twice)), plain.rent(ask([15.0], previous=once))
    assert once.memory["slicer.miss"] == twice.memory["slicer.slicer.miss"] == 3


@pytest.mark.parametrize(("option", "value"), [("miss", 1.5), ("miss", 0.0), ("rate", -1.0)])
def test_wrong_options(offers, scenario, option, value):
    with pytest.raises(InputError, match=f"^{option}"):
        Newsvendor(offers(1), scenario, partial(Exact, kappa=0.5, z=0.0), **{option: value})
