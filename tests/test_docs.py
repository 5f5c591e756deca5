"""Every example of docs/extending.md does what it says, as printed; every command of all pages names what there is."""

import re
import runpy
import shlex
import sys
from itertools import product, takewhile
from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from sliceoff.predictor import Forecaster
from sliceoff.run import configure

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs" / "extending.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", DOCS.read_text(), re.DOTALL)
FILES = {text.split("\n", 1)[0].removeprefix("# "): text for language, text in BLOCKS if language != "sh"}
COMMANDS = [
    line.partition("#")[0].strip() for language, text in BLOCKS if language == "sh" for line in text.strip().split("\n")
]
HALF_HOURS = np.datetime64("2024-01-01T00:00") + 30 * np.arange(48 * 28)
COUNTS = "".join(f"{time} {50 + place % 48} {'nan' if place == 9 else 20}\n" for place, time in enumerate(HALF_HOURS))
QUICK = {
    "simulate": ["job.periods=2", "job.slots_per_period=4", "rivals=none", "predictor=linear", "allocator=greedy"],
    "fit_predictor": ["debug=fast"],
    "fit_allocator": ["debug=fast"],
    "market": ["job.mechanisms.centralised=null", "job.mechanisms.decentralised=null"],
}


def command_lines(text):
    """The arguments of every `main.py ARGUMENTS` in a page's fenced blocks and inline code."""
    fenced = re.findall(r"^```.*?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = "\n".join(fenced).replace("\\\n", " ").splitlines()
    inline = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    for code in [*lines, *inline]:
        _, program, arguments = code.partition("main.py ")
        if program:
            yield list(takewhile(lambda word: word not in ("&&", "|", ";", ">"), shlex.split(arguments, comments=True)))


def composed(arguments):
    """The overrides of every run that a command line starts."""
    words = [word for word in arguments if word.startswith("~") or ("=" in word and not word.startswith("-"))]
    parsed = OverridesParser.create().parse_overrides(words)
    values = [each.sweep_string_iterator() if each.is_sweep_override() else None for each in parsed]
    return product(
        *(
            [word] if choices is None else [f"{word.partition('=')[0]}={value}" for value in choices]
            for word, choices in zip(words, values, strict=True)
        )
    )


# Another directory of configs has options of its own; such commands are run below.
PRINTED = [
    overrides
    for page in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
    for arguments in command_lines(page.read_text())
    if not any(word.startswith("--config-dir") for word in arguments)
    for overrides in composed(arguments)
    if overrides
]


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The package `mine` in the working directory, which is on Python's path."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "counts.txt").write_text(COUNTS)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for module in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[module]


def test_the_pages_are_full_of_commands():
    assert len(PRINTED) >= 20


@pytest.mark.parametrize("overrides", PRINTED, ids=" ".join)
def test_every_printed_command_composes(overrides):
    assert configure(*overrides)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command, mine, cli):
    _, program, *arguments = shlex.split(command)
    assert program == "main.py"
    given = dict(word.partition("=")[::2] for word in arguments)
    quick = [word for word in QUICK[given.get("job", "simulate")] if word.partition("=")[0] not in given]
    ended = cli(*arguments, *quick)
    assert ended.code == 0, ended.err


def test_the_check_passes_the_network_and_would_fail_a_broken_one(mine, monkeypatch):
    monkeypatch.chdir(mine)
    assert runpy.run_path("mine/check.py")["LastDays"].__module__ == "mine.network"
    broken = FILES["mine/network.py"].replace("return self.head(", "return history.mean() * self.head(")
    assert broken != FILES["mine/network.py"]
    exec(broken, sys.modules["mine.network"].__dict__)
    with pytest.raises(AssertionError, match="depends on the others"):
        runpy.run_path("mine/check.py")


def test_the_notebook_leaves_a_run_and_a_forecaster(mine, monkeypatch):
    monkeypatch.chdir(mine)
    left = runpy.run_path("mine/notebook.py")
    assert (left["result"].directory / "summary.json").is_file()
    assert isinstance(left["forecaster"], Forecaster)
