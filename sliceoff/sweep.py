"""`python -m sliceoff.sweep FILE`: run a Weights & Biases sweep file on this machine, without W&B's server.

Grids (`method: grid`) run in the file's order; random sweeps (`method: random`) make `run_cap` draws, the same ones
every time. A combination that has finished is not run again and one that was stopped is resumed, so that a stopped
sweep continues where it was. One that diverged is not tried again: its row has no number.
"""

import argparse
import hashlib
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from sliceoff.checks import count, listed, one_of, optional
from sliceoff.cli import INTERRUPTED, TERMINATED, WRONG_INPUT
from sliceoff.config import read_config
from sliceoff.errors import InputError, near_miss
from sliceoff.run_directory import DIVERGED

_COMMAND = "[${env}, python, ${program}, ${args_no_hyphens}]"
_NEEDED = ("program", "method", "metric", "parameters")
_KEYS = (*_NEEDED, "run_cap", "command", "name", "description", "project", "entity", "early_terminate", "controller")


def combinations(sweep: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The parameters of every run of a sweep, in order.

    Raises:
        InputError: a method or a parameter that this module does not know.
    """
    choices: dict[str, list[Any]] = {}
    for name, given in sweep["parameters"].items():
        if not isinstance(given, Mapping) or not {"value", "values"} & set(given):
            raise InputError(
                f"sweep: parameters.{name}={given} has neither value nor values; other distributions need W&B"
            )
        values = given["values"] if "values" in given else [given["value"]]
        choices[name] = list(listed(f"sweep: parameters.{name}.values", values, "[1, 2]"))
    if sweep["method"] == "grid":
        products = itertools.islice(itertools.product(*choices.values()), sweep.get("run_cap"))
        yield from (dict(zip(choices, chosen, strict=True)) for chosen in products)
    elif sweep["method"] == "random" and sweep.get("run_cap"):
        for number in range(sweep["run_cap"]):
            random = np.random.default_rng(number)
            yield {name: values[random.integers(len(values))] for name, values in choices.items()}
    else:
        raise InputError(f"sweep: method={sweep['method']} is neither grid nor random with a run_cap; these need W&B")


def run_sweep(file: Path, runs: Path) -> list[dict[str, Any]]:
    """Run all combinations that have not finished, each in its own directory under `runs`; one row per run, best first.

    Raises:
        InputError: the file cannot be used, or a run failed.
        KeyboardInterrupt: interrupted; the current run has ended.
    """
    sweep = _read(file)
    metric, fixed, rows = sweep["metric"], _fixed(sweep), []
    for chosen in combinations(sweep):
        overrides = fixed + [f"{name}={_override(value)}" for name, value in chosen.items()]
        run = runs / hashlib.sha256("\n".join(overrides).encode()).hexdigest()[:12]
        rows.append({**chosen, metric["name"]: _result(run, sweep, overrides), "run": str(run)})
    sign = -1 if metric.get("goal") == "maximize" else 1
    results = [row[metric["name"]] for row in rows]
    # A run without a number, such as one that diverged, comes last.
    order = sorted(range(len(rows)), key=lambda place: (results[place] is None, sign * (results[place] or 0)))
    return [rows[place] for place in order]


def _read(file: Path) -> dict[str, Any]:
    """Read a sweep file; keys that only W&B uses are ignored.

    Raises:
        InputError: it cannot be read, a key is missing or misspelt, or a value has the wrong form.
    """
    sweep = read_config(file)
    for key in sweep:
        if key not in _KEYS and (meant := near_miss(key, _KEYS)):
            raise InputError(f"sweep: {file} has no use for {key}{meant}")
    if missing := [key for key in _NEEDED if key not in sweep]:
        raise InputError(f"sweep: {file} needs {', '.join(_NEEDED)}; there is no {', '.join(missing)}")
    metric = sweep["metric"]
    if not isinstance(metric, Mapping) or "name" not in metric:
        raise InputError(f"sweep: metric={metric} has no name; write {{name: main/profit_money, goal: maximize}}")
    one_of("sweep: metric.goal", metric.get("goal", "minimize"), ("maximize", "minimize"))
    if not isinstance(sweep["parameters"], Mapping):
        raise InputError(f"sweep: parameters={sweep['parameters']} must be of the form {{seed: {{values: [0, 1]}}}}")
    optional(count, "sweep: run_cap", sweep.get("run_cap"))
    return sweep


def _fixed(sweep: Mapping[str, Any]) -> list[str]:
    """Fixed arguments of the program in the sweep's `command`, without W&B's `${macros}` and `logger.online`.

    Raises:
        InputError: the command is no list, or does not name the program.
    """
    if (command := sweep.get("command")) is None:
        return []
    words = [str(word) for word in listed("sweep: command", command, _COMMAND)]
    programs = [place for place, word in enumerate(words) if word in ("${program}", sweep["program"])]
    if not programs:
        raise InputError(f"sweep: command={command} does not name the program; write {_COMMAND}")
    return [word for word in words[programs[0] + 1 :] if "${" not in word and not word.startswith("logger.online=")]


def _result(run: Path, sweep: Mapping[str, Any], overrides: Sequence[str]) -> float | None:
    """A run's metric, after running it if it has not finished yet; None if it diverged or the metric is not finite.

    Raises:
        InputError: the run failed, or has no such metric.
        KeyboardInterrupt: the run was interrupted.
    """
    summary, metric = run / "summary.json", sweep["metric"]["name"]
    if not summary.is_file() and not (run / DIVERGED).is_file():
        print(*overrides, flush=True)
        command = [sys.executable, str(sweep["program"]), *overrides, f"run_dir={run}"]
        command += ["init=resume"] * (run / "config.yaml").is_file()  # it was stopped
        code = _exit_code(command)
        if code in (INTERRUPTED, TERMINATED):
            raise KeyboardInterrupt
        if (code != 0 or not summary.is_file()) and not (run / DIVERGED).is_file():
            raise InputError(f"sweep: {' '.join(overrides)} ended with exit code {code}; run it alone to see why")
    if not summary.is_file():
        return None
    result = json.loads(summary.read_text())
    if metric not in result:
        raise InputError(f"sweep: {summary} has no {metric}; name one of its keys in metric.name")
    return result[metric]


def _exit_code(command: Sequence[str]) -> int:
    """Run a command and return its exit code. On Ctrl-C, which the terminal sends to the command too, wait for it."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            while process.poll() is None:
                with suppress(KeyboardInterrupt):  # a second one reaches the command as well
                    process.wait()
            raise


def _override(value: Any) -> str:
    """A value in the grammar of Hydra's overrides."""
    return "null" if value is None else json.dumps(value) if not isinstance(value, str) else value


def main() -> None:
    """Run the sweep given on the command line, and print its runs as a table, the best first."""
    parser = argparse.ArgumentParser(prog="python -m sliceoff.sweep")
    parser.add_argument("file", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/sweep"), help="where the runs' directories go")
    given = parser.parse_args()
    try:
        rows = run_sweep(given.file, given.runs)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(WRONG_INPUT)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with the run that was stopped", file=sys.stderr)
        sys.exit(INTERRUPTED)
    # Leave out columns in which all runs agree.
    columns = [name for name in rows[0] if len(rows) == 1 or len({str(row[name]) for row in rows}) > 1]
    table = Table(*columns)
    for row in rows:
        values = (row[name] for name in columns)
        table.add_row(*(f"{value:,.6g}" if isinstance(value, float) else str(value) for value in values))
    Console().print(table)


if __name__ == "__main__":
    main()
