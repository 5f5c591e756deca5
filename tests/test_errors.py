"""An error in a user's own code is one line that says where it was raised."""

import re
import sys

import pytest

from sliceoff.config import configure
from sliceoff.errors import InputError
from sliceoff.parts import Parts

OWN = """
import json

import torch

def width(options):
    return options["width"]

class Network(torch.nn.Module):
    def __init__(self, sizes, **options):
        super().__init__()
        self.layer = torch.nn.Linear(width(None), 1)

def asks_torch(**options):
    return torch.zeros(2).reshape(3, "x")

def asks_python(**options):
    return json.loads(None)
"""


@pytest.mark.parametrize(
    ("option", "target", "raised_in"),
    [
        ("predictor.network", "own.Network", '    return options["width"]'),
        ("data", "own.asks_torch", '    return torch.zeros(2).reshape(3, "x")'),
        ("data", "own.asks_python", "    return json.loads(None)"),
    ],
)
def test_an_error_of_own_code_says_where(tmp_path, monkeypatch, option, target, raised_in):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own", raising=False)
    (tmp_path / "own.py").write_text(OWN)
    place = re.escape(f"({tmp_path / 'own.py'}:{OWN.splitlines().index(raised_in) + 1})")
    with pytest.raises(InputError, match=rf"^{option}: [^\n]+ {place}$"):
        _ = Parts(configure("predictor=mlp", f"{option}._target_={target}")).forecaster


def test_own_code_that_cannot_be_imported_says_where(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken.py").write_text("width = 3\nheight = depth\n")
    with pytest.raises(InputError, match=rf"^data: .*depth.* \({re.escape(str(tmp_path))}/broken.py:2\)$"):
        _ = Parts(configure("data._target_=broken.trace")).trace


def test_an_error_of_a_library_says_what_is_wrong_alone():
    with pytest.raises(InputError, match=r"unexpected keyword argument 'widht'$"):
        _ = Parts(configure("predictor=mlp", "+predictor.network.widht=3")).forecaster
    with pytest.raises(InputError, match=r"Error loading 'nowhere.Thing':[^\n]*'nowhere' is installed\?$"):
        _ = Parts(configure("data._target_=nowhere.Thing")).trace
