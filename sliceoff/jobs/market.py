"""`job=market`: clear one or many markets by every mechanism, and compare."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars

from sliceoff.checks import optional, path, whole
from sliceoff.errors import InputError, OptionError
from sliceoff.jobs.progress import progress_bar
from sliceoff.market import MarketScenario, Mechanism, Outcome, check_outcome, simulate
from sliceoff.market.checks import role
from sliceoff.market.family import Markets
from sliceoff.parts import Parts
from sliceoff.report import figures_of
from sliceoff.report.market import margins, market_figures, market_page, means
from sliceoff.run_directory import Results, RunDirectory


@dataclass(frozen=True, kw_only=True)
class Clearing:
    """A job that clears markets by every mechanism and compares them.

    Args:
        mechanisms: by name; None leaves one out.
        first, scenarios: numbers of the markets: `first` to `first + scenarios - 1`.
        simulated_tasks: each queue is simulated with this many tasks, divided by its squared idle share, to confirm
            its response time; 0: no simulation.

    Raises:
        InputError: there is no mechanism or no market, or one of them is wrong.
    """

    name: str
    mechanisms: Mapping[str, Any]
    scenarios: int
    first: int = 0
    simulated_tasks: int = 20_000

    def __post_init__(self) -> None:
        for option, least in (("scenarios", 1), ("first", 0), ("simulated_tasks", 0)):
            whole(option, getattr(self, option), least)
        if not isinstance(self.mechanisms, Mapping) or not self._chosen:
            raise OptionError("mechanisms", " is empty; add one with +market@job.mechanisms.mine=auction")
        for name, mechanism in self._chosen.items():
            role(f"mechanisms.{name}", mechanism, Mechanism)

    @property
    def _chosen(self) -> dict[str, Mechanism]:
        return {name: mechanism for name, mechanism in self.mechanisms.items() if mechanism is not None}

    def clear(self, markets: Markets, numbers: Sequence[int], directory: RunDirectory) -> Results:
        """Clear the markets with these numbers; a resumed run continues where it was stopped.

        Returns:
            Every mechanism's means and the margins, and one row per market and mechanism.
        """
        done = directory.path / "cleared.jsonl"
        rows = _whole_lines(done)
        cleared = {(row["scenario"], row["mechanism"]) for row in rows}
        with (
            done.open("a") as log,
            progress_bar() as progress,
        ):
            task = progress.add_task("clear markets", total=len(numbers) * len(self._chosen))
            for number in numbers:
                scenario = markets.draw(number)
                for name, mechanism in self._chosen.items():
                    if (number, name) not in cleared:
                        try:
                            figures = self._cleared(mechanism, scenario, number)
                        except InputError as error:
                            raise InputError(f"job.mechanisms.{name}: {error}") from error
                        row = {"scenario": number, "mechanism": name, **figures}
                        rows.append(row)
                        log.write(json.dumps(row) + "\n")
                        log.flush()
                    progress.advance(task)
        table = polars.DataFrame(rows, infer_schema_length=None).sort("scenario", maintain_order=True)
        summary = {**means(table), **margins(table)}
        sections = market_figures(table)
        report = market_page(table, sections, str(directory.path))
        return Results(summary, table, report, figures_of(sections))

    def _cleared(self, mechanism: Mechanism, scenario: MarketScenario, seed: int) -> dict[str, float]:
        """Clear one market and return the outcome's numbers; raises an `InputError` if it breaks a rule."""
        begun = time.perf_counter()
        outcome = mechanism.clear(scenario)
        seconds = time.perf_counter() - begun
        check_outcome(outcome)
        return {**outcome.figures(), **self._confirmed(outcome, seed), "seconds": seconds}

    def _confirmed(self, outcome: Outcome, seed: int) -> dict[str, float]:
        if not self.simulated_tasks:
            return {}
        responses = simulate(outcome, self.simulated_tasks, seed)
        return {"response_error": responses.error, "worst_response_error": responses.worst_error}


@dataclass(frozen=True, kw_only=True)
class Market(Clearing):
    """Clear markets of a family, or one from a file.

    Args:
        family: the family that markets are drawn from.
        scenario: a file that `MarketScenario.save` wrote, cleared instead of drawn markets; None: draw.
        name, mechanisms, scenarios, first, simulated_tasks: as in `Clearing`.

    Raises:
        InputError: as `Clearing`, or the family draws no markets.
    """

    family: Markets
    scenario: str | None = None
    scenarios: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        role("family", self.family, Markets)
        optional(path, "scenario", self.scenario)

    def __call__(self, parts: Parts, directory: RunDirectory) -> Results:
        """Run; returns what `clear` does."""
        parts.init_serves()
        if self.scenario is None:
            return self.clear(self.family, range(self.first, self.first + self.scenarios), directory)
        given = MarketScenario.load_from(path("scenario", self.scenario))
        return self.clear(Single(given), [0], directory)


@dataclass(frozen=True)
class Single:
    """A family with a single market."""

    scenario: MarketScenario

    def draw(self, _: int, /) -> MarketScenario:
        """The market; its number is ignored."""
        return self.scenario


def _whole_lines(file: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file, none if it is missing; an incomplete last line is removed from the file."""
    if not file.is_file():
        return []
    lines, newline, _ = file.read_bytes().rpartition(b"\n")
    os.truncate(file, len(lines + newline))  # so that the next row starts on a new line
    return [json.loads(line) for line in lines.splitlines()]
