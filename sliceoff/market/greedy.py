"""The greedy mechanism: applications that pay most come first, each to its nearest server."""

from dataclasses import dataclass

import numpy as np

from sliceoff.checks import between
from sliceoff.market.outcome import Outcome
from sliceoff.market.scenario import MarketScenario
from sliceoff.market.servers import accepts


@dataclass(frozen=True)
class Greedy:
    """Serves applications in falling order of v_n, each as a whole at the lowest-delay server with room for it.

    The server gets a fixed share of the prepayment. It refuses an application that lowers its profit or leaves it with
    less than U_min; the application then asks the next nearest.

    Args:
        share: the server's share of the prepayment, 0 to 1.

    Raises:
        InputError: a share outside 0 to 1.
    """

    share: float = 0.7

    def __post_init__(self) -> None:
        between("share", self.share, 0, 1)

    def clear(self, scenario: MarketScenario) -> Outcome:
        """Clear the market; see `Mechanism`."""
        hosted = np.zeros_like(scenario.possible)
        bought, payments = np.zeros(len(scenario.capacity)), np.zeros(len(scenario.capacity))
        for n in np.argsort(-scenario.value, kind="stable"):
            needed = scenario.load[n] + scenario.overhead[n]
            paid = payments + self.share * scenario.value[n] * scenario.load[n]
            with np.errstate(invalid="ignore"):  # impossible pairs need infinite capacity
                gains = paid - payments >= _extra(scenario, bought, needed)
                willing = gains & accepts(scenario, bought + needed, paid)
            open_to_it = scenario.possible[n] & (bought + needed <= scenario.capacity) & willing
            if open_to_it.any():
                m = int(np.argmin(np.where(open_to_it, scenario.delay_s[n], np.inf)))
                hosted[n, m] = True
                bought[m], payments[m] = bought[m] + needed[m], paid[m]
        return Outcome(scenario, np.where(hosted, scenario.load[:, None], 0.0), hosted, bought, payments)


def _extra(scenario: MarketScenario, bought: np.ndarray, needed: np.ndarray) -> np.ndarray:
    """What `needed` additional capacity costs each server [money/s]."""
    return scenario.linear_cost * needed + scenario.quadratic_cost * needed * (2 * bought + needed)
