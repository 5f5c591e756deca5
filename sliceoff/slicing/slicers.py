"""Slicers: rules, and the programs of P1.1.

All keep C1-C3 and the coupling rows. If the rows do not allow what is needed, a rule's choice is scaled back
(`choice.scale_back`), and a program leaves demand uncovered where the fewest users are lost.
"""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
from torch import full_like

from sliceoff.checks import Number, count, not_negative, whole
from sliceoff.region import Scenario
from sliceoff.slicing.choice import Choice, ChoiceProblem, cheapest, scale_back
from sliceoff.slicing.offers import Offers
from sliceoff.slicing.presolve import at_prices, shadow_prices
from sliceoff.slicing.problem import Problem, smallest
from sliceoff.slicing.program import ExactProgram
from sliceoff.slicing.rental import BY_RULE, Rental, SlicingRequest, rental
from sliceoff.slicing.requirement import requirement
from sliceoff.slicing.rounding import best_of, draw, round_up
from sliceoff.solver import Solver, Status

log = logging.getLogger(__name__)

SCALED_BACK = "scaled back to the coupling rows"
SMALLEST = "smallest offers"
NO_AGGREGATE = "aggregate demand given up"
INCUMBENT = "best choice known, not proved"
RULE = "cheapest offers that cover"


class Cheapest:
    """Rents the cheapest offers that cover the forecast: optimal if no row couples the regions.

    Args:
        kappa: part of the deadline that uploads may take, or `joint`: the best one for every region.
        z: standard deviations kept against an unlucky mix of tasks.
    """

    def __init__(self, offers: Offers, scenario: Scenario, kappa: Number | str, z: Number):
        self._offers, self._requirement = offers, requirement(scenario, kappa, z)

    def rent(self, request: SlicingRequest) -> Rental:
        rent = self._requirement.problem(self._offers, request)
        choice, fallback = kept(rent.choice_problem())
        return _rental(self._offers, rent, choice, request, status=BY_RULE, fallback=fallback)


class Reactive(Cheapest):
    """As `Cheapest`, but for the users of the last long slot instead of the forecast."""

    def rent(self, request: SlicingRequest) -> Rental:
        return super().rent(replace(request, forecast=request.last))


class Fixed(Cheapest):
    """As `Cheapest`, but always for the same number of users: the mean (`slicer=fixed`) or the most (`slicer=peak`).

    Args:
        users: per region and short slot.
    """

    def __init__(self, offers: Offers, scenario: Scenario, kappa: Number | str, z: Number, users: Number):
        super().__init__(offers, scenario, kappa, z)
        self._users = not_negative("users", users)

    def rent(self, request: SlicingRequest) -> Rental:
        return super().rent(replace(request, forecast=full_like(request.forecast, self._users)))


class Exact:
    """The least rent that covers the forecast under the coupling rows, by a binary program.

    Args:
        kappa, z: as for `Cheapest`.
        aggregate_margin: also rent at least the total demand of all regions plus this share of it; None: no such row.
        solver: `CBC` or `HIGHS`.
        time_limit_s: time limit per solve.
        gap: relative gap at which a solution counts as optimal.
    """

    def __init__(
        self,
        offers: Offers,
        scenario: Scenario,
        kappa: Number | str,
        z: Number,
        aggregate_margin: Number | None = None,
        solver: str = "HIGHS",
        time_limit_s: Number = 10.0,
        gap: Number = 1e-4,
    ):
        self._offers, self._requirement = offers, requirement(scenario, kappa, z, aggregate_margin)
        self._program = ExactProgram(Solver(solver, time_limit_s, integer=True, gap=gap))

    def rent(self, request: SlicingRequest) -> Rental:
        rent = self._requirement.problem(self._offers, request)
        problem, fallback = rent.choice_problem(), ""
        status, choice = self._program.solve(problem)
        if choice is None and (looser := rent.without_aggregate()) is not None:
            problem, fallback = looser.choice_problem(), NO_AGGREGATE
            status, choice = self._program.solve(problem)
        if choice is None:
            choice, fallback = _last_resort(problem, status)
        elif status is not Status.OPTIMAL:
            log.warning("slicing: %s; renting the best choice known", status)
            fallback = fallback or INCUMBENT
        return _rental(self._offers, rent, choice, request, status=status, fallback=fallback)


