"""
A worker's child process that runs a reactor, so that a call may return a Deferred.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import CoroutineType, FrameType
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue._runner.callrunner import CallRunner
from asynqueue._runner.exceptions import TaskInterrupted, caughtHere
from asynqueue._runner.forking import endCopy
from asynqueue._runner.makecall import RAISED, WAITING, Outcome, Waiter, outcomeOf
from asynqueue._runner.pipes import FarPipe
from asynqueue.errors import withTraceback


class DeferredWaiter:
    """
    Waits for Deferreds, and for coroutines that await Deferreds, while the reactor runs.
    """

    log = Logger()

    def __init__(self, moveOn: Callable[[], object]) -> None:
        """
        @param moveOn: is called when what was waited for is there, and was told.
        """
        self._waiting: Deferred[Any] | None = None
        self._isInterrupted = False
        self._moveOn = moveOn

    def accepts(self, value: object) -> bool:
        """
        Return whether a value is a Deferred or a coroutine.
        """
        return isinstance(value, Deferred | CoroutineType)

    def wait(self, value: Any, later: Callable[[Outcome], object]) -> Outcome:
        """
        Wait for it. If it has fired already, return its outcome at once.
        """
        d: Deferred[Any] = value if isinstance(value, Deferred) else Deferred.fromCoroutine(value)
        self._waiting = d
        self._isInterrupted = False
        hasReturned = False
        early: Outcome = WAITING, None

        def fired(result: object) -> None:
            nonlocal early
            self._waiting = None
            outcome = self._outcomeOf(result)
            if hasReturned:
                later(outcome)
            else:
                early = outcome
            self._moveOn()

        d.addBoth(fired)
        hasReturned = True
        return early

    def _outcomeOf(self, result: object) -> Outcome:
        if not isinstance(result, Failure):
            return outcomeOf(result)
        if self._isInterrupted and result.check(CancelledError):
            return RAISED, TaskInterrupted()
        return RAISED, caughtHere(_raised(result))

    def iterate(self, value: Any) -> Any:
        """
        Return the value as it is: asynchronous iterators are not streamed from here.
        """
        return value

    def interrupt(self) -> bool:
        """
        Cancel what is waited for.
        """
        if self._waiting is None:
            return False
        self._isInterrupted = True
        try:
            self._waiting.cancel()
        except Exception:
            # The Deferred goes on.
            self.log.failure("a Deferred that a task returned could not be cancelled")
        return True

    def close(self) -> None:
        """
        Do nothing, because nothing is left open.
        """


def _raised(failure: Failure) -> BaseException:
    """
    Return a failure's exception, with its traceback.
    """
    error = failure.value
    assert error is not None
    if error.__traceback__ is None and error.__cause__ is None:
        # Twisted has made a text of the traceback.
        withTraceback(error, failure.getTraceback())
    return error


@implementer(IReadDescriptor)
class ReactorService:
    """
    Drives a runner in the turns of a reactor, which watches the pipe.

    @ivar waiter: waits for Deferreds.
    """

    def __init__(self, pipe: FarPipe) -> None:
        from twisted.internet import reactor

        self.waiter: Waiter = DeferredWaiter(self._moveSoon)
        self._pipe = pipe
        # No interface of Twisted knows that run() takes C{installSignalHandlers}.
        self._reactor: Any = reactor
        self._isDue = self._isStopping = False

    def serve(self, runner: CallRunner) -> None:
        """
        Run the reactor until the runner has ended or the near end is gone.
        """
        self._runner = runner
        self._reactor.callWhenRunning(runner.hello)
        self._reactor.addReader(self)
        self._heedChildren()
        if hasattr(os, "register_at_fork"):
            # A callback may fork this process. The copy shares the reactor's file descriptors, so
            # it ends after that callback.
            os.register_at_fork(after_in_child=self._endCopySoon)
        self._reactor.run(installSignalHandlers=False)

    def _heedChildren(self) -> None:
        """
        Have the reactor notice the ends of programs that it runs. The other signals that a reactor
        handles are handled here already.
        """
        number = getattr(signal, "SIGCHLD", None)
        if number is None:
            return
        from twisted.internet.process import reapAllProcesses

        def ended(number: int, frame: FrameType | None) -> None:
            self._reactor.callFromThread(reapAllProcesses)

        signal.signal(number, ended)
        signal.siginterrupt(number, False)

    def _endCopySoon(self) -> None:
        self._reactor.callLater(0, endCopy)

    def wake(self) -> None:
        """
        Have the runner moved, soon. This may be called by the handler of a signal.
        """
        self._reactor.callFromThread(self._moveSoon)

    def _moveSoon(self) -> None:
        if not self._isDue:
            self._isDue = True
            self._reactor.callLater(0, self._move)

    def _move(self) -> None:
        self._isDue = False
        runner = self._runner
        if self._isStopping:
            return
        try:
            if not runner.ended and not self._pipe.isClosed:
                runner.step()
            if runner.ended:
                runner.close()
        except (BrokenPipeError, ConnectionResetError):
            # The near end is gone. Nobody wants a result any more.
            self._stop()
            return
        if runner.ended or self._pipe.isClosed:
            self._stop()
        elif runner.hasWork:
            self._moveSoon()

    def _stop(self) -> None:
        if not self._isStopping:
            self._isStopping = True
            self._reactor.removeReader(self)
            with suppress(ReactorNotRunning):
                self._reactor.stop()

    # IReadDescriptor ------------------------------------------------------------------------------

    def fileno(self) -> int:
        """
        The pipe.
        """
        return self._pipe.fd

    def doRead(self) -> None:
        """
        Take in what has come over the pipe, and go on.
        """
        try:
            self._runner.receive(self._pipe.read())
        except (BrokenPipeError, ConnectionResetError):
            self._stop()
        else:
            self._moveSoon()

    def connectionLost(self, reason: Failure) -> None:
        """
        End, because the reactor has stopped, or what came over the pipe was no message.
        """
        self._stop()

    def logPrefix(self) -> str:
        """
        Name this in the reactor's log.
        """
        return "asynqueue"
