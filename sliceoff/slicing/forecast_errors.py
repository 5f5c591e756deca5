"""Quantiles of the number of users: a forecaster's own, or from its recent errors."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

_MEMORY = 168  # long slots: a week if they are hours, 28 hours if they are ten minutes
_OWN = 24  # number of errors from which on a region uses only its own, and not those of all regions


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
        """The errors before the first forecast: empty."""
        return cls(torch.zeros(0, n_regions, dtype=torch.float64))

    def forecasting(self, forecast: Float[Tensor, " regions"]) -> "ForecastErrors":
        """The same errors at the start of a period, with its forecast, which `observed` will compare."""
        return replace(self, forecast=forecast.double())

    def observed(self, actual: Float[Tensor, " regions"]) -> "ForecastErrors":
        """With the running period's error added, once its users are known."""
        if self.forecast is None:
            return self
        error = (actual.double() - self.forecast) / (self.forecast + 1)
        return replace(self, relative=torch.cat([self.relative, error[None]])[-_MEMORY:])

    def users_at(
        self, forecast: Float[Tensor, " regions"], levels: Float[Tensor, " levels"]
    ) -> Float[Tensor, "regions levels"]:
        """Quantiles of the users around the forecast, at `levels` in [0, 1]; before the first error, the forecast."""
        forecast = forecast.double()
        if len(self.relative) == 0:
            return forecast.unsqueeze(-1).clamp_min(0).expand(-1, len(levels))
        quantiles = torch.quantile(self._pool(), levels, dim=0).T.expand(len(forecast), -1)
        return _users(forecast, quantiles)

    def upper(self, forecast: Float[Tensor, " regions"], miss: Float[Tensor, " regions"]) -> Float[Tensor, " regions"]:
        """An upper bound of the users, from the forecast and its errors, to be exceeded in a share `miss` of slots."""
        forecast = forecast.double()
        pool = self._pool().sort(dim=0).values
        count = len(pool)
        if count == 0:
            return forecast.clamp_min(0)
        # The conformal quantile: the ceil((n + 1)(1 - miss))-th smallest of n errors.
        rank = ((count + 1) * (1 - miss)).ceil().long().clamp(1, count) - 1
        chosen = pool.expand(-1, len(forecast)).gather(0, rank.unsqueeze(0))[0]
        # A negative rate asks for more than all errors seen: add the largest error once more.
        beyond = torch.where(miss < 0, pool[-1].abs() + 0.1, 0.0)
        return _users(forecast, chosen + beyond)

    def _pool(self) -> Float[Tensor, "errors regions_or_one"]:
        """Each region's own errors, or those of all regions while there are few."""
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
        """The quantiles of a known number of users."""
        return cls(torch.full((1,), 0.5, dtype=torch.float64), users.double().unsqueeze(-1))

    def at(self, levels: Float[Tensor, " asked"]) -> Float[Tensor, "regions asked"]:
        """Quantiles at other levels, by linear interpolation, and linear extrapolation beyond the known ones."""
        if len(self.levels) == 1:
            return self.users.clamp_min(0).expand(-1, len(levels))
        right = torch.searchsorted(self.levels, levels).clamp(1, len(self.levels) - 1)
        part = (levels - self.levels[right - 1]) / (self.levels[right] - self.levels[right - 1])
        return torch.lerp(self.users[:, right - 1], self.users[:, right], part.to(self.users)).clamp_min(0)


def _users(forecast: Tensor, relative: Tensor) -> Tensor:
    if relative.ndim > forecast.ndim:
        forecast = forecast.unsqueeze(-1)
    return (forecast + relative * (forecast + 1)).clamp_min(0)
