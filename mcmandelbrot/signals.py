"""
Signals that ask the program to stop, and a reactor that runs until its work is done or a signal
comes.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from mcmandelbrot.errors import Interrupted

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

# Windows has no SIGHUP.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def handlingSignals(handler: Callable[[int], object]) -> Iterator[None]:
    """
    Handle signals that ask the program to stop, for the length of a C{with} block. A signal that
    is ignored, as SIGHUP is under C{nohup}, stays ignored.

    @param handler: is called with the number of the signal, in the middle of any other code.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        handler(number)

    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    previous = {number: signal.getsignal(number) for number in numbers}
    previous = {n: old for n, old in previous.items() if old not in (signal.SIG_IGN, None)}
    try:
        for number in previous:
            signal.signal(number, handle)
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, old)


def raiseInterrupted(number: int) -> NoReturn:
    """
    Handle a signal by raising L{Interrupted}.
    """
    raise Interrupted(number)


class ReactorRun:
    """
    Runs the reactor until a coroutine is done.

    The first signal cancels the coroutine, which may then clean up. The second signal stops the
    reactor at once, and so does the end of the time for cleaning up.

    @cvar grace: how many seconds cleaning up may take.
    """

    grace = 3.0

    def __init__(self, begin: Callable[[], Coroutine[Any, Any, None]], reactor: Any = None) -> None:
        """
        @param begin: makes the coroutine, once the reactor runs.
        @param reactor: the reactor to run. Default: the global reactor.
        """
        if reactor is None:
            from twisted.internet import reactor
        self._begin = begin
        self._reactor = reactor
        self._work: Deferred[None] | None = None
        self._isDone = False
        self._failure: Failure | None = None
        self._signals: list[int] = []

    def run(self) -> None:
        """
        Run the reactor. This can be done once in a process.

        @raise Interrupted: if a signal stopped the coroutine.
        @raise BaseException: anything that the coroutine raises.
        """
        with handlingSignals(self._signalled):
            self._reactor.callWhenRunning(self._start)
            # The reactor's own handlers would not tell which signal came.
            self._reactor.run(installSignalHandlers=False)
        if self._signals and not self._isDone:
            raise Interrupted(self._signals[0])
        if self._failure is not None:
            self._failure.raiseException()

    def _start(self) -> None:
        from twisted.internet.defer import Deferred

        if self._signals:
            self._reactor.stop()
        else:
            self._work = Deferred.fromCoroutine(self._begin())
            self._work.addCallbacks(self._succeeded, self._failed).addCallback(self._stop)

    def _succeeded(self, result: None) -> None:
        self._isDone = True

    def _failed(self, failure: Failure) -> None:
        self._failure = failure

    def _signalled(self, number: int) -> None:
        self._signals.append(number)
        # callFromThread() wakes the reactor, which may be waiting.
        self._reactor.callFromThread(self._cancel if len(self._signals) == 1 else self._stop)

    def _cancel(self) -> None:
        if self._work is not None:
            self._work.cancel()
            self._reactor.callLater(self.grace, self._stop)

    def _stop(self, result: None = None) -> None:
        if self._reactor.running:
            self._reactor.stop()
