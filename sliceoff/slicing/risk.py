"""Rent for a calibrated quantile of the users instead of their forecast."""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sliceoff.checks import Number, fraction, not_negative, optional
from sliceoff.errors import OptionError, under
from sliceoff.region import Scenario
from sliceoff.slicing.demand import TaskStatistics
from sliceoff.slicing.forecast_errors import ForecastErrors, Quantiles
from sliceoff.slicing.offers import Offers
from sliceoff.slicing.rental import Rental, Slicer, SlicingRequest

_INNER = "slicer."  # prefix, in the memory, of the inner slicer's own entries


class Newsvendor:
    """Lets another slicer rent for an upper bound of the users that is exceeded in a given share of the long slots.

    Unless given, the share is the newsvendor's ratio: the cost of one more user over the revenue of a served one. The
    bound is the forecast, or its quantile if the predictor gives quantiles, plus a quantile of its errors in the last
    168 long slots (conformalised quantile regression: Romano, Patterson and Candes, NeurIPS 2019), calibrated online
    (`adapted_miss`), so that the observed share approaches the given one for any predictor.

    Args:
        slicer: called with `offers` and `scenario`, makes the slicer that rents for the bound.
        miss: share of the long slots in which the users may exceed the bound, in (0, 1); None: the newsvendor's ratio.
        rate: step size of the online calibration, >= 0; 0: the plain quantile of recent errors.

    Raises:
        InputError: an argument is out of range.
    """

    def __init__(
        self,
        offers: Offers,
        scenario: Scenario,
        slicer: Callable[..., Slicer],
        miss: Number | None = None,
        rate: Number = 0.05,
    ):
        with under("slicer"):
            self._slicer = slicer(offers=offers, scenario=scenario)
        self.miss = optional(fraction, "miss", miss) or newsvendor_miss(offers, scenario)
        self._rate = not_negative("rate", rate)

    def rent(self, request: SlicingRequest) -> Rental:
        errors = ForecastErrors.none_yet(len(request.forecast))
        miss = torch.full((len(request.forecast),), self.miss, dtype=torch.float64)
        if request.previous is not None:
            kept = request.previous.memory
            errors = ForecastErrors(kept["errors"], kept["guess"]).observed(request.last)
            miss = adapted_miss(kept["miss"], request.last > kept["bound"], self.miss, self._rate)
            inner = {name.removeprefix(_INNER): value for name, value in kept.items() if name.startswith(_INNER)}
            request = replace(request, previous=replace(request.previous, memory=inner))
        guess = request.forecast
        if request.quantiles is not None:
            guess = request.quantiles.at(torch.tensor([1 - self.miss], dtype=torch.float64))[:, 0]
        bound = errors.upper(guess, miss)
        rental = self._slicer.rent(
            replace(request, forecast=bound.to(request.forecast.dtype), quantiles=Quantiles.certain(bound))
        )
        kept = {"errors": errors.relative, "guess": guess.double(), "miss": miss, "bound": bound}
        return replace(rental, memory=kept | {_INNER + name: value for name, value in rental.memory.items()})


class Foresight:
    """Lets another slicer rent for the true future users: shows what a perfect forecast is worth; not a usable rule.

    Args:
        slicer: called with `offers` and `scenario`, makes the slicer that rents.
    """

    def __init__(self, offers: Offers, scenario: Scenario, slicer: Callable[..., Slicer]):
        with under("slicer"):
            self._slicer = slicer(offers=offers, scenario=scenario)

    def rent(self, request: SlicingRequest) -> Rental:
        truth = request.truth
        return self._slicer.rent(replace(request, forecast=truth, quantiles=Quantiles.certain(truth)))


def adapted_miss(
    miss: Float[Tensor, " regions"], exceeded: Bool[Tensor, " regions"], asked: float, rate: float
) -> Float[Tensor, " regions"]:
    """The miss rates to aim at next: adaptive conformal inference (Gibbs and Candes, NeurIPS 2021).

    After a miss they fall by `rate * (1 - asked)`, else they rise by `rate * asked`, so that the frequency of misses
    approaches `asked` for any traffic.
    """
    return miss + rate * (asked - exceeded.double())


def newsvendor_miss(offers: Offers, scenario: Scenario) -> float:
    """The cost of renting for one more user over the revenue of a served user, clipped to 1 % to 99 %.

    The cost is that of a user's bandwidth and VMs in Eq. 17 without margins, with a kappa of a half, at the mean unit
    price of the offers: that marginal prices rise or fall with the size is ignored.

    Raises:
        InputError: users earn nothing, so that no bound is best.
    """
    statistics = TaskStatistics.prior(scenario, 1)
    span = scenario.deadline_s / 2
    bandwidth = float(statistics.bandwidth_mean) / min(span, scenario.short_slot_s)
    vms = float(statistics.vm_mean) / min(span, scenario.short_slot_s)
    cost = bandwidth * float((offers.bandwidth_price / offers.bandwidth_hz).mean())
    cost += vms * float((offers.vm_price / offers.n_vms).mean())
    slots = offers.long_slot_s / scenario.short_slot_s
    earns = scenario.price * sum(scenario.priorities) / len(scenario.priorities) * slots
    if earns <= 0:
        raise OptionError(
            "miss", f" must be given: region.price={scenario.price} earns nothing, so that no risk is worth it"
        )
    return min(max(cost / earns, 0.01), 0.99)
