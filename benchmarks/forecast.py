"""Every network against ridge, last value, seasonal naive, the published Informer and neuralforecast's.

`python benchmarks/forecast.py [--groups ett folds lte backtests neuralforecast ...] [--seeds 5] [--report]`

A cell (experiment, horizon, network, seed) is a run of `main.py job=fit_predictor experiment=...` with the overrides
below; its results and checkpoint are kept under `--cache`, so that an interrupted study continues where it stopped (use
another cache after a change). An ensemble's cell runs its members' first. Early stopping uses the validation part only.
`best by validation` is the trained network or ensemble with the lowest validation error in that cell, `best by test`
the one with the lowest test error. The members of ensembles were chosen with knowledge of test errors, except for those
with day GRUs. `folds` compares networks and ensembles on six blocks of the months before ETT's test part
(benchmarks/folds.py), and reports the test error of the best, for which `ett` must have run before. `later`, after
both, reports its error in the four months after the test part, which the protocol does not use. `backtests` compares
networks on three periods before a cellular trace's held-out end.
"""

import argparse
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import cast

import torch
from folds import FOLDS, Fold
from harness import finish, interval, kept, options, shown, table
from traces import TRACES

from sliceoff.checkpoint import load
from sliceoff.predictor import Forecaster
from sliceoff.predictor.intervals import error_quantiles
from sliceoff.run import Parts, configure
from sliceoff.run_directory import RunDirectory

HORIZONS = (24, 48, 168, 336, 720)
# MSE and MAE of the Informer's paper (Zhou et al., AAAI 2021, tables 1 and 2), horizon by horizon.
PUBLISHED = {
    "ett_h1_multivariate": ((0.577, 0.549), (0.685, 0.625), (0.931, 0.752), (1.128, 0.873), (1.215, 0.896)),
    "ett_h2_multivariate": ((0.720, 0.665), (1.457, 1.001), (3.489, 1.515), (2.723, 1.340), (3.467, 1.473)),
    "ett_h1_univariate": ((0.098, 0.247), (0.158, 0.319), (0.183, 0.346), (0.222, 0.387), (0.269, 0.435)),
    "ett_h2_univariate": ((0.093, 0.240), (0.155, 0.314), (0.232, 0.389), (0.263, 0.417), (0.277, 0.431)),
}
L1 = "predictor/loss=mae"
REVIN = "predictor.instance_norm=true"
# Small sizes, for two cores. A name's second word distinguishes variants of a network. Those without seed are exact.
CLOSED = ("last_value", "seasonal_naive", "linear")
ETT = {
    "last_value": ["predictor.instance_norm=false"],
    "linear": [],
    **{f"linear {hours}": [f"windows.input_length={hours}"] for hours in (96, 168, 720)},
    "mlp": [L1],
    "mlp mse": [],
    "sparse_tsf": ["windows.input_length=720"],
    "dlinear": [L1],
    "patchtst": [L1, "trainer.predictor.max_epochs=3", "predictor.learning_rate=5e-4"],
    "informer": [  # all columns as one vector, as published; published d_model 512
        "predictor.channels=joint",
        "windows.input_length=96",
        "predictor.network.d_model=64",
        "predictor.network.d_ff=128",
        "predictor.learning_rate=5e-4",
        "trainer.predictor.max_epochs=4",
        "+trainer.predictor.limit_val_batches=1.0",
        "trainer.predictor.limit_train_batches=100",
    ],
    "ensemble of two": ["windows.input_length=720"],
    "ensemble of six": ["windows.input_length=720"],
    "ensemble of all": ["windows.input_length=720"],
}
LTE = {
    "last_value": [],
    "seasonal_naive": [],
    "linear": [],
    "mlp": [L1],
    "seasonal_mlp": [],
    "sparse_tsf": [],
    "dlinear": [REVIN],
    "gru": [REVIN],
    "gru day": [REVIN, "windows.input_length=144"],
    "lstm": [REVIN],
    "informer": [REVIN],
    "transformer": [REVIN],
    "patchtst": [],
    "itransformer": [],
    "ensemble of three": [],
    "ensemble of GRUs": [],
    "ensemble of day GRUs": ["windows.input_length=144"],
    "ensemble of ten GRUs": [],
}
# The members of each ensemble; a network that is listed several times takes part with as many seeds.
MEMBERS = {
    "ensemble of two": ("linear", "sparse_tsf"),
    "ensemble of six": ("linear 96", "linear 168", "linear", "linear 720", "mlp", "sparse_tsf"),
    # All above with instance_norm and independent columns, except PatchTST, which takes over ten minutes per cell.
    "ensemble of all": ("linear 96", "linear 168", "linear", "linear 720", "mlp", "mlp mse", "sparse_tsf", "dlinear"),
    "ensemble of three": ("gru", "transformer", "seasonal_mlp"),
    "ensemble of GRUs": ("gru",) * 5,
    "ensemble of day GRUs": ("gru day",) * 5,
    "ensemble of ten GRUs": ("gru",) * 5 + ("gru day",) * 5,
}
ENSEMBLES = tuple(name for name in ETT if name in MEMBERS)
# The candidates among which cross-validation chooses.
CHOICES = {"ensembles": ENSEMBLES, "all": (*MEMBERS["ensemble of all"], *ENSEMBLES)}
# 10-minute steps, two days of history, four hours ahead, as the reference figures in ../shared/data/INDEX.md.
LTE_WINDOWS = ["job=fit_predictor", "windows.horizon=24"]
LTE_TRACES = ("PobleSec", "LesCorts", "week_users")
# Shares of a trace for training, validation, and the tenth that is then forecast; the last fifth is held out.
BACKTESTS = ((0.4, 0.1, 0.1), (0.5, 0.1, 0.1), (0.6, 0.1, 0.1))
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
# The published training part; all that follows the published test part is held out.
LATER = [8640, 5760, 3020]


