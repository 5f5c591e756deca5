"""Every example of docs/extending.md does what it says, as printed."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from sliceoff.predictor import Forecaster

DOCS = Path(__file__).resolve().parents[1] / "docs" / "extending.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", DOCS.read_text(), re.DOTALL)
FILES = {text.split("\n", 1)[0].removeprefix("# "): text for language, text in BLOCKS if language != "sh"}
COMMANDS = [
    line.partition("#")[0].strip() for language, text in BLOCKS if language == "sh" for line in text.strip().split("\n")
]
QUICK = {
    "simulate": ["job.periods=2", "job.slots_per_period=4", "rivals=none", "predictor=linear", "allocator=greedy"],
    "fit_predictor": ["debug=fast"],
    "market": ["job.mechanisms.centralised=null", "job.mechanisms.decentralised=null"],
}


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The package `mine` in the working directory, which is on Python's path."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for module in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[module]


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
