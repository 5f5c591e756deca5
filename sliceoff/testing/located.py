"""Turn the library's errors into failed conformance checks."""

from collections.abc import Iterator
from contextlib import contextmanager

from sliceoff.errors import InputError


@contextmanager
def located(where: str) -> Iterator[None]:
    """Raise an `InputError` of the block as a failed check, with `where` in its message.

    Raises:
        AssertionError: in place of an `InputError`.
    """
    try:
        yield
    except InputError as error:
        raise AssertionError(f"{error} ({where})") from None