class Kept(ABC):
    """A cell: results that are measured once and kept in a file."""

    @property
    @abstractmethod
    def file(self) -> Path:
        """The file of the results."""

    @abstractmethod
    def _measured(self) -> dict[str, float]:
        """Measure the results; called only if the file is missing."""

    def run(self) -> dict[str, float]:
        """The results in `file`; if it is missing, they are measured and written first."""
        return kept(self.file, self._measured)


@dataclass(frozen=True)
class Cell(Kept):
    """One network on one task with one seed; an ensemble also has members."""

    task: str
    network: str
    seed: int
    overrides: tuple[str, ...]
    cache: Path
    members: tuple["Cell", ...] = ()

    @property
    def file(self) -> Path:
        """The file of its results."""
        return self.cache / self.task / f"{self.network}-{self.seed}.json"

    def fitted(self) -> Path:
        """The cell's checkpoint, which `run` keeps next to the results."""
        path = self.file.with_suffix(".ckpt")
        if not path.is_file():
            self.file.unlink(missing_ok=True)
        self.run()
        return path

    def _measured(self) -> dict[str, float]:
        overrides = [*self.overrides, f"seed={self.seed}", "callbacks.predictor.progress=null"]
        if self.members:
            overrides.append(f"predictor.members={[str(member.fitted()) for member in self.members]}")
        cfg = configure(*overrides)
        torch.set_num_threads(cfg.threads)
        torch.manual_seed(self.seed)
        parts = Parts(cfg)
        weights = sum(weight.numel() for weight in parts.forecaster.network.parameters())
        begun = time.perf_counter()
        directory = RunDirectory(self.file.with_suffix(""), config="")
        parts.fit_predictor(directory)
        seconds = time.perf_counter() - begun + sum(member.run()["seconds"] for member in self.members)
        (directory.checkpoints() / "best.ckpt").replace(self.file.with_suffix(".ckpt"))
        directory.discard()
        return self.figures(parts) | {"seconds": seconds, "weights": float(weights)}

    def figures(self, parts: Parts) -> dict[str, float]:
        """The results of the fitted network."""
        return measured(parts)


class FoldCell(Cell):
    """One network on one block of a cross-validation."""

    @torch.no_grad()
    def figures(self, parts: Parts) -> dict[str, float]:
        """The mean squared error in the protocol's units."""
        data = cast(Fold, parts.datamodule)
        errors = ((window.future - parts.forecaster.point(window)) / data.unit for window in data.test_dataloader())
        return {"mse": mean_square(errors)}


