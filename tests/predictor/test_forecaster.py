"""Networks and the module around them: shapes, scaling, metrics, checkpoints, no look-ahead."""

from dataclasses import replace
from functools import partial

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, WeightAveraging
from quiet import trainer
from torch import nn
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import ConstantLR, ExponentialLR, LambdaLR

from callbacks import DivergenceGuard, RandomState
from sliceoff import checkpoint
from sliceoff.config import options
from sliceoff.data import Trace, TrafficDataModule, Window, synthetic_trace
from sliceoff.errors import InputError
from sliceoff.predictor import MLP, Forecaster, Informer, LastValue, Linear, QuantileLoss, SeasonalNaive
from sliceoff.predictor.layers import Distil, Heads, ProbSparseAttention
from sliceoff.predictor.sizes import Sizes
from sliceoff.run import Parts, configure

NETWORKS = {
    "informer": partial(Informer, d_model=8, n_heads=2, d_ff=8, label_length=6, factor=1.0),
    "linear": Linear,
    "mlp": MLP,
    "seasonal_naive": SeasonalNaive,
    "last_value": LastValue,
}
DATA = {"n_regions": 4, "n_calendar": 4, "input_length": 30, "horizon": 6, "season_length": 24}


@pytest.fixture(scope="module")
def windows():
    return TrafficDataModule(synthetic_trace(days=21), input_length=30, horizon=6, batch_size=16)


