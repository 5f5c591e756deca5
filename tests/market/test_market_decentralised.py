"""The private mechanism: what crosses, what cannot be known, what the platform learns, and what it earns."""

import dataclasses
import gc
import inspect
import itertools
from types import FunctionType, GeneratorType, ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sliceoff.errors import InputError
from sliceoff.market import Family, KnownSupply, MarketScenario, Optimum, violations
from sliceoff.market.decentralised import (
    Application,
    Channel,
    Decentralised,
    EdgeServer,
    Masks,
    Noise,
    Session,
    SupplyNetworks,
    ValueNetwork,
)
from sliceoff.market.decentralised.masking import BITS, FRACTION_BITS, decode, encode, noise_share, total
from sliceoff.market.decentralised.messages import Ask, Grant, Masked, Message, Price, Quote, Request, Roll, Tariff
from sliceoff.market.decentralised.networks import Answers, fit
from sliceoff.market.decentralised.platform import merge
from sliceoff.market.decentralised.posted import Posted
from sliceoff.market.servers import offer

SMALL = {"past_markets": 4, "past_bargains": 2, "bargains": 2, "rounds": 1, "supply_steps": 60, "sweeps": 6}
PRIVATE = ("arrivals", "work", "load", "deadline_s", "value", "linear_cost", "quadratic_cost")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("market") / "value.pt")
    Decentralised(**SMALL).save(path)
    return path


def trading(saved, scenario, **options):
    mechanism = Decentralised(checkpoint=saved, **SMALL | options)
    return mechanism.session(scenario, 0), mechanism.platform(scenario, mechanism.value)


# What crosses


@dataclasses.dataclass(frozen=True, eq=False)
class Leak(Message):
    route = ("server", "platform")
    fact: object


def test_only_messages_cross_and_each_by_its_own_route():
    channel = Channel()
    channel.send("platform", "server 0", Price(1.0))
    with pytest.raises(TypeError, match="may not pass from server to platform"):
        channel.send("server 0", "platform", Price(1.0))
    with pytest.raises(TypeError, match=r"[Mm]essage"):
        channel.send("platform", "server 0", {"price": 1.0})
    with pytest.raises(TypeError, match="may not cross"):
        Leak(Family().draw(0))
    assert [one.sender for one in channel.record] == ["platform"]


def test_arrays_in_messages_are_nobodys_memory():
    mine = np.zeros(2, dtype=np.uint64)
    message = Masked("counts", mine)
    mine[0] = 1
    assert message.values[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        message.values[0] = 1


def test_everything_the_platform_is_told_is_recorded_and_is_an_offer_a_key_or_masked(saved):
    session, platform = trading(saved, Family(n_applications=4, n_servers=2).draw(0))
    session.run(platform.trade())
    told = {type(message).__name__ for message in session.channel.seen_by("platform")}
    assert told == {"PublicKey", "Masked", "Offer"}
    asked = {type(one.message).__name__ for one in session.channel.record if one.sender == "platform"}
    assert asked == {"Roll", "Ask", "Bargain", "Keep", "Price", "Tariff"}
    assert all(isinstance(envelope.message, Message) for envelope in session.channel.record)


# What cannot be known


def reached(*roots):
    """All objects that can be got at from `roots`, but for code."""
    seen, stack = {}, list(roots)
    while stack:
        one = stack.pop()
        if id(one) in seen or isinstance(one, type | ModuleType | FunctionType):
            continue
        seen[id(one)] = one
        stack += gc.get_referents(one)
        if isinstance(one, GeneratorType):
            stack += [*inspect.getgeneratorlocals(one).values(), one.gi_yieldfrom]
        if isinstance(one, torch.Tensor):
            stack.append(one.detach().numpy())
    return list(seen.values())


def test_no_private_fact_can_be_reached_from_the_platform(saved):
    scenario = Family(n_applications=4, n_servers=2).draw(0)
    session, platform = trading(saved, scenario)

    def looked_at(protocol, every=7):
        outgoing = next(protocol)
        for step in itertools.count():
            answers = yield outgoing
            if step % every == 0:  # stopped in the middle, with all that the protocol holds by then
                look(reached(platform, protocol, answers))
            try:
                outgoing = protocol.send(answers)
            except StopIteration as end:
                return end.value

    def look(objects):
        looks.append(len(objects))
        assert any(one is platform for one in objects)
        parties = Application | EdgeServer | Masks | Session | MarketScenario
        assert not [one for one in objects if isinstance(one, parties)]
        numbers = [np.ravel(one) for one in objects if isinstance(one, np.ndarray) and one.dtype.kind == "f"]
        known = np.concatenate([*numbers, [one for one in objects if isinstance(one, float)]])
        assert np.isin(scenario.delay_s, known).all()  # what it may know is found this way
        for name in PRIVATE:
            assert not np.isin(getattr(scenario, name), known).any(), name

    looks = []
    session.run(looked_at(platform.trade()))
    assert len(looks) > 3


def covered(reports):
    masks = [Masks() for _ in reports]
    keys = [one.public for one in masks]
    for one in masks:
        one.agree(keys)
    return [one.cover(encode(np.array(report)), "sum") for one, report in zip(masks, reports, strict=True)]


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 4).flatmap(
        lambda size: st.lists(st.lists(st.floats(-1e6, 1e6), min_size=size, max_size=size), min_size=2, max_size=5)
    )
)
def test_masked_sums_are_the_plain_sums_bit_for_bit(reports):
    plain = total([encode(np.array(report)) for report in reports])
    np.testing.assert_array_equal(total(covered(reports)), plain)
    np.testing.assert_allclose(decode(plain), np.sum(reports, axis=0), atol=len(reports) * 2.0**-FRACTION_BITS)


