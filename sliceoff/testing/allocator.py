"""Conformance check for allocators."""

from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any

import torch

from sliceoff.region import Allocation, Allocator, RegionEnvironment, RegionState, Scenario, check_allocation, map_state
from sliceoff.testing.located import located

_COPIES, _SLOTS = 3, 2


def check_allocator(allocator: Callable[..., Allocator], **options: Any) -> None:
    """Check that an allocator can serve regions: C4 and C5 hold, and every row is decided independently of the others.

    Args:
        allocator: the class, or a `functools.partial` of it. One that learns needs all its constructor's arguments in
            `options`.
        options: keyword arguments for it.

    Raises:
        AssertionError: it does not conform; the message says how.
    """
    scenario = Scenario()
    made = allocator(**options)
    seen: list[tuple[str, RegionState, Allocation]] = []
    for where, state in _states(scenario):
        kept = map_state(torch.clone, state)
        decided = made.allocate(scenario, state)
        assert _equal(kept, state), f"allocate changes the state ({where})"
        with located(where):
            check_allocation(state, decided)
        seen.append((where, state, decided))
        alone = [made.allocate(scenario, map_state(itemgetter(slice(row, row + 1)), state)) for row in range(_COPIES)]
        assert _close(state, Allocation(*map(torch.cat, zip(*alone, strict=True))), decided), (
            f"what a region gets depends on the others in its batch: workers, regions_per_batch would change results "
            f"({where})"
        )
    if getattr(made, "serves_ahead", False):
        for where, state, decided in seen:
            assert _close(state, made.allocate(scenario, state), decided), (
                f"asked again it decides otherwise, but it has serves_ahead = True: drop that, or decide by the state "
                f"alone ({where})"
            )


def _states(scenario: Scenario) -> Iterator[tuple[str, RegionState]]:
    """Regions with few, many and no users, with small and large rentals, and the backlogs that equal shares leave."""
    for mean_users, bandwidth_hz, n_vms in ((20, 9e6, 5), (scenario.max_users, 20e6, 12), (0, 5e6, 2), (3, 0.0, 1)):
        region = RegionEnvironment(scenario, mean_users, _COPIES, seed=0, bandwidth_hz=bandwidth_hz, n_vms=n_vms)
        for slot in range(_SLOTS):
            state = region.state
            yield f"mean_users={mean_users}, bandwidth_hz={bandwidth_hz:g}, n_vms={n_vms}, slot {slot}", state
            users = torch.arange(scenario.max_users).expand(_COPIES, -1)
            share = state.tasks.present / state.tasks.present.sum(-1, keepdim=True).clamp_min(1)
            region.step(Allocation(share, users % n_vms))


def _equal(one: RegionState, other: RegionState) -> bool:
    return all(map(torch.equal, (*one.tasks, *one[1:]), (*other.tasks, *other[1:])))


def _close(state: RegionState, one: Allocation, other: Allocation) -> bool:
    """Whether present users get the same shares and VMs, up to rounding."""
    present = state.tasks.present
    same_vms = torch.equal(one.vm[present], other.vm[present])
    return same_vms and torch.allclose(one.share[present], other.share[present], rtol=1e-3, atol=1e-5)
