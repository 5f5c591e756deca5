"""The study of the whole system: `python benchmarks/system.py [--traces ...] [--seeds 5] [--groups ...] [--report]`.

Every cell (trace, seed, predictor, slicer, allocator) is `experiment=sliceoff_study` with those modules, run once and
kept under `--cache`; an interrupted study continues where it stopped. Stacks of one trace and seed get the same tasks,
so comparisons are paired; intervals are Student's, 95 %, over seeds (tasks, training, and the synthetic traffic).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import numpy as np
import polars
import torch
from harness import finish, interval, options, shown, table
from traces import TRACES

from sliceoff.clairvoyant import clairvoyant
from sliceoff.config import CONFIGS, configure
from sliceoff.loop import Forecasts, Simulation
from sliceoff.run import Parts
from sliceoff.run_directory import RunDirectory

JUDGED = ("synthetic", "PobleSec", "week_users")
REFERENCE = ("last_value", "reactive", "greedy")  # rules only
PAPER = ("informer", "lp_rounding", "paper_dual")
PREDICTORS = tuple(sorted({option.stem for option in (CONFIGS / "predictor").glob("*.yaml")} - {"ensemble"}))
FORECAST = ("cheapest", "lp_rounding", "exact", "newsvendor", "profit")  # slicers that use the forecast
BLIND = ("reactive", "fixed", "peak", "oracle", "oracle_profit")  # slicers that do not
GROUPS = {
    "rules": [*(("last_value", slicer, "greedy") for slicer in BLIND), ("last_value", "reactive", "lookahead")],
    "forecasts": [(predictor, "profit", "greedy") for predictor in PREDICTORS],
    "slicers": [*(("linear", slicer, "greedy") for slicer in FORECAST), ("linear", "profit", "lookahead")],
    "ours": [("linear", "profit", "dual"), ("linear", "lp_rounding", "dual"), ("last_value", "reactive", "dual")],
    "ablations": [("linear", "profit", "td3"), PAPER],
    "all": [
        *((predictor, slicer, a) for a in ("greedy", "dual") for predictor in PREDICTORS for slicer in FORECAST),
        *(("last_value", slicer, "dual") for slicer in BLIND),
    ],
}


class Cell(NamedTuple):
    """A stack: one predictor, slicer and allocator."""

    predictor: str
    slicer: str
    allocator: str


@dataclass(frozen=True)
class Setting:
    """One trace and seed, with the folder of its fitted modules and tables."""

    trace: str
    seed: int
    cache: Path
    periods: int

    def parts(self, cell: Cell) -> Parts:
        """The cell's objects, with the modules that are fitted already."""
        chosen = [f"{group}={option}" for group, option in cell._asdict().items()]
        fitted = {group: self.checkpoint(group, option) for group, option in cell._asdict().items()}
        chosen += [f"init.{group}={path}" for group, path in fitted.items() if group != "slicer" and path.is_file()]
        cfg = configure("experiment=sliceoff_study", f"seed={self.seed}", *TRACES[self.trace], *chosen)
        torch.set_num_threads(cfg.threads)
        torch.manual_seed(self.seed)
        return Parts(cfg)

    def run(self, cell: Cell) -> polars.DataFrame:
        """Run the cell: its profit, revenue, rent and tasks per long slot."""
        file = self.file(cell)
        if not file.is_file():
            parts = self.parts(cell)
            if not parts.has_checkpoint("predictor"):
                parts.fit_predictor(RunDirectory(self.folder / f"predictor-{cell.predictor}", config=""))
            if isinstance(parts.allocator, pl.LightningModule) and not parts.has_checkpoint("allocator"):
                parts.fit_allocator(RunDirectory(self.folder / f"allocator-{cell.allocator}", config=""))
            begun, forecasts = time.perf_counter(), Forecasts(parts.forecaster, parts.datamodule)
            rows = Simulation(parts.main_stack(), forecasts, parts.scenario, **self.arguments(parts)).run()
            sums = ("profit", "revenue", "rent", "tasks", "done")
            seconds = polars.lit(time.perf_counter() - begun).alias("seconds")
            file.parent.mkdir(parents=True, exist_ok=True)
            rows.group_by("period", maintain_order=True).agg(polars.col(*sums).sum(), seconds).write_parquet(file)
        return polars.read_parquet(file)

    @cached_property
    def bound(self) -> float:
        """Compute the clairvoyant bound of every long slot."""
        file = self.bound_file
        if not file.is_file():
            parts = self.parts(Cell(*REFERENCE))
            bound = clairvoyant(parts.datamodule, parts.scenario, parts.offers, **self.arguments(parts))
            file.parent.mkdir(parents=True, exist_ok=True)
            bound.write_parquet(file)
        return float(polars.read_parquet(file)["bound"].sum())

    def arguments(self, parts: Parts) -> dict[str, Any]:
        """The arguments common to all stacks and the bound."""
        start = parts.datamodule.heldout_start
        return {
            "unit_users": parts.users_per_unit,
            "periods": range(start, min(start + self.periods, parts.datamodule.heldout_end)),
            "slots_per_period": 20,
            "seed": self.seed,
        }

    def checkpoint(self, module: str, option: str) -> Path:
        """The checkpoint of a fitted module."""
        return self.folder / f"{module}-{option}" / "checkpoints" / "best.ckpt"

    def file(self, cell: Cell) -> Path:
        """The file of a cell's table."""
        return self.folder / f"{'-'.join(cell)}.parquet"

    @property
    def bound_file(self) -> Path:
        """The file of the bound's table."""
        return self.folder / "bound.parquet"

    @property
    def folder(self) -> Path:
        """The folder of this setting's files."""
        return self.cache / self.trace / f"{self.seed}-{self.periods}"


