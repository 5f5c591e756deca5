"""How far forecasts were off: scenarios and calibrated upper bounds from the errors seen so far."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

_MEMORY = 168  # long slots: a week of hours
_OWN = 24  # errors of its own that a region must have seen before it stops borrowing the others'


@dataclass(frozen=True)
class ForecastErrors:
    """A region's recent relative errors `(actual - forecast) / (forecast + 1)`, and its level of calibration.

    Args:
        relative: (periods, regions), the latest last, at most a week of hours.
        miss: (regions,), the miss rate that the next bound aims at; moved online so that the asked one is observed.
        forecast: (regions,), users forecast for the running period, None before the first.
        bound: (regions,), the upper bound given for it, None where none was.
    """

    relative: Float[Tensor, "periods regions"]
    miss: Float[Tensor, " regions"]
    forecast: Float[Tensor, " regions"] | None = None
    bound: Float[Tensor, " regions"] | None = None

    @classmethod
    def none_yet(cls, n_regions: int, miss: float = 0.5) -> "ForecastErrors":
        """Before the first forecast."""
        return cls(torch.zeros(0, n_regions, dtype=torch.float64), torch.full((n_regions,), miss, dtype=torch.float64))

    def observed(self, actual: Float[Tensor, " regions"], asked_miss: float, rate: float) -> "ForecastErrors":
        """After the running period's users are known.

        The miss rate aimed at moves by adaptive conformal inference (Gibbs and Candes, NeurIPS 2021): after a miss it
        falls by `rate * (1 - asked_miss)`, else it rises by `rate * asked_miss`, so that misses come out as often as
        asked whatever the traffic does.
        """
        if self.forecast is None:
            return self
        actual = actual.double()
        error = (actual - self.forecast) / (self.forecast + 1)
        miss = self.miss
        if self.bound is not None:
            miss = miss + rate * (asked_miss - (actual > self.bound).double())
        return replace(self, relative=torch.cat([self.relative, error[None]])[-_MEMORY:], miss=miss)

    def forecasting(
        self, forecast: Float[Tensor, " regions"], bound: Float[Tensor, " regions"] | None = None
    ) -> "ForecastErrors":
        """At the start of a period."""
        return replace(self, forecast=forecast.double(), bound=bound)

    def scenarios(self, forecast: Float[Tensor, " regions"], count: int) -> Float[Tensor, "regions scenarios"]:
        """Equally likely numbers of users around the forecast; the forecast alone while no error was seen."""
        forecast = forecast.double()
        if len(self.relative) == 0:
            return forecast.unsqueeze(-1).clamp_min(0)
        levels = (torch.arange(count, dtype=torch.float64) + 0.5) / count
        quantiles = torch.quantile(self._pool(), levels, dim=0).T.expand(len(forecast), -1)
        return _users(forecast, quantiles)

    def upper(self, forecast: Float[Tensor, " regions"]) -> Float[Tensor, " regions"]:
        """Users that should be exceeded in a part `miss` of the periods."""
        forecast = forecast.double()
        pool = self._pool().sort(dim=0).values
        count = len(pool)
        if count == 0:
            return forecast.clamp_min(0)
        # The conformal quantile: the ceil((n + 1)(1 - miss))-th smallest of n errors.
        rank = ((count + 1) * (1 - self.miss)).ceil().long().clamp(1, count) - 1
        chosen = pool.expand(-1, len(forecast)).gather(0, rank.unsqueeze(0))[0]
        # Beyond all errors seen, go on by as much again.
        beyond = torch.where(self.miss < 0, pool[-1].abs() + 0.1, 0.0)
        return _users(forecast, chosen + beyond)

    def _pool(self) -> Float[Tensor, "errors regions_or_one"]:
        """Each region's own errors, or everybody's while there are few."""
        return self.relative if len(self.relative) >= _OWN else self.relative.reshape(-1, 1)


def quantile_scenarios(
    quantiles: Float[Tensor, "regions levels"], levels: Sequence[float], count: int
) -> Float[Tensor, "regions scenarios"]:
    """Equally likely numbers of users from a quantile forecast: linear between its levels and on beyond them.

    Args:
        quantiles: rising along the last axis.
        levels: two or more, rising, in (0, 1).
    """
    at = (torch.arange(count, dtype=quantiles.dtype) + 0.5) / count
    known = torch.as_tensor(levels, dtype=quantiles.dtype)
    right = torch.searchsorted(known, at).clamp(1, len(known) - 1)
    part = (at - known[right - 1]) / (known[right] - known[right - 1])
    low, high = quantiles[:, right - 1], quantiles[:, right]
    return (low + part * (high - low)).clamp_min(0)


def scenario_quantile(scenarios: Float[Tensor, "regions scenarios"], level: float) -> Float[Tensor, " regions"]:
    """The `level` quantile of equally likely scenarios, the k-th of n of which is the (k + 1/2) / n quantile: linear
    between them, and at most the first or last."""
    count = scenarios.shape[-1]
    place = min(max(level * count - 0.5, 0.0), count - 1.0)
    below = min(int(place), max(count - 2, 0))
    return torch.lerp(scenarios[:, below], scenarios[:, min(below + 1, count - 1)], place - below)


def _users(forecast: Tensor, relative: Tensor) -> Tensor:
    if relative.ndim > forecast.ndim:
        forecast = forecast.unsqueeze(-1)
    return (forecast + relative * (forecast + 1)).clamp_min(0)
