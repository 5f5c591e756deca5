"""Checks of what a user can configure; each failure is one line that names the key."""

from math import isfinite
from typing import Any

from sliceoff.errors import InputError

Number = int | float
"""A number in a config file, where 5 is as good as 5.0."""


def positive(key: str, value: Any) -> float:
    """`value` as a finite float above zero."""
    if _finite(key, value) <= 0:
        raise InputError(f"{key}={value} must be above zero")
    return float(value)


def not_negative(key: str, value: Any) -> float:
    """`value` as a finite float of at least zero."""
    if _finite(key, value) < 0:
        raise InputError(f"{key}={value} is negative; it must be at least zero")
    return float(value)


def fraction(key: str, value: Any) -> float:
    """`value` as a float strictly between 0 and 1."""
    if not 0 < _finite(key, value) < 1:
        raise InputError(f"{key}={value} must lie between 0 and 1, both excluded")
    return float(value)


def count(key: str, value: Any) -> int:
    """`value` as a whole number above zero."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{key}={value!r} must be a whole number above zero")
    return value


def optional(check: Any, key: str, value: Any) -> Any:
    """`check` what is given; None stays None."""
    return None if value is None else check(key, value)


def _finite(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise InputError(f"{key}={value!r} is not a finite number")
    return float(value)
