"""Compiling changes how a module computes, not what it learns nor what is kept of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("module", "n_graphs"), [("forecaster", 1), ("allocator", 2)])
def test_a_compiled_module_learns_the_same_and_keeps_the_same(module, n_graphs, tmp_path):
    script = Path(__file__).with_name("compiled.py")
    run = subprocess.run(
        [sys.executable, script, module],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    graphs, apart = run.stdout.split()[-2:]
    assert int(graphs) >= n_graphs
    assert float(apart) < 1e-5
