"""Every allocator conforms; the conformance check itself finds what is wrong."""

import pytest

from sliceoff.config import configure
from sliceoff.region import Equal, Greedy, LookaheadGreedy, Proportional, Random
from sliceoff.run import Parts
from sliceoff.testing import check_allocator


@pytest.mark.parametrize("rule", [Equal, Proportional, Random, Greedy, LookaheadGreedy])
def test_rules_conform(rule):
    check_allocator(rule)


@pytest.mark.parametrize("name", ["dual", "paper_dual"])
def test_agents_conform(name):
    check_allocator(lambda: Parts(configure("predictor=last_value", f"allocator={name}")).allocator)


class Broken:
    """Equal shares, and whatever `fault` names wrongly."""

    serves_ahead = True

    def __init__(self, *, fault):
        self.fault, self.asked = fault, 0

    def allocate(self, scenario, state):
        self.asked += 1
        allocation = Equal().allocate(scenario, state)
        match self.fault:
            case "none":
                return None
            case "share":
                return allocation._replace(share=2 * allocation.share)
            case "vm":
                return allocation._replace(vm=allocation.vm + 1)
            case "batch":
                busiest = state.tasks.present.sum(-1).max()
                return allocation._replace(share=state.tasks.present / busiest.clamp_min(1))
            case "memory":
                return allocation._replace(share=allocation.share * (0.5 if self.asked > 32 else 1.0))
            case "input":
                state.backlog_s.add_(1)
        return allocation


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("none", "allocate returned NoneType"),
        ("share", r"sums to more than 1 \(C4\)"),
        ("vm", r"not rented \(C5\)"),
        ("batch", "depends on the others"),
        ("memory", "asked again"),
        ("input", "changes the state"),
    ],
)
@pytest.mark.usefixtures("as_at_run_time")
def test_the_check_finds(fault, message):
    with pytest.raises(AssertionError, match=message):
        check_allocator(Broken, fault=fault)
