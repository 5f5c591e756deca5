"""Algorithm 1: the money adds up, stacks face the same tasks, and only the oracle sees the future."""

import itertools
import multiprocessing
import os
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import mip
import numpy as np
import pytest
import torch

from sliceoff.data import Trace, TrafficDataModule, synthetic_trace
from sliceoff.errors import InputError
from sliceoff.loop import NO_FORECAST, Forecasts, Simulation, Stack, revenue_scale, users_per_unit
from sliceoff.predictor import Forecaster, LastValue, QuantileLoss, SeasonalNaive
from sliceoff.region import Equal, Greedy, Scenario
from sliceoff.slicing import Cheapest, Fixed, Foresight, LpRounding, Newsvendor, Offers, Profit, Reactive

SCENARIO = Scenario(price=0.001, max_users=50, max_vms=32)
OFFERS = Offers.rising(
    bandwidth_options_mhz=[5, 10, 15, 20, 30, 40, 60, 80],
    vm_options=[2, 4, 6, 8, 12, 16, 24, 32],
    bandwidth_price_per_mhz=1.5,
    bandwidth_price_scale_mhz=160,
    vm_price=3.0,
    vm_price_scale=64,
    n_regions=4,
    long_slot_s=3600,
)
RULE = {"offers": OFFERS, "scenario": SCENARIO, "kappa": 0.5, "z": 2.0}
ORACLE = Foresight(OFFERS, SCENARIO, partial(Cheapest, kappa=0.5, z=2.0))


def windows_of(trace: Trace) -> TrafficDataModule:
    return TrafficDataModule(trace, input_length=24, horizon=4)


@pytest.fixture(scope="module")
def windows():
    return windows_of(synthetic_trace(days=21))


def forecasts(windows, network=SeasonalNaive, **options):
    forecaster = Forecaster(network, 4, 4, windows.input_length, windows.horizon, 24, **options).eval()
    forecaster.scaler.fit(windows.train_values)
    return Forecasts(forecaster, windows)


def run(windows, slicer, allocator, periods=4, made=None, on_period=None, resume_from=None, **options):
    start = windows.heldout_start
    settings = {"slots_per_period": 6, "seed": 0, **options}
    unit = users_per_unit(windows.train_values, 20)
    simulation = Simulation(
        Stack("main", slicer, allocator),
        made or forecasts(windows),
        SCENARIO,
        unit_users=unit,
        periods=range(start, start + periods),
        **settings,
    )
    if resume_from is not None:
        simulation.load_state_dict(resume_from)
    while on_period and not simulation.ended:
        simulation.step()
        on_period(simulation)
    return simulation.run()


def test_users_are_scaled_to_the_mean_asked_for(windows):
    unit = users_per_unit(windows.train_values, 20)
    assert (windows.train_values * unit).mean().item() == pytest.approx(20, rel=1e-4)


def test_revenue_and_rent_cover_the_same_time():
    # 20 short slots of 0.5 s stand for an hour: 360 times as much.
    assert revenue_scale(3600, 20, 0.5) == 360


def test_money_and_tasks_add_up(windows):
    table = run(windows, Cheapest(**RULE), Greedy())
    assert table["profit"].to_numpy() == pytest.approx((table["revenue"] - table["rent"]).to_numpy())
    assert (table["tasks"] == table["done"] + table["late"] + table["dropped"]).all()
    # What a task earns is the price times a priority of 1, 2 or 3, scaled to the hour.
    earned = table["revenue"] / (revenue_scale(3600, 6, 0.5) * SCENARIO.price)
    assert ((earned >= table["done"] - 1e-2) & (earned <= 3 * table["done"] + 1e-2)).all()
    for column in ("bandwidth_utilisation", "vm_utilisation"):
        assert ((table[column] >= 0) & (table[column] <= 1.05)).all()


def test_a_point_forecast_has_the_band_of_its_recent_errors(windows):
    table = run(windows, Cheapest(**RULE), Greedy(), periods=40, slots_per_period=1)
    assert (table["users_low"] <= table["users_high"]).all()
    first = table.filter(table["period"] == table["period"].min())
    assert first["users_low"].equals(first["users_forecast"])  # no error was seen yet
    late = table.filter(table["period"] >= table["period"].min() + 24)
    inside = ((late["users"] >= late["users_low"]) & (late["users"] <= late["users_high"])).mean()
    assert 0.6 < inside < 0.95  # 80 % is asked


