"""`job=seeds`: means over seeds, with intervals, of runs that differ only in their seed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import polars
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sliceoff import checks
from sliceoff.errors import InputError, OptionError, near_miss, one_line
from sliceoff.jobs.finished import check_names, counted, finished_runs, left_out
from sliceoff.parts import Parts
from sliceoff.report.groups import Run, grouped, labels, settings_of
from sliceoff.report.seeds import Numbers, flat, means_over_seeds, seeds_figure, seeds_page, shown, telling
from sliceoff.run_config import choices_of, config_of, deciding
from sliceoff.run_directory import Results, RunDirectory

_NO_RESULTS = ("seed", "wall_seconds")  # numbers that every summary has


@dataclass(frozen=True)
class Seeds:
    """Means over seeds of every number in the runs' summaries, and differences to the first group, seed by seed.

    Args:
        runs: run directories of one job, or glob patterns, of whose matches only finished runs are used.
        metric: the number to show first; None: the job's main metric.
    """

    name: str
    runs: Sequence[str]
    metric: str | None = None

    def __post_init__(self) -> None:
        check_names(self.runs)

    def __call__(self, parts: Parts, directory: RunDirectory) -> Results:
        """Run; returns every group's statistics, and the table of them.

        Raises:
            InputError: a run is missing, unfinished, broken or of another job, or two runs of a group have one seed.
        """
        parts.init_serves()
        paths, unfinished = finished_runs(self.runs)
        every = [read(path) for path in paths]
        job = _job_of(every)
        equals = grouped(every)
        numbers = [_by_seed(group) for group in equals]
        groups = dict(zip(labels(equals, single=job), numbers, strict=True))
        table = means_over_seeds(groups)
        if table.is_empty():
            raise InputError(f"job.runs: the summaries of these runs of job={job} have no numbers; name runs that do")
        metric = self._metric(table)
        figure = seeds_figure(table, metric, groups)
        about = f"{counted(len(paths), 'run')} of job={job} in {counted(len(groups), 'group')}, equal but for the seed."
        page = seeds_page(table, metric, figure, about + _notes(groups, metric, unfinished))
        _show(table, metric)
        return Results(flat(table), table, page, {metric: figure})

    def _metric(self, table: polars.DataFrame) -> str:
        if self.metric is None:
            return telling(table)
        if self.metric not in (metrics := table["metric"].unique().to_list()):
            hint = near_miss(str(self.metric), metrics) or "; their summary.json has the names"
            raise OptionError("job.metric", f"={self.metric!r} is no number of these runs{hint}")
        return self.metric


def _job_of(runs: Sequence[Run]) -> str:
    first, job = runs[0], runs[0].settings.get("job.name")
    if job is None:
        raise InputError(f"job.runs: {first.path} has a config without job.name; name run directories")
    for run in runs:
        if (other := run.settings.get("job.name")) != job:
            raise InputError(
                f"job.runs: {first.path} is a run of job={job}, {run.path} of job={other}; name runs of one job"
            )
    return job


def read(path: Path) -> Run:
    """Read a finished run's config and summary.

    Raises:
        InputError: its config or summary is broken.
    """
    config, file = config_of(path), path / "summary.json"
    try:
        summary = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"job.runs: {file} cannot be read ({one_line(error, 160)}); run it again") from error
    if not isinstance(summary, dict):
        raise InputError(f"job.runs: {file} is no run's summary; run it again")
    try:
        seed = checks.random_seed("seed", config.get("seed"))
    except InputError as error:
        raise InputError(f"job.runs: {path / 'config.yaml'}: {error}; name another run") from error
    numbers = {
        name: value if value is not None and isfinite(value) else None
        for name, value in summary.items()
        if name not in _NO_RESULTS and not isinstance(value, bool) and isinstance(value, int | float | None)
    }
    return Run(path, seed, settings_of(deciding(config)), choices_of(path), numbers)


def _by_seed(group: Sequence[Run]) -> dict[int, Numbers]:
    runs: dict[int, Run] = {}
    for run in group:
        if (other := runs.setdefault(run.seed, run)) is not run:
            raise InputError(
                f"job.runs: {other.path} and {run.path} are both runs of seed {run.seed} with the same config; "
                "leave one out"
            )
    return {seed: run.numbers for seed, run in runs.items()}


def _notes(groups: Mapping[str, Mapping[int, Numbers]], metric: str, unfinished: int) -> str:
    text = left_out(unfinished)
    if single := [label for label, runs in groups.items() if len(runs) == 1]:
        text += f" One seed, so no interval: {', '.join(single)}."
    for label, runs in groups.items():
        if missing := [seed for seed, numbers in runs.items() if metric in numbers and numbers[metric] is None]:
            seeds = ", ".join(str(seed) for seed in missing)
            text += f" {metric} of {label} is no number with seed {seeds}; its mean is over the others."
    return text


def _show(table: polars.DataFrame, metric: str) -> None:
    """Print a table of the metric's mean and interval in every group."""
    rows = shown(table, metric)
    view = Table(title=Text(f"{metric}, mean ± half a 95 % interval"), title_justify="left")
    for column in rows[0]:
        view.add_column(column, overflow="fold")
    for row in rows:
        view.add_row(*(Text(str(value)) for value in row.values()))
    Console(width=120).print(view)
