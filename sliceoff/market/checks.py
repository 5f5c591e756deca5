"""Checks of what only the market has, in the manner of `sliceoff.checks`."""

from typing import Any

from sliceoff.checks import whole
from sliceoff.errors import InputError

_SEEDS = 2**32


def random_seed(key: str, value: Any) -> int:
    """`value` as a whole number from 0 to 2^32 - 1, as all generators here take it."""
    if whole(key, value) >= _SEEDS:
        raise InputError(f"{key}={value} must be below {_SEEDS}")
    return value


def role(key: str, value: Any, protocol: type) -> Any:
    """`value`, which has the method of a protocol of `sliceoff.market`, such as `Search`."""
    if not isinstance(value, protocol):
        method = next(name for name in vars(protocol) if not name.startswith("_"))
        raise InputError(f"{key}={value!r} has no method {method}, so it is no sliceoff.market.{protocol.__name__}")
    return value
