"""Checkpoints rebuild their module from the file alone, and refuse what is not theirs in one line."""

import pickle
from argparse import Namespace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from sliceoff import checkpoint
from sliceoff.errors import InputError


class Body(nn.Module):
    def __init__(self, width: int, depth: int = 1):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(width, width) for _ in range(depth)))


class Whole(nn.Module):
    def __init__(self, body, name: str, sizes=(1, 2)):
        super().__init__()
        self.spec = checkpoint.describe(type(self), {"body": body, "name": name, "sizes": sizes})
        self.body, self.name, self.sizes = body(depth=2), name, sizes


def saved(tmp_path, module, **replaced):
    path = tmp_path / "best.ckpt"
    torch.save({"spec": module.spec, "state_dict": module.state_dict(), **replaced}, path)
    return path


@pytest.fixture
def module():
    return Whole(partial(Body, width=3), "informer")


def test_round_trip_from_the_file_alone(tmp_path, module):
    loaded = checkpoint.load(saved(tmp_path, module), expect=Whole)
    assert loaded.name == "informer"
    assert list(loaded.sizes) == [1, 2]
    assert not loaded.training
    for name, value in module.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=0, atol=0)


def test_a_run_directory_stands_for_its_best_checkpoint(tmp_path, module):
    (tmp_path / "checkpoints").mkdir()
    saved(tmp_path / "checkpoints", module)
    assert checkpoint.load(tmp_path, expect=Whole).name == "informer"


def test_of_a_run_with_several_modules_the_one_of_the_kind_asked_for_is_read(tmp_path, module):
    body = Body(2)
    body.spec = checkpoint.describe(Body, {"width": 2})
    for folder, part in (("allocator", body), ("predictor", module)):
        (tmp_path / "checkpoints" / folder).mkdir(parents=True)
        saved(tmp_path / "checkpoints" / folder, part)
    assert isinstance(checkpoint.load(tmp_path, expect=Whole), Whole)
    assert isinstance(checkpoint.load(tmp_path, expect=Body), Body)
    with pytest.raises(InputError, match="holds a Body and a Whole, not a Linear"):
        checkpoint.load(tmp_path, expect=nn.Linear)
    folder = tmp_path / "checkpoints" / "predictor"
    (folder / "best.ckpt").rename(folder / "last.ckpt")  # stopped before it had a best one
    assert isinstance(checkpoint.load(tmp_path, expect=Whole), Whole)


def test_another_kind_of_module_is_refused(tmp_path, module):
    with pytest.raises(InputError, match="holds a Whole, not a Body"):
        checkpoint.load(saved(tmp_path, module), expect=Body)


def test_weights_that_do_not_fit_are_refused(tmp_path, module):
    with pytest.raises(InputError, match=r"another version \(Whole: Missing key"):
        checkpoint.load(saved(tmp_path, module, state_dict={}), expect=Whole)


def test_weights_that_are_not_finite_are_refused(tmp_path, module):
    module.body.layers[0].bias.data[1] = torch.nan
    with pytest.raises(InputError, match=r"weight body\.layers\.0\.bias is not finite"):
        checkpoint.load(saved(tmp_path, module), expect=Whole)


def test_a_class_that_takes_other_arguments_now_is_refused(tmp_path, module):
    spec = {**module.spec, "arguments": {"body": module.spec["arguments"]["body"]}}
    with pytest.raises(InputError, match=r"another version's of .*missing 1 required positional argument: 'name'"):
        checkpoint.load(saved(tmp_path, module, spec=spec), expect=Whole)


@pytest.mark.parametrize(
    "content", [b"", b"no checkpoint", b"PK\x03\x04 torn", b"time,r0\n2024-01-01,1\n", pickle.dumps({"spec": 1})]
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "best.ckpt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"best\.ckpt is no checkpoint, .*; give a \.ckpt file that"):
        checkpoint.read(path)


def test_a_checkpoint_that_was_cut_short_is_refused(tmp_path, module):
    path = saved(tmp_path, module)
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="cut short"):
            checkpoint.read(path)


def test_a_checkpoint_of_objects_that_could_run_code_is_refused(tmp_path, module):
    with pytest.raises(InputError, match="holds more than tensors and plain data"):
        checkpoint.read(saved(tmp_path, module, hyper_parameters=Namespace(width=3)))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no checkpoint at"):
        checkpoint.load(tmp_path / "absent.ckpt", expect=Whole)


def test_a_checkpoint_cannot_name_anything_but_a_torch_module(tmp_path, module):
    spec = {"class": "os:system", "arguments": {"command": "true"}}
    with pytest.raises(InputError, match="no torch module"):
        checkpoint.load(saved(tmp_path, module, spec=spec), expect=nn.Module)


def test_what_cannot_be_kept_is_told_at_once():
    with pytest.raises(TypeError, match="name of type object"):
        checkpoint.describe(Whole, {"body": partial(Body, width=3), "name": object()})


@pytest.mark.parametrize("value", [True, 3, 0.5, "a"])
def test_a_scalar_of_numpy_is_kept_as_pythons(value):
    kept = checkpoint.describe(Whole, {"sizes": [np.array(value)[()]]})["arguments"]["sizes"]
    assert (kept, type(kept[0])) == ([value], type(value))


def test_the_first_difference_between_descriptions_is_named(module):
    other = Whole(partial(Body, width=3), "gru")
    wider = Whole(partial(Body, width=4), "informer")
    assert checkpoint.differing(module.spec, Whole(partial(Body, width=3), "informer").spec) is None
    assert checkpoint.differing(module.spec, other.spec) == "name"
    assert checkpoint.differing(module.spec, wider.spec) == "body.arguments.width"
    assert checkpoint.differing({"x": torch.ones(2)}, {"x": torch.ones(2)}) is None
    assert checkpoint.differing({"x": torch.ones(2)}, {"x": torch.zeros(2)}) == "x"


def test_weights_go_into_a_module_with_options_of_its_own(tmp_path, module):
    path, other = saved(tmp_path, module), Whole(partial(Body, width=3), "gru")
    loaded = checkpoint.load_weights(path, other)
    assert loaded is other
    assert loaded.name == "gru"
    assert not loaded.training
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), module.parameters(), strict=True))


def test_weights_need_the_options_that_the_module_says(tmp_path, module):
    path, other = saved(tmp_path, module), Whole(partial(Body, width=4), "informer")
    with pytest.raises(InputError, match=r"does not fit what is configured \(Whole: size mismatch"):
        checkpoint.load_weights(path, other)
    other.weights_need = ("name", "body.class", "body")
    with pytest.raises(InputError, match=r"was trained with body\.width=3, configured is 4"):
        checkpoint.load_weights(path, other)
