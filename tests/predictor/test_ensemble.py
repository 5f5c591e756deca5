"""The mean of fitted forecasters."""

from functools import partial

import pytest
import torch

from sliceoff import checkpoint
from sliceoff.data import TrafficDataModule, Window, synthetic_trace
from sliceoff.errors import InputError
from sliceoff.predictor import MLP, Ensemble, Forecaster, LastValue, QuantileLoss, Recurrent, SeasonalNaive, export
from sliceoff.run import configure, run

SIZES = {"n_regions": 4, "n_calendar": 4, "input_length": 30, "horizon": 6, "season_length": 24}
QUANTILES = partial(QuantileLoss, levels=[0.1, 0.5, 0.9])


@pytest.fixture(scope="module")
def windows():
    return TrafficDataModule(synthetic_trace(days=21), input_length=30, horizon=6, batch_size=16)


def fitted(windows, network, **options):
    torch.manual_seed(0)
    forecaster = Forecaster(network, **{**SIZES, **options}).eval()
    forecaster.scaler.fit(windows.train_values)
    return forecaster


def saved(path, forecaster):
    torch.save({"spec": forecaster.spec, "state_dict": forecaster.state_dict()}, path)
    return str(path)


def ensemble(windows, *members, **options):
    made = Ensemble(list(members), **{**SIZES, **options}).eval()
    made.scaler.fit(windows.train_values)
    return made


def test_it_forecasts_the_mean_of_its_members_in_real_units(tmp_path, windows):
    window = windows.validation_windows[3]
    of_last, of_season = fitted(windows, LastValue), fitted(windows, SeasonalNaive)
    both = ensemble(windows, saved(tmp_path / "last.ckpt", of_last), saved(tmp_path / "season.ckpt", of_season))
    by_hand = (window.history[:, -1:] + window.history[:, -24:-18]) / 2
    torch.testing.assert_close(both.point(window), by_hand, rtol=1e-4, atol=1e-2)


def test_a_member_with_a_shorter_history_sees_the_last_steps(tmp_path, windows):
    window = windows.validation_windows[3]
    short = fitted(windows, MLP, input_length=12)
    alone = ensemble(windows, saved(tmp_path / "short.ckpt", short))
    cut = Window(window.history[:, -12:], window.history_calendar[:, -12:], window.future, window.future_calendar)
    torch.testing.assert_close(alone.point(window), short.point(cut), rtol=1e-4, atol=1e-2)


def test_quantiles_are_averaged_level_by_level_and_do_not_cross(tmp_path, windows):
    window = windows.validation_windows[3]
    members = [fitted(windows, partial(Recurrent, hidden_size=size), loss=QUANTILES) for size in (4, 8)]
    both = ensemble(windows, *(saved(tmp_path / f"{i}.ckpt", member) for i, member in enumerate(members)))
    forecast = both.forecast(window)
    torch.testing.assert_close(forecast, sum(m.forecast(window) for m in members) / 2, rtol=1e-4, atol=1e-2)
    assert (forecast.diff(dim=-1) >= 0).all()


def test_its_checkpoint_holds_its_members_whole(tmp_path, windows):
    window = windows.validation_windows[3]
    member = tmp_path / "member.ckpt"
    first = ensemble(
        windows, saved(member, fitted(windows, MLP)), saved(tmp_path / "other.ckpt", fitted(windows, LastValue))
    )
    path = saved(tmp_path / "ensemble.ckpt", first)
    member.unlink()
    again = checkpoint.load(path, expect=Forecaster)
    assert torch.equal(again.forecast(window), first.forecast(window))
    nested = ensemble(windows, path, path)
    torch.testing.assert_close(nested.forecast(window), first.forecast(window))
    assert export(nested, tmp_path / "ensemble.pt2").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_regions": 3}, r"members\[1\]=.*other.ckpt was fitted for n_regions=3, and the data has 4"),
        ({"horizon": 5}, r"members\[1\]=.*other.ckpt was fitted for horizon=5, and the data has 6"),
        ({"season_length": 144}, r"members\[1\]=.*other.ckpt was fitted for season_length=144, and the data has 24"),
        (
            {"input_length": 31},
            r"members\[1\]=.*other.ckpt sees 31 steps of history; set windows.input_length=31 or more",
        ),
        ({"regions": ["a", "b", "c", "e"]}, r"members\[1\]=.* was fitted for region 'e' where the data has 'd'"),
        ({"calendar": ["week", "day"]}, r"members\[1\]=.* was fitted for calendar=\['week', 'day'\], and the data has"),
        ({"loss": QUANTILES}, r"members\[1\]=.*other.ckpt and members\[0\] forecast other quantiles"),
    ],
)
def test_members_that_do_not_fit_are_refused_in_one_line(tmp_path, windows, options, message):
    good = saved(tmp_path / "good.ckpt", fitted(windows, MLP))
    other = Forecaster(MLP, **{**SIZES, **options})
    with pytest.raises(InputError, match=message):
        ensemble(
            windows, good, saved(tmp_path / "other.ckpt", other), regions=["a", "b", "c", "d"], calendar=["day", "week"]
        )


@pytest.mark.parametrize("members", [[], "runs/a"])
def test_no_list_of_members_is_refused(members):
    with pytest.raises(InputError, match=r"^members.* of.* fitted predictor"):
        Ensemble(members, **SIZES)


def test_a_user_fits_two_predictors_and_runs_their_mean(tmp_path):
    small = [
        "data.days=21",
        "data.n_regions=2",
        "trainer.predictor.max_epochs=1",
        "trainer.predictor.limit_train_batches=2",
        "callbacks.predictor.progress=null",
    ]
    members = [
        run(configure("job=fit_predictor", f"predictor={name}", f"run_dir={tmp_path / name}", *small))
        for name in ("linear", "mlp")
    ]
    names = ",".join(str(member.directory) for member in members)
    both = run(
        configure(
            "job=fit_predictor",
            "predictor=ensemble",
            f"predictor.members=[{names}]",
            f"run_dir={tmp_path / 'both'}",
            *small,
        )
    )
    data = both.parts.datamodule
    window = data.heldout_windows[0]
    mean = sum(member.parts.forecaster.point(window) for member in members) / 2
    torch.testing.assert_close(both.parts.forecaster.point(window), mean, rtol=1e-4, atol=1e-2)
    with pytest.raises(InputError, match="nothing to tune"):
        run(configure("job=finetune", f"init.checkpoint={both.directory}", f"run_dir={tmp_path / 'tuned'}", *small))
