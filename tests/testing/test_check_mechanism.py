"""Every mechanism conforms; the conformance check itself finds what is wrong."""

from dataclasses import replace

import numpy as np
import pytest

from sliceoff.market import Auction, Centralised, Composite, Greedy, KnownSupply, MaxTransaction, Optimum
from sliceoff.testing import check_mechanism

FAST = {"evaluations": 5, "search": Composite(start=3)}


@pytest.mark.parametrize("mechanism", [Auction, MaxTransaction, Greedy, KnownSupply, Optimum])
def test_conforms(mechanism):
    check_mechanism(mechanism)


def test_a_search_conforms():
    check_mechanism(Centralised, **FAST)


class Broken:
    """The greedy mechanism, and whatever `fault` names wrongly."""

    def __init__(self, *, fault):
        self.fault = fault

    def clear(self, scenario):
        outcome = Greedy().clear(scenario)
        match self.fault:
            case "none":
                return None
            case "rule":
                return replace(outcome, payments=outcome.payments / 2)
            case "random":
                return replace(outcome, payments=outcome.payments * (1 + np.random.default_rng().random()))
            case "input":
                scenario.arrivals[:] = 0
        return outcome


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("none", r"clear\(\) returned NoneType"),
        ("rule", "breaks the rule of participation by"),
        ("random", "in two ways"),
        ("input", "changes the scenario's arrivals"),
    ],
)
@pytest.mark.usefixtures("as_at_run_time")
def test_the_check_finds(fault, message):
    with pytest.raises(AssertionError, match=message):
        check_mechanism(Broken, fault=fault)
