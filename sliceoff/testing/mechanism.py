"""Conformance check for market mechanisms."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from sliceoff.market import Family, MarketScenario, Mechanism, check_outcome
from sliceoff.market.scenario import ARRAYS
from sliceoff.testing.located import located


def check_mechanism(mechanism: Callable[..., Mechanism], **options: Any) -> None:
    """Check that a mechanism can clear markets: no outcome breaks a rule (`violations`), and results are reproducible.

    Args:
        mechanism: the class, or a `functools.partial` of it.
        options: keyword arguments for it.

    Raises:
        AssertionError: it does not conform; the message says how.
    """
    for where, scenario in _markets():
        kept = {name: getattr(scenario, name).copy() for name in ARRAYS}
        outcome = mechanism(**options).clear(scenario)
        with located(where):
            check_outcome(outcome)
        changed = [name for name, value in kept.items() if not np.array_equal(value, getattr(scenario, name))]
        assert not changed, f"clear changes the scenario's {', '.join(changed)} ({where})"
        again = mechanism(**options).clear(scenario)
        same = [np.allclose(getattr(again, name), getattr(outcome, name)) for name in ("dispatch", "payments")]
        assert all(same), f"the same market is cleared in two ways ({where})"


def _markets() -> Iterator[tuple[str, MarketScenario]]:
    for seed, (applications, servers) in enumerate(((5, 3), (1, 1), (2, 4))):
        drawn = Family(n_applications=applications, n_servers=servers).draw(seed)
        yield f"applications={applications}, servers={servers}", drawn
    yield "nothing to offload", replace(drawn, arrivals=np.zeros_like(drawn.arrivals))
    yield "no work is worth its cost", replace(drawn, value=np.zeros_like(drawn.value))
    yield "no server has capacity", replace(drawn, capacity=np.zeros_like(drawn.capacity))
