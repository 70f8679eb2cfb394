"""
What all blocking iterators share.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, Self

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore, IReactorTime
from twisted.python import threadable
from twisted.python.failure import Failure

from asynqueue.deferreds.clock import callFromAnyThread, defaultReactor
from asynqueue.errors import IterationStopped, NotReadyError
from asynqueue.iteration.handover import Handover, WouldWait
from asynqueue.iteration.outcome import Outcome


class BlockingIterator:
    """
    An iterator for a thread other than the reactor's, which waits for each item.

    It never waits after the reactor has begun to stop: it then raises
    L{IterationStopped<asynqueue.errors.IterationStopped>}, after the items that are there.
    """

    def __init__(self, window: float, reactor: IReactorTime | None) -> None:
        """
        @param window: how many items make the buffer full.
        @param reactor: the reactor. Default: the global one.
        """
        if window < 1:
            raise ValueError(f"window is {window!r}, but a buffer must have room for an item")
        # The buffer does not refer to me, as a cycle would put off __del__.
        me = weakref.ref(self)

        def roomMade() -> None:
            this = me()
            if this is not None:
                callFromAnyThread(this._reactor, this._roomMade)

        self._reactor = defaultReactor() if reactor is None else reactor
        self._handover = Handover(window, roomMade)
        self._done = Outcome()
        self._trigger: Any = None
        callFromHere(self._reactor, self._watchReactor)

    def __del__(self) -> None:
        # Not there if the constructor has failed.
        done = self.__dict__.get("_done")
        if done is not None and not done.isSettled:
            self._handover.drop()
            callFromAnyThread(self._reactor, self._abandoned)

    def __repr__(self) -> str:
        state = "ended" if self._handover.isEnded else "open"
        return f"<{type(self).__name__}: {state}, {len(self._handover)} items waiting>"

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """
        Wait for the next item.

        @raise StopIteration: at the end.
        @raise NotReadyError: if there is no item now and this is the reactor's thread, which must
            not wait: no item would ever come.
        """
        try:
            return self._handover.take(not self._isInReactorThread())
        except WouldWait:
            raise NotReadyError(
                f"{self!r} was iterated over in the reactor's thread, where waiting would keep "
                "items from ever coming: iterate over it in another thread"
            ) from None
        except BaseException:
            # Waiting may also have been interrupted, which ends nothing.
            if self._handover.isEnded:
                callFromAnyThread(self._reactor, self._finish)
            raise

    def deferUntilDone(self) -> Deferred[None]:
        """
        Wait, in the reactor's thread, until iterating is done.

        @return: a Deferred that fires with C{None} when the iterating side has come to the end, or
            to the failure, or has called L{stop}. Cancelling it ends only this wait.
        """
        return self._done.wait()

    def fail(self, failure: Failure) -> None:
        """
        End the iteration with a failure, which is raised in the iterating thread after the items
        that are there. No effect if it has ended.
        """
        self._handover.end(failure)
        callFromHere(self._reactor, self._stopFeeding)

    def stop(self) -> None:
        """
        End the iteration, in any thread.

        The iterating side says by it that it wants no more: what was not taken is dropped. In the
        reactor's thread it says that no more will come: what is there can still be taken.
        """
        if self._isInReactorThread():
            self._handover.end()
            self._stopFeeding()
        else:
            self.drop()

    def drop(self) -> None:
        """
        End the iteration, in any thread, and drop what was not taken.
        """
        self._handover.drop()
        callFromHere(self._reactor, self._abandoned)

    # For subclasses -------------------------------------------------------------------------------

    def _isInReactorThread(self) -> bool:
        """
        Tell whether this is a thread that must not wait here.
        """
        return bool(threadable.isInIOThread())

    def _roomMade(self) -> None:
        """
        In the reactor's thread: a buffer that was full has room again.
        """

    def _stopFeeding(self) -> None:
        """
        In the reactor's thread: no more items are of use.
        """

    # The end --------------------------------------------------------------------------------------

    def _abandoned(self) -> None:
        self._stopFeeding()
        self._finish()

    def _finish(self) -> None:
        if self._trigger is not None:
            self._reactor.removeSystemEventTrigger(self._trigger)  # type: ignore[attr-defined]
            self._trigger = None
        self._done.settle()

    def _watchReactor(self) -> None:
        """
        End with the reactor. Its thread pool waits for its threads at the end, so this comes first.
        """
        if not IReactorCore.providedBy(self._reactor) or self._done.isSettled:
            return
        me = weakref.ref(self)

        def stopping() -> None:
            this = me()
            if this is not None:
                this._trigger = None
                this.fail(Failure(IterationStopped(f"the reactor stops before {this!r} has ended")))

        self._trigger = self._reactor.addSystemEventTrigger("before", "shutdown", stopping)


def isReactorThread() -> bool:
    """
    Tell whether this is the reactor's thread. Before any reactor has run, that is the main thread,
    but for odd programs.
    """
    if threadable.ioThread:
        return bool(threadable.isInIOThread())
    return threading.current_thread() is threading.main_thread()


def callFromHere(reactor: IReactorTime, function: Callable[[], object]) -> None:
    """
    Call a function in the reactor's thread: now, if this is it.
    """
    if isReactorThread():
        function()
    else:
        callFromAnyThread(reactor, function)
