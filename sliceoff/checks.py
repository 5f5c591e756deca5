"""Checks of what a user can configure; each failure but `memory`'s is an `OptionError` that names the option."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from inspect import formatannotation
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any, get_type_hints

from beartype import BeartypeConf
from beartype.door import is_bearable

from sliceoff.errors import InputError, OptionError, near_miss

Number = int | float
"""A number in a config file: 5 means 5.0."""


def positive(key: str, value: Any) -> float:
    """`value` as a finite float above zero."""
    if finite(key, value) <= 0:
        raise OptionError(key, f"={value} must be above zero")
    return float(value)


def not_negative(key: str, value: Any) -> float:
    """`value` as a finite float of at least zero."""
    if finite(key, value) < 0:
        raise OptionError(key, f"={value} is negative; it must be at least zero")
    return float(value)


def at_least(key: str, value: Any, least: Number) -> float:
    """`value` as a finite float of at least `least`."""
    if finite(key, value) < least:
        raise OptionError(key, f"={value} must be at least {least}")
    return float(value)


def fraction(key: str, value: Any) -> float:
    """`value` as a float strictly between 0 and 1."""
    if not 0 < finite(key, value) < 1:
        raise OptionError(key, f"={value} must lie between 0 and 1, both excluded")
    return float(value)


def between(key: str, value: Any, low: Number, high: Number) -> float:
    """`value` as a float from `low` to `high`."""
    if not low <= finite(key, value) <= high:
        raise OptionError(key, f"={value} must be between {low} and {high}")
    return float(value)


def count(key: str, value: Any) -> int:
    """`value` as a whole number above zero."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise OptionError(key, f"={value!r} must be a whole number above zero")
    return value


def whole(key: str, value: Any, least: int = 0, most: int | None = None) -> int:
    """`value` as a whole number of at least `least`, and at most `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise OptionError(key, f"={value!r} must be a whole number {limits}")
    return value


def random_seed(key: str, value: Any) -> int:
    """`value` as a seed that every random generator accepts: a whole number from 0 to 2^32 - 1."""
    return whole(key, value, 0, 2**32 - 1)


def counts(key: str, value: Any) -> tuple[int, ...]:
    """`value` as a list of at least one whole number above zero."""
    return tuple(count(key, item) for item in listed(key, value, "[400, 300]", "list of numbers"))


def numbers(key: str, value: Any) -> tuple[float, ...]:
    """`value` as a list of at least one finite number."""
    return tuple(finite(key, item) for item in listed(key, value, "[1.0, 2.0]", "list of numbers"))


def interval(key: str, value: Any) -> tuple[float, float]:
    """`value` as a pair (low, high) of finite floats above zero, low <= high."""
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise OptionError(key, f"={value!r} is not a pair [low, high]")
    low, high = (positive(key, bound) for bound in value)
    if low > high:
        raise OptionError(key, f"={list(value)} has its low bound above its high one; swap them")
    return low, high


def rising(key: str, value: Any) -> tuple[float, ...]:
    """`value` as a list of at least one finite number, each above the one before it."""
    given = numbers(key, value)
    if any(after <= before for before, after in pairwise(given)):
        raise OptionError(key, f"={list(value)} must rise from one to the next; sort it and drop duplicates")
    return given


def levels(key: str, value: Any) -> tuple[float, ...]:
    """`value` as quantile levels: a rising list of numbers strictly between 0 and 1."""
    return tuple(fraction(key, level) for level in rising(key, value))


def flag(key: str, value: Any) -> bool:
    """`value` as true or false; Hydra reads `yes` and `no` as strings, which are refused."""
    if not isinstance(value, bool):
        raise OptionError(key, f"={value!r} is neither true nor false")
    return value


def path(key: str, value: Any) -> Path:
    """`value` as a path; a number is accepted as a name."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Path) or not str(value):
        raise OptionError(key, f"={value!r} is no path; give the name of a file or directory")
    return Path(str(value))


def listed(key: str, value: Any, example: str, what: str = "list") -> Sequence[Any]:
    """`value` as a list of at least one item."""
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise OptionError(key, f"={value!r} is not a {what} with something in it, such as {example}")
    return value


def one_of(key: str, value: Any, options: Collection[str]) -> Any:
    """`value`, if it is one of `options`."""
    if value not in [*options]:  # a list: a set or dict would raise for a list or dict as the value
        raise OptionError(key, f"={value!r} is not one of {', '.join(options)}{near_miss(str(value), options)}")
    return value


def precision(key: str, value: Any) -> Any:
    """`value` as a training precision. 16-mixed is refused: gradients would be clipped before they are unscaled."""
    return one_of(key, value, ("32-true", "bf16-mixed"))


def annotated(key: str, target: Callable, options: Mapping[str, Any]) -> None:
    """Check the types of `options` against the annotations of `target`, before it is called.

    Raises:
        InputError: an option is of another type.
    """
    try:
        annotations = get_type_hints(target.__init__ if isinstance(target, type) else target)  # type: ignore[misc]
    except NameError:  # names that only a type checker imports
        return
    conf = BeartypeConf(is_pep484_tower=True)  # an int is a float
    for name, value in options.items():
        wanted = annotations.get(name, Any)
        if not is_bearable(value, wanted, conf=conf):
            hint = f"; write it as a list, [{value}]" if is_bearable([value], wanted, conf=conf) else ""
            raise OptionError(f"{key}.{name}", f"={value!r} is no {formatannotation(wanted)}{hint}")


def optional(check: Any, key: str, value: Any) -> Any:
    """Apply `check` to `value`, unless it is None."""
    return None if value is None else check(key, value)


def finite(key: str, value: Any) -> float:
    """`value` as a finite float."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise OptionError(key, f"={value!r} is not a finite number")
    return float(value)


def memory(what: str, size: int, cure: str) -> None:
    """Refuse what takes more memory than the machine has, for which the system would kill the run without a word.

    Limits of a container are not looked at.

    Args:
        what: words for it.
        size: what it takes [bytes].
        cure: what to do instead.

    Raises:
        InputError: it takes more.
    """
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > there:
        raise InputError(f"{what} takes {size / 1e9:.0f} GB of memory, and the machine has {there / 1e9:.0f}; {cure}")
