"""Ridge regression plus a residual network with one hidden layer."""

from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor, nn

from sliceoff.checks import count
from sliceoff.predictor.dropout import Dropout
from sliceoff.predictor.linear import Linear
from sliceoff.predictor.sizes import Sizes


class MLP(nn.Module):
    """Ridge regression, fitted first in closed form, plus a residual of one hidden layer, fitted by gradient descent.

    The residual starts at zero and has an input that the linear map lacks: the calendar at the first step of the
    forecast (a linear skip and covariates as in TiDE, Das et al., TMLR 2023, with one hidden layer).

    Args:
        sizes: of the data.
        hidden_size: width of the hidden layer.
        dropout: of the hidden layer.

    Raises:
        InputError: an option is out of range.
    """

    def __init__(
        self,
        sizes: Sizes,
        *,
        hidden_size: int = 256,
        dropout: float = 0.3,
    ):
        super().__init__()
        count("hidden_size", hidden_size)
        self.shape = (sizes.horizon, sizes.n_channels, sizes.n_outputs)
        self.skip = Linear(sizes)
        self.history = nn.Linear(sizes.input_length * sizes.n_channels, hidden_size)
        self.calendar = nn.Linear(sizes.n_calendar, hidden_size, bias=False)  # own layer: larger initial weights
        self.hidden = nn.Sequential(nn.GELU(), Dropout(dropout))
        self.head = nn.Linear(hidden_size, sizes.horizon * sizes.n_channels * sizes.n_outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self,
        history: Float[Tensor, "batch input_length channels"],
        history_calendar: Float[Tensor, "batch input_length calendar"],
        future_calendar: Float[Tensor, "batch horizon calendar"],
    ) -> Float[Tensor, "batch horizon channels outputs"]:
        """Forecast, in scaled units."""
        hidden = self.hidden(self.history(history.flatten(1)) + self.calendar(future_calendar[:, 0]))
        residual = self.head(hidden).unflatten(1, self.shape)
        return self.skip(history, history_calendar, future_calendar) + residual

    def solve(
        self, train: Iterable[tuple[Tensor, Tensor, Tensor]], validation: Iterable[tuple[Tensor, Tensor, Tensor]]
    ) -> None:
        """Fit the ridge map; see `Linear.solve`."""
        self.skip.solve(train, validation)
