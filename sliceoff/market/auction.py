"""One price for all: servers sell what they want at it, applications that value a Gcycle at less are not served."""

from dataclasses import dataclass

import numpy as np

from sliceoff.market.outcome import Outcome, nobody_hired
from sliceoff.market.program import DispatchProgram
from sliceoff.market.scenario import MarketScenario
from sliceoff.market.servers import accepts, offer

_TIE = 1e-9


@dataclass(frozen=True)
class Auction:
    """Uniform price p, the smallest at which supply covers the demand of applications with `v_n >= p`.

    Servers are paid p for what they allot. Overhead (B1) takes part of the supply, so not all of that demand fits; the
    work of highest value is served. A server that would earn less than U_min withdraws, and the work is dispatched
    again.
    """

    def clear(self, scenario: MarketScenario) -> Outcome:
        """Clear the market; `Outcome.notes` has the `price`."""
        price = clearing_price(scenario)
        eligible = scenario.value >= (1 - _TIE) * price
        program = DispatchProgram(scenario, eligible=eligible)
        room = offer(scenario, np.full(len(scenario.capacity), price))
        while room.any():
            dispatch = program.solve(room)
            bought = dispatch.allotted(scenario)
            content = accepts(scenario, bought, price * bought)
            if content[room > 0].all():
                return Outcome(scenario, dispatch.work, dispatch.hosted, bought, price * bought, {"price": price})
            room = np.where(content, room, 0.0)
        return nobody_hired(scenario, price=price)


def clearing_price(scenario: MarketScenario) -> float:
    """The smallest price [money/Gcycle] at which supply covers demand; by bisection, since their gap grows with it."""

    def covered(price: float) -> bool:
        supply = offer(scenario, np.full(len(scenario.capacity), price)).sum()
        return bool(supply >= scenario.load[scenario.value >= price].sum())

    low, high = 0.0, 2 * float(scenario.value.max())  # at `high` there is no demand
    while low < (middle := (low + high) / 2) < high:
        low, high = (low, middle) if covered(middle) else (middle, high)
    return high
