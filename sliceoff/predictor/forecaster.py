"""The LightningModule around a network: scaling, loss, metrics, forecasts in the trace's own units."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler
from torch.utils.data import DataLoader
from torchmetrics import MeanAbsoluteError, MeanSquaredError, MetricCollection
from torchmetrics.regression import WeightedMeanAbsolutePercentageError

from sliceoff import checkpoint
from sliceoff.checks import flag, not_negative, one_of, positive, precision
from sliceoff.data import Scaler, Window
from sliceoff.errors import InputError, OptionError, under
from sliceoff.predictor.losses import levels_of
from sliceoff.predictor.sizes import Sizes

ADAMW, CONSTANT = partial(AdamW, fused=True), partial(ConstantLR, factor=1.0)
_UNSAVED = ("self", "__class__", "optimizer", "scheduler")  # no part of a checkpoint's spec


class Forecaster(pl.LightningModule):
    """Forecasts every region's traffic, in the trace's own units.

    The network, `network(sizes)` with a `Sizes`, maps (history, history_calendar, future_calendar) to (batch, horizon,
    channels, outputs) in scaled units. If it has a method `solve(train, validation)`, this fits it first, in closed
    form; parameters that require gradients are then trained.

    Args:
        network: makes the network.
        n_regions, n_calendar, input_length, horizon, season_length: of the data (`TrafficDataModule` has them).
        channels: `independent`: one network is applied to every region by itself, so that a checkpoint can be used for
            any number of regions; `joint`: one network sees all regions as one vector.
        loss: makes the loss, whose own parameters are trained with the network's. If it has an attribute `levels`, as
            `QuantileLoss` has, the network has one output per level, sorted so that quantiles never cross.
        optimizer: called with the weights, `lr=` and `weight_decay=`, makes the optimizer.
        scheduler: called with the optimizer, makes the schedule of its learning rate, which is stepped every epoch.
            Neither is part of a checkpoint's `spec`: fine-tuning starts with the defaults.
        learning_rate, weight_decay: of the optimizer.
        gradient_clip: largest norm of the gradient.
        instance_norm: also standardise every window by the mean and standard deviation of its history, and undo it in
            the forecast.
        nonnegative: clip forecasts at zero (traffic is never negative).
        regions, calendar, step_s: names of the data's regions and calendar cycles, and its step [s]. They are kept in
            the checkpoint, so that `unsuited` notices other data; None: not known.

    Attributes:
        levels: of the quantiles forecast, rising; empty for a point forecast.

    Raises:
        InputError: an option is out of range.
    """

    def __init__(
        self,
        network: Callable[[Sizes], nn.Module],
        n_regions: int,
        n_calendar: int,
        input_length: int,
        horizon: int,
        season_length: int,
        channels: Literal["independent", "joint"] = "independent",
        loss: Callable[[], nn.Module] = nn.MSELoss,
        optimizer: Callable[..., Optimizer] = ADAMW,
        scheduler: Callable[[Optimizer], LRScheduler] = CONSTANT,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        gradient_clip: float = 1.0,
        instance_norm: bool = False,
        nonnegative: bool = True,
        regions: Sequence[str] | None = None,
        calendar: Sequence[str] | None = None,
        step_s: int | None = None,
    ):
        super().__init__()
        arguments = {name: value for name, value in locals().items() if name not in _UNSAVED}
        self.spec = checkpoint.describe(type(self), arguments)
        one_of("channels", channels, ("independent", "joint"))
        self.n_regions, self.channels = n_regions, channels
        self.learning_rate = positive("learning_rate", learning_rate)
        self.weight_decay = not_negative("weight_decay", weight_decay)
        self.gradient_clip = positive("gradient_clip", gradient_clip)
        self._optimizer, self._scheduler = optimizer, scheduler
        self._optimizers([nn.Parameter(torch.zeros(1))])  # so that wrong options are reported now
        self.instance_norm = flag("instance_norm", instance_norm)
        self.nonnegative = flag("nonnegative", nonnegative)
        with under("loss"):
            self.loss = loss()
            self.levels = levels_of(self.loss)
        self.n_outputs = len(self.levels) or 1
        shape = (2, horizon, n_regions)
        try:  # torch's losses check their options only when called
            value = self.loss(torch.zeros(*shape, self.n_outputs), torch.zeros(*shape, 1))
        except (RuntimeError, TypeError, ValueError) as error:
            raise OptionError("loss", f": {error}") from error
        if not isinstance(value, Tensor) or value.numel() != 1:
            what = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise OptionError("loss", f" returns {what} for a batch; it must return a tensor of one number, say a mean")
        self.sizes = Sizes(
            n_channels=n_regions if channels == "joint" else 1,
            n_calendar=n_calendar,
            input_length=input_length,
            horizon=horizon,
            n_outputs=self.n_outputs,
            season_length=season_length,
        )
        with under("network"):
            self.network = network(self.sizes)
        if not isinstance(self.network, nn.Module):
            raise OptionError("network", f" makes a {type(self.network).__name__}, which is no torch module")
        self.scaler = Scaler(n_regions)
        self.val_metrics, self.test_metrics = Metrics("val"), Metrics("test")
        self.by_gradient = any(weight.requires_grad for weight in self.network.parameters())
        self.automatic_optimization = self.by_gradient  # a closed form has no optimiser
        if self.n_outputs > 1 and not self.by_gradient:
            raise OptionError("loss", ": this network is not trained by gradient, so it cannot learn quantiles")

    def forward(self, window: Window) -> Float[Tensor, "batch horizon regions outputs"]:
        """Forecast in scaled units: standardised by the training part's mean and standard deviation."""
        history = self.scaler.transform(window.history)
        if self.channels == "joint":
            scaled = self._normalised(history, window.history_calendar, window.future_calendar)
        else:
            batch, _, regions = history.shape
            single = history.transpose(1, 2).reshape(batch * regions, -1, 1)
            calendars = (
                calendar.repeat_interleave(regions, 0) for calendar in (window.history_calendar, window.future_calendar)
            )
            scaled = self._normalised(single, *calendars).unflatten(0, (batch, regions)).squeeze(3).transpose(1, 2)
        return scaled.sort(-1).values if self.n_outputs > 1 else scaled

    def predict_step(self, window: Window, batch_index: int) -> Float[Tensor, "batch horizon regions outputs"]:
        """`forecast`, for `Trainer.predict`."""
        return self.forecast(window)

    @torch.no_grad()
    def forecast(self, window: Window) -> Float[Tensor, "batch horizon regions outputs"]:
        """Forecast in the trace's own units; the middle output is the point forecast (or median)."""
        return self._in_units(self(window))

    def point(self, window: Window) -> Float[Tensor, "batch horizon regions"]:
        """The point forecast in the trace's own units."""
        return self.forecast(window)[..., self.n_outputs // 2]

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile the network; arguments as for `torch.compile`."""
        self.network.compile(*args, **options)

    @property
    def backbone(self) -> nn.Module:
        """The network without its modules called `head`: the part that `BackboneFinetuning` freezes at first.

        Empty if no module is called `head`: nothing is frozen then.
        """
        return _headless(self.network) if _has_head(self.network) else nn.Module()

    def on_fit_start(self) -> None:
        """Fit the scaler on the training part, and the closed form if there is one, unless loaded from a checkpoint.

        A network that is fitted in closed form alone gets one epoch, to validate it and write its checkpoint.

        Raises:
            InputError: the precision is not supported, or the trace has negative values (see `check_sign`).
        """
        precision("trainer.predictor.precision", self.trainer.precision)
        if not self.by_gradient:
            self.trainer.fit_loop.max_epochs = 1
        if self.scaler.fitted:
            return
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        self.check_sign(data.train_values)
        self.scaler.fit(data.train_values)
        if (solve := getattr(self.network, "solve", None)) is not None:
            solve(self._examples(data.train_dataloader()), self._examples(data.val_dataloader()))

    def training_step(self, window: Window, batch_index: int) -> Tensor | None:
        if not self.by_gradient:
            return None
        loss = self._loss(self(window), window)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(window.history))
        return loss

    def validation_step(self, window: Window, batch_index: int) -> None:
        forecast = self(window)
        self.log("val/loss", self._loss(forecast, window), prog_bar=True, batch_size=len(window.history))
        self._measure(self.val_metrics, forecast, window)

    def test_step(self, window: Window, batch_index: int) -> None:
        self._measure(self.test_metrics, self(window), window)

    def on_validation_epoch_start(self) -> None:
        self.val_metrics.reset()

    def on_validation_epoch_end(self) -> None:
        metrics = self.val_metrics.compute()
        # A WAPE without traffic or a square beyond float32 is no divergence; divergence also shows in the loss.
        self.log_dict({name: value for name, value in metrics.items() if value.isfinite()})

    def on_test_epoch_start(self) -> None:
        self.test_metrics.reset()

    def on_test_epoch_end(self) -> None:
        self.log_dict(self.test_metrics.compute())

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        if not self.by_gradient:
            return [], []
        return self._optimizers([weight for weight in self.parameters() if weight.requires_grad])

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradient's norm here, as the trainer refuses to clip under manual optimisation (closed forms)."""
        nn.utils.clip_grad_norm_(self.parameters(), self.gradient_clip)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["spec"] = self.spec

    def check_sign(self, values: Float[Tensor, "time regions"]) -> None:
        """Check that, with `nonnegative`, a trace has no negative values.

        Raises:
            InputError: it has.
        """
        if self.nonnegative and bool((values < 0).any()):
            raise InputError(
                "predictor.nonnegative=true forecasts nothing below zero, but the trace has such values; fit the "
                "predictor with predictor.nonnegative=false, or set data.negative=zero"
            )

    def _optimizers(self, weights: list[nn.Parameter]) -> tuple[list[Optimizer], list[LRScheduler]]:
        with under("optimizer"):
            optimizer = self._optimizer(weights, lr=self.learning_rate, weight_decay=self.weight_decay)
        with under("scheduler"):
            return [optimizer], [self._scheduler(optimizer)]

    def _normalised(self, history: Tensor, history_calendar: Tensor, future_calendar: Tensor) -> Tensor:
        if not self.instance_norm:
            return self.network(history, history_calendar, future_calendar)
        mean, std = _statistics(history)
        scaled = self.network((history - mean) / std, history_calendar, future_calendar)
        return scaled * std.unsqueeze(-1) + mean.unsqueeze(-1)

    def _examples(self, loader: DataLoader) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Batches for a closed-form fit: (history, future, weight), in the units and channels that the network sees.

        With `instance_norm` a window is divided by its standard deviation and weighted by its variance (the mean over
        the window's channels), so that errors count as in the loss: else windows that hardly vary would dominate.
        """
        for window in loader:
            history, future = (self.scaler.transform(part.to(self.device)) for part in (window.history, window.future))
            if self.channels == "independent":
                history, future = (part.transpose(1, 2).flatten(0, 1).unsqueeze(-1) for part in (history, future))
            weight = history.new_ones(len(history))
            if self.instance_norm:
                mean, std = _statistics(history)
                history, future = (history - mean) / std, (future - mean) / std
                weight = std.square().mean((1, 2))
            yield history, future, weight

    def _in_units(self, forecast: Tensor) -> Tensor:
        real = self.scaler.inverse(forecast)
        # An infinite forecast stays infinite, so that it is noticed as invalid and not read as no traffic.
        return real.where(real.isinf(), real.clamp_min(0)) if self.nonnegative else real

    def _loss(self, forecast: Tensor, window: Window) -> Tensor:
        return self.loss(forecast, self.scaler.transform(window.future).unsqueeze(-1))

    def _measure(self, metrics: "Metrics", forecast: Tensor, window: Window) -> None:
        middle = forecast[..., self.n_outputs // 2 : self.n_outputs // 2 + 1]
        metrics.scaled.update(middle.squeeze(-1).contiguous(), self.scaler.transform(window.future).contiguous())
        metrics.real.update(self._in_units(middle).squeeze(-1).contiguous(), window.future.contiguous())


def unsuited(fitted: Mapping[str, Any], data: Mapping[str, Any]) -> str | None:
    """Why a fitted forecaster cannot be used on some data, in words that follow its name; None if it can.

    Args:
        fitted: the forecaster's arguments, as in its `spec`.
        data: sizes and names as in `TrafficDataModule.description`, or some of them.
    """
    for name, size in data.items():
        own = fitted.get(name)
        if own is None or size is None or own == size:
            continue
        if name == "step_s":
            mend = f"set data.resample_s={own}" if own % size == 0 else "choose a trace of that step"
            return f"was fitted on steps of {own} s, the trace has steps of {size} s; {mend}"
        if name == "regions" and len(own) == len(size):
            place = next(index for index, pair in enumerate(zip(own, size, strict=True)) if pair[0] != pair[1])
            return f"was fitted for region {own[place]!r} where the data has {size[place]!r}"
        if name != "regions":
            return f"was fitted for {name}={own}, and the data has {size}"
    return None


def _statistics(
    history: Float[Tensor, "batch time channels"],
) -> tuple[Float[Tensor, "batch 1 channels"], Float[Tensor, "batch 1 channels"]]:
    """Mean and standard deviation of every window and channel, for `instance_norm`."""
    return history.mean(1, keepdim=True), history.std(1, keepdim=True, correction=0) + 1e-5


def _has_head(module: nn.Module) -> bool:
    """Whether the module contains, at any depth, a module called `head` that has parameters."""
    return any(name.split(".")[-1] == "head" and [*part.parameters()] for name, part in module.named_modules())


def _headless(module: nn.Module) -> nn.Module:
    """The module itself if it contains no head, else a plain module of its parameters and other submodules."""
    if not _has_head(module):
        return module
    rest = nn.Module()
    for name, weight in module.named_parameters(recurse=False):
        rest.register_parameter(name, weight)
    for name, part in module.named_children():
        if name != "head":
            rest.add_module(name, _headless(part))
    return rest


class WAPE(WeightedMeanAbsolutePercentageError):
    """Sum of absolute errors over the sum of absolute targets; NaN if all targets are zero.

    Torchmetrics' own divides by at least 1.17e-6, which exceeds the sum of all traffic in some units.
    """

    def compute(self) -> Tensor:
        return self.sum_abs_error / self.sum_scale.where(self.sum_scale > 0, torch.nan)


class Metrics(nn.Module):
    """MSE and MAE in scaled and in real units, WAPE in real units; exact over all windows, for any batch size.

    WAPE divides by the traffic, so it has no meaning in scaled units, whose mean is about 0.

    Args:
        part: prefix of the logged names, `val` or `test`.
    """

    def __init__(self, part: str):
        super().__init__()
        self.scaled, self.real = (
            MetricCollection({"mse": MeanSquaredError(), "mae": MeanAbsoluteError()}, prefix=f"{part}/{unit}_")
            for unit in ("scaled", "real")
        )
        self.real.add_metrics({"wape": WAPE()})

    def reset(self) -> None:
        """Reset before an epoch, not after: sums made in inference mode cannot be updated by a later fit."""
        self.scaled.reset()
        self.real.reset()

    def compute(self) -> dict[str, Tensor]:
        """The values of all metrics, by logged name."""
        return {**self.scaled.compute(), **self.real.compute()}
