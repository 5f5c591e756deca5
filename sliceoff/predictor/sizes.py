"""The sizes of the data that a network is built for."""

from typing import NamedTuple


class Sizes(NamedTuple):
    """The sizes that every network gets as its first argument.

    Args:
        n_channels: series that the network sees together: all regions, or 1 if each region is forecast on its own.
        n_calendar: calendar features per step.
        input_length: steps of history.
        horizon: steps to forecast.
        n_outputs: numbers forecast per step and channel: 1, or one per quantile.
        season_length: steps per day.
    """

    n_channels: int
    n_calendar: int
    input_length: int
    horizon: int
    n_outputs: int
    season_length: int