def test_stacks_face_the_same_tasks_and_a_run_repeats(windows):
    first = run(windows, Cheapest(**RULE), Greedy())
    other = run(windows, Fixed(**RULE, users=5.0), Equal())
    assert first["tasks"].equals(other["tasks"])
    assert first["users"].equals(other["users"])
    assert first.equals(run(windows, Cheapest(**RULE), Greedy()))
    assert not first["tasks"].equals(run(windows, Cheapest(**RULE), Greedy(), seed=1)["tasks"])


def test_stacks_with_one_forecaster_ask_it_once_a_long_slot(windows, monkeypatch):
    made, asked, forecast = forecasts(windows), [], Forecaster.forecast
    monkeypatch.setattr(Forecaster, "forecast", lambda self, window: asked.append(1) or forecast(self, window))
    tables = [run(windows, Cheapest(**RULE), each, periods=3, made=made) for each in (Greedy(), Equal())]
    assert len(asked) == 3
    assert tables[0]["users_forecast"].equals(tables[1]["users_forecast"])


def test_nothing_but_the_oracle_depends_on_the_future(windows):
    trace = windows.trace
    changed = Trace(trace.values.copy(), trace.times, trace.regions, trace.step_s)
    changed.values[windows.heldout_start] *= 3
    later = windows_of(changed)
    for slicer, sees in ((Cheapest(**RULE), False), (Reactive(**RULE), False), (ORACLE, True)):
        tables = [run(data, slicer, Greedy(), periods=1) for data in (windows, later)]
        same = all(tables[0][column].equals(tables[1][column]) for column in ("n_vms", "bandwidth_hz"))
        assert same != sees
        assert tables[0]["foresight"].unique().to_list() == [sees]


def test_the_allocator_is_told_the_forecast_of_the_traffic_and_nothing_else(windows):
    told = []

    class Spy(Greedy):
        serves_ahead = False

        def allocate(self, scenario, state):
            told.append(state.expected_users)
            return super().allocate(scenario, state)

    table = run(windows, Cheapest(**RULE), Spy(), periods=2)
    forecast = torch.from_numpy(table["users_forecast"].to_numpy()).view(2, 1, 4).expand(2, 6, 4)
    torch.testing.assert_close(torch.stack(told).view(2, 6, 4), forecast.float())
    assert not table["users"].equals(table["users_forecast"])


def test_reactive_rents_for_the_hour_before_as_a_last_value_forecast_does(windows):
    made = forecasts(windows, LastValue)
    tables = [run(windows, slicer(**RULE), Greedy(), 3, made, slots_per_period=2) for slicer in (Reactive, Cheapest)]
    assert tables[0]["rent"].to_numpy() == pytest.approx(tables[1]["rent"].to_numpy())


def test_a_long_slot_counts_the_users_it_has(windows):
    table = run(windows, Cheapest(**RULE), Greedy(), periods=12, slots_per_period=20)
    expected = np.minimum(table["users"].to_numpy(), SCENARIO.max_users) * 20
    assert table["tasks"].sum() == pytest.approx(expected.sum(), rel=0.03)
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("slicer", [Cheapest, Profit])
def test_results_are_identical_whatever_the_batch_of_regions(windows, slicer):
    made = slicer(**RULE) if slicer is Cheapest else slicer(OFFERS, SCENARIO, slots=8)
    whole = run(windows, made, Greedy())
    for parts in ({"regions_per_batch": 1}, {"regions_per_batch": 3}, {"workers": 2}):
        assert whole.equals(run(windows, made, Greedy(), **parts))


def test_workers_end_with_a_parent_that_is_killed(windows):
    ours, theirs = multiprocessing.Pipe()

    def killed():
        def tell(simulation):
            theirs.send([child.pid for child in multiprocessing.active_children()])
            os.kill(os.getpid(), signal.SIGKILL)

        run(windows, Cheapest(**RULE), Greedy(), workers=2, on_period=tell)

    parent = multiprocessing.get_context("fork").Process(target=killed)
    parent.start()
    workers = ours.recv()
    parent.join()
    assert parent.exitcode == -signal.SIGKILL
    assert len(workers) == 2
    ends = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not any(map(alive, workers))


