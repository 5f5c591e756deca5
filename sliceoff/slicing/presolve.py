"""Lagrangian relaxation of the coupling rows: a bound and a good choice before a solver is called.

With a price on every row the regions separate: the best choice at these prices is found region by region, is close to
optimal, and bounds the optimum from below. Options that the bound rules out are fixed (reduced-cost fixing).
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from sliceoff.slicing.choice import Choice, ChoiceProblem, cheapest, polish, scale_back, take

_SWEEPS, _STEPS, _MOST_VALUES = 4, 40, 100


@dataclass(frozen=True)
class Presolved:
    """The results of `presolve`.

    Args:
        prices: (rows,) [money per unit of the row], zero where a row does not bind.
        bound: a lower bound on the cost of any choice that keeps the rows.
        incumbent: a choice that keeps the rows, None if none was found.
        cost: the incumbent's, infinite without one.
        open: per block (regions, options), which options a choice better than the incumbent may have.
    """

    prices: Float[np.ndarray, " rows"]
    bound: float
    incumbent: Choice | None
    cost: float
    open: tuple[np.ndarray, ...]

    def closed(self, gap: float) -> bool:
        """Whether the incumbent is proved to be within the relative `gap` of the optimum."""
        return self.incumbent is not None and self.cost - self.bound <= gap * abs(self.cost)


def presolve(problem: ChoiceProblem) -> Presolved:
    """Find prices of the rows, a lower bound, a choice that keeps the rows, and the options that remain open."""
    choice = cheapest(problem)
    prices = np.zeros(len(problem.limits))
    if not problem.holds(choice):
        prices = shadow_prices(problem)
        choice = at_prices(problem, prices)
        kept = choice if problem.holds(choice) else scale_back(problem, choice)
        incumbent = None if kept is None else polish(problem, kept)
    else:
        incumbent = choice
    cost = np.inf if incumbent is None else float(problem.cost(incumbent).sum())
    reduced = [table - table.min(-1, keepdims=True) for table in _priced(problem, prices)]
    bound = _bound(problem, prices)
    room = cost - bound + 1e-9 * max(1.0, abs(bound))
    return Presolved(prices, bound, incumbent, cost, tuple(table <= room for table in reduced))


def row_steps(problem: ChoiceProblem) -> Float[np.ndarray, " rows"]:
    """The step in which each row's total use can change, zero if there is none; it depends on the uses alone.

    Offered sizes are round numbers, so totals are too: in steps of 5 MHz, a total cannot be 28 MHz.
    """
    steps = np.zeros(len(problem.limits))
    for row in range(len(steps)):
        above_least = [block.use[row] - block.use[row].min(-1, keepdims=True) for block in problem.blocks]
        steps[row] = _common_divisor(np.unique(np.concatenate([np.unique(table) for table in above_least])))
    return steps


def rounded_down(problem: ChoiceProblem, steps: Float[np.ndarray, " rows"]) -> ChoiceProblem:
    """The same problem with limits rounded down to totals that can be reached, which tightens every bound."""
    least = np.array(
        [sum(block.use[row].min(-1).sum() for block in problem.blocks) for row in range(len(problem.limits))]
    )
    room = problem.limits + problem.slack - least
    reached = least + np.floor(room / np.where(steps > 0, steps, 1.0)) * steps
    return replace(problem, limits=np.where(steps > 0, np.minimum(reached, problem.limits), problem.limits))


def _common_divisor(values: Float[np.ndarray, " values"]) -> float:
    """The largest number of which all values are multiples; zero if it is too small to be meaningful."""
    largest = float(values.max(initial=0.0))
    if len(values) > _MOST_VALUES or largest == 0:
        return 0.0
    step = 0.0
    for value in values.tolist():
        while value > 1e-9 * largest:
            step, value = value, step % value if step else 0.0
            value = 0.0 if step - value < 1e-9 * largest else value
    return step if step > 1e-4 * largest else 0.0


def shadow_prices(problem: ChoiceProblem) -> Float[np.ndarray, " rows"]:
    """Prices at which the cheapest choice keeps the rows, as far as prices can achieve it: dual ascent, row by row.

    A row that holds at no price gets the price at which the search stops.
    """
    prices = np.zeros(len(problem.limits))
    for _ in range(_SWEEPS):
        before = prices.copy()
        for row in range(len(prices)):
            prices[row] = _price_of(problem, prices, row)
        if np.allclose(prices, before, rtol=1e-9, atol=0):
            break
    return prices


def at_prices(problem: ChoiceProblem, prices: Float[np.ndarray, " rows"]) -> Choice:
    """The cheapest options when the rows' prices are added to the costs."""
    return tuple(table.argmin(-1) for table in _priced(problem, prices))


def _price_of(problem: ChoiceProblem, prices: Float[np.ndarray, " rows"], row: int) -> float:
    """The smallest price at which this row holds, with the other prices fixed; by bisection."""
    others = prices.copy()
    others[row] = 0.0
    tables, uses = _priced(problem, others), [block.use[row] for block in problem.blocks]
    limit = problem.limits[row] + problem.slack[row]

    def holds(price: float) -> bool:
        return bool(
            sum(take(use, (table + price * use).argmin(-1)).sum() for table, use in zip(tables, uses, strict=True))
            <= limit
        )

    if holds(0.0):
        return 0.0
    spread = max(float(np.ptp(use, axis=-1).max()) for use in uses)
    high = max(float(np.ptp(table, axis=-1).max()) for table in tables) / max(spread, 1e-12) + 1e-12
    for _ in range(_STEPS):
        if holds(high):
            break
        high *= 4
    low = 0.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _priced(problem: ChoiceProblem, prices: Float[np.ndarray, " rows"]) -> list[np.ndarray]:
    """Costs plus the prices of the rows used, (regions, options) per block."""
    return [block.cost + np.tensordot(prices, block.use, axes=1) for block in problem.blocks]


def _bound(problem: ChoiceProblem, prices: Float[np.ndarray, " rows"]) -> float:
    """The Lagrangian lower bound at these prices."""
    return float(sum(table.min(-1).sum() for table in _priced(problem, prices)) - prices @ problem.limits)