@dataclass(frozen=True)
class LaterCell(Kept):
    """A network that was fitted by the published protocol, tested on the months after the protocol's."""

    fitted: Cell

    task = property(lambda self: f"{self.fitted.task}-later")
    network = property(lambda self: self.fitted.network)

    @property
    def file(self) -> Path:
        """The file of its results."""
        return self.fitted.cache / self.task / self.fitted.file.name

    def _measured(self) -> dict[str, float]:
        parts = Parts(configure(*self.fitted.overrides))
        forecaster = load(self.fitted.fitted(), Forecaster)
        return {"mse": parts.test(forecaster, parts.windows(split=LATER))["test/scaled_mse"]}


@torch.no_grad()
def measured(parts: Parts) -> dict[str, float]:
    """Errors on the held-out windows, of the forecast and of its intervals, which come from validation errors."""
    forecaster, data = parts.forecaster, parts.datamodule
    metrics = parts.test(forecaster)
    quantiles = error_quantiles(forecaster, data, LEVELS)
    levels = torch.tensor(LEVELS)
    pinball = covered = peak = count = windows = 0.0
    for window in data.test_dataloader():
        error = window.future - forecaster.point(window)
        beyond = error.unsqueeze(-1) - quantiles
        pinball += float(torch.maximum(levels * beyond, (levels - 1) * beyond).mean(-1).sum())
        covered += float(((beyond[..., 0] >= 0) & (beyond[..., -1] <= 0)).sum())
        # The absolute error of the forecast's highest value, in the trace's units.
        peak += float((window.future.amax(1) - forecaster.point(window).amax(1)).abs().mean(-1).sum())
        count, windows = count + error.numel(), windows + len(error)
    return {
        "mse": metrics["test/scaled_mse"],
        "mae": metrics["test/scaled_mae"],
        "wape": metrics["test/real_wape"],
        "pinball": pinball / count,
        "coverage": covered / count,
        "peak_error": peak / windows,
        "validation_mse": validation_mse(forecaster, data),
    }


