"""Ctrl-C and SIGTERM: what ends a run before its time."""

import signal
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM)

Handler = Callable[[int, FrameType | None], Any] | int | None


def handle(handlers: Mapping[signal.Signals, Handler]) -> dict[signal.Signals, Handler]:
    """Set handlers of signals and return those before; outside the main thread, where Python lets nobody, neither."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    # None is a handler that Python does not know, and so cannot set.
    return {number: signal.signal(number, handler) for number, handler in handlers.items() if handler is not None}
