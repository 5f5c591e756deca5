"""The finished runs that `job.runs` names: run directories and glob patterns."""

import re
from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from sliceoff import checks
from sliceoff.errors import InputError
from sliceoff.run_directory import is_finished


def check_names(runs: Any) -> None:
    """Check that `runs` is a list of names or patterns.

    Raises:
        OptionError: it is not.
    """
    for run in checks.listed("runs", runs, "[runs/simulate/*]"):
        checks.path("runs", run)


def finished_runs(names: Sequence[Any]) -> tuple[list[Path], int]:
    """The finished runs that the names and patterns match, each once, and the number of unfinished ones.

    A pattern's runs are in the order of their names, `grid-2` before `grid-10`.

    Raises:
        InputError: a name is not that of a finished run, or a pattern matches none.
    """
    runs, unfinished = dict[Path, Path](), set[Path]()
    for name in map(str, names):
        if has_magic(name) and not Path(name).exists():
            matches = [path for path in map(Path, glob(name, recursive=True)) if (path / "config.yaml").is_file()]
            finished = sorted(filter(is_finished, matches), key=_in_order)
            if not finished:
                others = f" ({counted(len(matches), 'unfinished run')})" if matches else ""
                raise InputError(f"job.runs: {name} finds no finished run{others}; mend the pattern")
            unfinished |= {path.resolve() for path in matches if path not in finished}
        else:
            finished = [Path(name)]
            if not (finished[0] / "config.yaml").is_file():
                raise InputError(f"job.runs: {name} is no run directory; name one, or a pattern: [runs/simulate/*]")
            if not is_finished(finished[0]):
                raise InputError(
                    f"job.runs: {name} is not finished (no summary.json); leave it out, or finish it (init=resume)"
                )
        runs |= {path.resolve(): path for path in finished if path.resolve() not in runs}
    return list(runs.values()), len(unfinished)


def left_out(unfinished: int) -> str:
    """A sentence on the runs that a pattern matched but that are not finished; "" if there are none."""
    return f" {counted(unfinished, 'unfinished run')} left out." if unfinished else ""


def counted(number: int, what: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _in_order(path: Path) -> list[str | int]:
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(path))]
