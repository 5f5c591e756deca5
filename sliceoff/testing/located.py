"""How a conformance check tells what the library refuses."""

from collections.abc import Iterator
from contextlib import contextmanager

from sliceoff.errors import InputError


@contextmanager
def located(where: str) -> Iterator[None]:
    """Turn a refusal into a failed check, which says where it was.

    Raises:
        AssertionError: in place of an `InputError`.
    """
    try:
        yield
    except InputError as error:
        raise AssertionError(f"{error} ({where})") from None
