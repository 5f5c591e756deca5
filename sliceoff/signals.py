"""Handlers of the signals that interrupt a run: Ctrl-C (SIGINT) and SIGTERM."""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM)

Handler = Callable[[int, FrameType | None], Any] | int | None


def handle(handlers: Mapping[signal.Signals, Handler]) -> dict[signal.Signals, Handler]:
    """Set signal handlers and return the previous ones.

    Outside the main thread, where Python does not allow it, nothing is set and the result is empty.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    # None stands for a handler that was not set from Python; it cannot be set again.
    return {number: signal.signal(number, handler) for number, handler in handlers.items() if handler is not None}


@contextmanager
def deferred() -> Iterator[None]:
    """Put off Ctrl-C and SIGTERM until this context ends; of several, the last one counts."""
    came: list[int] = []
    before = handle(dict.fromkeys(ENDING, lambda number, _: came.append(number)))
    try:
        yield
    finally:
        handle(before)
        if came:
            signal.raise_signal(came[-1])
