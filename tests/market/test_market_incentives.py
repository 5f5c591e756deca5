"""Lies of servers: closed forms with one server, and who gains among several."""

import numpy as np
import pytest

from sliceoff.errors import InputError
from sliceoff.market import Auction, Family, Greedy, KnownSupply, MarketScenario, Optimum, nobody_hired
from sliceoff.market.incentives import LIES, Report, participation_margin, temptations, true_profits

V, A, B, U_MIN = 1.4, 0.3, 0.05, 0.5


def one_server(load=100.0, least_profit=U_MIN):
    """One server and one application without overhead; it has more work than can pay unless a `load` is given."""
    work = 1e-12
    return MarketScenario(
        arrivals=np.array([load / work]),
        work=np.array([work]),
        deadline_s=np.array([1.0]),
        value=np.array([V]),
        capacity=np.array([80.0]),
        linear_cost=np.array([A]),
        quadratic_cost=np.array([B]),
        delay_s=np.array([[0.0]]),
        least_profit=least_profit,
    )


def only(mechanism, scenario, lie):
    _, (temptation,) = temptations(mechanism, scenario, [lie])
    return temptation


@pytest.mark.parametrize("said", [0.24, 0.45, 0.85])
def test_a_contract_pays_a_server_its_lie(said):
    """Told `a' f + b f^2`, the leader buys f(a') = (v - a') / 2b and pays for a' f what costs a f."""
    scenario, lie, leader = one_server(), Report(linear=said / A), Optimum(tolerance=1e-9)
    found = only(leader, scenario, lie)
    assert found.truthful == pytest.approx(U_MIN, abs=1e-9)
    bought = leader.clear(lie.made(scenario, 0)).bought[0]
    assert found.gain == pytest.approx((said - A) * bought, abs=1e-9)
    # Kelley's tangents meet the parabola's top flatly: the quantity is known less well than the platform's money.
    assert bought == pytest.approx((V - said) / (2 * B), rel=2e-3)
    assert found.loss == pytest.approx(((V - A) ** 2 - (V - said) ** 2) / (4 * B), abs=1e-6)


def test_the_best_lie_under_a_contract_takes_the_platform_three_quarters():
    lies = [Report(linear=said / A) for said in (0.7, (V + A) / 2, 1.0)]
    _, (found,) = temptations(Optimum(tolerance=1e-9), one_server(), lies)
    assert found.lie is lies[1]
    assert found.gain == pytest.approx((V - A) ** 2 / (8 * B), rel=2e-3)
    assert found.loss == pytest.approx(3 / 4 * (V - A) ** 2 / (4 * B), abs=1e-6)


def test_the_best_lie_to_a_posted_price_earns_a_server_a_third_more():
    """Answering by a', it sells q = (v - a') / 4b at (v + a') / 2; (v + 2a) / 3 is best."""
    lies = [Report(linear=said / A) for said in (0.5, (V + 2 * A) / 3, 0.9)]
    _, (found,) = temptations(KnownSupply(tolerance=1e-9), one_server(least_profit=0.0), lies)
    assert found.lie is lies[1]
    assert found.truthful == pytest.approx((V - A) ** 2 / (16 * B), rel=4e-3)
    assert found.truthful + found.gain == pytest.approx((V - A) ** 2 / (12 * B), rel=4e-3)
    assert found.loss == pytest.approx((1 - 4 / 9) * (V - A) ** 2 / (8 * B), abs=1e-6)


@pytest.mark.parametrize("said", [0.2, 0.6])
def test_who_does_not_move_the_auctions_price_can_only_lose(said):
    """With elastic demand the price is v whatever is said: a lie only sells the wrong quantity."""
    found = only(Auction(), one_server(), Report(linear=said / A))
    assert found.gain == pytest.approx(-((said - A) ** 2) / (4 * B), abs=1e-6)
    assert found.loss == pytest.approx(0, abs=1e-6)


def test_who_is_needed_moves_the_auctions_price():
    """A load of 8 that must be covered costs a' + 2 b 8 per Gcycle."""
    found = only(Auction(), one_server(load=8.0), Report(linear=0.5 / A))
    assert found.gain == pytest.approx((0.5 - A) * 8, abs=1e-6)
    assert found.loss == pytest.approx(found.gain, abs=1e-6)


def test_hidden_capacity_of_a_single_seller():
    """A fixed share of the prepayment: hiding room beyond the load changes nothing, hiding more loses the customer."""
    scenario = one_server(load=8.0)
    assert only(Greedy(share=0.7), scenario, Report(capacity=0.25)).gain == pytest.approx(0, abs=1e-9)
    lost = only(Greedy(share=0.7), scenario, Report(capacity=0.05))
    assert lost.gain == pytest.approx(-lost.truthful)
    assert lost.truthful == pytest.approx(0.7 * V * 8 - A * 8 - B * 64)


def test_a_report_changes_its_server_alone_and_the_truth_gains_nothing():
    scenario = Family(n_applications=4).draw(3)
    said = Report(linear=1.5, quadratic=0.5, capacity=0.75).made(scenario, 1)
    np.testing.assert_allclose(said.linear_cost / scenario.linear_cost, [1, 1.5, 1])
    np.testing.assert_allclose(said.quadratic_cost / scenario.quadratic_cost, [1, 0.5, 1])
    np.testing.assert_allclose(said.capacity / scenario.capacity, [1, 0.75, 1])
    honest, found = temptations(Auction(), scenario, [Report()])
    assert [(each.server, each.gain, each.loss) for each in found] == [(m, 0.0, 0.0) for m in range(3)]
    np.testing.assert_array_equal(true_profits(honest, scenario), honest.profits)


def test_every_hired_server_earns_its_least_profit():
    scenario = Family(n_applications=4).draw(3)
    assert participation_margin(Optimum().clear(scenario)) == pytest.approx(0, abs=1e-9)
    assert participation_margin(Auction().clear(one_server())) == pytest.approx((V - A) ** 2 / (4 * B) - U_MIN)
    assert participation_margin(nobody_hired(scenario)) == np.inf


def test_among_several_a_contract_tempts_every_hired_server_and_the_platform_pays():
    honest, found = temptations(Optimum(), Family(n_applications=5).draw(0), LIES[2:5])
    assert all((each.gain > 0) == hired for each, hired in zip(found, honest.hired, strict=True))
    assert all(each.loss >= each.gain - 1e-3 for each in found)


@pytest.mark.parametrize("options", [{"linear": 0.0}, {"quadratic": np.inf}, {"capacity": 1.1}, {"capacity": 0.0}])
def test_an_impossible_report_is_named(options):
    with pytest.raises(InputError, match=next(iter(options))):
        Report(**options)
