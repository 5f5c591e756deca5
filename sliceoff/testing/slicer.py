"""Conformance check for slicers."""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sliceoff.region import Scenario
from sliceoff.slicing import (
    ForecastErrors,
    Offers,
    Rental,
    Slicer,
    SlicingRequest,
    TaskStatistics,
    check_rental,
)
from sliceoff.slicing.rental import BY_RULE, rental
from sliceoff.testing.located import located

_REGIONS = 4
_OFFERS = partial(
    Offers.discount,
    bandwidth_options_mhz=[5, 10, 20, 40, 80],
    bandwidth_price_per_mhz=2.2,
    bandwidth_price_exponent=0.85,
    vm_options=[2, 4, 8, 16, 32],
    vm_price=5.7,
    vm_price_exponent=0.85,
    n_regions=_REGIONS,
    long_slot_s=3600.0,
)
_MARKETS: tuple[dict[str, Any], ...] = (
    {},
    {"change_price": 20.0},
    {"bandwidth_inventory_mhz_per_region": 24, "vm_inventory_per_region": 13, "budget_per_region": 80},
)
# Users per region in consecutive long slots: some, none, more than the largest offers serve, and some again.
_USERS = ((20.0, 5.0, 31.0, 12.0), (0.0,) * _REGIONS, (400.0, 1.0, 0.0, 90.0), (18.0, 7.0, 28.0, 15.0))


def check_slicer(slicer: Callable[..., Slicer], **options: Any) -> None:
    """Check that a slicer works in Algorithm 1: it rents what is on offer, and its results are reproducible.

    Args:
        slicer: the class, or a `functools.partial` of it, called with `offers`, `scenario` and the options.
        options: further keyword arguments for it.

    Raises:
        AssertionError: it does not conform; the message says how.
    """
    scenario = Scenario()
    for limits in _MARKETS:
        offers = _OFFERS(**limits)
        made = slicer(offers=offers, scenario=scenario, **options)
        for number, request, answer in _rented(made, scenario):
            where = ", ".join((f"long slot {number}", *(f"{name}={limit}" for name, limit in limits.items())))
            with located(where):
                check_rental(answer, _REGIONS)
            _check_offers(offers, request, answer, where)
            again = slicer(offers=offers, scenario=scenario, **options).rent(request)
            assert _same(again, answer), (
                f"built again, as when a run is resumed, it rents something else: what it learns belongs in "
                f"Rental.memory, and chance on a seed and Rental.period ({where})"
            )
            unseen = replace(request, truth=request.truth.flip(0) + 9)
            again = slicer(offers=offers, scenario=scenario, **options).rent(unseen)
            assert _same(again, answer), f"what it rents depends on request.truth, the users still to come ({where})"


def _rented(slicer: Slicer, scenario: Scenario) -> Iterator[tuple[int, SlicingRequest, Rental]]:
    """Consecutive long slots: their number, the request, and the rental that the slicer returned."""
    last, previous = torch.tensor(_USERS[-1]), None
    errors = ForecastErrors.none_yet(_REGIONS)
    for number, users in enumerate(_USERS):
        forecast, truth = torch.tensor(users), torch.tensor(users) * 1.25
        request = SlicingRequest(
            forecast, last, truth, TaskStatistics.prior(scenario, _REGIONS), previous, errors=errors
        )
        kept = _numbers(request)
        answer = slicer.rent(request)
        changed = [name for name, value in _numbers(request).items() if not torch.equal(value, kept[name])]
        assert not changed, f"rent changes request.{', '.join(changed)} (long slot {number})"
        yield number, request, answer
        last, previous = truth, answer
        errors = errors.forecasting(forecast).observed(truth)


def _numbers(request: SlicingRequest) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in vars(request).items() if isinstance(value, Tensor)}


def _check_offers(offers: Offers, request: SlicingRequest, answer: Rental, where: str) -> None:
    """Check C1-C3, the coupling rows, and that all numbers are those of the chosen offers."""
    for name, table in (("bandwidth_index", offers.bandwidth_hz), ("vm_index", offers.n_vms)):
        index = getattr(answer, name)
        assert bool(((index >= 0) & (index < table.shape[1])).all()), (
            f"{name}={index.tolist()}: no such offer ({where})"
        )
    summed = rental(
        offers,
        answer.bandwidth_index,
        answer.vm_index,
        previous=request.previous,
        uncovered=answer.uncovered,
        status=BY_RULE,
    )
    for name, verb in (("bandwidth_hz", "hold"), ("n_vms", "hold"), ("rent", "cost")):
        given, real = getattr(answer, name).double(), getattr(summed, name).double()
        assert torch.allclose(given, real), (
            f"{name}={given.tolist()}, but the offers named {verb} {real.tolist()}; sliceoff.slicing.rental adds it up "
            f"({where})"
        )
    for row in offers.rows:
        used = float(row.use(answer.bandwidth_index, answer.vm_index).sum())
        assert used <= row.limit * (1 + 1e-6), f"{row.name} is {row.limit:g}, but the offers take {used:g} ({where})"


def _same(one: Rental, other: Rental) -> bool:
    names = [field.name for field in fields(Rental) if isinstance(getattr(one, field.name), Tensor)]
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)
