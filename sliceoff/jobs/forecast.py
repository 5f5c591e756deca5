"""`job=forecast`: forecast the traffic after the end of the trace, in its own units."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars

from sliceoff import checks
from sliceoff.data import TrafficDataModule
from sliceoff.errors import InputError
from sliceoff.parts import Parts
from sliceoff.predictor import Forecaster, error_quantiles, unsuited
from sliceoff.report import forecast_fan, page, svg
from sliceoff.run_directory import Results, RunDirectory


@dataclass(frozen=True)
class Forecast:
    """Forecast the `horizon` steps after the trace's last one, with a fitted predictor (`init`) or one fitted now.

    Quantiles are the network's own if it was trained on them (`Forecaster.levels`), else the forecast plus quantiles of
    its errors on the validation part. Because of that part the trace is always split as for a fit: it needs
    at least input_length + 3 horizon steps.

    Args:
        levels: of the quantiles of errors, between 0 and 1, rising.

    Raises:
        InputError: the levels are not as described, or the checkpoint does not fit the trace.
    """

    name: str
    levels: Sequence[float] = (0.1, 0.5, 0.9)

    def __post_init__(self) -> None:
        checks.levels("levels", self.levels)

    def __call__(self, parts: Parts, directory: RunDirectory) -> Results:
        """Run the job.

        Returns:
            horizon and number of regions; a table with one row per step and region: `time, region, mean` (the point
            forecast) and quantiles `q0.1, ...`. A predictor trained on quantiles has no `mean`: its point forecast is
            the median, `q0.5`.
        """
        tuned = parts.has_checkpoint("checkpoint")
        parts.init_serves("checkpoint" if tuned else "predictor")
        if tuned:
            forecaster = parts.loaded_forecaster()
            fitted = forecaster.spec["arguments"]
            data = parts.windows_as_fitted(fitted)
            if (reason := unsuited(fitted, data.description)) is not None:
                raise InputError(
                    f"init.checkpoint {reason}; choose its data (data.columns, data.resample_s), or tune it to these "
                    "(job=finetune)"
                )
        else:
            data = parts.datamodule
            forecaster = parts.forecaster
            if not parts.has_checkpoint("predictor"):
                forecaster = parts.fit_predictor(directory)
        forecaster.check_sign(data.train_values)
        table = _table(forecaster, data, self.levels)
        point = "q0.5" if forecaster.levels else "mean"
        figure = forecast_fan(data.trace, table, point)
        directory.write_text("forecast.svg", svg(figure))
        first, step_s = data.trace.times_at(len(data.trace.times), 1)[0], data.trace.step_s
        report = page(
            title="SliceOff: forecast",
            about=str(directory.path),
            headline=f"{data.horizon} steps of {step_s} s for {data.n_regions} regions, from {first} on.",
            rows=[{"region": name, point: f"{mean:.4g}"} for name, mean in _means(table, point)],
            sections=[("Forecast", "The end of the trace, then the forecast and its quantiles.", figure)],
        )
        summary = {"horizon": data.horizon, "n_regions": data.n_regions}
        return Results(summary, table, report, {"Forecast": figure})


def _table(forecaster: Forecaster, data: TrafficDataModule, levels: Sequence[float]) -> polars.DataFrame:
    end = len(data.trace.times)
    window = data.history_until(end)
    columns = {}
    if forecaster.levels:
        levels, quantiles = forecaster.levels, forecaster.forecast(window)[0]
    else:
        columns["mean"] = point = forecaster.point(window)[0]
        quantiles = point.unsqueeze(-1) + error_quantiles(forecaster, data, levels)
        quantiles = quantiles.clamp_min(0) if forecaster.nonnegative else quantiles
    times = data.trace.times_at(end, data.horizon)
    columns |= {f"q{level:g}": quantiles[..., index] for index, level in enumerate(levels)}
    places = {
        "time": np.tile(times.astype("datetime64[ms]"), data.n_regions),
        "region": [name for name in data.trace.regions for _ in times],
    }
    return polars.DataFrame(places | {name: steps.T.flatten().double().numpy() for name, steps in columns.items()})


def _means(table: polars.DataFrame, column: str) -> list[tuple[str, float]]:
    return table.group_by("region", maintain_order=True).agg(polars.col(column).mean()).rows()