def test_workers_end_with_a_simulation_that_fails(windows):
    class Failing(Cheapest):
        def rent(self, request):
            raise RuntimeError("no slice")

    with pytest.raises(RuntimeError, match="no slice") as held:  # and with it the simulation
        run(windows, Failing(**RULE), Greedy(), workers=2)
    assert not multiprocessing.active_children(), held.tb


def test_ctrl_c_while_workers_end_waits_for_them(windows, monkeypatch):
    shutdown = ProcessPoolExecutor.shutdown

    def press_and_shutdown(pool, **options):
        signal.raise_signal(signal.SIGINT)
        shutdown(pool, **options)

    monkeypatch.setattr(ProcessPoolExecutor, "shutdown", press_and_shutdown)
    with pytest.raises(KeyboardInterrupt):
        run(windows, Cheapest(**RULE), Greedy(), workers=2)
    assert not multiprocessing.active_children()


def alive(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("stop", "parts"), [(1, {}), (3, {"regions_per_batch": 2}), (2, {"workers": 2})])
def test_a_resumed_simulation_ends_with_the_same_table_whatever_its_batches(windows, tmp_path, stop, parts):
    def slicer():
        return Newsvendor(OFFERS, SCENARIO, partial(Cheapest, kappa=0.5, z=0.0))  # learns from its forecast errors

    class Killed(Exception):
        pass

    def kill(simulation):
        torch.save(simulation.state_dict(), tmp_path / "last.ckpt")
        if len(simulation.table()) == 4 * stop:
            raise Killed

    whole = run(windows, slicer(), Greedy())
    with pytest.raises(Killed):
        run(windows, slicer(), Greedy(), on_period=kill)
    ran = []
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    resumed = run(windows, slicer(), Greedy(), resume_from=saved, on_period=lambda simulation: ran.append(1), **parts)
    assert resumed.equals(whole)
    assert len(ran) == 4 - stop
    with pytest.raises(InputError, match="another version"):
        run(windows, slicer(), Greedy(), resume_from={"period": 0})


class Spread(SeasonalNaive):
    """As if trained: levels lie a tenth of the trace's scale apart."""

    def __init__(self, sizes):
        super().__init__(sizes)
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, history, history_calendar, future_calendar):
        outputs = super().forward(history, history_calendar, future_calendar)
        return outputs + 0.1 * torch.arange(outputs.shape[-1])


class Spy(Cheapest):
    """Keeps what it was asked and what it rented."""

    def __init__(self):
        super().__init__(**RULE)
        self.asked, self.rented = [], []

    def rent(self, request):
        self.asked.append(request)
        self.rented.append(super().rent(request))
        return self.rented[-1]


def test_a_quantile_forecast_reaches_the_slicer(windows):
    spy, levels = Spy(), (0.1, 0.3, 0.5, 0.7, 0.9)
    loss = partial(QuantileLoss, levels=levels)
    table = run(windows, spy, Greedy(), 1, forecasts(windows, Spread, loss=loss), slots_per_period=2)
    (request,) = spy.asked
    assert request.quantiles.levels.tolist() == pytest.approx(levels)
    low, _, median, _, high = request.quantiles.users.T
    assert (low < median).all()
    assert request.forecast.tolist() == pytest.approx(median.tolist(), rel=1e-5)
    for column, users in {"users_low": low, "users_forecast": median, "users_high": high}.items():
        assert table[column].to_list() == pytest.approx(users.tolist(), rel=1e-5)


def test_a_slicer_is_given_its_last_rental_and_what_was_seen_since(windows):
    spy = Spy()
    run(windows, spy, Greedy(), 3, slots_per_period=2)
    assert [request.previous for request in spy.asked] == [None, *spy.rented[:2]]
    for before, request in itertools.pairwise(spy.asked):
        assert torch.equal(request.last, before.truth)
        assert not torch.equal(request.statistics.bandwidth_mean, before.statistics.bandwidth_mean)


class Broken(LastValue):
    """Forecasts no number for the second region."""

    value = torch.nan

    def forward(self, history, history_calendar, future_calendar):
        outputs = super().forward(history, history_calendar, future_calendar).clone()
        outputs[1] = self.value  # each region is a row of the batch
        return outputs