def test_one_masked_report_is_uniform_whatever_it_hides():
    for value in (0.0, 123.456):
        masked = covered([np.full(20_000, value), np.zeros(20_000)])[0]
        for shift in (BITS - 4, 30, 0):  # the highest, middle and lowest bits
            counts = np.bincount((masked >> np.uint64(shift)).astype(np.int64) & 15, minlength=16)
            assert stats.chisquare(counts).pvalue > 1e-6


def test_masks_do_not_follow_from_anything_public(saved):
    scenario = Family(n_applications=3, n_servers=2).draw(0)

    def reports():
        session, platform = trading(saved, scenario)
        session.run(platform.trade())
        return [message for message in session.channel.seen_by("platform") if isinstance(message, Masked)]

    first, second = reports(), reports()
    assert len(first) == len(second) > 6
    for one, other in zip(first, second, strict=True):
        assert (one.values != other.values).all()
    for begin in range(0, len(first), 3):  # and yet they hide the same
        sums = [total([report.values for report in run[begin : begin + 3]]) for run in (first, second)]
        np.testing.assert_array_equal(*sums)


def test_a_mask_is_never_used_twice_nor_alone():
    one, other = Masks(), Masks()
    with pytest.raises(ValueError, match="no keys agreed"):
        one.cover(encode(np.zeros(1)), "counts")
    with pytest.raises(ValueError, match="at least two"):
        one.agree([one.public])
    one.agree([one.public, other.public])
    one.cover(encode(np.zeros(1)), "counts")
    with pytest.raises(ValueError, match="used up"):
        one.cover(encode(np.ones(1)), "counts")


def test_an_application_refuses_to_be_alone_in_a_class():
    applications = [Application(9.0, 0.2, 0.3, 1.0, None, 1, (1.0,), None, n) for n in range(2)]
    keys = tuple(one.answer(Ask("key")).key for one in applications)
    applications[0].enrol(Roll(keys, np.array([0.01])))
    with pytest.raises(ValueError, match="fewer than two"):
        applications[0].answer(Ask("classes", (0, 1), (1, 1)))


def test_an_application_fills_the_cheapest_server_first_and_a_grant_below_its_overhead_is_no_use():
    lone = [Application(20.0, 0.5, 1.0, 2.0, None, 2, (1.0,), None, n) for n in range(2)]  # 10 Gcycle/s
    keys = tuple(one.answer(Ask("key")).key for one in lone)
    application = lone[0]
    application.enrol(Roll(keys, np.zeros(2)))
    room = np.linspace(0.0, 6.0, 7)
    application.choose({0: Quote(room, 1.0 * room), 1: Quote(room, 0.5 * room)}, temperature=0.0)
    assert application.allotted == pytest.approx([5.0, 6.0])  # a queue takes 0.5 besides its work
    assert application.dispatch == pytest.approx([4.5, 5.5])
    application.choose({0: Quote(room, 3.0 * room), 1: Quote(room, 0.5 * room)}, temperature=0.0)
    assert application.allotted == pytest.approx([0.0, 6.0])  # one charges more than the work is worth
    application.accept(1, Grant(3.0))
    assert application.dispatch == pytest.approx([0.0, 2.5])
    application.accept(1, Grant(0.4))
    assert application.allotted == pytest.approx([0.0, 0.0])


