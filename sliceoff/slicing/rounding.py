"""Round the relaxation's shares to one offer per region and resource (Algorithm 2, corrected)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from sliceoff.slicing.choice import Choice, ChoiceProblem, polish, scale_back, take


def draw(
    shares: Float[np.ndarray, "regions options"], n_draws: int, generator: np.random.Generator
) -> Int[np.ndarray, "draws regions"]:
    """Draw exactly one option per region with the shares as probabilities, `n_draws` times.

    Rounding every variable independently, as Algorithm 2 is printed, chooses exactly one in only 65 % of draws, which
    breaks C2 and C3.
    """
    shares = np.maximum(shares, 0)  # solvers return -1e-12
    edges = np.cumsum(shares, axis=-1)
    edges /= edges[:, -1:]  # the last is 1, above every draw
    return (generator.random((n_draws, len(shares), 1)) >= edges).sum(-1)


def round_up(
    choice: Int[np.ndarray, "*draws regions"],
    short: Bool[np.ndarray, "regions options"],
    cover: Int[np.ndarray, " regions"],
) -> Int[np.ndarray, "*draws regions"]:
    """The drawn options, each replaced by `cover` where it falls `short` of the demand."""
    return np.where(take(short, choice), cover, choice)


def best_of(problem: ChoiceProblem, candidates: Choice) -> tuple[Choice | None, bool]:
    """The cheapest candidate that keeps the rows, improved by single changes.

    Args:
        candidates: per block (candidates, regions).

    Returns:
        The choice, None if even scaling back finds none; and whether it had to be scaled back.
    """
    holds = problem.holds(candidates)
    if holds.any():
        cost = np.where(holds, problem.cost(candidates).sum(-1), np.inf)
        return polish(problem, _at(candidates, int(cost.argmin()))), False
    excess = np.maximum(problem.use(candidates) - problem.limits, 0) / np.maximum(np.abs(problem.limits), 1e-12)
    kept = scale_back(problem, _at(candidates, int(excess.sum(-1).argmin())))
    return (None if kept is None else polish(problem, kept)), True


def _at(choice: Sequence[np.ndarray], number: int) -> Choice:
    return tuple(index[number] for index in choice)
