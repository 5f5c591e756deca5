"""The constants of a region: slots, radio, tasks, VMs and the price of a task. SI units throughout."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from sliceoff.checks import between, count, interval, not_negative, numbers, one_of, positive
from sliceoff.errors import InputError, OptionError

_MAY_BE_ZERO = {"price", "speed_mps"}
_MOST_DECIBELS = 200  # far beyond any radio


@dataclass(frozen=True)
class Scenario:
    """The constants of every region; the defaults are those of `configs/region/default.yaml`, with their sources there.

    Args:
        short_slot_s: length of an allocation period.
        deadline_s: a task's deadline, counted from the start of its slot.
        max_users: users per region and slot that tensors are padded to; more are turned away.
        max_vms: VMs per region that tensors are padded to.
        max_bandwidth_hz: largest bandwidth on offer; only scales observations.
        transmit_power_w, noise_w: of every user's radio, and at the base station over the whole band.
        gain_at_1m, path_loss_exponent: channel gain is `gain_at_1m * distance ** -path_loss_exponent`.
        data_bits, cycles_per_bit: (low, high) of the uniform distributions of a task's size and density.
        priorities: the equally likely priorities; a task done in time earns `price * priority`.
        cell_radius_m, min_distance_m: users are spread evenly over this ring around the base station.
        speed_mps: None draws new users every slot; a number keeps them, each walking back and forth along a chord.
        vm_hz: a VM's speed in cycles/s.
        price: money for a task of priority 1 done in time.
        queue: `lindley`, the exact FIFO waiting time, or `paper`, the plain sum of the work queued before.
        late_tasks: what becomes of a task that, on arrival at its VM, can no longer meet the deadline: `drop` turns it
            away, `run` executes it without revenue. A task still uploading at its deadline is given up in either case.

    Raises:
        InputError: a value is not finite, not positive, or a range is not ordered; names the argument.
    """

    short_slot_s: float = 0.5
    deadline_s: float = 1.0
    max_users: int = 50
    max_vms: int = 32
    max_bandwidth_hz: float = 80e6
    transmit_power_w: float = 0.1
    noise_w: float = 1e-13
    gain_at_1m: float = 1e-4
    path_loss_exponent: float = 3.0
    data_bits: Sequence[float | int] = (0.2e6, 2.8e6)
    cycles_per_bit: Sequence[float | int] = (200.0, 400.0)
    priorities: Sequence[float | int] = (1.0, 2.0, 3.0)
    cell_radius_m: float = 300.0
    min_distance_m: float = 10.0
    speed_mps: float | None = None
    vm_hz: float = 4e9
    price: float = 0.001
    queue: Literal["lindley", "paper"] = "lindley"
    late_tasks: Literal["drop", "run"] = "drop"

    @classmethod
    def from_decibels(cls, *, gain_at_1m_db: float, noise_dbm: float, **si: Any) -> "Scenario":
        """A scenario with the gain in dB and the noise in dBm, as is usual in radio; all else in SI units."""
        gain_db, noise_db = _level("gain_at_1m_db", gain_at_1m_db), _level("noise_dbm", noise_dbm) - 30
        return cls(gain_at_1m=10 ** (gain_db / 10), noise_w=10 ** (noise_db / 10), **si)

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if name in ("data_bits", "cycles_per_bit"):
                value = interval(name, value)
            elif name == "priorities":
                value = tuple(positive(name, item) for item in numbers(name, value))
            elif name in ("max_users", "max_vms"):
                value = count(name, value)
            elif field.type is float or (name == "speed_mps" and value is not None):
                value = (not_negative if name in _MAY_BE_ZERO else positive)(name, value)
            object.__setattr__(self, name, value)
        if self.min_distance_m >= self.cell_radius_m:
            raise OptionError(
                "min_distance_m", f"={self.min_distance_m} is not below cell_radius_m={self.cell_radius_m}"
            )
        one_of("queue", self.queue, ("lindley", "paper"))
        one_of("late_tasks", self.late_tasks, ("drop", "run"))

    def check_pays(self) -> None:
        """Check that tasks earn money, without which there is nothing to learn.

        Raises:
            InputError: the price is 0.
        """
        if self.price == 0:
            raise InputError("region.price=0 leaves nothing to learn from; set a price above zero")

    @property
    def max_execution_s(self) -> float:
        """The longest execution time that a task can have."""
        return self.data_bits[1] * self.cycles_per_bit[1] / self.vm_hz


def _level(key: str, value: Any) -> float:
    return between(key, value, -_MOST_DECIBELS, _MOST_DECIBELS)
