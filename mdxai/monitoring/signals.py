"""Signals that ask a run to stop: recorded, then passed on to their previous handlers."""

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


class StopSignal:
    """Notes SIGTERM and SIGUSR1 from `catch` to `release`, so that a run can end between steps.

    Outside the main thread it catches nothing: Python allows no handlers there.
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
        for number in SIGNALS:
            if signal.getsignal(number) is not None:  # handlers set by C code cannot be put back
                self._before[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._number = number

    def release(self) -> None:
        """Put the earlier handlers back, and pass on the signal that came, if one did."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        caught = bool(self._before)
        self._before = {}
        if caught and self._number is not None:
            signal.raise_signal(self._number)
