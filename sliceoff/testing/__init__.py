"""Conformance checks for your own classes, to call from your tests.

>>> from sliceoff.testing import check_predictor
>>> check_predictor(MyNetwork)
"""

from sliceoff.testing.allocator import check_allocator as check_allocator
from sliceoff.testing.mechanism import check_mechanism as check_mechanism
from sliceoff.testing.predictor import check_predictor as check_predictor
from sliceoff.testing.slicer import check_slicer as check_slicer
