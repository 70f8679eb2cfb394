"""
The signals that ask a program to end.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from asynqueue.deferreds.clock import callFromAnyThread

# Only Windows has SIGBREAK. These are the ones that Twisted's reactors stop at.
_NAMES: Final = ("SIGINT", "SIGTERM", "SIGBREAK")


def exitSignal(reactor: object) -> int | None:
    """
    Tell why a reactor stops.

    @param reactor: a reactor, or a clock in its place.
    @return: the number of the signal that has asked it to; C{None} if none has, or if it was not
        the reactor that handled it.
    """
    # Twisted's reactors have this (_ISupportsExitSignalCapturing), others may not.
    number = getattr(reactor, "_exitSignal", None)
    return number if isinstance(number, int) else None


class SecondSignal:
    """
    Handles the signals that ask a program to end, while it is ending already.

    What handled them before does so too, after me, unless it is the reactor itself, which can stop
    only once, or Python's or the system's default.
    """

    def __init__(self, reactor: Any, hear: Callable[[int], object]) -> None:
        """
        @param hear: is called with the number of each signal, in the reactor's thread.
        """
        self._reactor = reactor
        self._hear = hear
        self._isListening = False
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """
        Listen from now on. Only the main thread can, and only to signals that are not ignored.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        self._isListening = True
        for name in _NAMES:
            if hasattr(signal, name):
                self._handle(getattr(signal, name))

    def _handle(self, number: int) -> None:
        before = signal.getsignal(number)
        # None is a handler that Python could not bring back.
        if before is not None and before != signal.SIG_IGN:
            self._before[number] = before
            signal.signal(number, self)

    def uninstall(self) -> None:
        """
        Listen no more, and leave the handlers as they would be without me.
        """
        self._isListening = False
        for number, before in self._before.items():
            after = signal.getsignal(number)
            if after is self:
                signal.signal(number, before)
            while isinstance(after, SecondSignal):
                if after._before.get(number) is self:
                    after._before[number] = before
                after = after._before.get(number)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """
        A signal came, in the middle of whatever the main thread was doing.
        """
        before = self._before.get(number)
        if self._isListening:
            callFromAnyThread(self._reactor, lambda: self._hear(number))
            if self._isDefault(before):
                return
        if callable(before):
            before(number, frame)

    def _isDefault(self, handler: Any) -> bool:
        if handler is signal.default_int_handler:
            return True
        return getattr(handler, "__self__", None) is self._reactor
