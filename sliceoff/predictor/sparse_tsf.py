"""SparseTSF: one small linear map from days to days, shared by all times of day, plus one of the last hours."""

from jaxtyping import Float
from torch import Tensor, nn

from sliceoff.checks import whole
from sliceoff.predictor.sizes import Sizes


class SparseTSF(nn.Module):
    """Forecasts every time of day from the same time on the days before, with one linear map for all times.

    A convolution over a day first mixes each time with its neighbours (Lin et al., ICML 2024); channels share all
    weights. Added is a linear map, initially zero, of the last `recent` steps' deviations from the mean of their time
    of day; with `recent=0` this is the published network. Initially the forecast is the mean over the days. The paper
    subtracts every window's mean: `predictor.instance_norm=true`.

    Args:
        sizes: of the data; the last whole days of the history are used, or all of it if it is shorter than a day.
        recent: number of last steps used in addition to the days, at most those in the days.

    Raises:
        InputError: `recent` is below zero.
    """

    def __init__(self, sizes: Sizes, *, recent: int = 24):
        super().__init__()
        whole("recent", recent)
        self.horizon, self.n_outputs = sizes.horizon, sizes.n_outputs
        self.day = min(sizes.season_length, sizes.input_length)
        self.n_days = sizes.input_length // self.day
        self.recent = recent = min(recent, self.n_days * self.day)
        self.around = nn.Conv1d(1, 1, self.day // 2 * 2 + 1, padding=self.day // 2, bias=False)
        self.days = nn.Linear(self.n_days, -(-self.horizon // self.day) * self.n_outputs, bias=False)
        self.last = nn.Linear(recent, self.horizon * self.n_outputs, bias=False) if recent else None
        nn.init.zeros_(self.around.weight)
        nn.init.constant_(self.days.weight, 1 / self.n_days)
        if self.last is not None:
            nn.init.zeros_(self.last.weight)

    def forward(
        self,
        history: Float[Tensor, "batch input_length channels"],
        history_calendar: Float[Tensor, "batch input_length calendar"],
        future_calendar: Float[Tensor, "batch horizon calendar"],
    ) -> Float[Tensor, "batch horizon channels outputs"]:
        """Forecast, in scaled units."""
        batch, _, channels = history.shape
        series = history.transpose(1, 2).reshape(batch * channels, -1)[:, -self.n_days * self.day :]
        smooth = series + self.around(series.unsqueeze(1)).squeeze(1)
        times = smooth.unflatten(-1, (self.n_days, self.day)).transpose(1, 2)  # (series, times of day, days)
        ahead = self.days(times).unflatten(-1, (-1, self.n_outputs))  # (series, times of day, days ahead, outputs)
        forecast = ahead.transpose(1, 2).flatten(1, 2)[:, : self.horizon]
        if self.last is not None:
            days = series.unflatten(-1, (self.n_days, self.day))
            surprise = (days - days.mean(1, keepdim=True)).flatten(1)[:, -self.recent :]
            forecast = forecast + self.last(surprise).unflatten(-1, (self.horizon, self.n_outputs))
        return forecast.unflatten(0, (batch, channels)).transpose(1, 2)
