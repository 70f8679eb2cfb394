"""
How a queue shuts down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from asynqueue._core.scheduler import Scheduler
from asynqueue._iteration.deferator import Deferator
from asynqueue._iteration.patience import StreamPatience
from asynqueue._iteration.sources import ItemSource
from asynqueue._queue.pool import WorkerPool
from asynqueue._queue.queuedtask import QueuedTask
from asynqueue._waiters import OneShotObserverList

Refused = list[tuple[QueuedTask, str]]
"""Tasks that will not be run, each with the reason why."""


class Shutdown:
    """
    Waits until all that can be run has been run, and until each iteration that is being consumed is
    over. Then lets the workers go, then says that it is done.

    While it drains, nothing more is begun, and what is underway is waited for, all iterations too.
    """

    def __init__(
        self,
        scheduler: Scheduler[QueuedTask],
        pool: WorkerPool,
        underway: Set[QueuedTask],
        reactor: IReactorTime,
        timeout: float | None,
        streams: Callable[[], Iterable[ItemSource]],
        giveUpStream: Callable[[ItemSource], None],
        outOfTime: Callable[[], None],
        checkSoon: Callable[[], None],
    ) -> None:
        """
        @param underway: the tasks that workers have.
        @param timeout: after how many seconds to give up waiting. C{None} for never.
        @param streams: returns the streams that may not be over, or not be taken to their end.
        @param giveUpStream: is called with each stream that is not being consumed.
        @param outOfTime: is called when the time is over.
        @param checkSoon: is called when something has changed, though nothing has happened to a
            worker.
        """
        self._scheduler = scheduler
        self._pool = pool
        self._underway = underway
        self._timeout = timeout
        self._reactor = reactor
        self._checkSoon = checkSoon
        # Why nothing more is begun, while it drains.
        self._drains: str | None = None
        self._iterations = 0
        # Whether anything that is underway is waited for.
        self._isCut = False
        self._streams = streams
        self._patience = StreamPatience(reactor, giveUpStream, checkSoon)
        self._done: OneShotObserverList[None] = OneShotObserverList()
        self._deadline: IDelayedCall | None = None
        if timeout is not None:
            self._deadline = reactor.callLater(timeout, outOfTime)

    def whenDone(self) -> Deferred[None]:
        """
        @return: a Deferred that fires when all is over.
        """
        return self._done.whenFired()

    def finish(self) -> None:
        """
        Tell everybody who waits that all is over.
        """
        self._patience.end()
        self._done.fire(None)

    @property
    def isDraining(self) -> bool:
        """
        Whether nothing more is begun.
        """
        return self._drains is not None

    def drain(self, why: str) -> None:
        """
        Begin nothing more.
        """
        self._drains = f"the queue was shut down, and nothing more is begun because {why}"

    def cut(self, why: str) -> None:
        """
        After L{drain}: wait for nothing that is underway.
        """
        self._isCut = True
        self._pool.crashAll(why)

    def awaitIteration(self, deferator: Deferator) -> None:
        """
        Take note of an iteration that may not be over.
        """

        def over(result: bool) -> bool:
            self._iterations -= 1
            self._checkSoon()
            return result

        if not deferator.called:
            self._iterations += 1
            deferator.addCallback(over)

    def refused(self) -> Refused:
        """
        Find the tasks that wait and will not be run.
        """
        if self._drains is not None:
            return [(task, self._drains) for task in self._scheduler]
        why = "the queue was shut down, and no worker is qualified for its series"
        return [(task, why) for task in self._scheduler.unrunnable()]

    def outOfTime(self) -> Refused:
        """
        Find the tasks that are still pending when the time is over.
        """
        self._deadline = None
        self._isCut = True
        why = (
            f"the queue was shut down, and it was still pending {self._timeout} seconds after that "
            "began"
        )
        return [(task, why) for task in self._scheduler]

    def wait(self, seconds: float, then: Callable[[], None]) -> None:
        """
        After L{outOfTime}: wait a little longer, unless all is over before.
        """
        self._deadline = self._reactor.callLater(seconds, then)

    def isOver(self) -> bool:
        """
        Look how far things are, and let the workers go when nothing is left for them.

        @return: whether all is over.
        """
        if len(self._scheduler) or self._scheduler.held:
            return False
        if not self._isCut and self._isWaiting():
            return False
        self._pool.detachAll()
        if not self._pool.isEmpty:
            return False
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None
        return True

    def _isWaiting(self) -> bool:
        if self._drains is not None:
            return bool(self._underway or self._iterations)
        return self._patience.look(self._streams())
