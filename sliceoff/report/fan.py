"""The figure of a forecast beyond the end of the trace."""

import numpy as np
import polars
from matplotlib.figure import Figure

from sliceoff.data import Trace
from sliceoff.report.figures import COLOURS, busiest, stacked


def forecast_fan(trace: Trace, table: polars.DataFrame, point: str) -> Figure:
    """The last three horizons of the trace, then the forecast with its quantiles; the six busiest regions.

    Args:
        table: columns `time, region`, the point forecast and quantiles `q0.1, ...`, as `job=forecast` writes them.
        point: the column of the point forecast, `mean` or `q0.5`.
    """
    regions = busiest(table, point)
    levels = [name for name in table.columns if name.startswith("q")]
    figure, axes = stacked(len(regions), height=0.8 + 1.7 * len(regions))
    for axis, region in zip(axes, regions, strict=True):
        rows = table.filter(polars.col("region") == region)
        shown = min(len(trace.times), 3 * len(rows))
        past = trace.values[-shown:, trace.regions.index(region)]
        axis.plot(trace.times[-shown:], past, color="#333333", lw=1.2, label="trace")
        # Start at the last value, so that there is no gap.
        times = np.concatenate((trace.times[-1:], rows["time"].to_numpy()))
        low, middle, high = (np.concatenate((past[-1:], rows[name])) for name in (levels[0], point, levels[-1]))
        axis.fill_between(times, low, high, color=COLOURS[5], alpha=0.25, lw=0, label=f"{levels[0]} to {levels[-1]}")
        axis.plot(times, middle, color=COLOURS[5], lw=1.4, label="forecast")
        axis.set_ylabel(region)
    if len(regions) < len(trace.regions):
        axes[0].set_title(f"the {len(regions)} busiest of {len(trace.regions)} regions", loc="right", fontsize=9)
    axes[0].legend(frameon=False, fontsize=9, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    figure.autofmt_xdate(rotation=0, ha="center")
    return figure
