"""The report of fine-tuning: every forecaster's test error by amount of training data."""

from collections.abc import Sequence

import polars
from matplotlib.figure import Figure

from sliceoff.predictor import Transferred
from sliceoff.report.figures import COLOURS, stacked
from sliceoff.report.page import Section, page

_ERROR = "mean absolute error, the trace's unit"


def transfer_figures(table: polars.DataFrame, lines: Sequence[Transferred]) -> list[Section]:
    """All figures of a fine-tuning, in the report's order.

    Args:
        table: columns `training windows`, `forecaster` and the test metrics.
        lines: how each tensor of the checkpoint was transferred.
    """
    counts = {how: sum(line.how == how for line in lines) for how in ("loaded", "adapted", "left out", "new")}
    return [
        (
            "Error on the held-out end",
            "In the trace's unit; scaled errors are in standard deviations of the data that the "
            "forecaster was fitted on, so those of other windows or of job.scaler=keep are not comparable. "
            "Tensors of the checkpoint: "
            + ", ".join(f"{count} {how}" for how, count in counts.items() if count)
            + " (transfer.txt).",
            error_by_windows(table),
        )
    ]


def transfer_page(table: polars.DataFrame, sections: Sequence[Section], about: str) -> str:
    """The report as an HTML page: headline, table of errors, and figures.

    Args:
        table: as in `transfer_figures`.
    """
    last = table.filter(polars.col("training windows") == table["training windows"].max())
    error = dict(zip(last["forecaster"], last["test/real_mae"], strict=True))
    shown = {"test/real_mae": "MAE", "test/real_wape": "WAPE", "test/scaled_mse": "MSE (scaled)"}
    rows = table.select("forecaster", "training windows", *shown).rename(shown).to_dicts()
    return page(
        title="SliceOff: a predictor on a new trace",
        about=about,
        headline=f"Mean absolute error {error['tuned']:.3g} tuned, {error['from scratch']:.3g} from scratch, "
        f"{error['zero-shot']:.3g} untuned, {error['ridge']:.3g} ridge, {error['seasonal naive']:.3g} seasonal naive.",
        rows=[
            {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in row.items()} for row in rows
        ],
        sections=sections,
    )


def error_by_windows(table: polars.DataFrame) -> Figure:
    """Test error of every forecaster: lines over the number of training windows, bars where there is only one."""
    amounts = table["training windows"].n_unique()
    return _lines(table) if amounts > 1 else _bars(table)


def _lines(table: polars.DataFrame) -> Figure:
    figure, (axis,) = stacked(1, height=3.6)
    for colour, ((name,), rows) in zip(COLOURS, table.group_by("forecaster", maintain_order=True), strict=False):
        axis.plot(rows["training windows"], rows["test/real_mae"], color=colour, marker="o", ms=4, label=str(name))
    axis.set_xlabel("training windows")
    axis.set_ylabel(_ERROR)
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize=9)
    return figure


def _bars(table: polars.DataFrame) -> Figure:
    figure, (axis,) = stacked(1, height=0.9 + 0.38 * len(table), across="x")
    bars = axis.barh(table["forecaster"], table["test/real_mae"], color=COLOURS[: len(table)])
    axis.bar_label(bars, fmt="%.4g", fontsize=8, padding=3)
    axis.invert_yaxis()
    axis.set_xlabel(_ERROR)
    return figure