class Endless(Broken):
    value = -torch.inf


class Negative(Broken):
    value = -1e3


def test_no_fewer_users_than_none_are_expected(windows):
    made = forecasts(windows, Negative, nonnegative=False)
    table = run(windows, Cheapest(**RULE), Greedy(), 1, made, slots_per_period=2)
    assert table["users_forecast"].min() == 0
    assert (table["fallback"] == "").all()


@pytest.mark.parametrize(
    "program",
    [partial(Cheapest, **RULE), partial(LpRounding, **RULE), partial(Profit, OFFERS, SCENARIO, slots=4, copies=1)],
)
@pytest.mark.parametrize("network", [Broken, Endless])
def test_a_forecast_that_is_no_number_is_told_and_replaced_by_the_last_users(windows, program, network):
    broken, whole = (
        run(windows, program(), Greedy(), 2, forecasts(windows, kind), slots_per_period=2)
        for kind in (network, LastValue)
    )
    assert broken["users_forecast"].to_numpy() == pytest.approx(whole["users_forecast"].to_numpy(), rel=1e-5)
    assert broken["fallback"].unique().to_list() == [NO_FORECAST]
    assert (whole["fallback"] == "").all()
    assert broken["profit"].to_numpy() == pytest.approx(whole["profit"].to_numpy(), rel=1e-4)


def test_a_solver_that_crashes_does_not_stop_the_loop(windows, monkeypatch):
    """Every long slot of the result is flagged; coverage is the rule's."""

    def crash(*_, **__):
        raise mip.InterfacingError("crashed")

    rule = run(windows, Cheapest(**RULE), Greedy(), periods=2)
    monkeypatch.setattr(mip.Model, "optimize", crash)
    table = run(windows, LpRounding(**RULE), Greedy(), periods=2)
    assert table["status"].unique().to_list() == ["solver error"]
    assert table["fallback"].unique().to_list() == ["cheapest offers that cover"]
    assert table["profit"].equals(rule["profit"])


def test_a_trace_in_another_unit_in_other_weeks_or_with_another_end_is_the_same_simulation(windows):
    trace, seen = windows.trace, windows.heldout_start + 4
    cut = trace.values.copy()
    cut[seen:] = 7.0
    others = (
        replace(trace, values=trace.values * 1e6),
        replace(trace, times=trace.times + np.timedelta64(35, "D")),
        replace(trace, values=cut),
    )
    for slicer in (Profit(OFFERS, SCENARIO, copies=1, slots=4, users_step=16), LpRounding(**RULE), ORACLE):
        here = run(windows, slicer, Greedy())
        for other in others:
            there = run(windows_of(other), slicer, Greedy())
            for column in ("bandwidth_hz", "n_vms", "tasks", "done"):
                assert here[column].equals(there[column])
            assert there["profit"].to_numpy() == pytest.approx(here["profit"].to_numpy(), rel=1e-5)


def test_regions_without_common_limits_do_not_touch_each_other(windows):
    trace, unit = windows.trace, users_per_unit(windows.train_values, 20)
    together = run(windows, Cheapest(**RULE), Greedy())
    first = Trace(trace.values[:, :2], trace.times, trace.regions[:2], trace.step_s)
    offers = replace(
        OFFERS, **{name: value[:2] for name, value in vars(OFFERS).items() if isinstance(value, torch.Tensor)}
    )
    data = windows_of(first)
    forecaster = Forecaster(SeasonalNaive, 2, 4, data.input_length, data.horizon, 24).eval()
    forecaster.scaler.fit(data.train_values)
    apart = Simulation(
        Stack("main", Cheapest(**RULE | {"offers": offers}), Greedy()),
        Forecasts(forecaster, data),
        SCENARIO,
        unit_users=unit,
        periods=range(data.heldout_start, data.heldout_start + 4),
        slots_per_period=6,
        seed=0,
    ).run()
    kept = together.filter(together["region"].is_in(list(first.regions)))
    for column in ("users_forecast", "bandwidth_hz", "n_vms", "revenue", "profit", "backlog_s"):
        assert apart[column].equals(kept[column])
