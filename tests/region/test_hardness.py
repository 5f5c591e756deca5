"""docs/theory.md, statement 1: whoever finds the largest revenue of a slot decides PARTITION."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sliceoff.region import RegionState, Scenario, Tasks, optimum

BITS = 1e3
VM_HZ = 1e9


def all_in_time(numbers):
    """Whether two VMs serve tasks of these execution times within half of their sum."""
    # A little later than half: whole numbers cannot use it, rounding can.
    deadline_s = sum(numbers) / 2 * (1 + 1e-3)
    scenario = Scenario(
        deadline_s=deadline_s, short_slot_s=deadline_s, max_users=len(numbers), max_vms=2, vm_hz=VM_HZ, price=1.0
    )
    times = torch.tensor([numbers], dtype=torch.float64)
    one = torch.ones_like(times)
    tasks = Tasks(BITS * one, times * VM_HZ / BITS, one, 100 * one, one.bool())
    wide = torch.tensor([1e9], dtype=torch.float64)
    state = RegionState(tasks, torch.zeros(1, 2, dtype=torch.float64), wide, torch.tensor([2]), 0 * wide)
    best = optimum(scenario, [state])
    assert best.proven
    return best.revenue == pytest.approx(len(numbers))


def partition_exists(numbers):
    sums = {0}
    for number in numbers:
        sums |= {total + number for total in sums}
    return sum(numbers) / 2 in sums


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=2, max_size=6))
def test_the_largest_revenue_decides_partition(numbers):
    assert all_in_time(numbers) == partition_exists(numbers)


def test_both_answers_occur():
    assert all_in_time([3, 1, 1, 2, 2, 1])
    assert not all_in_time([3, 3, 3, 2])
