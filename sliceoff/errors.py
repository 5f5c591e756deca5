"""Errors that are the user's to mend: one line saying what is wrong, where, and how to mend it."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Wrong input (configuration, data file, checkpoint); `main.py` prints its one line and exits with code 2."""


def one_line(error: BaseException, most: int | None = None) -> str:
    """An error's message without its line breaks, or the first `most` characters of that."""
    return " ".join(str(error).split())[:most]


def near_miss(word: str, options: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the option closest to `word`, or an empty string when none is close."""
    lower = {option.lower(): option for option in options}
    close = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.6)
    return f"; did you mean '{lower[close[0]]}'?" if close else ""
