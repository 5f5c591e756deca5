"""The clairvoyant bound lies above whatever a stack earns, and follows the coupling rows."""

from dataclasses import replace

import polars
import pytest
from test_loop import OFFERS, ORACLE, SCENARIO, run, windows_of

from sliceoff.clairvoyant import clairvoyant
from sliceoff.data import synthetic_trace
from sliceoff.loop import users_per_unit
from sliceoff.region import Greedy
from sliceoff.slicing import Profit


@pytest.fixture(scope="module")
def windows():
    return windows_of(synthetic_trace(days=21))


def bound(windows, offers=OFFERS, slots=10, scenario=SCENARIO, **resuming):
    start = windows.heldout_start
    unit = users_per_unit(windows.train_values, 20)
    return clairvoyant(
        windows,
        scenario,
        offers,
        unit_users=unit,
        periods=range(start, start + 6),
        slots_per_period=slots,
        seed=0,
        **resuming,
    )


def test_no_stack_earns_more_and_a_good_one_nearly_as_much(windows):
    most = bound(windows)["bound"].to_numpy()
    for slicer, share in ((ORACLE, 0.7), (Profit(OFFERS, SCENARIO), 0.85)):
        table = run(windows, slicer, Greedy(), periods=6, slots_per_period=10)
        earned = table.group_by("period", maintain_order=True).agg(polars.col("profit").sum())["profit"].to_numpy()
        assert (earned <= most).all()
        assert earned.sum() >= share * most.sum()


def test_a_budget_lowers_the_bound(windows):
    free, tied = (bound(windows, offers, slots=4)["bound"] for offers in (OFFERS, replace(OFFERS, budget=60.0)))
    assert (tied < free).all()


def test_a_bound_that_was_stopped_goes_on_bit_for_bit(windows, monkeypatch):
    monkeypatch.setattr("sliceoff.clairvoyant._ROWS", 2 * len(windows.trace.regions))
    told, resumed = [], []
    whole = bound(windows, slots=4, on_batch=lambda bounds: told.append(list(bounds)))
    assert [len(bounds) for bounds in told] == [2, 4, 6]
    assert bound(windows, slots=4, known=told[0], on_batch=lambda bounds: resumed.append(list(bounds))).equals(whole)
    assert resumed == told[1:]
    assert bound(windows, slots=4, known=told[-1]).equals(whole)


def test_the_bound_is_the_same_in_another_unit_of_money_and_falls_with_dearer_offers(windows):
    here = bound(windows, slots=4)["bound"].to_numpy()

    def dearer(factor):
        return replace(OFFERS, bandwidth_price=factor * OFFERS.bandwidth_price, vm_price=factor * OFFERS.vm_price)

    assert (bound(windows, dearer(1.2), slots=4)["bound"].to_numpy() < here).all()
    cheap = replace(SCENARIO, price=1e-6 * SCENARIO.price)
    assert bound(windows, dearer(1e-6), slots=4, scenario=cheap)["bound"].to_numpy() == pytest.approx(
        1e-6 * here, rel=1e-3
    )
