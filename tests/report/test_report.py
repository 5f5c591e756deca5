"""The report shows what the table says, in one file that needs nothing else."""

from datetime import datetime, timedelta

import polars
import pytest
from matplotlib.figure import Figure

from sliceoff import report


@pytest.fixture
def table() -> polars.DataFrame:
    rows = [
        {
            "stack": stack,
            "period": period,
            "time": datetime(2024, 1, 1) + timedelta(hours=period),
            "region": region,
            "users": 20.0,
            "users_forecast": 18.0 + period,
            "capacity_users": 25.0,
            "profit": 10.0 * (stack == "main") + period,
            "revenue": 30.0,
            "rent": 12.0,
            "tasks": 100,
            "done": 90 if stack == "main" else 60,
            "late": 4,
            "dropped": 6 if stack == "main" else 36,
        }
        for stack in ("main", "reactive_greedy")
        for period in range(5)
        for region in ("north", "south")
    ]
    return polars.DataFrame(rows)


def lines(figure: Figure) -> dict[str, list[float]]:
    return {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].lines}


def test_profit_is_summed_over_regions_and_time(table):
    drawn = lines(report.profit_over_time(table))
    assert drawn["main"] == [20, 42, 66, 92, 120]
    assert drawn["reactive_greedy"] == [0, 2, 6, 12, 20]


def test_forecast_has_one_panel_per_region_with_truth_and_forecast(table):
    figure = report.forecast(table)
    assert [axis.get_ylabel() for axis in figure.axes] == ["north", "south"]
    assert lines(figure)["forecast"] == [18, 19, 20, 21, 22]
    assert lines(figure)["true users"] == [20] * 5


def test_shares_of_tasks_are_percentages_of_all_tasks(table):
    assert lines(report.tasks_done(table))["main"] == [90] * 5
    bars = report.fates(table).axes[0].containers
    assert [[bar.get_width() for bar in container] for container in bars] == [[90, 60], [4, 4], [6, 36]]


def test_learning_curves_take_what_was_logged_more_than_once():
    log = polars.DataFrame(
        {"epoch": [0, 0, 1, 1], "val/loss": [None, 2.0, None, 1.0], "train/loss_step": [4.0, 3.0, 2.0, 1.0]}
    )
    figure = report.learning_curves({"predictor": log})
    assert figure is not None
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["predictor: val/loss"]
    assert lines(figure).popitem()[1] == [2.0, 1.0]
    assert report.learning_curves({}) is None


def test_the_page_is_self_contained_and_escapes_names(table):
    text = report.page(
        "T", "a", "h", [{"stack": "<b>&", "profit": 1234.56}], [("P", "p", report.fates(table)), ("no", "", None)]
    )
    assert "&lt;b&gt;&amp;" in text
    assert "1,234.6" in text
    assert text.count("<svg") == 1
    assert "<h2>no" not in text
    for outside in ("<script", "<link", "<img", "@import"):
        assert outside not in text


def test_the_same_results_give_the_same_page(table):
    pages = [report.page("T", "a", "h", [{"x": 1}], [("P", "p", report.profit_over_time(table))]) for _ in range(2)]
    assert pages[0] == pages[1]
