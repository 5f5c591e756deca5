"""Checks of the market's options, in addition to `sliceoff.checks`."""

from typing import Any

from sliceoff.errors import OptionError


def role(key: str, value: Any, protocol: type) -> Any:
    """`value`, if it has the method of `protocol`, one of `sliceoff.market` such as `Search`."""
    if not isinstance(value, protocol):
        method = next(name for name in vars(protocol) if not name.startswith("_"))
        raise OptionError(key, f"={value!r} has no method {method}, so it is no sliceoff.market.{protocol.__name__}")
    return value
