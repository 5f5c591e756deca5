"""`job=finetune`: fine-tune a fitted predictor on a new trace, and compare it with alternatives."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil, floor
from typing import Any

import lightning.pytorch as pl
import polars
from lightning.pytorch.callbacks import BackboneFinetuning
from rich.console import Console
from rich.table import Table

from callbacks import Unfrozen
from sliceoff import checkpoint
from sliceoff.checks import count, numbers, one_of, optional, positive, whole
from sliceoff.data import TrafficDataModule
from sliceoff.errors import InputError, OptionError
from sliceoff.parts import Parts
from sliceoff.predictor import (
    Forecaster,
    Linear,
    SeasonalNaive,
    Transferred,
    transferred,
    unsuited,
    untrained,
)
from sliceoff.report import figures_of
from sliceoff.report.transfer import transfer_figures, transfer_page
from sliceoff.run_directory import Results, RunDirectory


@dataclass(frozen=True)
class Finetune:
    """Tune `init.checkpoint` on the trace; compare with the network untuned, from scratch, and simpler forecasters.

    Args:
        input_length, horizon: of the windows; None: the checkpoint's. The calendar is always the checkpoint's.
        scaler: `refit` to the new trace's training part, or `keep` the checkpoint's.
        other_step: what to do if the new trace has another step than the checkpoint's: `refuse`, or `keep` it.
        learning_rate: for tuning; with a schedule, the head's, while the schedule sets the backbone's.
        days: numbers of days; tune once on the first days of each number, to see what more data gains; None: on all.
        schedule: a callback such as Lightning's `BackboneFinetuning`; None: tune all weights at once.

    Raises:
        InputError: an option is wrong, or the checkpoint does not fit the trace.
    """

    name: str
    input_length: int | None = None
    horizon: int | None = None
    scaler: str = "refit"
    other_step: str = "refuse"
    learning_rate: float = 1e-4
    days: Sequence[float | int] | None = None
    schedule: Any = None

    def __post_init__(self) -> None:
        one_of("scaler", self.scaler, ("refit", "keep"))
        one_of("other_step", self.other_step, ("refuse", "keep"))
        positive("learning_rate", self.learning_rate)
        optional(count, "input_length", self.input_length)
        optional(count, "horizon", self.horizon)
        if self.schedule is not None and not isinstance(self.schedule, pl.Callback):
            raise OptionError(
                "schedule", f"={self.schedule!r} is no Lightning callback; null tunes all weights at once"
            )
        if isinstance(self.schedule, BackboneFinetuning):
            whole("schedule.unfreeze_backbone_at_epoch", self.schedule.unfreeze_backbone_at_epoch)
            positive("schedule.backbone_initial_ratio_lr", self.schedule.backbone_initial_ratio_lr)
            optional(positive, "schedule.backbone_initial_lr", self.schedule.backbone_initial_lr)
            positive("schedule.initial_denom_lr", self.schedule.initial_denom_lr)
        for day in optional(numbers, "days", self.days) or ():
            positive("days", day)

    def __call__(self, parts: Parts, directory: RunDirectory) -> Results:
        """Run; returns a summary of all forecasters' metrics, and a row per amount of data and forecaster."""
        parts.init_serves("checkpoint")
        content = parts.checkpoint()
        self._check(content["spec"]["arguments"], parts)
        budgets = self._budgets(content["spec"]["arguments"], parts)
        rows, lines = [], list[Transferred]()
        for data in budgets:
            start, lines = transferred(content, **data.description, learning_rate=self.learning_rate)
            start.check_sign(data.train_values)
            self._scale(start, content, data)
            folder = "" if data is budgets[0] else f"tuned_{len(data.train_windows)}_windows"
            rows += self._side_by_side(parts, directory, data, start, content, folder)
        table = polars.DataFrame(rows).sort("training windows", maintain_order=True)
        directory.write_text("transfer.txt", "".join(f"{line}\n" for line in lines))
        _show(table, lines)
        sections = transfer_figures(table, lines)
        report = transfer_page(table, sections, str(directory.path))
        return Results(_summary(table), table, report, figures_of(sections))

    def _budgets(self, saved: Mapping[str, Any], parts: Parts) -> list[TrafficDataModule]:
        """The data to tune on, the largest first: what is tuned on it is the run's result, at the usual place."""
        windows = partial(parts.windows_as_fitted, saved, input_length=self.input_length, horizon=self.horizon)
        try:
            everything = windows()
        except OptionError as error:
            raise InputError(f"{error} (here: job.input_length, job.horizon)") from error
        if not self.days:
            return [everything]
        a_day, (least, most) = everything.season_length, everything.first_steps_range
        if least > most:
            raise OptionError(
                "job.days", f"={list(self.days)}: the trace is too short to tune on part of it; leave it out"
            )
        steps = [round(days * a_day) for days in sorted(set(self.days), reverse=True)]
        if not all(least <= first <= most for first in steps):
            raise OptionError(
                "job.days",
                f"={list(self.days)} must each be at least {ceil(100 * least / a_day) / 100:g}, which is four horizons "
                f"of windows, and at most {floor(100 * most / a_day) / 100:g}, where the held-out end begins",
            )
        budgets = {len(data.train_windows): data for data in (windows(first_steps=first) for first in steps)}
        return list(budgets.values())  # of two with equally many windows, one is kept

    def _check(self, saved: Mapping[str, Any], parts: Parts) -> None:
        reason = unsuited(saved, {"step_s": parts.trace.step_s})
        if self.other_step == "refuse" and reason is not None:
            raise InputError(f"init.checkpoint {reason}, or job.other_step=keep to tune across steps")
        regions = list(parts.trace.regions)
        reason = unsuited(saved, {"n_regions": len(regions), "regions": regions})
        if self.scaler == "keep" and reason is not None:
            raise InputError(f"job.scaler=keep: the checkpoint {reason}; set job.scaler=refit")

    def _scale(self, forecaster: Forecaster, content: Mapping[str, Any], data: TrafficDataModule) -> None:
        if self.scaler == "refit":
            forecaster.scaler.fit(data.train_values)
        else:
            forecaster.scaler.load_state_dict(checkpoint.weights_of(content, "scaler"))

    def _side_by_side(
        self,
        parts: Parts,
        directory: RunDirectory,
        data: TrafficDataModule,
        start: Forecaster,
        content: Mapping[str, Any],
        folder: str,
    ) -> list[dict[str, Any]]:
        """Test metrics of zero-shot, tuned, from scratch, ridge and seasonal naive, all fitted on `data` only."""
        sizes, saved = data.description, content["spec"]["arguments"]
        n_windows = len(data.train_windows)

        def fitted(forecaster: Forecaster, folder: str, **callbacks: pl.Callback) -> Forecaster:
            return parts.fitted(forecaster, "predictor", directory, folder, datamodule=data, callbacks=callbacks)

        def plain(network: type) -> Forecaster:
            return Forecaster(network, **sizes, **{name: saved[name] for name in ("instance_norm", "nonnegative")})

        scheduled = self.schedule is not None and any(True for _ in start.backbone.parameters())
        schedule = {"schedule": copy.deepcopy(self.schedule), "unfrozen": Unfrozen()} if scheduled else {}
        zero_shot = parts.test(start, data)
        forecasters = {
            "tuned": fitted(start, folder, **schedule),
            "from scratch": fitted(untrained(content, **sizes), f"scratch_{n_windows}_windows"),
            "ridge": fitted(plain(Linear), f"ridge_{n_windows}_windows"),
            "seasonal naive": fitted(plain(SeasonalNaive), f"seasonal_naive_{n_windows}_windows"),
        }
        measured = {"zero-shot": zero_shot} | {name: parts.test(each, data) for name, each in forecasters.items()}
        return [{"training windows": n_windows, "forecaster": name, **metrics} for name, metrics in measured.items()]


