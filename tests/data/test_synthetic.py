"""The embedded trace: reproducible, and with something to learn that yesterday does not tell."""

import numpy as np
import pytest
import torch

from sliceoff.data import Scaler, TrafficDataModule, synthetic_trace
from sliceoff.errors import InputError


def test_the_same_seed_gives_the_same_trace():
    one, again, other = synthetic_trace(seed=3), synthetic_trace(seed=3), synthetic_trace(seed=4)
    assert (one.values == again.values).all()
    assert (one.values != other.values).all()


@pytest.mark.parametrize(("n_regions", "days", "step_s"), [(1, 7, 3600), (2, 3, 600), (9, 14, 1800)])
def test_shapes(n_regions, days, step_s):
    trace = synthetic_trace(n_regions, days, step_s)
    assert trace.values.shape == (days * 86_400 // step_s, n_regions)
    assert (trace.values > 0).all()
    assert trace.step_s == step_s
    assert trace.coordinates.shape == (n_regions, 2)


def test_neighbours_lie_500_m_apart():
    places = synthetic_trace(n_regions=5, days=1).coordinates
    assert np.linalg.norm(places - np.roll(places, 1, 0), axis=1) == pytest.approx(500)


def test_drift_moves_users_and_makes_none():
    still, drifting = synthetic_trace(noise=0, drift=0), synthetic_trace(noise=0, drift=1)
    assert drifting.values.sum(1) == pytest.approx(still.values.sum(1))
    assert abs(drifting.values - still.values).mean() > 0.1 * still.values.mean()
    assert (drifting.values > 0).all()


def test_bursts_rise_at_once_and_die_out():
    plain, busy = (
        synthetic_trace(noise=0, drift=0, bursts_per_week=0),
        synthetic_trace(noise=0, drift=0, bursts_per_week=2),
    )
    added = (busy.values - plain.values) / plain.values.mean(0)
    assert (added > -1e-9).all()
    starts = np.argwhere(np.diff(added, axis=0) > 0.25)
    assert len(starts) == pytest.approx(2 * 12 * 4, rel=0.35)  # per week, weeks, regions
    for step, region in starts[:20]:
        if step + 2 < len(added):
            decay = added[step + 2, region] / added[step + 1, region]
            assert decay == pytest.approx(0.5**0.5) or decay > 0.5**0.5  # another may begin meanwhile


def test_days_and_weeks_recur():
    values = synthetic_trace().values
    standard = (values - values.mean(0)) / values.std(0)

    def alike(lag):
        return (standard[lag:] * standard[:-lag]).mean(0)

    assert (alike(24) > 0.7).all()
    assert (alike(168) > 0.7).all()
    assert (alike(12) < 0).all()
    assert alike(168)[0] > alike(24)[0] + 0.1  # offices empty at weekends


def test_regions_differ_in_their_busiest_hour():
    values = synthetic_trace().values[: 5 * 24].reshape(5, 24, 4).mean(0)
    assert len(set(values.argmax(0))) >= 3


def test_a_linear_map_of_the_past_beats_yesterday_and_last_week():
    datamodule = TrafficDataModule(synthetic_trace(), 168, 24, batch_size=4096)
    assert datamodule.heldout_end - datamodule.heldout_start >= 2 * 168
    scaler = Scaler(datamodule.n_regions)
    scaler.fit(datamodule.train_values)

    def pairs(loader):
        (window,) = loader
        return (scaler.transform(part).transpose(1, 2).flatten(0, 1) for part in (window.history, window.future))

    past, future = pairs(datamodule.train_dataloader())
    weights = torch.linalg.solve(past.T @ past + 100 * torch.eye(168), past.T @ future)
    past, future = pairs(datamodule.test_dataloader())

    def error(forecast):
        return float(((forecast - future) ** 2).mean())

    ridge = error(past @ weights)
    assert ridge < 0.75 * error(past[:, :24])  # the same hours last week
    assert ridge < 0.6 * error(past[:, -24:])  # yesterday
    assert ridge < 0.2 * error(past[:, -1:].expand(-1, 24))


@pytest.mark.parametrize(
    "wrong",
    [{"n_regions": 0}, {"days": 0}, {"step_s": 0}, {"noise": -1}, {"drift": 1.5}, {"bursts_per_week": float("nan")}],
)
def test_arguments_out_of_range(wrong):
    with pytest.raises(InputError, match=f"^{next(iter(wrong))}="):
        synthetic_trace(**wrong)
    with pytest.raises(InputError, match="at least two"):
        synthetic_trace(days=1, step_s=86_400)
