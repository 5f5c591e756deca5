"""Every slicer conforms but the yardstick that looks ahead; the conformance check itself finds what is wrong."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from sliceoff.slicing import BY_RULE, Cheapest, Exact, Fixed, Foresight, LpRounding, Newsvendor, Profit, Reactive
from sliceoff.slicing.rental import rental
from sliceoff.testing import check_slicer

PLAN = {"kappa": 0.5, "z": 2.0}


@pytest.mark.parametrize(
    "slicer",
    [
        partial(Cheapest, **PLAN),
        partial(Cheapest, kappa="joint", z=1.0),
        partial(Reactive, **PLAN),
        partial(Fixed, users=20.0, **PLAN),
        partial(Exact, **PLAN),
        partial(Exact, aggregate_margin=0.2, solver="CBC", **PLAN),
        partial(LpRounding, n_draws=8, **PLAN),
        partial(Newsvendor, slicer=partial(Cheapest, **PLAN)),
        partial(Profit, copies=1, slots=2, users_step=10),
    ],
    ids=lambda slicer: slicer.func.__name__,
)
def test_conforms(slicer):
    check_slicer(slicer)


def test_a_slicer_that_knows_the_future_does_not():
    with pytest.raises(AssertionError, match=r"depends on request\.truth"):
        check_slicer(partial(Foresight, slicer=partial(Cheapest, **PLAN)))


class Broken:
    """Rents the cheapest offers that cover, and whatever `fault` names wrongly."""

    def __init__(self, offers, scenario, *, fault):
        self.offers, self.rule, self.fault, self.asked = offers, Cheapest(offers, scenario, **PLAN), fault, 0

    def rent(self, request):
        self.asked += 1
        answer = self.rule.rent(request)
        match self.fault:
            case "none":
                return None
            case "shape":
                return replace(answer, rent=answer.rent.sum().unsqueeze(0))
            case "offer":
                return replace(answer, vm_index=answer.vm_index + 5)
            case "held":
                return replace(answer, n_vms=answer.n_vms + 1)
            case "change":  # which costs as well
                return replace(answer, rent=self.rule.rent(replace(request, previous=None)).rent)
            case "rows":
                most = torch.full_like(answer.vm_index, 4)
                options = {"previous": request.previous, "uncovered": answer.uncovered, "status": BY_RULE}
                return rental(self.offers, most, most, **options)
            case "memory":
                return self.rule.rent(replace(request, forecast=request.forecast + 9 * self.asked))
            case "kept":
                return replace(answer, memory={"mean": 3.0})
            case "input":
                request.forecast.add_(1)
        return answer


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("none", "rent returned NoneType"),
        ("shape", r"rental\.rent has shape \(1,\)"),
        ("offer", "no such offer"),
        ("held", "n_vms=.*, but the offers named hold"),
        ("change", "but the offers named cost .*change_price"),
        ("rows", "budget is 320, but the offers take"),
        ("memory", "built again"),
        ("kept", "memory.*is a float; keep tensors"),
        ("input", r"changes request\.forecast"),
    ],
)
@pytest.mark.usefixtures("as_at_run_time")
def test_the_check_finds(fault, message):
    with pytest.raises(AssertionError, match=message):
        check_slicer(Broken, fault=fault)