class LpRounding:
    """Algorithm 2: the linear program (18), then one offer per region and resource, drawn with its shares.

    Candidates are every draw, every draw repaired (regions that fall short get the offers that cover at the rows'
    shadow prices), and these covering offers in all regions. The cheapest candidate that keeps the rows is improved by
    single changes. With the repair, the draws themselves hardly matter (`benchmarks/slicing.py`).

    Theorem 2 holds for a plain draw: E[rent] is the LP's value, E[capacity] at least the demand, and the total falls
    short of it by a share delta with a probability of at most exp(-2 delta^2 D^2 / sum Delta_i^2). No such bound holds
    for a single region, hence the repair.

    Args:
        kappa, z, aggregate_margin, solver, time_limit_s: as for `Exact`.
        n_draws: draws per period.
        seed: seed of the draws, which depend only on it and on the period.
    """

    def __init__(
        self,
        offers: Offers,
        scenario: Scenario,
        kappa: Number | str,
        z: Number,
        aggregate_margin: Number | None = None,
        n_draws: int = 64,
        seed: int = 0,
        solver: str = "CBC",
        time_limit_s: Number = 10.0,
    ):
        self._offers, self._requirement = offers, requirement(scenario, kappa, z, aggregate_margin)
        self._seed = whole("seed", seed)
        self._n_draws = count("n_draws", n_draws)
        self._relaxation = self._requirement.relaxation(Solver(solver, time_limit_s, integer=False))

    def rent(self, request: SlicingRequest) -> Rental:
        rent = self._requirement.problem(self._offers, request)
        fallback = ""
        solution, shares = self._relaxation(rent)
        if solution.status is Status.INFEASIBLE and (looser := rent.without_aggregate()) is not None:
            rent, fallback = looser, NO_AGGREGATE
            solution, shares = self._relaxation(rent)
        problem = rent.choice_problem()
        choice: Choice | None = None
        if shares is not None:
            choice, scaled = self._round(
                rent, problem, shares, 0 if request.previous is None else request.previous.period + 1
            )
            fallback = fallback or (SCALED_BACK if scaled else "")
        if choice is None:
            choice, fallback = _last_resort(problem, solution.status)
        value, status = solution.objective, solution.status
        return _rental(self._offers, rent, choice, request, status=status, fallback=fallback, lp_value=value)

    def _round(
        self, rent: Problem, problem: ChoiceProblem, shares: list[np.ndarray], period: int
    ) -> tuple[Choice | None, bool]:
        generator = np.random.default_rng((self._seed, period))
        draws: Choice = tuple(draw(share, self._n_draws, generator) for share in shares)
        # Offers that cover at the rows' shadow prices: dearer than the cheapest, but they use less of a row that binds.
        covers = at_prices(problem, shadow_prices(problem))
        candidates: Choice = tuple(
            np.concatenate([index, round_up(index, short, cover), cover[None]])
            for index, short, cover in zip(draws, rent.falls_short(), covers, strict=True)
        )
        return best_of(problem, candidates)


def kept(problem: ChoiceProblem) -> tuple[Choice, str]:
    """The cheapest options, scaled back if they violate the rows; and the name of the fallback, empty if none."""
    choice = cheapest(problem)
    if problem.holds(choice):
        return choice, ""
    scaled = scale_back(problem, choice)
    return (smallest(problem), SMALLEST) if scaled is None else (scaled, SCALED_BACK)


def _rental(offers: Offers, rent: Problem, choice: Choice, request: SlicingRequest, **found: Any) -> Rental:
    """The `Rental` that a choice means; `found` as for `rental`."""
    return rental(
        offers,
        *rent.offers_of(choice),
        previous=request.previous,
        uncovered=rent.uncovered(choice),
        **found,
    )


def _last_resort(problem: ChoiceProblem, status: Status) -> tuple[Choice, str]:
    """The choice and the name of the fallback for a program that has no solution; logs a warning."""
    log.warning("slicing: %s; renting %s instead", status, RULE)
    choice, scaled = kept(problem)
    return choice, f"{RULE}, {scaled}" if scaled else RULE
