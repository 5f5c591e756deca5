"""Quantiles around any forecast, from the errors it made on the validation part."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sliceoff.data import TrafficDataModule
from sliceoff.predictor.forecaster import Forecaster


@torch.no_grad()
def error_quantiles(
    forecaster: Forecaster, data: TrafficDataModule, levels: Sequence[float]
) -> Float[Tensor, "horizon regions levels"]:
    """Quantiles of (true - forecast) over the validation windows, for every step ahead and region.

    Added to a forecast they give its quantiles, if future errors are distributed like these. They are plain sample
    quantiles, without conformal prediction's correction for few windows.

    Args:
        levels: quantile levels between 0 and 1.
    """
    errors = torch.cat([window.future - forecaster.point(window) for window in data.val_dataloader()])
    return torch.quantile(errors, torch.tensor(levels, dtype=errors.dtype), dim=0).movedim(0, -1)
