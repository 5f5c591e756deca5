"""The infrastructure provider's price list, and the rows that couple the regions (C2, C3, Eq. 10)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sliceoff.checks import Number, not_negative, optional, positive, rising
from sliceoff.errors import InputError, OptionError
from sliceoff.region import Scenario

_HOUR_S = 3600.0


def rising_price(size: Number, unit_price: Number, scale: Number) -> float:
    """Price with a rising marginal price, as of scarce resources: `unit_price * size * (1 + size / scale)`."""
    return unit_price * size * (1 + size / scale)


def discount_price(size: Number, unit_price: Number, exponent: Number) -> float:
    """Price with a volume discount, `unit_price * size ** exponent`, exponent below 1."""
    return unit_price * size**exponent


@dataclass(frozen=True)
class CouplingRow:
    """`sum_i use of region i's offers <= limit`: one constraint that couples all regions."""

    name: str
    bandwidth_use: Float[Tensor, "regions bandwidth_offers"]
    vm_use: Float[Tensor, "regions vm_offers"]
    limit: float

    def use(
        self, bandwidth_index: Int[Tensor, "*draws regions"], vm_index: Int[Tensor, "*draws regions"]
    ) -> Float[Tensor, "*draws regions"]:
        """How much every region's offers use of the limit."""
        return pick(self.bandwidth_use, bandwidth_index) + pick(self.vm_use, vm_index)