def test_a_server_quotes_what_capacity_adds_to_its_tariff_beside_its_other_tenants():
    server = EdgeServer(10.0, 0.1, 0.01, 0.0)
    server.listen(Tariff(np.array([0.0, 4.0, 8.0]), np.array([0.0, 2.0, 8.0])))
    server.reserve(0, Request(3.0))
    quote = server.quote(1)
    assert quote.extra[[0, -1]] == pytest.approx([0.0, 5.0])
    assert np.interp([1.0, 5.0], quote.extra, quote.payment) == pytest.approx([0.5, 6.5], abs=0.05)
    assert server.quote(0).extra[-1] == 8  # its own reservation is no other's
    server.answer(Price(0.12))  # 1 Gcycle/s, where the marginal cost is the price
    server.reserve(1, Request(1.0))
    assert {tenant: grant.capacity for tenant, grant in server.grants().items()} == pytest.approx({0: 0.75, 1: 0.25})


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_classes_have_two_members_or_there_are_none(counts):
    groups, members = merge(counts)
    if sum(counts) < 2:
        assert members == ()
    else:
        assert min(members) >= 2
        assert len(groups) == len(counts)
        assert list(groups) == sorted(groups)
        assert [sum(c for c, g in zip(counts, groups, strict=True) if g == k) for k in range(len(members))] == list(
            members
        )


@pytest.mark.parametrize("parties", [2, 7])
def test_noise_is_discrete_laplace_so_the_stated_epsilon_holds(parties):
    epsilon, bound = 0.8, 3  # one application moves the sum by up to 3 steps of the fixed point
    generator, scale = np.random.default_rng(0), np.full(30_000, bound * 2.0**-FRACTION_BITS)
    noise = sum(noise_share(generator, epsilon, scale, parties) for _ in range(parties))
    ratio = np.exp(-epsilon / bound)
    values = np.arange(-12, 13)
    expected = (1 - ratio) / (1 + ratio) * ratio ** np.abs(values)
    # Neighbouring sums differ by at most the bound: no outcome is more than e^epsilon times likelier under one of them.
    assert max((expected[bound:] / expected[:-bound]).max(), (expected[:-bound] / expected[bound:]).max()) <= np.exp(
        epsilon
    ) * (1 + 1e-12)
    counts = np.array([(noise == value).sum() for value in values])
    rest = len(noise) - counts.sum()
    assert stats.chisquare([*counts, rest], len(noise) * np.array([*expected, 1 - expected.sum()])).pvalue > 1e-6


def test_with_noise_nobody_reports_beyond_the_public_bounds():
    noise = Noise(epsilon=1e12, load=1.0, overhead=1.0, value=1.0)  # next to none, to see the clipped sums
    applications = [Application(100.0, 0.4, 0.02, 9.0, None, 1, (1.0,), noise, n) for n in range(2)]
    keys = tuple(one.answer(Ask("key")).key for one in applications)
    for one in applications:
        one.enrol(Roll(keys, np.array([0.01])))
    sums = decode(total([one.answer(Ask("classes", (0, 0), (2,))).values for one in applications]))
    np.testing.assert_allclose(sums, [2.0, 2.0, 2.0], atol=1e-3)


# What is learnt


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), spread=st.floats(0.1, 5.0))
def test_supply_never_falls_as_prices_rise_and_is_nothing_for_nothing(seed, spread):
    generator = torch.Generator().manual_seed(seed)
    networks = SupplyNetworks(3)
    with torch.no_grad():
        for weight in networks.parameters():
            weight.add_(spread * torch.randn(weight.shape, generator=generator))
        supply = networks(torch.linspace(0, 1, 50)[:, None].expand(-1, 3))
    assert (supply[0].abs() < 1e-6).all()
    assert (supply.diff(dim=0) >= -1e-6).all()


def test_supply_is_learnt_from_a_dozen_answers():
    price = torch.linspace(0.05, 1, 12)[:, None]
    networks = SupplyNetworks(1)
    fit(networks, [Answers(price, ((price - 0.2) * 2).clamp(0, 1))] * 400)
    unseen = torch.linspace(0.07, 0.97, 40)[:, None]
    with torch.no_grad():
        error = networks(unseen) - ((unseen - 0.2) * 2).clamp(0, 1)
    assert error.abs().max() < 0.08


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_more_capacity_is_never_worth_less(seed):
    generator = torch.Generator().manual_seed(seed)
    network = ValueNetwork()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
        classes = 1 + 5 * torch.rand(1, 3, 4, generator=generator).expand(20, -1, -1)
        capacity = torch.linspace(0, 20, 20)[:, None] * torch.rand(2, generator=generator)
        worth = network(classes, capacity)
    assert (worth.diff() >= -1e-4).all()
    assert worth[0] == pytest.approx(0, abs=1e-4)