def validation_mse(forecaster: Forecaster, data) -> float:
    """The MSE on the validation part, in scaled units."""
    return mean_square(
        forecaster(window)[..., forecaster.n_outputs // 2] - forecaster.scaler.transform(window.future)
        for window in data.val_dataloader()
    )


def mean_square(errors: Iterable[torch.Tensor]) -> float:
    """The mean square over all entries of all batches."""
    total = count = 0.0
    for error in errors:
        total, count = total + float(error.square().sum()), count + error.numel()
    return total / count


def ett_cell(
    given: argparse.Namespace,
    experiment: str,
    horizon: int,
    network: str,
    seed: int,
    kind: type[Cell] = Cell,
    part: str = "",
    *overrides: str,
) -> Cell:
    """The cell of one network on a task of the published protocol, or on a part of it that the overrides set."""
    task = (f"experiment={experiment}", f"windows.horizon={horizon}", REVIN)
    return kind(
        f"{experiment}-{horizon}{part}",
        network,
        seed,
        (*task, f"predictor={network.split()[0]}", *ETT[network], *overrides),
        given.cache,
        tuple(
            ett_cell(given, experiment, horizon, *member, kind, part, *overrides) for member in members(network, seed)
        ),
    )


def ett_cells(given: argparse.Namespace) -> list[Cell]:
    """The cells of the published protocol."""
    return [
        ett_cell(given, experiment, horizon, network, seed)
        for seed in range(given.seeds)  # outermost, so that an interrupted study has all tasks
        for network in ETT
        for experiment in PUBLISHED
        for horizon in HORIZONS
        if seed == 0 or not closed(network)
    ]


def fold_cells(given: argparse.Namespace) -> list[Cell]:
    """Cells of the folds: all members of ensembles, and these networks, with one seed."""
    block = ("windows._target_=folds.Fold", "+windows.longest=720")
    return [
        ett_cell(given, experiment, horizon, network, 0, FoldCell, f"-fold-{fold}", *block, f"+windows.fold={fold}")
        for horizon in HORIZONS
        for experiment in PUBLISHED
        for network in CHOICES["all"]
        for fold in range(FOLDS)
    ]


def lte_cells(given: argparse.Namespace) -> list[Cell]:
    """The cells of the cellular traces."""
    return [
        lte_cell(given, trace, trace, network, seed)
        for seed in range(given.seeds)
        for network in LTE
        for trace in LTE_TRACES
        if seed == 0 or not closed(network)
    ]


def backtest_cells(given: argparse.Namespace) -> list[Cell]:
    """Cells on cellular traces before their held-out end: successive periods, each forecast from all data before it."""
    steps = {trace: len(Parts(configure(*LTE_WINDOWS, *TRACES[trace])).trace.times) for trace in LTE_TRACES}
    return [
        lte_cell(given, f"{trace}-backtest-{place}", trace, network, seed, f"windows.split={split}")
        for seed in range(given.seeds)
        for network in LTE
        for trace in LTE_TRACES
        for place, split in enumerate([int(share * steps[trace]) for share in shares] for shares in BACKTESTS)
        if seed == 0 or not closed(network)
    ]


def lte_cell(given: argparse.Namespace, task: str, trace: str, network: str, seed: int, *overrides: str) -> Cell:
    """The cell of one network on a cellular trace."""
    budget = ("trainer.predictor.max_epochs=15", "trainer.predictor.limit_train_batches=1.0")
    shared = (*LTE_WINDOWS, "windows.input_length=288", *budget, *TRACES[trace], *overrides)
    return Cell(
        task,
        network,
        seed,
        (*shared, f"predictor={network.split()[0]}", *LTE[network]),
        given.cache,
        tuple(lte_cell(given, task, trace, *member, *overrides) for member in members(network, seed)),
    )


def members(network: str, seed: int) -> list[tuple[str, int]]:
    """The members (network, seed) of an ensemble with a given seed; two seeds share no member."""
    names = MEMBERS.get(network, ())
    return [(name, seed * names.count(name) + names[:place].count(name)) for place, name in enumerate(names)]


def closed(network: str) -> bool:
    """Whether a network's results do not depend on the seed."""
    return network.split()[0] in CLOSED


def finished(cells: list[Cell] | list[LaterCell]) -> dict[tuple[str, str], list[dict[str, float]]]:
    """(task, network) -> the results of its seeds, for the cells that were run."""
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for cell in cells:
        if cell.file.is_file():
            found.setdefault((cell.task, cell.network), []).append(cell.run())
    return found


def mean(runs: list[dict[str, float]], name: str) -> float:
    """The mean of a figure over seeds."""
    return interval([run[name] for run in runs])[0]


def lowest(found: dict[str, list[dict[str, float]]], name: str) -> str:
    """The network with the lowest mean of a figure."""
    return min(found, key=lambda network: mean(found[network], name))


def report_ett(given: argparse.Namespace) -> dict[str, float]:
    """Print a table per experiment, networks by horizons, then the best in every cell, by validation and by test."""
    found, best_rows, results = finished(ett_cells(given)), [], dict[str, float]()
    for experiment, published in PUBLISHED.items():
        rows: dict[str, dict[str, str]] = {name: {"test MSE": name} for name in ("published Informer", *ETT)}
        for horizon, (mse, _) in zip(HORIZONS, published, strict=True):
            task = f"{experiment}-{horizon}"
            here = {network: runs for (of, network), runs in found.items() if of == task}
            rows["published Informer"][str(horizon)] = f"{mse}"
            for network, runs in here.items():
                rows[network][str(horizon)] = shown([run["mse"] for run in runs])
                results |= {f"{task}/{network}/{name}": mean(runs, name) for name in ("mse", "mae")}
            if "informer" in here:
                results[f"{task}/informer_over_published"] = mean(here["informer"], "mse") / mse
            trained = {network: runs for network, runs in here.items() if not closed(network)}
            if "linear" not in here or not trained:
                continue
            row: dict[str, object] = {"task": task}
            best = {"validation": lowest(trained, "validation_mse"), "test": lowest(trained, "mse")}
            for by, network in best.items():
                ratio = mean(trained[network], "mse") / mean(here["linear"], "mse")
                row |= {f"best by {by}": network, f"its MSE over ridge's, by {by}": ratio}
                results[f"{task}/best_by_{by}_over_ridge"] = ratio
            # The same choice for ridge, among its input lengths.
            chosen = lowest({name: runs for name, runs in here.items() if name.startswith("linear")}, "validation_mse")
            ratio = mean(trained[best["validation"]], "mse") / mean(here[chosen], "mse")
            row |= {"ridge by validation": chosen, "best over it, both by validation": ratio}
            results[f"{task}/best_over_ridge_both_by_validation"] = ratio
            best_rows.append(row)
        columns = ("test MSE", *map(str, HORIZONS))
        run = [{column: row.get(column, "") for column in columns} for row in rows.values() if len(row) > 1]
        if len(run) > 1:
            table(experiment, run)
    if best_rows:
        table("The best of networks and ensembles against ridge on two weeks of history", best_rows)
    return results


def fold_errors(given: argparse.Namespace) -> dict[tuple[str, int], dict[str, list[float]]]:
    """(experiment, horizon) -> every network's errors on the folds, if all of them were run."""
    found, errors = finished(fold_cells(given)), {}
    for experiment, horizon in product(PUBLISHED, HORIZONS):
        folds = [f"{experiment}-{horizon}-fold-{fold}" for fold in range(FOLDS)]
        if all((fold, network) in found for fold in folds for network in CHOICES["all"]):
            errors[experiment, horizon] = {
                network: [mean(found[fold, network], "mse") for fold in folds] for network in CHOICES["all"]
            }
    return errors


def best_by_folds(errors: dict[str, list[float]], among: str, left_out: int | None = None) -> str:
    """The network or ensemble with the lowest error on one task, over the folds or over all but one of them."""
    folds = [fold for fold in range(FOLDS) if fold != left_out]
    return min(
        (name for name in CHOICES[among] if not closed(name)),
        key=lambda name: sum(errors[name][fold] for fold in folds),
    )


def later_cells(given: argparse.Namespace) -> list[LaterCell]:
    """Cells of ridge and of the folds' choice, for every task whose folds were run."""
    chosen = {
        task: ("linear", *dict.fromkeys(best_by_folds(errors, among) for among in CHOICES))
        for task, errors in fold_errors(given).items()
    }
    return [
        LaterCell(ett_cell(given, *task, network, seed))
        for seed in range(given.seeds)
        for task, networks in chosen.items()
        for network in networks
        if seed == 0 or not closed(network)
    ]


def report_folds(given: argparse.Namespace) -> dict[str, float]:
    """Print which one is best over the blocks before the test part, and its test error over ridge's."""
    errors = fold_errors(given)
    return report_left_out(list(errors.values())) | report_chosen(errors, finished(ett_cells(given)), "")


def report_later(given: argparse.Namespace) -> dict[str, float]:
    """Print the error of the folds' choice after the test part, over ridge's."""
    return report_chosen(fold_errors(given), finished(later_cells(given)), "-later")


def report_left_out(tasks: list[dict[str, list[float]]]) -> dict[str, float]:
    """For several sets of candidates, by the folds alone: the best on five folds, tested on the sixth, over ridge."""
    rows: list[dict[str, object]] = []
    for among in CHOICES if tasks else ():
        # For every task, the error on each fold of the choice by the other folds, and of ridge.
        pairs = [
            ([errors[best_by_folds(errors, among, fold)][fold] for fold in range(FOLDS)], errors["linear"])
            for errors in tasks
        ]
        ratios = [ours / ridge for pair in pairs for ours, ridge in zip(*pair, strict=True)]
        rows.append(
            {
                "best of": among,
                "cells below ridge": sum(sum(ours) < sum(ridge) for ours, ridge in pairs),
                "of": len(pairs),
                "folds below ridge": sum(ratio < 1 for ratio in ratios),
                "of them": len(ratios),
                "worst fold, over ridge": max(ratios),
            }
        )
    if rows:
        table("Chosen by five of the six folds, tested on the other", rows)
    return {
        f"best_of_{row['best of']}_left_out/{name}": cast(float, row[name])
        for row in rows
        for name in row
        if name != "best of"
    }


def report_chosen(
    fold_errors: dict[tuple[str, int], dict[str, list[float]]],
    found: dict[tuple[str, str], list[dict[str, float]]],
    part: str,
) -> dict[str, float]:
    """Print the folds' choice, and its error over ridge's in `found`, whose tasks end in `part`."""
    when, rows, results = part.removeprefix("-") or "test", [], {}
    for (experiment, horizon), errors in fold_errors.items():
        task = f"{experiment}-{horizon}{part}"
        best = {among: best_by_folds(errors, among) for among in CHOICES}
        if not all((task, network) in found for network in ("linear", *best.values())):
            continue
        ridge, row = mean(found[task, "linear"], "mse"), dict[str, object](task=f"{experiment}-{horizon}")
        for among, network in best.items():
            runs = found[task, network]
            ratios = [run["mse"] / ridge for run in runs]
            row |= {
                f"best of {among}": network,
                f"its MSE over ridge's there, {among}": sum(errors[network]) / sum(errors["linear"]),
                f"its {when} MSE over ridge's, {among}": f"{shown(ratios)} ({len(runs)} seeds)",
            }
            results[f"{task}/best_of_{among}_by_folds_over_ridge"] = interval(ratios)[0]
        rows.append(row)
    if rows:
        table(f"Chosen by cross-validation over the training and validation part; {when} error", rows)
        for among in CHOICES:
            below = sum(results[f"{row['task']}{part}/best_of_{among}_by_folds_over_ridge"] < 1 for row in rows)
            print(f"best of {among}: below ridge on two weeks in {below} of {len(rows)} cells ({when})")
            results[f"best_of_{among}_by_folds_below_ridge{part}"] = below
    return results


def report_lte(given: argparse.Namespace) -> dict[str, float]:
    """Print a table per cellular trace."""
    found, results = finished(lte_cells(given)), dict[str, float]()
    for trace in LTE_TRACES:
        here = {network: runs for (of, network), runs in found.items() if of == trace}
        simple = [mean(here[network], "mse") for network in CLOSED if network in here]
        if not simple:
            continue
        best = min(simple)
        rows = [
            {
                "network": network,
                "vs simple, %": 100 * (mean(runs, "mse") / best - 1),
                **{
                    name: shown([run[name] for run in runs])
                    for name in ("mse", "mae", "wape", "pinball", "coverage", "peak_error")
                },
                "val. MSE": mean(runs, "validation_mse"),
                "seconds": mean(runs, "seconds"),
                "seeds": len(runs),
            }
            for network, runs in sorted(here.items(), key=lambda item: mean(item[1], "mse"))
        ]
        table(f"{trace}: four hours ahead, 10-minute steps; intervals are 80 %", rows)
        results |= {f"{trace}/{network}/{name}": mean(runs, name) for network, runs in here.items() for name in runs[0]}
    return results


def report_backtests(given: argparse.Namespace) -> dict[str, float]:
    """Print a table per trace: mean MSE in every period, and over all."""
    found, results = finished(backtest_cells(given)), {}
    for trace in LTE_TRACES:
        tasks = [f"{trace}-backtest-{place}" for place in range(len(BACKTESTS))]
        rows: list[dict[str, object]] = []
        for network in LTE:
            runs = [found.get((task, network), []) for task in tasks]
            if not all(runs):
                continue
            errors = [mean(each, "mse") for each in runs]
            overall = sum(errors) / len(errors)
            rows.append({"network": network, **dict(zip(tasks, errors, strict=True)), "mean MSE": overall})
            rows[-1]["seeds"] = min(map(len, runs))
            results[f"{trace}/{network}/backtest_mse"] = overall
        if rows:
            table(f"{trace} before its held-out end", sorted(rows, key=lambda row: cast(float, row["mean MSE"])))
    return results


def neuralforecast_cells(given: argparse.Namespace) -> list["Peer"]:
    """The cells of neuralforecast's Informer on the same windows."""
    return [Peer(experiment, horizon, 0, given.cache) for experiment in PUBLISHED for horizon in HORIZONS]


@dataclass(frozen=True)
class Peer(Kept):
    """neuralforecast's Informer, with the same split, scaling, input length and size.

    Every column is a series, whose windows form the batches; no calendar and no RevIN, and at most 600 gradient steps
    against ours of 400.
    """

    experiment: str
    horizon: int
    seed: int
    cache: Path

    task = property(lambda self: f"{self.experiment}-{self.horizon}")
    network = "neuralforecast"

    @property
    def file(self) -> Path:
        """The file of its results."""
        return self.cache / self.task / f"neuralforecast-{self.seed}.json"

    def _measured(self) -> dict[str, float]:
        import pandas
        from neuralforecast import NeuralForecast
        from neuralforecast.models import Informer

        cfg = configure(f"experiment={self.experiment}", f"windows.horizon={self.horizon}")
        torch.set_num_threads(cfg.threads)
        data = Parts(cfg).datamodule
        train = data.train_values.double()
        values = (torch.from_numpy(data.trace.values)[: data.heldout_end] - train.mean(0)) / train.std(0, correction=0)
        frame = pandas.concat(
            pandas.DataFrame({"unique_id": region, "ds": data.trace.times[: len(values)], "y": values[:, i].numpy()})
            for i, region in enumerate(data.trace.regions)
        )
        model = Informer(
            h=self.horizon,
            input_size=96,
            hidden_size=64,
            conv_hidden_size=128,
            n_head=4,
            encoder_layers=2,
            decoder_layers=1,
            max_steps=600,
            batch_size=32,
            windows_batch_size=32,
            inference_windows_batch_size=256,
            learning_rate=5e-4,
            val_check_steps=150,
            early_stop_patience_steps=3,
            random_seed=self.seed,
            scaler_type="identity",
            enable_progress_bar=False,
            logger=False,
        )
        begun = time.perf_counter()
        tested = NeuralForecast([model], freq="h").cross_validation(
            frame,
            val_size=data.heldout_start - len(train),
            test_size=data.heldout_end - data.heldout_start,
            n_windows=None,
            step_size=1,
            use_init_models=True,
        )
        error = tested["Informer"] - tested["y"]
        return {
            "mse": float((error**2).mean()),
            "mae": float(error.abs().mean()),
            "windows": float(len(error) / self.horizon / values.shape[1]),
            "seconds": time.perf_counter() - begun,
        }


def report_neuralforecast(given: argparse.Namespace) -> dict[str, float]:
    """Print a row per task, with ours if it was run."""
    rows, results = [], dict[str, float]()
    for cell in neuralforecast_cells(given):
        ours = [json.loads(path.read_text()) for path in cell.file.parent.glob("informer-*.json")]
        if not cell.file.is_file() or not ours:
            continue
        theirs = cell.run()
        ratio = theirs["mse"] / mean(ours, "mse")
        rows.append(
            {
                "task": cell.task,
                "neuralforecast MSE": theirs["mse"],
                "ours MSE": shown([run["mse"] for run in ours]),
                "theirs/ours": ratio,
                "neuralforecast MAE": theirs["mae"],
                "ours MAE": shown([run["mae"] for run in ours]),
                "test windows": int(theirs["windows"]),
            }
        )
        results |= {f"{cell.task}/neuralforecast/mse": theirs["mse"], f"{cell.task}/neuralforecast_over_ours": ratio}
    if rows:
        table("The Informer against neuralforecast's: the same windows, d_model 64, batch 32, 600 steps at most", rows)
    return results


GROUPS: dict[str, tuple[Callable[[argparse.Namespace], list], Callable[[argparse.Namespace], dict[str, float]]]] = {
    "ett": (ett_cells, report_ett),
    "folds": (fold_cells, report_folds),
    "later": (later_cells, report_later),
    "lte": (lte_cells, report_lte),
    "backtests": (backtest_cells, report_backtests),
    "neuralforecast": (neuralforecast_cells, report_neuralforecast),
}


def main() -> None:
    parser = options(__doc__)
    parser.add_argument(
        "--groups", nargs="+", default=["ett", "lte"], choices=list(GROUPS), help="ett and lte if not given"
    )
    parser.add_argument("--tasks", default="", help="only tasks whose name has this in it")
    parser.add_argument("--networks", nargs="+", help="only these")
    parser.add_argument("--seeds", type=int, default=5, help="of trained networks")
    parser.add_argument("--cache", type=Path, default=Path("runs/forecast_study"), help="where every cell is kept")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no further cell after this long")
    parser.add_argument("--report", action="store_true", help="run nothing, print what is there")
    given = parser.parse_args()
    begun, results = time.perf_counter(), dict[str, float]()
    for group in given.groups:
        cells_of, report = GROUPS[group]
        for cell in cells_of(given) if not given.report else []:
            wanted = given.tasks in cell.task and (given.networks is None or cell.network in given.networks)
            if wanted and time.perf_counter() - begun < given.seconds:
                cell.run()
        results |= report(given)
    finish(results)


if __name__ == "__main__":
    main()