def mean_percent(tables: Sequence[polars.DataFrame], part: str, whole: str) -> float:
    """The sum of one column in percent of another's, averaged over the tables."""
    sums = [table.select(part, whole).sum().row(0) for table in tables]
    return float(np.mean([100 * part / whole for part, whole in sums]))


def report(trace: str, settings: list[Setting], cells: list[Cell]) -> dict[str, float]:
    """Print every cell that all seeds have, against reactive + greedy and the bound, which must both be there."""
    needed = [file for setting in settings for file in (setting.file(Cell(*REFERENCE)), setting.bound_file)]
    if not all(file.is_file() for file in needed):
        print(f"{trace}: nothing yet; {' + '.join(REFERENCE)} or the bound is missing for a seed")
        return {}
    profit = {
        cell: [float(setting.run(cell)["profit"].sum()) for setting in settings]
        for cell in cells
        if all(setting.file(cell).is_file() for setting in settings)
    }
    bounds, reference = [setting.bound for setting in settings], profit[Cell(*REFERENCE)]
    rows, results = [], {}
    for cell, earned in sorted(profit.items(), key=lambda item: -np.mean(item[1])):
        tables = [setting.run(cell) for setting in settings]
        gain = [100 * (mine / other - 1) for mine, other in zip(earned, reference, strict=True)]
        share = [100 * mine / most for mine, most in zip(earned, bounds, strict=True)]
        rows.append(
            {
                "predictor": "" if cell.slicer in BLIND else cell.predictor,
                "slicer": cell.slicer,
                "allocator": cell.allocator,
                "profit": shown(earned),
                "over reactive + greedy, %": shown(gain),
                "of the clairvoyant bound, %": shown(share),
                "rent / revenue, %": mean_percent(tables, "rent", "revenue"),
                "done in time, %": mean_percent(tables, "done", "tasks"),
            }
        )
        key = f"{trace}/{'-'.join(cell)}"
        for name, values in (("gain_percent", gain), ("of_bound_percent", share)):
            results[f"{key}/{name}"] = interval(values)[0]
            if len(values) > 1:
                results[f"{key}/{name}_half_width"] = interval(values)[1]
    table(f"{trace}: {settings[0].periods} long slots, {len(settings)} seeds (means, 95 % intervals over seeds)", rows)
    return results


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--traces", nargs="+", default=JUDGED, choices=JUDGED, help="all if not given")
    parser.add_argument("--seeds", type=int, default=5, help="of tasks, training and the synthetic traffic")
    parser.add_argument("--groups", nargs="+", default=list(GROUPS), choices=list(GROUPS), help="all if not given")
    parser.add_argument("--periods", type=int, default=96, help="long slots of the held-out end to simulate")
    parser.add_argument("--cache", type=Path, default=Path("runs/study"), help="where every cell is kept")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no further cell after this long")
    parser.add_argument("--report", action="store_true", help="run nothing, print what is there")
    given = parser.parse_args()
    begun = time.perf_counter()
    every = {
        trace: [Setting(trace, seed, given.cache, given.periods) for seed in range(given.seeds)]
        for trace in given.traces
    }
    cells = list(dict.fromkeys(Cell(*cell) for group in given.groups for cell in [REFERENCE, *GROUPS[group]]))
    # Each cell for all traces and seeds before the next, so that finished cells can be compared at any time.
    for cell in cells if not given.report else []:
        for setting in (setting for settings in every.values() for setting in settings):
            if time.perf_counter() - begun < given.seconds:
                setting.run(cell)
                _ = setting.bound
    results: dict[str, float] = {"seeds": given.seeds, "periods": given.periods}
    for trace, settings in every.items():
        results |= report(trace, settings, cells)
    finish(results | {"seconds": time.perf_counter() - begun})


if __name__ == "__main__":
    main()
