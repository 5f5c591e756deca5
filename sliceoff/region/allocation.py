"""The interface of allocators, and the check of the allocations they return."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from sliceoff.errors import InputError
from sliceoff.region.scenario import Scenario
from sliceoff.region.state import Allocation, RegionState

# Shares that were normalised in single precision may sum to a little more than one.
SHARE_TOLERANCE = 1e-4


@runtime_checkable
class Allocator(Protocol):
    """Decides every user's bandwidth share and VM in one slot: a rule, a learned agent, or your own class.

    An allocator that is fast, and decides each row by that row's state alone, may have the attribute
    `serves_ahead = True`: `RegionEnvironment.run` then asks it for many slots at once, and for some slots repeatedly.

    One that learns is a LightningModule, fitted without a datamodule. Beside its own options it is made with
    `scenario`, a `Scenario`, or when its checkpoint is loaded a mapping of one; `mean_users`, (periods, regions) users
    per short slot in the training part of the trace; `bandwidth_options_hz, vm_options`, what may be rented in the
    first region. It keeps `self.scenario`, logs `val/revenue`, of which the highest is the best, and writes in
    `on_save_checkpoint` the `spec` that rebuilds it (`sliceoff.checkpoint`). docs/extending.md has an example.
    """

    def allocate(self, scenario: Scenario, state: RegionState) -> Allocation:
        """Shares and VMs for every user of every row of `state`, such that C4 and C5 hold."""
        ...


def check_allocation(state: RegionState, allocation: Allocation) -> None:
    """Check that an allocation keeps C4 (shares sum to at most one) and C5 (every VM is rented).

    Raises:
        InputError: no `Allocation`, a wrong shape or type, a share that is not finite or negative, shares that sum to
            more than one, or a VM that is not rented; names the argument and the first wrong row.
    """
    if not isinstance(allocation, Allocation):
        raise InputError(f"allocate returned {type(allocation).__name__}; return an Allocation of shares and VMs")
    share, vm = allocation
    expected = tuple(state.tasks.present.shape)
    for name, value in (("share", share), ("vm", vm)):
        if tuple(value.shape) != expected:
            raise InputError(f"allocation.{name} has shape {tuple(value.shape)}; give one value per user, {expected}")
    if not share.is_floating_point():
        raise InputError(f"allocation.share is of type {share.dtype}; give floating-point shares")
    if vm.dtype != torch.int64:
        raise InputError(f"allocation.vm is of type {vm.dtype}; give int64 VM indices")
    _refuse(~share.isfinite().all(-1), "share", "is not finite", share)
    _refuse((share < 0).any(-1), "share", "is negative", share)
    _refuse(share.sum(-1) > 1 + SHARE_TOLERANCE, "share", "sums to more than 1 (C4)", share)
    exists = (vm >= 0) & (vm < state.n_vms.unsqueeze(-1))
    _refuse((~exists & state.tasks.present).any(-1), "vm", "names a VM that is not rented (C5)", vm)


def _refuse(wrong: Tensor, name: str, what: str, value: Tensor) -> None:
    if bool(wrong.any()):
        row = tuple(wrong.nonzero()[0].tolist())
        raise InputError(f"allocation.{name} {what} in row {row[0] if len(row) == 1 else row}: {value[row].tolist()}")
