"""The report of a simulation, made only from the files in its run directory."""

from collections.abc import Mapping, Sequence

import polars

from sliceoff.report import figures
from sliceoff.report.comparison import comparison, headline
from sliceoff.report.page import Section, page


def simulation_figures(
    table: polars.DataFrame,
    bound: polars.DataFrame | None,
    logs: Mapping[str, polars.DataFrame],
    seconds: Mapping[str, float],
) -> list[Section]:
    """All figures of a simulation, in the report's order.

    Args:
        table: `Simulation.table` of several stacks; with columns `x, y` where the regions have coordinates.
        bound: what `clairvoyant` returns for the same long slots.
        logs: what the fitted modules logged, as in `learning_curves`.
        seconds: wall time by part of the run.
    """
    return [
        (
            "Profit by stack",
            "All long slots and regions together. No provider can earn more than the bound.",
            figures.profit_by_stack(table, bound),
        ),
        (
            "Profit over time",
            "Money earned so far by every stack, all regions together.",
            figures.profit_over_time(table, bound),
        ),
        (
            "Where money is made and lost",
            "Blue: money made, or more than the best alternative; red: money lost, or less.",
            figures.money_by_hour(table),
        ),
        ("On the map", "Every circle is a region.", figures.money_map(table)),
        (
            "Forecast and rented capacity",
            "Where the shaded area lies below the black line, the slice cannot serve all users permanently: the slice "
            "that earns most may leave out tasks in a busy hour. Far above it, rent is wasted.",
            figures.forecast(table),
        ),
        (
            "Tasks over time",
            "Of the first stack. Dropped: turned away on arrival, already too late. The queue is the work that a long "
            "slot leaves to the next.",
            figures.fates_over_time(table),
        ),
        (
            "Tasks done in time",
            "Share of all offloaded tasks that met their deadline.",
            figures.tasks_done(table),
        ),
        ("What became of the tasks", "Over the whole run.", figures.fates(table)),
        ("Learning", "What the fitted modules logged while they learned.", figures.learning_curves(logs)),
        ("What was slow", "Wall time of the run's parts.", figures.wall_time(seconds)),
    ]


def simulation_page(
    title: str,
    about: str,
    table: polars.DataFrame,
    bound: polars.DataFrame | None,
    sections: Sequence[Section],
    differences: Sequence[Mapping[str, object]] = (),
) -> str:
    """The report as an HTML page: headline, table of stacks, and figures.

    Args:
        differences: rows of a second table: the config keys in which the compared runs differ.
    """
    return page(title, about, headline(table, bound), comparison(table, bound), sections, differences)
