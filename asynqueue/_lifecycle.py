"""
How a program ends, and what has to be done before: signals, the reactor's stop, the interpreter's
end.
"""

from __future__ import annotations

import atexit
import math
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, Protocol
from weakref import ref

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue._core.checks import checkSeconds
from asynqueue._reactor import callFromAnyThread
from asynqueue.errors import signalName

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


DRAIN_SECONDS: Final = 5.0
"""For how long what is underway may go on after a signal, if nobody says so: half of the 10 seconds
after which Docker kills a container that it has asked to end, so that time is left for all else."""


class Endable(Protocol):
    """
    What is to be ended before its program is: a queue.
    """

    drainTimeout: float | None
    """For how many seconds what is underway may go on after a signal. C{None}: signals are its
    users' affair."""

    def _countUnderway(self) -> int:
        """How much is underway."""

    def _drain(self, why: str) -> Deferred[Any]:
        """
        Take nothing on and begin nothing any more.

        @return: a Deferred that fires when nothing is underway, and all is over.
        """

    def _cut(self, why: str) -> Deferred[Any]:
        """
        After L{_drain}: end what is underway.

        @return: a Deferred that fires when all is over.
        """

    def _endNow(self, why: str) -> None:
        """End everything. The reactor has had its last turn."""

    def _giveUp(self) -> None:
        """End everything, without complaining. The interpreter ends."""


class Endings:
    """
    Tells something of the ends of its program. It does not keep it alive for that.

      - The reactor stops because of a signal: it is drained, and the reactor waits for that.
      - The reactor stops otherwise: it is ended after the reactor's last turn.
      - The interpreter ends, and the reactor never stopped: it is given up.
    """

    def __init__(self, subject: Endable, reactor: Any) -> None:
        if subject.drainTimeout is not None:
            checkSeconds("drainTimeout", subject.drainTimeout)
        self._reactor = reactor
        self._subject: Callable[[], Endable | None]
        self._subject = ref(subject, lambda _: callFromAnyThread(reactor, self.forget))
        self._pid = os.getpid()
        self._hasBegun = False
        self._trigger: Any = None
        if hasattr(reactor, "addSystemEventTrigger"):
            self._trigger = reactor.addSystemEventTrigger("before", "shutdown", self._reactorStops)
        atexit.register(self._interpreterEnds)

    @property
    def hasBegun(self) -> bool:
        """
        Whether the program is about to end: a signal has asked for it, the reactor stops, or the
        interpreter ends, which it does without its main thread.
        """
        if self._hasBegun or exitSignal(self._reactor) is not None:
            return True
        return not threading.main_thread().is_alive()

    def forget(self) -> None:
        """
        The subject has come to its end.
        """
        self._subject = _nothing
        atexit.unregister(self._interpreterEnds)
        if self._trigger is not None:
            self._reactor.removeSystemEventTrigger(self._trigger)
            self._trigger = None

    def _reactorStops(self) -> Deferred[None] | None:
        self._trigger = None
        self._hasBegun = True
        subject = self._subject()
        if subject is None:
            return None
        number = exitSignal(self._reactor)
        if number is not None and subject.drainTimeout is not None:
            return Drain(subject, subject.drainTimeout, number, self._reactor).begin()
        # After the triggers of whoever ends it in a way of his own, and after the workers'.
        self._reactor.addSystemEventTrigger("during", "shutdown", self._reactorStopped)
        return None

    def _reactorStopped(self) -> None:
        subject = self._subject()
        if subject is not None:
            subject._endNow("the reactor has stopped")

    def _interpreterEnds(self) -> None:
        subject = self._subject()
        self._subject = _nothing
        # A process that was forked from mine has nothing to end here.
        if subject is not None and self._pid == os.getpid():
            subject._giveUp()


class Drain:
    """
    The last seconds of something, after a signal.
    """

    log = Logger()

    def __init__(self, subject: Endable, seconds: float, number: int, reactor: Any) -> None:
        """
        @param seconds: for how long what is underway may go on.
        @param number: the signal's.
        """
        self._subject = subject
        self._seconds = seconds
        self._reactor = reactor
        self._why = f"the program was asked to end by {signalName(number)}"
        self._second = SecondSignal(reactor, self._signalled)
        self._timer: IDelayedCall | None = None
        self._isCut = self._isOver = False
        self._done: Deferred[None] = Deferred()

    def begin(self) -> Deferred[None]:
        """
        @return: a Deferred that fires when all is over.
        """
        self._subject._drain(self._why).addBoth(self._over)
        if not self._isOver:
            self._second.install()
            if self._seconds < math.inf:
                self._timer = self._reactor.callLater(self._seconds, self._outOfTime)
            self.log.info(
                "{subject} drains, for {why}: {count} underway may end within {seconds} seconds. "
                "A second signal ends them at once",
                subject=self._subject,
                why=self._why,
                count=self._subject._countUnderway(),
                seconds=self._seconds,
            )
        return self._done

    def _outOfTime(self) -> None:
        self._timer = None
        self._cut(f"{self._why}, and {self._seconds} seconds have passed since")

    def _signalled(self, number: int) -> None:
        self._cut(f"{self._why}, and then by {signalName(number)} to end at once")

    def _cut(self, why: str) -> None:
        if not self._isOver and not self._isCut:
            self._isCut = True
            self._subject._cut(why).addBoth(self._over)

    def _over(self, result: object) -> None:
        if isinstance(result, Failure):
            self.log.failure("{subject} failed to end", result, subject=self._subject)
        if self._isOver:
            return
        self._isOver = True
        self._second.uninstall()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._done.callback(None)


def _nothing() -> None:
    """
    What there is to be ended.
    """
