"""One small network for every step ahead, from the values at the same time on the days before."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sliceoff.checks import count, whole
from sliceoff.predictor.dropout import Dropout
from sliceoff.predictor.sizes import Sizes


class SeasonalMLP(nn.Module):
    """Forecasts every step from the same time on the days before, from the recent past, and from the calendar.

    All steps and channels share one hidden layer, so few days suffice to train it. In addition every step has a linear
    map of its own, which starts as the mean over the days; the hidden layer's part starts at zero.

    Args:
        sizes: of the data.
        recent: number of last steps used, of today and of the days before.
        neighbours: number of steps used on either side of the same time.
        hidden_size: width of the hidden layer.
        dropout: of the hidden layer.

    Raises:
        InputError: an option is out of range.
    """

    seen: Tensor

    def __init__(
        self,
        sizes: Sizes,
        *,
        recent: int = 12,
        neighbours: int = 3,
        hidden_size: int = 64,
        dropout: float = 0.2,
    ):
        super().__init__()
        count("recent", recent)
        count("hidden_size", hidden_size)
        whole("neighbours", neighbours)
        seen = seen_steps(sizes.input_length, sizes.horizon, sizes.season_length, recent, neighbours)
        self.register_buffer("seen", seen, persistent=False)
        n_seen, n_same_time = seen.shape[1], sizes.input_length // sizes.season_length * (2 * neighbours + 1)
        self.skip = StepwiseLinear(sizes.horizon, n_seen, sizes.n_outputs)
        nn.init.zeros_(self.skip.weight)
        start = slice(n_same_time or recent)  # without a whole day, the mean of the recent past
        nn.init.constant_(self.skip.weight[:, start], 1 / (n_same_time or recent))
        self.history = nn.Linear(n_seen, hidden_size)
        self.calendar = nn.Linear(sizes.n_calendar, hidden_size, bias=False)
        self.step = nn.Embedding(sizes.horizon, hidden_size)
        self.hidden = nn.Sequential(nn.GELU(), Dropout(dropout))
        self.head = nn.Linear(hidden_size, sizes.n_outputs)
        for weight in (self.step.weight, self.head.weight, self.head.bias):
            nn.init.zeros_(weight)

    def forward(
        self,
        history: Float[Tensor, "batch input_length channels"],
        history_calendar: Float[Tensor, "batch input_length calendar"],
        future_calendar: Float[Tensor, "batch horizon calendar"],
    ) -> Float[Tensor, "batch horizon channels outputs"]:
        """Forecast, in scaled units."""
        seen = history.transpose(1, 2)[..., self.seen]  # (batch, channels, horizon, seen)
        place = (self.calendar(future_calendar) + self.step.weight).unsqueeze(1)
        return (self.skip(seen) + self.head(self.hidden(self.history(seen) + place))).transpose(1, 2)


class StepwiseLinear(nn.Module):
    """A linear map without bias for every step ahead."""

    def __init__(self, horizon: int, n_inputs: int, n_outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(horizon, n_inputs, n_outputs))

    def forward(
        self, inputs: Float[Tensor, "batch channels horizon inputs"]
    ) -> Float[Tensor, "batch channels horizon outputs"]:
        return torch.einsum("bchi,hio->bcho", inputs, self.weight)


def seen_steps(
    input_length: int, horizon: int, season_length: int, recent: int, neighbours: int
) -> Int[Tensor, "horizon seen"]:
    """Indices of the history's steps that each step ahead is forecast from.

    The same time on every day of the history with its neighbours, then the last `recent` steps today and on those days.
    Steps outside the history are replaced by the nearest inside it.
    """
    days = torch.arange(input_length // season_length) * season_length
    step = torch.arange(horizon)
    same_time = input_length + step - season_length * (step // season_length + 1)
    around = same_time[:, None, None] - days[:, None] + torch.arange(-neighbours, neighbours + 1)
    now = torch.arange(input_length - recent, input_length)
    before = now - season_length - days[:, None]
    fixed = torch.cat([now, before.flatten()]).expand(horizon, -1)
    return torch.cat([around.flatten(1), fixed], 1).clamp(0, input_length - 1)
