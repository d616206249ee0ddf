"""Signals that ask a run to stop: recorded, then passed on to their previous handlers.

Ctrl-C (SIGINT) raises KeyboardInterrupt as usual, but in a command: there it asks too.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)
)  # Windows has no SIGUSR1


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have `handler` handle the signals for a while; outside the main thread, change nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def commanded() -> Iterator[None]:
    """Have SIGTERM, SIGUSR1 and Ctrl-C end monitored runs after the present step, and nothing else.

    Outside a monitored run the first two change nothing, and Ctrl-C raises KeyboardInterrupt.
    """
    with handled(lambda number, frame: None):
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, _interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class StopSignal:
    """Notes SIGTERM and SIGUSR1 from `catch` to `release`, so that a run can end between steps.

    Within `commanded`, SIGINT as well; a second one ends the step too. Outside the main thread it
    catches nothing: Python allows no handlers there.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._number: int | None = None

    @property
    def name(self) -> str | None:
        """Name of the signal that came, such as "SIGTERM"."""
        return None if self._number is None else signal.Signals(self._number).name

    def catch(self) -> None:
        """Take the signals over; a second call changes nothing."""
        if self._before or threading.current_thread() is not threading.main_thread():
            return
        asked = (signal.SIGINT,) if signal.getsignal(signal.SIGINT) is _interrupt else ()
        for number in (*SIGNALS, *asked):
            if signal.getsignal(number) is not None:  # handlers set by C code cannot be put back
                self._before[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == self._number == signal.SIGINT:
            raise KeyboardInterrupt
        self._number = number

    def release(self) -> None:
        """Put the earlier handlers back, and pass on the signal that came, if one did."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        caught = bool(self._before)
        self._before = {}
        if caught and self._number is not None and self._number != signal.SIGINT:
            signal.raise_signal(self._number)
