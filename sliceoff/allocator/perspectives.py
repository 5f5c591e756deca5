"""Random traffic, forecasts and rentals for training, so that one policy serves any of them."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sliceoff.checks import interval, not_negative
from sliceoff.errors import InputError, OptionError
from sliceoff.region import Scenario, need_per_user, typical_tasks

_MOST_LEVELS = 4096
_TASKS = 3200  # sample for the mean need of a user


class Perspectives:
    """Draws a traffic level from the trace, then a rental of about the size that such traffic needs.

    The need is the bandwidth that uploads the mean traffic's tasks within a deadline, and the VMs that execute them
    within a slot. The rental is the need times a factor, log-uniform between the bounds of `capacity` and independent
    for bandwidth and VMs, moved to the nearest offer. The expected users are the traffic times a lognormal error with
    median one.

    Args:
        mean_users: (periods, regions) users per short slot.
        bandwidth_options_hz, vm_options: sizes that may be rented.
        capacity: (low, high) of the rental over the need; below 1 the region is overloaded.
        forecast_error: standard deviation of the logarithm of expected users over traffic.

    Raises:
        InputError: an argument is out of range; names it.
    """

    def __init__(
        self,
        scenario: Scenario,
        mean_users: Float[Tensor, "periods regions"],
        bandwidth_options_hz: Sequence[float | int],
        vm_options: Sequence[int],
        capacity: Sequence[float | int],
        forecast_error: float | int,
    ):
        bounds = interval("capacity", capacity)
        self._forecast_error = not_negative("forecast_error", forecast_error)
        if not bandwidth_options_hz or not vm_options:
            raise InputError("allocator: nothing to rent; the offers must name at least one bandwidth and one VM count")
        if (largest := max(bandwidth_options_hz)) > (seen := scenario.max_bandwidth_hz):
            raise InputError(
                f"region.max_bandwidth_hz={seen:g}: agents cannot tell an offer of {largest:g} from it; raise it"
            )
        if mean_users.numel() == 0:
            raise OptionError("mean_users", " is empty; the trace's training part must hold some traffic")
        self._traffic = mean_users.flatten().double().clamp(max=scenario.max_users)
        self._bandwidth = torch.tensor(bandwidth_options_hz, dtype=torch.float64)
        self._vms = torch.tensor(vm_options, dtype=torch.float64)
        self._capacity = torch.tensor(bounds, dtype=torch.float64).log()
        self._bandwidth_per_user, self._vms_per_user = need_per_user(scenario, typical_tasks(scenario, _TASKS))

    def draw(
        self, count: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, " count"], Float[Tensor, " count"], Float[Tensor, " count"], Int[Tensor, " count"]]:
        """Draw mean users, expected users, bandwidth [Hz] and number of VMs, `count` of each."""
        traffic = self._traffic[torch.randint(len(self._traffic), (count,), generator=generator)]
        uniform = torch.rand(2, count, generator=generator, dtype=torch.float64)
        bandwidth, vms = torch.lerp(self._capacity[0], self._capacity[1], uniform).exp() * traffic
        error = torch.randn(count, generator=generator, dtype=torch.float64) * self._forecast_error
        return (
            traffic,
            traffic * error.exp(),
            nearest(self._bandwidth, bandwidth * self._bandwidth_per_user).float(),
            nearest(self._vms, vms * self._vms_per_user).long(),
        )


def traffic_levels(mean_users: Float[Tensor, "periods regions"]) -> Float[Tensor, "levels one"]:
    """All traffic levels, or 4096 evenly spaced ones of the sorted levels, to keep checkpoints small."""
    levels = mean_users.flatten()
    if len(levels) > _MOST_LEVELS:
        levels = levels.sort().values[torch.linspace(0, len(levels) - 1, _MOST_LEVELS).round().long()]
    return levels.unsqueeze(-1)


def nearest(options: Float[Tensor, " options"], wanted: Float[Tensor, " count"]) -> Float[Tensor, " count"]:
    """For each wanted size, the option nearest to it in ratio."""
    distance = (options.log() - wanted.clamp_min(1e-9).log().unsqueeze(-1)).abs()
    return options[distance.argmin(-1)]
