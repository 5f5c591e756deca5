"""`job=report`: compare the run directories of several simulations on one page."""

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars

from sliceoff import checkpoint
from sliceoff.errors import InputError, one_line
from sliceoff.jobs.finished import check_names, counted, finished_runs, left_out
from sliceoff.parts import Parts
from sliceoff.report import differences, figures_of, simulation_figures, simulation_page, summarise
from sliceoff.report.groups import settings_of
from sliceoff.report.stacks import by_stack, of_main
from sliceoff.run_config import config_of, deciding
from sliceoff.run_directory import Results, RunDirectory, logs_of

_KEYS = ("period", "time", "region")


@dataclass(frozen=True)
class Report:
    """Compare the main stacks of several runs, and the first run's other stacks, over the long slots they share.

    Args:
        runs: run directories of `job=simulate`, or glob patterns, of whose matches only finished runs are used; the
            others are compared with the first.
    """

    name: str
    runs: Sequence[str]

    def __post_init__(self) -> None:
        check_names(self.runs)

    def __call__(self, parts: Parts, directory: RunDirectory) -> Results:
        """Run; returns a summary of every stack and the joined table."""
        parts.init_serves()
        paths, unfinished = finished_runs(self.runs)
        tables = [results(path) for path in paths]
        _, *others = by_stack(tables[0])
        labels = _labels(paths, {*others, "bound"})  # the bound's name in a summary
        configs = {label: deciding(config_of(path)) for label, path in zip(labels, paths, strict=True)}
        for place in range(1, len(paths)):
            if (what := _apart(tables[0], configs[labels[0]], tables[place], configs[labels[place]])) is not None:
                raise InputError(
                    f"job.runs: {paths[place]} has another {what} than {paths[0]}; compare runs of the same traffic, "
                    "tasks and prices"
                )
        table = joined(tables, labels)
        whole = tables[0]["region"].n_unique() == table["region"].n_unique()
        bound = _bound(paths[0], table) if whole else None  # it is of all regions together
        seconds: dict[str, float] = {}
        logs: dict[str, polars.DataFrame] = {}
        for label, path in zip(labels, paths, strict=True):
            file = path / "timings.json"
            timings = json.loads(file.read_text()) if file.is_file() else {}
            seconds |= {f"{label}: {part}": value for part, value in timings.items()}
            logs |= {f"{label}: {module}": log for module, log in logs_of(path).items()}
        about = (
            f"{counted(len(paths), 'run')}, compared over the {table['period'].n_unique()} long slots and "
            f"{table['region'].n_unique()} regions that they share, {table['time'].min()!s} to {table['time'].max()!s}."
            + left_out(unfinished)
        )
        sections = simulation_figures(table, bound, logs, seconds)
        settings = {label: settings_of(config) for label, config in configs.items()}
        page = simulation_page("SliceOff: runs compared", about, table, bound, sections, differences(settings))
        return Results(summarise(table, bound), table, page, figures_of(sections))


def results(path: Path) -> polars.DataFrame:
    """A run's table. Where an older version wrote no column `foresight`, it is true for stacks named `oracle...`.

    Raises:
        InputError: its table is broken, or that of another job.
    """
    file = path / "results.parquet"
    try:
        table = polars.read_parquet(file, glob=False)
    except (FileNotFoundError, polars.exceptions.PolarsError) as error:
        raise InputError(f"job.runs: {file} cannot be read ({one_line(error, 160)}); run it again") from error
    if not {"stack", "profit", *_KEYS} <= set(table.columns):
        raise InputError(f"job.runs: {file} is no simulation's table; name run directories of job=simulate")
    if "foresight" not in table.columns:
        table = table.with_columns(foresight=polars.col("stack").str.starts_with("oracle"))
    return table


def _apart(table: polars.DataFrame, config: Mapping[str, Any], other: polars.DataFrame, its: Mapping) -> str | None:
    """What differs in two runs' users, tasks or prices, so that no bound holds for both; None if nothing does."""
    first, second = (
        {
            key: value
            for key, value in each.items()
            if key in ("seed", "job.slots_per_period") or key.startswith(("region.", "offers."))
        }
        for each in (config, its)
    )
    if (place := checkpoint.differing(first, second)) is not None:
        return place
    both = table.join(other, on=_KEYS, suffix="_there")
    same = np.allclose(both["users"].to_numpy(), both["users_there"].to_numpy(), rtol=1e-4)
    return None if same else "traffic (data, mean_users or windows.split)"


def joined(tables: Sequence[polars.DataFrame], labels: Sequence[str]) -> polars.DataFrame:
    """Every run's main stack under its label, and the first run's other stacks, where all runs have a row.

    Raises:
        InputError: the runs share no long slot and region.
    """
    shared = tables[0].select(_KEYS).unique()
    for table in tables[1:]:
        shared = shared.join(table.select(_KEYS).unique(), on=_KEYS)
    if shared.is_empty():
        raise InputError("job.runs: the runs have no long slot and region in common; compare runs on the same trace")
    mains = [of_main(table).with_columns(stack=polars.lit(label)) for table, label in zip(tables, labels, strict=True)]
    _, *others = by_stack(tables[0]).values()
    every = polars.concat([*mains, *others], how="diagonal_relaxed")
    return every.join(shared, on=_KEYS, how="semi", maintain_order="left")


def _bound(path: Path, table: polars.DataFrame) -> polars.DataFrame | None:
    """A run's bound over the long slots of a table; None if it has none."""
    file = path / "bound.parquet"
    if not file.is_file():
        return None
    return polars.read_parquet(file, glob=False).join(table.select("period").unique(), on="period", how="semi")


def _labels(paths: Sequence[Path], taken: Set[str]) -> list[str]:
    """The directories' names; if not unique, with their parents' names; if still not, with numbers as well."""
    with_parents = [f"{path.parent.name}/{path.name}" for path in paths]
    numbered = [f"{number}: {name}" for number, name in enumerate(with_parents, 1)]
    candidates = ([path.name for path in paths], with_parents, numbered)
    return next(names for names in candidates if len({*names, *taken}) == len(names) + len(taken))
