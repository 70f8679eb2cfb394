"""
How a queue shuts down.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from asynqueue.queue.queued import QueuedTask
from asynqueue.queue.roster import Roster
from asynqueue.tasks.scheduler import Scheduler


class Shutdown:
    """
    Waits until all that can be run has been run, then lets the workers go, then says that it is
    done.
    """

    def __init__(
        self,
        scheduler: Scheduler[QueuedTask],
        roster: Roster,
        reactor: IReactorTime,
        timeout: float | None,
        refuse: Callable[[QueuedTask, str], None],
    ) -> None:
        """
        @param timeout: after how many seconds to give up waiting; C{None} for never.
        @param refuse: fails a task that will not be run, for the reason given.
        """
        self._scheduler = scheduler
        self._roster = roster
        self._timeout = timeout
        self._refuse = refuse
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

    def check(self) -> bool:
        """
        Something has changed: see how far things are.

        @return: whether all is over.
        """
        for task in self._scheduler.unrunnable():
            self._refuse(task, "no worker is qualified for its series")
        if len(self._scheduler) or self._scheduler.held:
            return False
        self._roster.stopAll()
        if not self._roster.isEmpty:
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
        self._roster.crashAll()
