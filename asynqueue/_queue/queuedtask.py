"""
A task of a queue: a task that has a Deferred.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from asynqueue._core.states import FINISHED, PENDING, UNDERWAY
from asynqueue._core.task import Progress, Task


class TaskOwner(Protocol):
    """
    The owner of tasks: a queue's engine.
    """

    def seconds(self) -> float:
        """The time, in seconds."""

    def ended(self, task: QueuedTask) -> None:
        """A task is FINISHED or FAILED. Its Deferred fires when this has returned."""

    def cancelled(self, task: QueuedTask, wasUnderway: bool) -> None:
        """A task was cancelled by its caller."""

    def progressed(self, task: QueuedTask) -> None:
        """A task's function has reported progress."""


class TaskDeferred(Deferred[Any]):
    """
    The Deferred of a task.

    @ivar owner: the queue that the task belongs to.
    """

    # No slot, because Python 3.13 keeps the attributes of an instance with slots in a dictionary,
    # which takes up 304 bytes more.
    owner: TaskOwner


class QueuedTask(Task):
    """
    A L{Task<asynqueue.tasks.Task>} that was put into a queue, as C{submit} returns it. You can
    await it.

    @ivar d: the Deferred of its result, the same that C{call} returns. It fires with what the
        function returned, a L{Deferator<asynqueue.iteration.Deferator>} if that is an iterator, the
        consumer if there is one, or a Failure.
    """

    __slots__ = ("d",)

    d: TaskDeferred

    def belongTo(self, owner: TaskOwner) -> None:
        """
        Make the task's Deferred. A new task has none.
        """
        # The task is the canceller itself, because a million may wait and a bound method takes up
        # 64 bytes. Twisted drops the canceller when the Deferred fires, so no cycle is left.
        self.d = d = TaskDeferred(self)
        d.owner = owner

    def __call__(self, d: Deferred[Any]) -> None:
        """
        Give the task up because its Deferred is cancelled. When this has returned, Twisted fires
        the Deferred with C{CancelledError}, unless it has fired.
        """
        if self.isDone:
            # An observer hears of the end before the Deferred fires, and has cancelled that.
            self.fire()
            return
        owner = self.d.owner
        wasUnderway = self.state == UNDERWAY
        self.giveUp(Failure(CancelledError(f"{self} was cancelled")), owner.seconds())
        owner.cancelled(self, wasUnderway)

    @property
    def isUpdate(self) -> bool:
        """
        Whether this runs an update on one worker. The scheduler does not know of such a task.
        """
        return self.priority is None

    def callback(self, result: Any) -> None:
        """
        Finish the task with its result. If the task is no longer UNDERWAY, the result is dropped
        because it came too late.
        """
        if self.state is UNDERWAY:
            owner = self.d.owner
            self.finish(result, owner.seconds())
            owner.ended(self)
            self.fire()

    def errback(self, failure: Failure | BaseException) -> None:
        """
        Fail the task. If it is done already, the failure is dropped because it came too late.
        """
        if self.state is UNDERWAY or self.state is PENDING:
            if not isinstance(failure, Failure):
                failure = Failure(failure)
            owner = self.d.owner
            self.fail(failure, owner.seconds())
            owner.ended(self)
            self.fire()

    def fire(self) -> None:
        """
        Fire the Deferred of a task that is done, unless it has fired.
        """
        d = self.d
        if d.called:
            return
        if self.state is FINISHED:
            d.callback(self.outcome)
        else:
            d.errback(self.outcome)

    def reported(self, done: float, total: float | None) -> None:
        """
        Note the progress that the task's function reported. Workers call this in the reactor's
        thread. Unless the task is UNDERWAY, the report is dropped because it came too late.
        """
        if self.state is not UNDERWAY:
            return
        self.progress = Progress(done, total, self.d.owner.seconds())
        self.d.owner.progressed(self)

    def cancel(self) -> bool:
        """
        Give the task up, so that it fails with C{CancelledError}. A pending task never runs. A task
        that is underway in a process is asked to end, then killed with its process, which is
        replaced. A run in a thread or in the main loop goes on, and its result is dropped.

        @return: C{False} if it was done already.
        """
        if self.isDone:
            return False
        self.d.cancel()
        return True

    def whenDone(self) -> Deferred[Any]:
        """
        @return: a new Deferred that fires when this task ends, with its result or its failure. The
            failure then counts as handled. Cancelling the new Deferred does not cancel the task.
        """
        waiter: Deferred[Any] = Deferred(lambda _: None)

        def done(result: Any) -> Any:
            if not waiter.called:
                waiter.callback(self.result if self.state == FINISHED else self.failure)
            return None if isinstance(result, Failure) else result

        if self.isDone:
            done(None)
            self.d.addErrback(lambda _: None)
        else:
            self.d.addBoth(done)
        return waiter

    def __await__(self) -> Generator[Deferred[Any], None, Any]:
        return self.whenDone().__await__()