def test_a_known_supply_curve_gives_its_tariff():
    prices = np.linspace(0, 2, 2001)
    supply = np.clip((prices - 0.3) / 0.1, 0, 12)
    posted = Posted()
    for price, sold in zip(prices[::200], supply[::200], strict=True):
        posted.add(np.array([0.0, price]), np.array([0.0, sold]))
    told = posted.tariff(1, prices, supply)
    asked = np.array([1.0, 5.0, 11.0])
    np.testing.assert_allclose(np.interp(asked, told.capacity, told.payment), (0.3 + 0.1 * asked) * asked, rtol=0.05)


# What comes of it


def test_learned_supply_earns_nearly_what_known_supply_does_and_leaves_servers_more_than_contracts():
    scenario = Family().draw(3)
    outcome = Decentralised(past_markets=20, past_bargains=3).clear(scenario)
    assert outcome.revenue >= 0.97 * KnownSupply().clear(scenario).revenue
    assert outcome.profits.sum() > Optimum().clear(scenario).profits.sum()


@pytest.mark.parametrize("epsilon", [None, 5.0])
@pytest.mark.parametrize("seed", [6, 7])  # in 6 a sum is rounded up over a whole capacity
def test_no_outcome_breaks_a_rule(saved, seed, epsilon):
    noise = None if epsilon is None else Noise(epsilon)
    outcome = Decentralised(checkpoint=saved, noise=noise, **SMALL).clear(Family().draw(seed))
    assert max(violations(outcome).values()) < 1e-6


@pytest.mark.parametrize(
    "change",
    [
        {"arrivals": np.zeros(3)},
        {"delay_s": np.full((3, 2), 9.0)},
        {"value": np.zeros(3)},
        {"capacity": np.zeros(2)},
        {"linear_cost": np.full(2, 50.0)},
        {"least_profit": 1e6},
    ],
    ids=lambda change: next(iter(change)),
)
def test_where_there_is_nothing_to_trade_nobody_is_hired(saved, change):
    scenario = dataclasses.replace(Family(n_applications=3, n_servers=2).draw(0), **change)
    outcome = Decentralised(checkpoint=saved, **SMALL).clear(scenario)
    assert not outcome.hired.any()
    assert outcome.revenue == 0


def test_sums_that_masks_cannot_hold_are_refused(saved):
    scenario = Family(n_applications=4, n_servers=2).draw(0)
    large = dataclasses.replace(scenario, arrivals=1e11 * scenario.arrivals)
    with pytest.raises(InputError, match=r"masked sums .* 7e\+10 at most"):
        Decentralised(checkpoint=saved, **SMALL).clear(large)


def test_one_application_alone_does_not_trade(saved):
    outcome = Decentralised(checkpoint=saved, **SMALL).clear(Family(n_applications=1).draw(0))
    assert not outcome.hired.any()


def test_the_value_network_loads_and_the_same_market_ends_the_same(saved):
    scenario = Family(n_applications=4, n_servers=2).draw(1)
    first, second = (Decentralised(checkpoint=saved, **SMALL).clear(scenario) for _ in range(2))
    fresh = Decentralised(**SMALL).clear(scenario)
    assert first.revenue == second.revenue == fresh.revenue


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (lambda: Decentralised(probes=1), "probes=1"),
        (lambda: Decentralised(bands=[1.0, 0.5]), "bands"),
        (lambda: Decentralised(bands=[]), "bands"),
        (lambda: Decentralised(temperature=-0.1), "temperature"),
        (lambda: Decentralised(seed=2**32), "seed=4294967296"),
        (lambda: Decentralised(checkpoint="nowhere.pt"), "checkpoint: no checkpoint at nowhere.pt"),
        (lambda: Noise(epsilon=0), "epsilon=0"),
        (lambda: Noise(epsilon=1e-12), r"epsilon=1e-12 makes noise of 2e\+13"),
        (lambda: Noise(epsilon=1.0, load=float("inf")), "load=inf"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(InputError, match=message):
        options()


def test_servers_of_the_protocol_sell_what_the_yardstick_buys_of_them():
    """At the price that leaves a server exactly U_min, too, which rounding takes to either side of it."""
    for seed in range(40):
        scenario = Family().draw(seed)
        least = np.sqrt(scenario.least_profit / scenario.quadratic_cost)
        prices = scenario.linear_cost + 2 * scenario.quadratic_cost * least
        curves = zip(scenario.capacity, scenario.linear_cost, scenario.quadratic_cost, strict=True)
        answers = [
            EdgeServer(*curve, scenario.least_profit).answer(Price(price)).capacity
            for curve, price in zip(curves, prices, strict=True)
        ]
        assert answers == offer(scenario, prices).tolist()
        assert answers == pytest.approx(np.where(least <= scenario.capacity, least, 0))