def _summary(table: polars.DataFrame) -> dict[str, float]:
    """All forecasters' metrics with the most data, prefixed by their names; the tuned one's have no prefix."""
    most = table.filter(polars.col("training windows") == polars.col("training windows").max())
    return {
        (name if row["forecaster"] == "tuned" else f"{row['forecaster']}/{name}"): value
        for row in most.iter_rows(named=True)
        for name, value in row.items()
        if "/" in name
    }


def _show(table: polars.DataFrame, lines: Sequence[Transferred]) -> None:
    """Print which tensors were taken over, and all forecasters' test errors."""
    console = Console(width=120)
    for line in lines:
        if line.how != "loaded":
            console.print(str(line), highlight=False)
    console.print(
        f"{sum(line.how == 'loaded' for line in lines)} of {len(lines)} tensors loaded as they are (transfer.txt)"
    )
    view = Table("training windows", "forecaster", "MAE", "WAPE", "MSE (scaled)", "MAE (scaled)")
    for row in table.iter_rows(named=True):
        metrics = [row[f"test/{name}"] for name in ("real_mae", "real_wape", "scaled_mse", "scaled_mae")]
        view.add_row(str(row["training windows"]), row["forecaster"], *(f"{value:.4g}" for value in metrics))
    console.print(view)
