"""The report shows what the table says, in one file that needs nothing else."""

from datetime import datetime, timedelta

import numpy as np
import polars
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from sliceoff import report
from sliceoff.data import Trace
from sliceoff.report import forecast_fan
from sliceoff.report.transfer import error_by_windows


@pytest.fixture
def table() -> polars.DataFrame:
    rows = [
        {
            "stack": stack,
            "foresight": False,
            "period": period,
            "time": datetime(2024, 1, 1) + timedelta(hours=period),
            "region": region,
            "users": 20.0,
            "users_forecast": 18.0 + period,
            "users_low": 15.0 + period,
            "users_high": 21.0 + period,
            "backlog_s": 0.5,
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
    results = [f"val/{name}" for name in "abcdef"]
    log = polars.DataFrame(
        {
            "epoch": [0, 0, 1, 1],
            **{name: [None, 2.0, None, 1.0] for name in results},
            "val/once": [None, None, None, 1.0],
            "train/loss_step": [4.0, 3.0, 2.0, 1.0],
        }
    )
    figure = report.learning_curves({"predictor": log})
    assert figure is not None
    assert [axis.get_title(loc="left") for axis in figure.axes] == [f"predictor: {name}" for name in results]
    assert lines(figure).popitem()[1] == [2.0, 1.0]
    assert report.learning_curves({}) is None


def test_the_page_is_self_contained_and_escapes_names(table):
    text = report.page(
        "T", "a", "h", [{"stack": "<b>&", "profit": 1234.56}], [("P", "p", report.fates(table)), ("no", "", None)]
    )
    assert "&lt;b&gt;&amp;" in text
    assert "1,235" in text
    assert text.count("<svg") == 1
    assert "<h2>no" not in text
    for outside in ("<script", "<link", "<img", "@import"):
        assert outside not in text


def test_names_in_any_script_reach_the_browser():
    figure = Figure()
    figure.suptitle("東京")  # no glyphs in matplotlib's own font; a warning would fail here
    assert "東京" in report.page("T", "a", "h", [{"x": 1}], [("P", "p", figure)])


def test_the_same_results_give_the_same_page(table):
    pages = [report.page("T", "a", "h", [{"x": 1}], [("P", "p", report.profit_over_time(table))]) for _ in range(2)]
    assert pages[0] == pages[1]


def bound_of(table: polars.DataFrame, money: float) -> polars.DataFrame:
    return table.select(polars.col("time").unique().sort(), bound=money / table["time"].n_unique())


def test_the_comparison_pairs_stacks_on_the_same_long_slots(table):
    main, rival, bound = report.comparison(table, bound_of(table, 240.0))
    assert (main["profit"], rival["profit"], bound["profit"]) == (120, 20, 240)
    assert (main["of the bound"], rival["of the bound"]) == ("50.0 % (45.0 to 55.0)", "8.3 % (3.3 to 13.3)")
    assert (main["95 %"], rival["95 %"]) == ("108 to 132", "8 to 32")
    # The lead is 100 however the long slots are drawn: 100 / 20, and 100 / 32 to 100 / 8.
    assert (main["main against it"], rival["main against it"]) == ("", "+500.0 % (+312.5 to +1250.0)")


def test_there_is_no_share_of_a_bound_of_nothing(table):
    bound = bound_of(table, 0.0)
    assert [row["of the bound"] for row in report.comparison(table, bound)] == ["", "", ""]
    assert "of the clairvoyant bound" not in report.headline(table, bound)


def test_a_lead_that_is_certain_has_a_narrow_interval():
    blocks = np.array([10.0, 50, 30, 20, 90, 70, 40])
    assert report.gain(1.2 * blocks, blocks) == "+20.0 % (+20.0 to +20.0)"
    assert report.gain(blocks, blocks - 1000) == "+7,000 money"


@pytest.mark.parametrize(("told", "best"), [(True, "reactive_greedy"), (False, "oracle_avenue")])
def test_the_best_alternative_is_told_nothing_of_the_future(table, told, best):
    richer = table.filter(polars.col("stack") == "main").with_columns(stack=polars.lit("oracle_avenue"))
    rows = polars.concat([table, richer.with_columns(foresight=polars.lit(told))])
    text = report.headline(rows)
    assert text.startswith("Profit 120")
    assert f"against {best}, the best alternative" in text
    assert ("oracle" in text) is not told
    titles = [axis.get_title(loc="left") for axis in report.money_by_hour(rows).axes]
    assert f"main less {best} [money per long slot]" in titles


def test_profit_by_region_and_hour_leaves_hours_unseen_blank(table):
    figure = report.money_by_hour(table)
    profit, lead = (axis.images[0].get_array() for axis in figure.axes if axis.images)
    assert profit.shape == (2, 24)
    assert profit[0, :5].tolist() == [10, 11, 12, 13, 14]
    assert np.isnan(np.asarray(profit)[0, 5:]).all()
    assert lead[1, :5].tolist() == [10] * 5


def test_the_map_needs_coordinates(table):
    assert report.money_map(table) is None
    placed = table.with_columns(
        x=polars.lit(1.0), y=polars.when(polars.col("region") == "north").then(2.0).otherwise(0)
    )
    (points,) = report.money_map(placed).axes[0].collections
    assert points.get_offsets().tolist() == [[1, 2], [1, 0]]
    assert points.get_array().tolist() == [12, 12]


def test_of_many_stacks_the_main_one_and_those_that_earn_most_have_a_line(table):
    one = table.filter(polars.col("stack") == table["stack"][0])
    many = [one.with_columns(stack=polars.lit(f"s{place}"), profit=float(place)) for place in range(50)]
    for figure in (report.profit_over_time(polars.concat(many)), report.tasks_done(polars.concat(many))):
        names = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        assert names == ["s0", *(f"s{place}" for place in range(39, 50))]
        assert figure.axes[0].get_title("right") == "s0 and the 11 of 49 others that earn most"


def test_a_map_of_thousands_of_regions_is_one_picture_of_small_circles(table):
    def circles(n_regions):
        rows = table.filter(polars.col("stack") == table["stack"][0]).head(1)
        placed = polars.concat([rows.with_columns(region=polars.lit(str(x)), x=x, y=0.0) for x in range(n_regions)])
        (points,) = report.money_map(placed).axes[0].collections
        return points

    few, many = circles(2), circles(2000)
    assert (few.get_rasterized(), many.get_rasterized()) == (False, True)
    assert max(many.get_sizes()) < max(few.get_sizes()) / 2


def test_the_forecast_fan_spans_the_outer_quantiles(table):
    axis = report.forecast(table).axes[0]
    assert "10 % to 90 % of forecast" in [text.get_text() for text in axis.get_legend().get_texts()]
    certain = table.with_columns(users_low="users_forecast", users_high="users_forecast")
    assert len(report.forecast(certain).axes[0].collections) == len(axis.collections) - 1


def test_the_picture_of_a_forecast_says_how_many_regions_it_leaves_out():
    times = np.arange(np.datetime64("2024-01-01", "h"), np.datetime64("2024-01-02", "h")).astype("datetime64[ms]")
    for n_regions, title in ((6, ""), (8, "the 6 busiest of 8 regions")):
        names = tuple(f"r{index}" for index in range(n_regions))
        trace = Trace(np.ones((24, n_regions), dtype=np.float32), times.astype("datetime64[s]"), names, 3600)
        rows = [{"time": times[-1], "region": name, "mean": 1.0, "q0.1": 0.5, "q0.9": 2.0} for name in names]
        axes = forecast_fan(trace, polars.DataFrame(rows), "mean").axes
        assert (len(axes), axes[0].get_title(loc="right")) == (6, title)


def test_errors_are_lines_over_training_windows_and_bars_where_there_is_one_number_of_them():
    errors = {"zero-shot": 2.0, "tuned": 2.0, "ridge": 3.0}
    rows = [
        {"training windows": windows, "forecaster": name, "test/real_mae": error + windows}
        for windows in (25, 61)
        for name, error in errors.items()
    ]
    several = error_by_windows(polars.DataFrame(rows))
    assert lines(several) == {name: [error + 25, error + 61] for name, error in errors.items()}
    assert not several.axes[0].patches
    one = error_by_windows(polars.DataFrame(rows[:3]))
    assert not one.axes[0].lines
    bars, names = one.axes[0].patches, [label.get_text() for label in one.axes[0].get_yticklabels()]
    assert dict(zip(names, [bar.get_width() for bar in bars], strict=True)) == {
        name: error + 25 for name, error in errors.items()
    }
    colours = [bar.get_facecolor() for bar in bars]
    assert colours == [to_rgba(line.get_color()) for line in several.axes[0].lines]


def test_a_name_that_matplotlibs_fonts_lack_is_kept_as_text_without_a_warning():
    assert ">長浜町</text>" in report.svg(report.wall_time({"長浜町": 2.0}))


def test_what_was_slow_comes_first():
    bars = report.wall_time({"fit predictor": 2.0, "main: slice": 0.0, "main: serve": 9.0}).axes[0].containers[0]
    assert [bar.get_width() for bar in bars] == [9, 2]
    assert report.wall_time({}) is None


def test_the_whole_page_of_a_simulation(table):
    log = polars.DataFrame({"epoch": [0, 1], "val/loss": [2.0, 1.0]})
    sections = report.simulation_figures(table, None, {"predictor": log}, {"main: serve": 1.0})
    text = report.simulation_page("T", "a", table, None, sections)
    assert [heading for heading, _, figure in sections if figure is None] == ["On the map"]
    assert text.count("<svg") == len(sections) - 1
    assert text.index("<h2>Learning") < text.index("<h2>What was slow")
