"""What it means to cover users (C6): Eq. 17 with a given kappa, or with the best kappa for every region."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor

from sliceoff.checks import Number, fraction, not_negative, optional
from sliceoff.errors import OptionError
from sliceoff.region import Scenario
from sliceoff.slicing.demand import TaskStatistics, bandwidth_demand, pair_capacity, vm_demand
from sliceoff.slicing.offers import Offers
from sliceoff.slicing.problem import MHZ, PairProblem, Problem, RentProblem, dearest
from sliceoff.slicing.program import CoverProgram, ShareProgram
from sliceoff.slicing.rental import SlicingRequest, offer_costs
from sliceoff.solver import Solution, Solver

Relaxation = Callable[[Any], tuple[Solution, list[np.ndarray] | None]]
"""Solves the linear program of a period's problem. Returns the solution, and per block the shares (regions, options),
which are the probabilities with which offers are drawn; None if there are none."""


@runtime_checkable
class Requirement(Protocol):
    """Turns predicted users into a renting problem."""

    def problem(self, offers: Offers, request: SlicingRequest) -> Problem:
        """The problem of renting for the users that are forecast."""
        ...

    def relaxation(self, solver: Solver) -> Relaxation:
        """The solver of the linear relaxation of its problems."""
        ...


def requirement(
    scenario: Scenario, kappa: Number | str, z: Number, aggregate_margin: Number | None = None
) -> Requirement:
    """`FixedKappa`, or `JointKappa` for `kappa: joint`.

    Raises:
        InputError: an argument is out of range, or `aggregate_margin` is given with `joint` (no separate demands).
    """
    if not isinstance(kappa, str):
        return FixedKappa(scenario, kappa, z, aggregate_margin)
    if kappa != "joint":
        raise OptionError("kappa", f"={kappa!r} is neither a number between 0 and 1 nor 'joint'")
    if aggregate_margin is not None:
        raise OptionError("aggregate_margin", " needs kappa to be a number; set one of the two otherwise")
    return JointKappa(scenario, z)


@dataclass(frozen=True)
class FixedKappa:
    """Eq. 17 with one kappa for all regions: separate demands for bandwidth and VMs.

    Args:
        scenario: gives the deadline and the short slot.
        kappa: part of the deadline that uploads may take, in (0, 1).
        z: standard deviations kept against an unlucky mix of tasks, >= 0.
        aggregate_margin: if given, the rented totals must exceed the total demands by this share of them, >= 0.

    Raises:
        InputError: an argument is out of range, or kappa leaves too little time for the longest task.
    """

    scenario: Scenario
    kappa: Number
    z: Number
    aggregate_margin: Number | None = None

    def __post_init__(self) -> None:
        fraction("kappa", self.kappa)
        not_negative("z", self.z)
        optional(not_negative, "aggregate_margin", self.aggregate_margin)
        left, longest = (1 - self.kappa) * self.scenario.deadline_s, self.scenario.max_execution_s
        if left <= longest:
            most = 1 - longest / self.scenario.deadline_s
            raise OptionError(
                "kappa",
                f"={self.kappa} leaves {left:g} s of the deadline, the longest task takes {longest:g} s; "
                + (f"lower it below {most:.3g}" if most > 0 else "raise region.deadline_s"),
            )

    def demand(self, users: Float[Tensor, " regions"], statistics: TaskStatistics) -> tuple[Tensor, Tensor]:
        """Bandwidth [Hz] and VMs (real-valued) that every region needs, float64 (regions,)."""
        users = users.double().clamp_min(0)
        constants = {
            "kappa": self.kappa,
            "z": self.z,
            "deadline_s": self.scenario.deadline_s,
            "short_slot_s": self.scenario.short_slot_s,
        }
        return (
            bandwidth_demand(users, statistics.bandwidth_mean, statistics.bandwidth_std, **constants),
            vm_demand(users, statistics.vm_mean, statistics.vm_std, statistics.vm_max, **constants),
        )

    def problem(self, offers: Offers, request: SlicingRequest) -> RentProblem:
        bandwidth, vms = self.demand(request.forecast, request.statistics)
        bandwidth_price, vm_price = offer_costs(offers, request.previous)
        return RentProblem(
            offers=offers,
            prices=(bandwidth_price.numpy(), vm_price.numpy()),
            asked=(bandwidth.numpy() / MHZ, vms.numpy()),
            users=request.forecast.double().clamp_min(0).numpy(),
            aggregate_margin=self.aggregate_margin,
        )

    def relaxation(self, solver: Solver) -> Relaxation:
        return CoverProgram(solver).solve


@dataclass(frozen=True)
class JointKappa:
    """Eq. 17 with the best kappa for every region: a pair of offers covers the users if it does so for some kappa.

    Args:
        scenario: gives the deadline and the short slot.
        z: standard deviations kept against an unlucky mix of tasks, >= 0.

    Raises:
        InputError: z is out of range.
    """

    scenario: Scenario
    z: Number

    def __post_init__(self) -> None:
        not_negative("z", self.z)

    def problem(self, offers: Offers, request: SlicingRequest) -> PairProblem:
        capacity = pair_capacity(
            offers.bandwidth_hz,
            offers.n_vms,
            request.statistics,
            z=self.z,
            deadline_s=self.scenario.deadline_s,
            short_slot_s=self.scenario.short_slot_s,
        ).numpy()
        bandwidth, vms = (price.numpy() for price in offer_costs(offers, request.previous))
        wanted = request.forecast.double().clamp_min(0).numpy()
        missing = np.maximum(np.minimum(wanted, capacity.max((1, 2)))[:, None, None] - capacity, 0)
        price = bandwidth[:, :, None] + vms[:, None, :]
        penalty = dearest((bandwidth, vms)) * (missing + (missing > 1e-9 * wanted[:, None, None]))
        return PairProblem(offers, price + penalty, capacity, wanted)

    def relaxation(self, solver: Solver) -> Relaxation:
        program = ShareProgram(solver)
        return lambda pairs: program.solve(pairs.choice_problem())