@dataclass(frozen=True)
class Offers:
    """What can be rented: in every region exactly one bandwidth offer and one VM offer per long slot (C2, C3).

    Args:
        bandwidth_hz: (regions, bandwidth_offers), rising along the last axis [Hz].
        bandwidth_price: (regions, bandwidth_offers) [money per long slot].
        n_vms: (regions, vm_offers), rising along the last axis.
        vm_price: (regions, vm_offers) [money per long slot].
        long_slot_s: duration of a rental [s].
        budget: the most that the prices of all chosen offers may add up to [money per long slot]; None: no limit.
        bandwidth_inventory_hz: the most that all regions together can rent; None: no limit.
        vm_inventory: the same for VMs.
        change_price: money for every offer that differs from the one in the last long slot; not counted in `budget`.

    Raises:
        InputError: an argument is empty, negative, not finite or not rising, or a limit is below even the smallest
            offers; names the argument.
    """

    bandwidth_hz: Float[Tensor, "regions bandwidth_offers"]
    bandwidth_price: Float[Tensor, "regions bandwidth_offers"]
    n_vms: Int[Tensor, "regions vm_offers"]
    vm_price: Float[Tensor, "regions vm_offers"]
    long_slot_s: Number = _HOUR_S
    budget: Number | None = None
    bandwidth_inventory_hz: Number | None = None
    vm_inventory: Number | None = None
    change_price: Number = 0.0

    def __post_init__(self) -> None:
        for name in ("bandwidth_hz", "bandwidth_price", "n_vms", "vm_price"):
            table = torch.as_tensor(getattr(self, name)).to(torch.int64 if name == "n_vms" else torch.float64)
            if table.ndim != 2 or table.numel() == 0:
                raise OptionError(name, f" has shape {tuple(table.shape)}; give one row of offers per region")
            if not bool((table.isfinite() & (table >= 0)).all()):
                raise OptionError(name, " holds a negative or infinite number; all must be finite and >= 0")
            object.__setattr__(self, name, table)
        for size, price in (("bandwidth_hz", "bandwidth_price"), ("n_vms", "vm_price")):
            if getattr(self, size).shape != getattr(self, price).shape:
                raise OptionError(size, f" and {price} differ in shape; give every offer one price")
            if not bool((getattr(self, size).diff(dim=-1) > 0).all() and (getattr(self, size)[:, 0] > 0).all()):
                raise OptionError(size, " must be above zero and rise from offer to offer; sort it")
        if len(self.bandwidth_hz) != len(self.n_vms):
            raise InputError(f"offers: {len(self.bandwidth_hz)} regions have bandwidth, {len(self.n_vms)} have VMs")
        object.__setattr__(self, "change_price", not_negative("change_price", self.change_price))
        for name in ("budget", "bandwidth_inventory_hz", "vm_inventory"):
            object.__setattr__(self, name, optional(not_negative, name, getattr(self, name)))
        smallest = torch.zeros(self.n_regions, dtype=torch.int64)
        for row in self.rows:
            if (least := float(row.use(smallest, smallest).sum())) > row.limit:
                key, unit = self._per_region[row.name]
                allowed, least = (total / unit / self.n_regions for total in (row.limit, least))
                raise OptionError(
                    key, f"={allowed:g}, but even the smallest offers take {least:g} per region; raise it"
                )

    @classmethod
    def rising(
        cls,
        *,
        bandwidth_options_mhz: Sequence[Number],
        bandwidth_price_per_mhz: Number,
        bandwidth_price_scale_mhz: Number,
        vm_options: Sequence[Number],
        vm_price: Number,
        vm_price_scale: Number,
        **common: Any,
    ) -> "Offers":
        """Offers with a rising marginal price, `rising_price`; prices per hour. `common` is as in `from_prices`."""
        per_mhz = not_negative("bandwidth_price_per_mhz", bandwidth_price_per_mhz)
        mhz_scale = positive("bandwidth_price_scale_mhz", bandwidth_price_scale_mhz)
        per_vm = not_negative("vm_price", vm_price)
        vm_scale = positive("vm_price_scale", vm_price_scale)
        return cls.from_prices(
            bandwidth_options_mhz=bandwidth_options_mhz,
            bandwidth_price=lambda size: rising_price(size, per_mhz, mhz_scale),
            vm_options=vm_options,
            vm_price=lambda size: rising_price(size, per_vm, vm_scale),
            **common,
        )

    @classmethod
    def discount(
        cls,
        *,
        bandwidth_options_mhz: Sequence[Number],
        bandwidth_price_per_mhz: Number,
        bandwidth_price_exponent: Number,
        vm_options: Sequence[Number],
        vm_price: Number,
        vm_price_exponent: Number,
        **common: Any,
    ) -> "Offers":
        """Offers with a volume discount, `discount_price`; prices per hour. `common` is as in `from_prices`."""
        per_mhz = not_negative("bandwidth_price_per_mhz", bandwidth_price_per_mhz)
        mhz_exponent = _exponent("bandwidth_price_exponent", bandwidth_price_exponent)
        per_vm = not_negative("vm_price", vm_price)
        vm_exponent = _exponent("vm_price_exponent", vm_price_exponent)
        return cls.from_prices(
            bandwidth_options_mhz=bandwidth_options_mhz,
            bandwidth_price=lambda size: discount_price(size, per_mhz, mhz_exponent),
            vm_options=vm_options,
            vm_price=lambda size: discount_price(size, per_vm, vm_exponent),
            **common,
        )

    @classmethod
    def from_prices(
        cls,
        *,
        bandwidth_options_mhz: Sequence[Number],
        bandwidth_price: Callable[[float], float],
        vm_options: Sequence[Number],
        vm_price: Callable[[float], float],
        n_regions: int,
        long_slot_s: Number,
        budget_per_region: Number | None = None,
        bandwidth_inventory_mhz_per_region: Number | None = None,
        vm_inventory_per_region: Number | None = None,
        change_price: Number = 0.0,
    ) -> "Offers":
        """The same offers in every region, from sizes and price functions.

        Args:
            bandwidth_options_mhz, vm_options: sizes on offer, rising.
            bandwidth_price, vm_price: size (MHz, VMs) -> money per hour.
            n_regions, long_slot_s: number of regions, and duration of a rental [s].
            budget_per_region: money per hour; times the number of regions, it limits the sum over regions.
            bandwidth_inventory_mhz_per_region, vm_inventory_per_region: limits on the sums over regions, likewise.
            change_price: money per changed offer.

        Raises:
            InputError: as for the class.
        """
        mhz, vms = (
            _sizes("bandwidth_options_mhz", bandwidth_options_mhz),
            _sizes("vm_options", vm_options),
        )
        if any(size != int(size) for size in vms):
            raise OptionError("vm_options", f"={list(vms)} holds a part of a VM; give whole numbers")
        hours = positive("long_slot_s", long_slot_s) / _HOUR_S

        def table(row: Sequence[Number], dtype: torch.dtype = torch.float64) -> Tensor:
            return torch.tensor(row, dtype=dtype).expand(n_regions, -1).clone()

        def limit(name: str, per_region: Number | None, scale: float) -> float | None:
            return None if per_region is None else not_negative(name, per_region) * n_regions * scale

        return cls(
            bandwidth_hz=table([size * 1e6 for size in mhz]),
            bandwidth_price=table([bandwidth_price(size) * hours for size in mhz]),
            n_vms=table([int(size) for size in vms], torch.int64),
            vm_price=table([vm_price(size) * hours for size in vms]),
            long_slot_s=long_slot_s,
            budget=limit("budget_per_region", budget_per_region, hours),
            bandwidth_inventory_hz=limit("bandwidth_inventory_mhz_per_region", bandwidth_inventory_mhz_per_region, 1e6),
            vm_inventory=limit("vm_inventory_per_region", vm_inventory_per_region, 1.0),
            change_price=change_price,
        )

    @property
    def n_regions(self) -> int:
        """The number of regions."""
        return len(self.bandwidth_hz)

    def check_fit(self, scenario: Scenario) -> None:
        """Check that the scenario allows as many VMs as are offered, and that a short slot fits into a long one.

        Raises:
            InputError: it does not.
        """
        if scenario.short_slot_s > self.long_slot_s:
            raise InputError(
                f"region.short_slot_s={scenario.short_slot_s:g} is longer than a rental, one step of the trace, which "
                f"is {self.long_slot_s:g} s; lower it"
            )
        if (most := int(self.n_vms.max())) > scenario.max_vms:
            raise InputError(f"offers.vm_options go up to {most}, region.max_vms is {scenario.max_vms}; raise it")

    @property
    def _per_region(self) -> dict[str, tuple[str, float]]:
        """For every coupling row the argument of `from_prices` that sets it, and one unit of that in the row's unit."""
        return {
            "budget": ("budget_per_region", self.long_slot_s / _HOUR_S),
            "bandwidth_inventory_hz": ("bandwidth_inventory_mhz_per_region", 1e6),
            "vm_inventory": ("vm_inventory_per_region", 1.0),
        }

    @cached_property
    def rows(self) -> tuple[CouplingRow, ...]:
        """The coupling rows whose limits are given."""
        no_bandwidth, no_vms = torch.zeros_like(self.bandwidth_price), torch.zeros_like(self.vm_price)
        every = (
            ("budget", self.bandwidth_price, self.vm_price, self.budget),
            ("bandwidth_inventory_hz", self.bandwidth_hz, no_vms, self.bandwidth_inventory_hz),
            ("vm_inventory", no_bandwidth, self.n_vms.double(), self.vm_inventory),
        )
        return tuple(
            CouplingRow(name, bandwidth, vms, limit) for name, bandwidth, vms, limit in every if limit is not None
        )


def pick(table: Tensor, index: Int[Tensor, "*draws regions"]) -> Tensor:
    """`table[i, index[..., i]]` for every region i: (*draws, regions). `choice.take` for tensors."""
    return table[torch.arange(len(table)), index]


def _exponent(key: str, value: Any) -> float:
    if positive(key, value) > 1:
        raise OptionError(key, f"={value} is above 1, which is no discount; use offers=rising for rising prices")
    return float(value)


def _sizes(key: str, sizes: Any) -> list[float]:
    return [positive(key, size) for size in rising(key, sizes)]