@pytest.mark.parametrize("channels", ["independent", "joint"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_fits_forecasts_and_round_trips_through_its_checkpoint(tmp_path, windows, name, channels):
    torch.manual_seed(0)
    forecaster = Forecaster(NETWORKS[name], **DATA, channels=channels)
    engine = trainer(tmp_path)
    engine.fit(forecaster, windows)
    window = windows.history_until(windows.heldout_start)
    forecast = forecaster.eval().forecast(window)
    assert forecast.shape == (1, 6, 4, 1)
    assert (forecast >= 0).all()
    engine.save_checkpoint(tmp_path / "best.ckpt")
    loaded = checkpoint.load(tmp_path / "best.ckpt", expect=Forecaster)
    assert torch.equal(loaded.forecast(window), forecast)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("instance_norm", [False, True])
def test_the_same_input_gives_the_same_forecast_and_the_future_changes_nothing(windows, name, instance_norm):
    forecaster = Forecaster(NETWORKS[name], **DATA, instance_norm=instance_norm).eval()
    forecaster.scaler.fit(windows.train_values)
    window = windows.heldout_windows[0]
    first = forecaster.forecast(window)
    assert torch.equal(forecaster.forecast(window._replace(future=torch.rand_like(window.future) * 1e6)), first)


def test_the_naive_forecasts_by_hand(windows):
    window = windows.validation_windows[3]
    for network, place in ((LastValue, [-1] * 6), (SeasonalNaive, range(-24, -18))):
        forecaster = Forecaster(network, **DATA).eval()
        forecaster.scaler.fit(windows.train_values)
        torch.testing.assert_close(forecaster.point(window), window.history[:, list(place)], rtol=1e-4, atol=1e-2)


def test_ridge_finds_a_linear_law_and_its_penalty_is_chosen_on_the_validation_part(tmp_path):
    rng = np.random.default_rng(0)
    values = np.zeros((600, 1))
    values[:2, 0] = rng.standard_normal(2)
    for step in range(2, 600):
        values[step, 0] = 1.5 * values[step - 1, 0] - 0.9 * values[step - 2, 0] + 0.01 * rng.standard_normal()
    times = np.datetime64("2024-01-01T00:00:00", "s") + np.arange(600) * np.timedelta64(3600, "s")
    data = TrafficDataModule(Trace(values, times, ("a",), 3600), input_length=4, horizon=1, batch_size=50)
    forecaster = Forecaster(Linear, 1, 4, 4, 1, 24, nonnegative=False)
    trainer(tmp_path).fit(forecaster, data)
    weight = forecaster.network.weight.flatten()
    assert weight[-1].item() == pytest.approx(1.5, abs=0.15)
    assert weight[-2].item() == pytest.approx(-0.9, abs=0.25)


def test_the_scaler_never_sees_validation_or_test(tmp_path, windows):
    trace = windows.trace
    changed = Trace(trace.values.copy(), trace.times, trace.regions, trace.step_s)
    changed.values[len(windows.train_values) :] *= 1000
    scalers = []
    for data in (windows, TrafficDataModule(changed, input_length=30, horizon=6)):
        forecaster = Forecaster(LastValue, **DATA)
        trainer(tmp_path).fit(forecaster, data)
        scalers.append(forecaster.scaler)
    assert torch.equal(scalers[0].mean, scalers[1].mean)
    assert torch.equal(scalers[0].std, scalers[1].std)


def test_metrics_do_not_depend_on_the_batch_size(tmp_path, windows):
    results = []
    for batch_size in (7, 1000):
        data = TrafficDataModule(windows.trace, input_length=30, horizon=6, batch_size=batch_size)
        forecaster = Forecaster(SeasonalNaive, **DATA)
        forecaster.scaler.fit(data.train_values)
        results.append(trainer(tmp_path).test(forecaster, data, verbose=False)[0])
    assert results[0] == pytest.approx(results[1], rel=1e-4)
    # WAPE by hand, in real units.
    whole = data.heldout_windows.__getitems__(range(len(data.heldout_windows)))
    naive = whole.history[:, -24:-18]
    wape = ((naive - whole.future).abs().sum() / whole.future.abs().sum()).item()
    assert results[1]["test/real_wape"] == pytest.approx(wape, rel=1e-3)
    assert "test/scaled_wape" not in results[1]  # a share of traffic that is about 0 on average


def in_unit(trace, unit) -> TrafficDataModule:
    return TrafficDataModule(replace(trace, values=unit * trace.values), input_length=30, horizon=6)


@pytest.mark.parametrize("unit", [1e-30, 1e25])
def test_wape_does_not_depend_on_the_unit(tmp_path, windows, unit):
    results = []
    for data in (windows, in_unit(windows.trace, unit)):
        forecaster = Forecaster(LastValue, **DATA)
        forecaster.scaler.fit(data.train_values)
        results.append(trainer(tmp_path).test(forecaster, data, verbose=False)[0]["test/real_wape"])
    assert results[0] == pytest.approx(results[1], rel=1e-4)


@pytest.mark.parametrize("unit", [0.0, 1e25])
def test_no_traffic_and_squares_beyond_float32_are_no_divergence(tmp_path, windows, unit):
    forecaster, data = Forecaster(MLP, **DATA), in_unit(windows.trace, unit)
    engine = trainer(tmp_path, epochs=2, callbacks=[DivergenceGuard()], limit_train_batches=1)
    engine.fit(forecaster, data)
    measured = engine.test(forecaster, data, verbose=False)[0]
    assert np.isnan(measured["test/real_wape"]) == (unit == 0)


def test_informer_learns(tmp_path, windows):
    torch.manual_seed(0)
    forecaster = Forecaster(NETWORKS["informer"], **DATA, learning_rate=5e-3)
    engine = trainer(tmp_path)
    forecaster.scaler.fit(windows.train_values)
    before = engine.validate(forecaster, windows, verbose=False)[0]["val/scaled_mse"]
    engine = trainer(tmp_path, epochs=3)
    engine.fit(forecaster, windows)
    assert engine.callback_metrics["val/scaled_mse"] < 0.6 * before


def test_quantiles_never_cross_and_the_pinball_loss_is_right_by_hand(windows):
    loss = partial(QuantileLoss, levels=(0.1, 0.5, 0.9))
    forecaster = Forecaster(NETWORKS["informer"], **DATA, loss=loss).eval()
    forecaster.scaler.fit(windows.train_values)
    forecast = forecaster.forecast(windows.heldout_windows.__getitems__(range(8)))
    assert forecast.shape[-1] == 3
    assert (forecast.diff(dim=-1) >= 0).all()
    value = loss()(torch.tensor([[[[1.0, 2.0, 4.0]]]]), torch.tensor([[[[3.0]]]]))
    assert value.item() == pytest.approx((0.1 * 2 + 0.5 * 1 + 0.1 * 1) / 3)


class OwnPinball(nn.Module):
    """A loss of one's own over quantiles, which only its `levels` tell."""

    levels = (0.2, 0.5, 0.8)

    def forward(self, forecast, target):
        error, levels = target - forecast, torch.tensor(self.levels)
        return torch.maximum(levels * error, (levels - 1) * error).mean()


def test_a_loss_of_ones_own_with_levels_gets_an_output_for_each(tmp_path, windows):
    forecaster = Forecaster(NETWORKS["mlp"], **DATA, loss=OwnPinball)
    trainer(tmp_path, limit_train_batches=2).fit(forecaster, windows)
    assert forecaster.forecast(windows.history_until(100)).shape == (1, 6, 4, 3)
    assert forecaster.levels == OwnPinball.levels


class Uncertain(nn.Module):
    """The likelihood of errors whose variance it learns."""

    def __init__(self):
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(()))

    def forward(self, forecast, target):
        return (forecast - target).square().mean() * (-self.log_variance).exp() + self.log_variance


@pytest.mark.parametrize(("clip", "learns"), [(1.0, True), (1e-9, False)])
def test_a_loss_learns_parameters_of_its_own_within_the_clipped_gradient(tmp_path, windows, clip, learns):
    options = {"loss": Uncertain, "optimizer": SGD, "gradient_clip": clip}
    forecaster = Forecaster(NETWORKS["informer"], **DATA, **options)
    engine = trainer(tmp_path, limit_train_batches=2)
    engine.fit(forecaster, windows)
    assert (abs(forecaster.loss.log_variance.item()) > 1e-6) == learns
    engine.save_checkpoint(tmp_path / "best.ckpt")
    loaded = checkpoint.load(tmp_path / "best.ckpt", expect=Forecaster)
    assert torch.equal(loaded.loss.log_variance, forecaster.loss.log_variance)


@pytest.mark.parametrize(
    ("loss", "value"), [("mse", 4.0), ("mae", 2.0), ("huber", 1.5), ("quantiles", (0.1 + 0.5 + 0.9) * 2 / 3)]
)
def test_every_loss_is_one_word_of_the_config(loss, value):
    forecaster = Parts(configure(f"predictor/loss={loss}")).forecaster
    two_too_low = torch.zeros(1, 6, 4, forecaster.n_outputs), torch.full((1, 6, 4, 1), 2.0)
    assert forecaster.loss(*two_too_low).item() == pytest.approx(value)


@pytest.mark.parametrize(
    ("scheduler", "rates"),
    [("constant", [1, 1, 1, 1]), ("halving", [1, 0.5, 0.25, 0.125]), ("cosine", [1, 0.75, 0.25, 0])],
)
@pytest.mark.parametrize(("optimizer", "kind"), [("adamw", AdamW), ("adam", Adam), ("sgd", SGD)])
def test_optimizer_and_learning_rate_are_one_word_of_the_config_each(optimizer, kind, scheduler, rates):
    words = (f"predictor/optimizer={optimizer}", f"predictor/scheduler={scheduler}", "predictor.learning_rate=0.1")
    forecaster = Parts(configure(*words, "trainer.predictor.max_epochs=3", "predictor.weight_decay=0.02")).forecaster
    (made,), (schedule,) = forecaster.configure_optimizers()
    (group,) = made.param_groups
    assert type(made) is kind
    assert group["weight_decay"] == 0.02
    seen = []
    for _ in rates:  # epochs
        seen.append(group["lr"])
        made.step()
        schedule.step()
    assert seen == pytest.approx([0.1 * rate for rate in rates])


def test_the_schedule_is_stepped_every_epoch_and_is_no_part_of_a_checkpoint(tmp_path, windows):
    forecaster = Forecaster(NETWORKS["informer"], **DATA, scheduler=partial(ExponentialLR, gamma=0.5))
    engine = trainer(tmp_path, epochs=2, limit_train_batches=1, limit_val_batches=1)
    engine.fit(forecaster, windows)
    assert engine.optimizers[0].param_groups[0]["lr"] == pytest.approx(forecaster.learning_rate / 4)
    engine.save_checkpoint(tmp_path / "best.ckpt")
    loaded = checkpoint.load(tmp_path / "best.ckpt", expect=Forecaster)
    assert isinstance(loaded.configure_optimizers()[1][0], ConstantLR)


def test_options_from_numpy_leave_a_checkpoint_that_loads(tmp_path, windows):
    rates = {"learning_rate": np.float64(1e-3), "weight_decay": np.float64(0.1), "gradient_clip": np.float64(1.0)}
    forecaster = Forecaster(
        partial(MLP, dropout=np.float64(0.1)), **DATA, **rates, regions=tuple(np.array(["a", "b", "c", "d"]))
    )
    engine = trainer(tmp_path, limit_train_batches=1)
    engine.fit(forecaster, windows)
    engine.save_checkpoint(tmp_path / "best.ckpt")
    assert checkpoint.load(tmp_path / "best.ckpt", expect=Forecaster).spec == forecaster.spec


def cosine(epoch):
    return np.cos(epoch)


def test_an_optimizer_and_a_schedule_in_numpys_numbers_leave_a_checkpoint_that_loads(tmp_path, windows):
    adam = partial(AdamW, betas=tuple(np.array([0.9, 0.99])), fused=np.True_)
    forecaster = Forecaster(MLP, **DATA, optimizer=adam, scheduler=partial(LambdaLR, lr_lambda=cosine))
    engine = trainer(tmp_path, limit_train_batches=1, plugins=[checkpoint.AtomicCheckpointIO()])
    engine.fit(forecaster, windows)
    engine.save_checkpoint(tmp_path / "last.ckpt")
    (group,) = checkpoint.read(tmp_path / "last.ckpt")["optimizer_states"][0]["param_groups"]
    assert group["lr"] == forecaster.learning_rate * np.cos(1)
    assert [type(group[name]) for name in ("lr", "fused")] == [float, bool]


@pytest.mark.parametrize("averaging", [WeightAveraging, EMAWeightAveraging])
def test_the_checkpoint_holds_averaged_weights(tmp_path, windows, averaging):
    forecaster = Forecaster(NETWORKS["mlp"], **DATA)
    saver = SaveAt(3, tmp_path / "best.ckpt")
    trainer(tmp_path, limit_train_batches=3, callbacks=[averaging(), saver]).fit(forecaster, windows)
    loaded = checkpoint.load(tmp_path / "best.ckpt", expect=Forecaster)
    last = checkpoint.read(tmp_path / "best.ckpt")["current_model_state"]
    assert not torch.equal(loaded.network.head.weight, last["network.head.weight"])
    assert loaded.scaler.fitted
    torch.testing.assert_close(loaded.scaler.mean, last["scaler.mean"])


def test_a_trace_below_zero_wants_a_predictor_that_may_go_there(tmp_path):
    trace = synthetic_trace(days=21)
    below = Trace(trace.values - 1e6, trace.times, trace.regions, trace.step_s)
    windows = TrafficDataModule(below, input_length=30, horizon=6)
    with pytest.raises(InputError, match="nonnegative=false"):
        trainer(tmp_path).fit(Forecaster(LastValue, **DATA), windows)
    forecaster = Forecaster(LastValue, **DATA, nonnegative=False)
    trainer(tmp_path).fit(forecaster, windows)
    forecast = forecaster.forecast(windows.history_until(100))
    torch.testing.assert_close(forecast[0, 0, :, 0], torch.tensor(below.values[99]).float())


@pytest.mark.parametrize("name", sorted(set(options("predictor")) - {"ensemble"}))
def test_all_of_a_step_stays_on_the_device(elsewhere, name):
    forecaster = Parts(configure(f"predictor={name}", "predictor.instance_norm=true")).forecaster.to(elsewhere)
    sizes, regions = forecaster.sizes, forecaster.n_regions
    past, ahead = sizes.input_length, sizes.horizon
    shapes = ((past, regions), (past, sizes.n_calendar), (ahead, regions), (ahead, sizes.n_calendar))
    window = Window(*(torch.rand(8, *shape, device=elsewhere) for shape in shapes))
    if forecaster.by_gradient:
        forecaster._loss(forecaster(window), window).backward()
    forecaster.eval().test_step(window, 0)
    forecast = forecaster.forecast(window)
    assert (forecast.device.type, *forecast.shape) == (elsewhere, 8, ahead, regions, 1)


def test_the_trainer_predicts_in_the_units_of_the_trace(tmp_path, windows):
    forecaster = Forecaster(LastValue, **DATA)
    engine = trainer(tmp_path)
    engine.fit(forecaster, windows)
    (predicted,) = engine.predict(forecaster, windows)
    torch.testing.assert_close(predicted, forecaster.forecast(windows.history_until(len(windows.trace.times))))


def test_a_ridge_regression_that_no_memory_holds_is_refused_in_one_line(monkeypatch):
    sizes = Sizes(n_channels=3, n_calendar=0, input_length=4, horizon=1, n_outputs=1, season_length=4)
    monkeypatch.setattr("sliceoff.checks.os.sysconf", {"SC_PAGE_SIZE": 5 * 8, "SC_PHYS_PAGES": 12**2}.__getitem__)
    history, future = torch.rand(20, 4, 3), torch.rand(20, 1, 3)
    batches = [(history, future, torch.ones(20))]
    Linear(sizes).solve(batches, batches)
    with pytest.raises(InputError, match=r"on 15 inputs .* takes .* GB of memory, .*channels=independent"):
        Linear(sizes._replace(input_length=5)).solve(batches, batches)


def test_a_closed_form_cannot_learn_quantiles():
    with pytest.raises(InputError, match="quantiles"):
        Forecaster(Linear, **DATA, loss=partial(QuantileLoss, levels=(0.1, 0.5, 0.9)))


def test_heads_are_merged_in_time_order():
    heads = Heads(d_model=6, n_heads=3)
    heads.out = nn.Identity()
    x = torch.randn(2, 5, 6)
    _, _, value = heads.split(x, x)
    torch.testing.assert_close(heads.merge(value), heads.value(x))


@pytest.mark.parametrize("sampling", ["shared", "independent"])
@pytest.mark.parametrize("causal", [False, True])
def test_chance_chooses_the_sampled_keys_in_training_only(sampling, causal):
    torch.manual_seed(0)
    attention = ProbSparseAttention(8, 2, 0.0, 2.0, sampling, causal)
    x = torch.randn(2, 1100, 8)  # independent keys pay from here on
    assert not torch.equal(attention(x, x), attention(x, x))
    attention.eval()
    assert torch.equal(attention(x, x), attention(x, x))


@pytest.mark.parametrize(("length", "halved"), [(96, 48), (97, 49), (2, 1), (1, 1)])
def test_distilling_halves(length, halved):
    assert Distil(4)(torch.randn(1, length, 4)).shape == (1, halved, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"network": partial(Informer, d_model=10, n_heads=3)}, "n_heads"),
        ({"optimizer": partial(AdamW, betas=3)}, "optimizer"),
        ({"scheduler": partial(ExponentialLR, decay=0.5)}, "scheduler"),
        ({"loss": partial(QuantileLoss, levels=(0.1, 0.9))}, "median"),
        ({"loss": partial(QuantileLoss, levels=(0.9, 0.5, 0.1))}, "rise"),
        ({"loss": partial(nn.MSELoss, reduction="none")}, r"loss returns .*\(2, 6, 4, 1\) for a batch; .* one number"),
        ({"loss": type("NoTensor", (nn.Module,), {"forward": lambda *_: 0.0})}, "loss returns float .* one number"),
        ({"loss": type("Uncentred", (OwnPinball,), {"levels": torch.tensor([0.2, 0.8])})}, r"loss\.levels=.*median"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(InputError, match=message):
        Forecaster(**{"network": LastValue, **DATA, **options})


def test_the_mlp_starts_as_ridge_and_leaves_it_for_a_law_that_is_not_linear(tmp_path):
    values = np.full((600, 1), 0.3)
    for step in range(599):
        values[step + 1] = 4 * values[step] * (1 - values[step])  # the logistic map: no linear one knows its next value
    times = np.datetime64("2024-01-01", "s") + np.arange(600) * np.timedelta64(3600, "s")
    data = TrafficDataModule(Trace(values, times, ("a",), 3600), input_length=2, horizon=1, batch_size=16)
    sizes = {"n_regions": 1, "n_calendar": 4, "input_length": 2, "horizon": 1, "season_length": 24}
    losses = {}
    for name, network, rate in (("ridge", Linear, 1e-3), ("start", MLP, 1e-12), ("trained", MLP, 1e-2)):
        torch.manual_seed(0)
        forecaster = Forecaster(network, **sizes, learning_rate=rate, nonnegative=False)
        engine = trainer(tmp_path, epochs=5)
        engine.fit(forecaster, data)
        losses[name] = float(engine.callback_metrics["val/loss"])
    assert losses["start"] == pytest.approx(losses["ridge"], rel=1e-4)
    assert losses["trained"] < 0.5 * losses["ridge"]


def test_ridge_on_normalised_windows_is_not_ruled_by_those_that_stand_still(tmp_path):
    values = np.sin(np.arange(900.0))[:, None] * 5
    values[200:260] = 3.0 + 1e-7 * np.arange(60)[:, None]  # a sensor that hung
    values[600:660] += np.linspace(0, 4, 60)[:, None]
    times = np.datetime64("2024-01-01", "s") + np.arange(900) * np.timedelta64(3600, "s")
    data = TrafficDataModule(Trace(values, times, ("a",), 3600), input_length=24, horizon=2, batch_size=16)
    sizes = {"n_regions": 1, "n_calendar": 4, "input_length": 24, "horizon": 2, "season_length": 24}
    forecaster = Forecaster(Linear, **sizes, instance_norm=True, nonnegative=False)
    engine = trainer(tmp_path)
    engine.fit(forecaster, data)
    assert float(engine.test(forecaster, data, verbose=False)[0]["test/scaled_mse"]) < 1e-3


def test_resumed_in_the_middle_of_an_epoch_the_weights_are_bit_equal(tmp_path, windows):
    def fitted(path, **options):
        torch.manual_seed(0)
        forecaster = Forecaster(partial(NETWORKS["informer"], dropout=0.1), **DATA)
        engine = trainer(path, epochs=2, callbacks=[RandomState(), *options.pop("callbacks", [])])
        engine.fit(forecaster, windows, **options)
        return engine, forecaster

    _, whole = fitted(tmp_path)
    steps = len(windows.train_dataloader())
    saver = SaveAt(steps + steps // 2, tmp_path / "middle.ckpt")
    fitted(tmp_path, callbacks=[saver])
    torch.manual_seed(99)  # what the process drew before must not matter
    engine, resumed = fitted(tmp_path, ckpt_path=tmp_path / "middle.ckpt")
    assert engine.global_step == 2 * steps
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name


class SaveAt(pl.Callback):
    """Saves a checkpoint after one step."""

    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("instance_norm", [False, True])
@pytest.mark.parametrize("name", ["informer", "linear"])
def test_a_forecaster_fitted_in_another_unit_forecasts_the_same_in_that_unit(tmp_path, windows, name, instance_norm):
    def fitted(data):
        torch.manual_seed(0)
        forecaster = Forecaster(NETWORKS[name], **DATA, instance_norm=instance_norm)
        trainer(tmp_path).fit(forecaster, data)
        errors = trainer(tmp_path).test(forecaster, data, verbose=False)[0]
        return forecaster.eval().forecast(data.history_until(data.heldout_start)), errors

    forecast, errors = fitted(windows)
    for unit in (1e-6, 3e4):
        trace = replace(windows.trace, values=windows.trace.values * unit)
        moved, theirs = fitted(TrafficDataModule(trace, input_length=30, horizon=6, batch_size=16))
        torch.testing.assert_close(moved / unit, forecast, rtol=1e-3, atol=1e-2)
        for metric in ("test/scaled_mse", "test/scaled_mae", "test/real_wape"):
            assert theirs[metric] == pytest.approx(errors[metric], rel=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_independent_channels_forecast_a_region_alike_whatever_its_column(windows, name):
    torch.manual_seed(0)
    forecaster = Forecaster(NETWORKS[name], **DATA).eval()
    forecaster.scaler.fit(windows.train_values)
    window, order = windows.heldout_windows[5], [2, 0, 3, 1]
    forecast = forecaster.forecast(window)
    forecaster.scaler.fit(windows.train_values[:, order])
    moved = forecaster.forecast(window._replace(history=window.history[..., order]))
    torch.testing.assert_close(moved, forecast[:, :, order])
