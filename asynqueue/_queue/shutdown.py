"""
How a queue shuts down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from asynqueue._core.scheduler import Scheduler
from asynqueue._iteration.deferator import Deferator
from asynqueue._queue.pool import WorkerPool
from asynqueue._queue.queuedtask import QueuedTask


class Shutdown:
    """
    Waits until all that can be run has been run, then lets the workers go, then says that it is
    done.

    When it drains, nothing more is begun, and what is underway is waited for, iterations too.
    """

    def __init__(
        self,
        scheduler: Scheduler[QueuedTask],
        pool: WorkerPool,
        reactor: IReactorTime,
        timeout: float | None,
        refuse: Callable[[QueuedTask, str], None],
        checkSoon: Callable[[], None],
    ) -> None:
        """
        @param timeout: after how many seconds to give up waiting; C{None} for never.
        @param refuse: fails a task that will not be run, for the reason given.
        @param checkSoon: has L{check} called, though no worker has changed.
        """
        self._scheduler = scheduler
        self._pool = pool
        self._timeout = timeout
        self._refuse = refuse
        self._checkSoon = checkSoon
        # Why nothing more is begun, when it drains.
        self._drains: str | None = None
        self._iterations = 0
        self._isCut = False
        self._waiters: list[Deferred[None]] = []
        self._deadline: IDelayedCall | None = None
        if timeout is not None:
            self._deadline = reactor.callLater(timeout, self._outOfTime)

    def whenDone(self) -> Deferred[None]:
        """
        @return: a Deferred that fires when all is over, but not before L{check} has been called.
        """
        done: Deferred[None] = Deferred()
        self._waiters.append(done)
        return done

    def drain(self, why: str, iterations: Iterable[Deferator]) -> None:
        """
        Begin nothing more.

        @param iterations: those that are not over, as far as is known.
        """
        self._drains = f"nothing is begun any more, for {why}"
        for deferator in iterations:
            self._await(deferator)

    def settled(self, task: QueuedTask) -> None:
        """
        A task has come to its end.
        """
        if self._drains is not None:
            if type(task.result) is Deferator:
                self._await(task.result)
            # Of the end of what fed a consumer nobody else tells.
            self._checkSoon()

    def _await(self, deferator: Deferator) -> None:
        def over(result: bool) -> bool:
            self._iterations -= 1
            self._checkSoon()
            return result

        if not deferator.called:
            self._iterations += 1
            deferator.addCallback(over)

    def sift(self) -> None:
        """
        Refuse the tasks that will not be run.
        """
        if self._drains is not None:
            for task in list(self._scheduler):
                self._refuse(task, self._drains)
            return
        for task in self._scheduler.unrunnable():
            self._refuse(task, "no worker is qualified for its series")

    def check(self) -> bool:
        """
        Something has changed: see how far things are.

        @return: whether all is over.
        """
        self.sift()
        if len(self._scheduler) or self._scheduler.held:
            return False
        isWaiting = self._drains is not None and not self._isCut
        if isWaiting and (self._pool.underway or self._iterations):
            return False
        self._pool.stopAll()
        if not self._pool.isEmpty:
            return False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        return True

    def finish(self) -> None:
        """
        Tell those who wait.
        """
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(None)

    def _outOfTime(self) -> None:
        self._deadline = None
        for task in list(self._scheduler):
            self._refuse(task, f"it was still pending {self._timeout} seconds after that began")
        self._pool.crashAll()

    def cut(self, why: str) -> None:
        """
        After L{drain}: wait for nothing that is underway.
        """
        self._isCut = True
        self._pool.crashAll(why)
