"""How many users may come: quantiles by a forecaster, or by how far its forecasts were off."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

_MEMORY = 168  # long slots: a week where they are hours, 28 hours where they are ten minutes
_OWN = 24  # errors of its own that a region must have seen before it stops borrowing the others'


@dataclass(frozen=True)
class ForecastErrors:
    """Every region's relative errors `(actual - forecast) / (forecast + 1)` in the last 168 long slots.

    Args:
        relative: (periods, regions), the latest last.
        forecast: (regions,), users forecast for the running period, None before the first.
    """

    relative: Float[Tensor, "periods regions"]
    forecast: Float[Tensor, " regions"] | None = None

    @classmethod
    def none_yet(cls, n_regions: int) -> "ForecastErrors":
        """Before the first forecast."""
        return cls(torch.zeros(0, n_regions, dtype=torch.float64))

    def forecasting(self, forecast: Float[Tensor, " regions"]) -> "ForecastErrors":
        """At the start of a period."""
        return replace(self, forecast=forecast.double())

    def observed(self, actual: Float[Tensor, " regions"]) -> "ForecastErrors":
        """After the running period's users are known."""
        if self.forecast is None:
            return self
        error = (actual.double() - self.forecast) / (self.forecast + 1)
        return replace(self, relative=torch.cat([self.relative, error[None]])[-_MEMORY:])

    def users_at(
        self, forecast: Float[Tensor, " regions"], levels: Float[Tensor, " levels"]
    ) -> Float[Tensor, "regions levels"]:
        """Quantiles of the users around the forecast, at `levels` from 0 to 1; the forecast while no error was seen."""
        forecast = forecast.double()
        if len(self.relative) == 0:
            return forecast.unsqueeze(-1).clamp_min(0).expand(-1, len(levels))
        quantiles = torch.quantile(self._pool(), levels, dim=0).T.expand(len(forecast), -1)
        return _users(forecast, quantiles)

    def upper(self, forecast: Float[Tensor, " regions"], miss: Float[Tensor, " regions"]) -> Float[Tensor, " regions"]:
        """Users around the forecast that should be exceeded in a part `miss` of the periods."""
        forecast = forecast.double()
        pool = self._pool().sort(dim=0).values
        count = len(pool)
        if count == 0:
            return forecast.clamp_min(0)
        # The conformal quantile: the ceil((n + 1)(1 - miss))-th smallest of n errors.
        rank = ((count + 1) * (1 - miss)).ceil().long().clamp(1, count) - 1
        chosen = pool.expand(-1, len(forecast)).gather(0, rank.unsqueeze(0))[0]
        # Beyond all errors seen, go on by as much again.
        beyond = torch.where(miss < 0, pool[-1].abs() + 0.1, 0.0)
        return _users(forecast, chosen + beyond)

    def _pool(self) -> Float[Tensor, "errors regions_or_one"]:
        """Each region's own errors, or everybody's while there are few."""
        return self.relative if len(self.relative) >= _OWN else self.relative.reshape(-1, 1)


@dataclass(frozen=True)
class Quantiles:
    """Quantiles of the users in a long slot.

    Args:
        levels: rising, in (0, 1).
        users: rising along the last axis.
    """

    levels: Float[Tensor, " levels"]
    users: Float[Tensor, "regions levels"]

    @classmethod
    def certain(cls, users: Float[Tensor, " regions"]) -> "Quantiles":
        """So many come."""
        return cls(torch.full((1,), 0.5, dtype=torch.float64), users.double().unsqueeze(-1))

    def at(self, levels: Float[Tensor, " asked"]) -> Float[Tensor, "regions asked"]:
        """Other quantiles: linear between the known ones, and on beyond them."""
        if len(self.levels) == 1:
            return self.users.clamp_min(0).expand(-1, len(levels))
        right = torch.searchsorted(self.levels, levels).clamp(1, len(self.levels) - 1)
        part = (levels - self.levels[right - 1]) / (self.levels[right] - self.levels[right - 1])
        return torch.lerp(self.users[:, right - 1], self.users[:, right], part.to(self.users)).clamp_min(0)


def _users(forecast: Tensor, relative: Tensor) -> Tensor:
    if relative.ndim > forecast.ndim:
        forecast = forecast.unsqueeze(-1)
    return (forecast + relative * (forecast + 1)).clamp_min(0)
