"""DLinear: a linear map of the trend plus one of the remainder, fitted by gradient descent."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sliceoff.errors import OptionError
from sliceoff.predictor.sizes import Sizes


class DLinear(nn.Module):
    """Splits every channel's history into a moving average and the remainder, and maps each linearly to the horizon.

    All channels share the two maps (Zeng et al., AAAI 2023). Both start as the mean of the history.

    Args:
        sizes: of the data.
        kernel_size: steps of the moving average, odd; the first and last value are repeated as padding.

    Raises:
        InputError: `kernel_size` is even or below 1.
    """

    def __init__(
        self,
        sizes: Sizes,
        *,
        kernel_size: int = 25,
    ):
        super().__init__()
        if not isinstance(kernel_size, int) or kernel_size < 1 or kernel_size % 2 == 0:
            raise OptionError("kernel_size", f"={kernel_size} must be an odd number of steps")
        self.kernel_size, self.n_outputs = kernel_size, sizes.n_outputs
        self.trend, self.rest = (nn.Linear(sizes.input_length, sizes.horizon * sizes.n_outputs) for _ in range(2))
        for part in (self.trend, self.rest):
            nn.init.constant_(part.weight, 1 / sizes.input_length)
            nn.init.zeros_(part.bias)

    def forward(
        self,
        history: Float[Tensor, "batch input_length channels"],
        history_calendar: Float[Tensor, "batch input_length calendar"],
        future_calendar: Float[Tensor, "batch horizon calendar"],
    ) -> Float[Tensor, "batch horizon channels outputs"]:
        """Forecast, in scaled units."""
        series = history.transpose(1, 2)
        padding = (self.kernel_size // 2,) * 2
        trend = F.avg_pool1d(F.pad(series, padding, mode="replicate"), self.kernel_size, stride=1)
        mapped = self.trend(trend) + self.rest(series - trend)
        return mapped.unflatten(-1, (-1, self.n_outputs)).transpose(1, 2)
