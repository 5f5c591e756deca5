"""Options against annotations; the other checks are tried where they are used."""

import pytest

from sliceoff.checks import annotated, one_of
from sliceoff.errors import InputError


class Stopping:
    def __init__(self, patience: int, min_delta: float = 0.0, **others):
        pass


def unknown(name: "Nowhere"):  # noqa: F821
    pass


def test_what_an_annotation_does_not_allow_is_told_with_its_key():
    annotated("callbacks.mine", Stopping, {"patience": 3, "min_delta": 1, "mode": "min"})  # 1 is as good as 1.0
    with pytest.raises(InputError, match=r"^callbacks\.mine\.patience='abc' is no int$"):
        annotated("callbacks.mine", Stopping, {"patience": "abc"})


def test_annotations_that_only_a_type_checker_can_resolve_check_nothing():
    annotated("logger", unknown, {"name": 3})


def test_a_list_is_none_of_the_options():
    with pytest.raises(InputError, match=r"^cell=\[0\] is not one of gru, lstm$"):
        one_of("cell", [0], {"gru": 1, "lstm": 2})
