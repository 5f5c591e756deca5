"""The interface of slicers: a `SlicingRequest` in, a `Rental` out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sliceoff.errors import InputError
from sliceoff.slicing.demand import TaskStatistics
from sliceoff.slicing.forecast_errors import ForecastErrors, Quantiles
from sliceoff.slicing.offers import Offers, pick

BY_RULE = "rule"
"""The status of a rental for which no program was solved."""


@dataclass(frozen=True)
class Rental:
    """The slices rented for one long slot.

    Args:
        bandwidth_index, vm_index: (regions,), the chosen offers.
        bandwidth_hz, n_vms: (regions,), the sizes of the chosen offers.
        rent: (regions,) [money per long slot], including the price of changed offers.
        uncovered: (regions,), whether the slice is below what the region needs, by the slicer's own criterion.
        status: how it was found: `BY_RULE`, or the solver's `Status`; after any but `OPTIMAL`, a fallback was used.
        fallback: what was done instead, if the status or the coupling rows required it; else empty.
        lp_value: optimum of the relaxation [money per long slot], a lower bound on rent plus penalised shortfall.
        period: long slots rented before this one.
        memory: tensors that the slicer keeps for the next long slot, where they are in `request.previous.memory`.
    """

    bandwidth_index: Int[Tensor, " regions"]
    vm_index: Int[Tensor, " regions"]
    bandwidth_hz: Float[Tensor, " regions"]
    n_vms: Int[Tensor, " regions"]
    rent: Float[Tensor, " regions"]
    uncovered: Bool[Tensor, " regions"]
    status: str
    fallback: str = ""
    lp_value: float | None = None
    period: int = 0
    memory: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class SlicingRequest:
    """What is known when a long slot is rented.

    Args:
        forecast: users per region and short slot, predicted for the long slot.
        last: users in the long slot before.
        truth: users as they will be; only the benchmark `Foresight` may use them.
        statistics: what a task needs in each region.
        previous: the rental of the long slot before, None in the first.
        quantiles: of the users; None if the predictor gives a point forecast only.
        errors: recent errors of the forecasts; None before the first.
    """

    forecast: Float[Tensor, " regions"]
    last: Float[Tensor, " regions"]
    truth: Float[Tensor, " regions"]
    statistics: TaskStatistics
    previous: Rental | None = None
    quantiles: Quantiles | None = None
    errors: ForecastErrors | None = None

    def users_at(self, levels: Float[Tensor, " levels"]) -> Float[Tensor, "regions levels"]:
        """Quantiles of the users at `levels`: the predictor's own, else from its recent errors."""
        if self.quantiles is not None:
            return self.quantiles.at(levels)
        errors = self.errors or ForecastErrors.none_yet(len(self.forecast))
        return errors.users_at(self.forecast, levels)


@runtime_checkable
class Slicer(Protocol):
    """The interface of slicers, which choose the offers to rent."""

    def rent(self, request: SlicingRequest) -> Rental:
        """Choose one bandwidth offer and one VM offer per region (C1-C3), within the coupling rows; never raises."""
        ...


def check_rental(rental: Rental, n_regions: int) -> None:
    """Check that a slicer returned a `Rental` with one value per region, and only tensors in its memory.

    Raises:
        InputError: it did not; names what is wrong.
    """
    if not isinstance(rental, Rental):
        raise InputError(
            f"rent returned {type(rental).__name__}; return a Rental (sliceoff.slicing.rental makes one of offers)"
        )
    for name, value in vars(rental).items():
        if isinstance(value, Tensor) and tuple(value.shape) != (n_regions,):
            raise InputError(f"rental.{name} has shape {tuple(value.shape)}; give one value per region, ({n_regions},)")
    for name, value in rental.memory.items():
        if not isinstance(value, Tensor):
            raise InputError(
                f"rental.memory[{name!r}] is a {type(value).__name__}; keep tensors, which a resume can load"
            )


def offer_costs(
    offers: Offers, previous: Rental | None
) -> tuple[Float[Tensor, "regions bandwidth_offers"], Float[Tensor, "regions vm_offers"]]:
    """The cost of every bandwidth and VM offer this period, with the price of a change [money per long slot]."""
    if previous is None or offers.change_price == 0:
        return offers.bandwidth_price, offers.vm_price
    costs = []
    for price, index in ((offers.bandwidth_price, previous.bandwidth_index), (offers.vm_price, previous.vm_index)):
        changed = torch.arange(price.shape[1]) != index.unsqueeze(-1)
        costs.append(price + offers.change_price * changed)
    return costs[0], costs[1]


def rental(
    offers: Offers,
    bandwidth_index: Int[Tensor, " regions"],
    vm_index: Int[Tensor, " regions"],
    *,
    previous: Rental | None,
    uncovered: Bool[Tensor, " regions"],
    status: str,
    fallback: str = "",
    lp_value: float | None = None,
) -> Rental:
    """The `Rental` of the given offers: their sizes, Eqs. 8 and 9, and their cost, Eq. 10."""
    bandwidth_cost, vm_cost = offer_costs(offers, previous)
    return Rental(
        bandwidth_index=bandwidth_index,
        vm_index=vm_index,
        bandwidth_hz=pick(offers.bandwidth_hz, bandwidth_index),
        n_vms=pick(offers.n_vms, vm_index),
        rent=pick(bandwidth_cost, bandwidth_index) + pick(vm_cost, vm_index),
        uncovered=uncovered,
        status=str(status),
        fallback=fallback,
        lp_value=lp_value,
        period=0 if previous is None else previous.period + 1,
    )
