"""The common form of all slicing programs, one option per region under coupling rows, and heuristics to solve it.

A block is a table of regions by options (offers); one option per region is chosen, and rows limit what the choices of
all regions and blocks use together (a multiple-choice knapsack). Renting with a fixed kappa has two blocks, bandwidth
and VMs; renting pairs has one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

# Relative tolerance within which a row holds, like a solver's own.
_TOLERANCE = 1e-9

Choice = tuple[np.ndarray, ...]
"""One array of option indices per block, each (*draws, regions)."""


@dataclass(frozen=True)
class Block:
    """The options of one kind: what each costs, and how much of every row it uses.

    Args:
        cost: (regions, options) [money].
        use: (rows, regions, options), in the rows' own units.
    """

    cost: Float[np.ndarray, "regions options"]
    use: Float[np.ndarray, "rows regions options"]


@dataclass(frozen=True)
class ChoiceProblem:
    """Choose one option per region and block, at the least total cost with `sum of uses <= limits`.

    Args:
        blocks: at least one; all have the same rows.
        limits: (rows,).
    """

    blocks: Sequence[Block]
    limits: Float[np.ndarray, " rows"]

    def cost(self, choice: Choice) -> Float[np.ndarray, "*draws regions"]:
        """The total cost of every region's options, over all blocks."""
        return np.sum([take(block.cost, index) for block, index in zip(self.blocks, choice, strict=True)], axis=0)

    def use(self, choice: Choice) -> Float[np.ndarray, "*draws rows"]:
        """The total use of every row."""
        used = np.zeros((*choice[0].shape[:-1], len(self.limits)))
        for block, index in zip(self.blocks, choice, strict=True):
            for number, row in enumerate(block.use):
                used[..., number] += take(row, index).sum(-1)
        return used

    def holds(self, choice: Choice) -> Bool[np.ndarray, "*draws"]:
        """Whether every row holds, within `slack`."""
        return np.asarray((self.use(choice) <= self.limits + self.slack).all(-1))

    @property
    def slack(self) -> Float[np.ndarray, " rows"]:
        """The rounding error allowed in every row."""
        return _TOLERANCE * np.maximum(1.0, np.abs(self.limits))


def take(table: Shaped[np.ndarray, "regions options"], index: Int[np.ndarray, "*draws regions"]) -> np.ndarray:
    """`table[i, index[..., i]]` for every region i: (*draws, regions)."""
    return table[np.arange(table.shape[0]), index]


def cheapest(problem: ChoiceProblem) -> Choice:
    """The cheapest option everywhere, ignoring the rows; of equally cheap ones, the first."""
    return tuple(block.cost.argmin(-1) for block in problem.blocks)


def scale_back(problem: ChoiceProblem, choice: Choice) -> Choice | None:
    """Change single options of `choice` until every row holds, each time the one that costs least per unit saved.

    Savings are counted relative to the limits of the violated rows, and no change may violate a row that holds. All
    slicers that do not solve a program keep the rows in this way; for the others it is the last resort.

    Returns:
        The choice, or None if no further single change helps.
    """
    choice = tuple(index.copy() for index in choice)
    scale = np.maximum(np.abs(problem.limits), 1e-12)
    used = problem.use(choice)
    for _ in range(sum(block.cost.size for block in problem.blocks)):
        over = np.maximum(used - problem.limits - problem.slack, 0)
        if not over.any():
            return choice
        best = None
        for place, (block, index) in enumerate(zip(problem.blocks, choice, strict=True)):
            change = block.use - _column(block.use, index)
            after = used[:, None, None] + change
            worse = np.maximum(after - (problem.limits + problem.slack)[:, None, None], 0)
            saved = ((over[:, None, None] - worse) / scale[:, None, None]).sum(0)
            allowed = (worse <= over[:, None, None]).all(0) & (saved > 1e-15)
            dearer = block.cost - take(block.cost, index)[:, None]
            # If a change also lowers the cost, the largest reduction goes first.
            score = np.where(allowed, np.where(dearer > 0, dearer / np.maximum(saved, 1e-300), dearer), np.inf)
            at = int(score.argmin())
            if np.isfinite(score.flat[at]) and (best is None or score.flat[at] < best[0]):
                best = (score.flat[at], place, *divmod(at, block.cost.shape[1]))
        if best is None:
            return None
        _, place, region, option = best
        use = problem.blocks[place].use[:, region]
        used = used + use[:, option] - use[:, choice[place][region]]
        choice[place][region] = option
    return None


def polish(problem: ChoiceProblem, choice: Choice) -> Choice:
    """Improve a choice that keeps the rows by single changes that also keep them, the largest gain first."""
    choice = tuple(index.copy() for index in choice)
    used, limits = problem.use(choice), problem.limits + problem.slack
    while True:
        moves: list[tuple[float, int, int]] = []
        for place, (block, index) in enumerate(zip(problem.blocks, choice, strict=True)):
            room = (limits - used)[:, None, None]
            fits = (block.use - _column(block.use, index) <= room).all(0)
            gain = np.where(fits, block.cost - take(block.cost, index)[:, None], 0.0).min(-1)
            moves += [(float(gain[region]), place, int(region)) for region in np.flatnonzero(gain < -_TOLERANCE)]
        changed = False
        for _, place, region in sorted(moves):
            block, now = problem.blocks[place], choice[place][region]
            use, cost = block.use[:, region], block.cost[region]
            after = used[:, None] + use - use[:, now, None]
            gain = np.where((after <= limits[:, None]).all(0), cost - cost[now], 0.0)
            option = int(gain.argmin())
            if gain[option] < -_TOLERANCE:
                used, changed = after[:, option], True
                choice[place][region] = option
        if not changed:
            return choice


def _column(use: Float[np.ndarray, "rows regions options"], index: Int[np.ndarray, " regions"]) -> np.ndarray:
    return use[:, np.arange(use.shape[1]), index][:, :, None]
