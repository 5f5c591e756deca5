"""What the data asks of a network."""

from typing import NamedTuple


class Sizes(NamedTuple):
    """What every network is built for; its first argument.

    Args:
        n_channels: series that the network sees at once: all regions, or 1 where every region goes alone.
        n_calendar: calendar features of a step.
        input_length: steps of history.
        horizon: steps to forecast.
        n_outputs: numbers per step and channel: 1, or one per quantile.
        season_length: steps per day.
    """

    n_channels: int
    n_calendar: int
    input_length: int
    horizon: int
    n_outputs: int
    season_length: int
