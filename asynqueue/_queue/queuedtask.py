"""
A task of a queue: a task that has a Deferred.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Generator, Iterator
from typing import Any, Generic, Protocol, TypeAlias

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from asynqueue._core.states import CANCELLED, FINISHED, PENDING, UNDERWAY
from asynqueue._core.task import Progress, T, Task
from asynqueue._iteration.deferator import Deferator
from asynqueue._iteration.sources import ItemSource
from asynqueue._runner.chunks import runChunk
from asynqueue._waiters import TaskDeferred

Later: TypeAlias = Deferred[Any] | Coroutine[Any, Any, Any] | Iterator[Any] | AsyncIterator[Any]
"""What a function returns that is not its call's result: this is waited for or streamed, as the
call's options say. Type checkers take the result for C{Any}."""


class TaskOwner(Protocol):
    """
    The owner of tasks: a queue's engine.
    """

    def seconds(self) -> float:
        """The time, in seconds."""

    def ended(self, task: QueuedTask) -> None:
        """A task is FINISHED or FAILED. Its Deferred fires when this has returned."""

    def failed(self, task: QueuedTask, failure: Failure) -> Failure | None:
        """The run of a task with the option C{retryOn} has failed. Returns why the task is to fail;
        C{None} if it waits for another run."""

    def cancelled(self, task: QueuedTask, wasUnderway: bool) -> None:
        """A task was cancelled by its caller."""

    def progressed(self, task: QueuedTask) -> None:
        """A task's function has reported progress."""

    def yields(self, task: QueuedTask, source: ItemSource) -> None:
        """A task that is UNDERWAY yields items, which come from this source."""

    def handsOut(self, task: QueuedTask, deferator: Deferator) -> None:
        """A task's Deferred fires with this Deferator when this has returned. The task goes on."""

    def terminateCall(self, d: Deferred[Any]) -> Deferred[None]:
        """Kills the process that runs the task with this Deferred. The returned Deferred fails
        with C{AdminError} if no task has it, and with C{WorkerError} without such a process."""

    def stacksOfCall(self, d: Deferred[Any]) -> Deferred[str]:
        """Asks what the worker is doing that has the task with this Deferred. The returned
        Deferred fails with C{AdminError} if no worker has it."""

    def cancelStream(self, task: QueuedTask) -> None:
        """A task whose Deferator was handed out was cancelled by its caller."""


class QueuedTask(Task[T], Generic[T]):
    """
    A L{Task<asynqueue.tasks.Task>} that was put into a queue, as C{submit} returns it. You can
    await it.

    If its function returns an iterator, the task is UNDERWAY until the last item has arrived here,
    also after C{d} has fired.

    @ivar d: the Deferred of its result, the same that C{call} returns. It fires with what the
        function returned, a L{Deferator<asynqueue.iteration.Deferator>} if that is an iterator, the
        consumer if there is one, or a Failure.
    """

    __slots__ = ("__weakref__", "d")

    d: TaskDeferred[T]

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
    def failure(self) -> Any:
        """
        Why it is FAILED or CANCELLED; C{None} otherwise.
        """
        if self.state is CANCELLED and self.outcome is None:
            # It was cancelled together with many others.
            self.outcome = Failure(CancelledError(f"{self} was cancelled while it waited"))
        return None if self.state is UNDERWAY else super().failure

    @property
    def shownFunction(self) -> object:
        """
        The function that people know the task by: C{function}, or the one that was given to C{map}
        if the task is a chunk of that.
        """
        return self.args[0] if self.function is runChunk else self.function

    @property
    def isUpdate(self) -> bool:
        """
        Whether this runs an update on one worker. The scheduler does not know of such a task.
        """
        return self.priority is None

    def callback(self, result: object) -> None:
        """
        Finish the task with its result. If the task is no longer UNDERWAY, the result is dropped
        because it came too late.
        """
        if self.state is not UNDERWAY or self.d.called:
            return
        owner = self.d.owner
        if type(result) is Deferator and not result.source.isOver and not self.isUpdate:
            self.outcome = result
            owner.handsOut(self, result)
            d: Deferred[Any] = self.d
            d.callback(result)
            return
        self.finish(result, owner.seconds())
        owner.ended(self)
        self.fire()

    def yields(self, source: ItemSource) -> None:
        """
        Tell the owner that the task yields items.
        """
        if self.state is UNDERWAY and not self.isUpdate:
            self.d.owner.yields(self, source)

    def successor(self) -> QueuedTask:
        """
        Make the task that goes on for this one when its Deferator was handed out. It has the same
        facts, but refers neither to the Deferred nor to the Deferator. So the queue can keep it,
        while the caller can drop the Deferator.
        """
        after = QueuedTask(
            self.id, self.function, self.args, self.kwargs, self.options, self.queuedTime
        )
        after.belongTo(self.d.owner)
        after.d.addErrback(lambda _: None)
        after.follow(self)
        after.priority, after.worker, after.attempts = self.priority, self.worker, self.attempts
        after.startTime, after.context, after.expected = self.startTime, self.context, self.expected
        return after

    def follow(self, other: QueuedTask) -> None:
        """
        Take over how far another task has come: this task's successor, or the task that this one
        succeeds.
        """
        self.state, self.progress, self.stopTime = other.state, other.progress, other.stopTime
        if other.failure is not None:
            self.outcome = other.failure

    def errback(self, failure: Failure | BaseException) -> None:
        """
        Fail the task. If it is done already, the failure is dropped because it came too late.
        """
        if self.state is UNDERWAY or self.state is PENDING:
            if self.d.called:
                return
            if not isinstance(failure, Failure):
                failure = Failure(failure)
            owner = self.d.owner
            if self.options.retry is not None and self.state is UNDERWAY:
                final = owner.failed(self, failure)
                if final is None:
                    return
                failure = final
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
            d.errback(self.failure)

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
        if self.d.called:
            self.d.owner.cancelStream(self)
        else:
            self.d.cancel()
        return True

    def whenDone(self) -> Deferred[T]:
        """
        Return a new Deferred that fires when C{d} does, with the task's result or its failure. The
        failure then counts as handled. Cancelling the new Deferred does not cancel the task.
        """
        waiter: Deferred[T] = Deferred(lambda _: None)

        def done(result: Any) -> Any:
            if not waiter.called:
                waiter.callback(self.outcome)
            return None if isinstance(result, Failure) else result

        if self.d.called:
            done(None)
            self.d.addErrback(lambda _: None)
        else:
            self.d.addBoth(done)
        return waiter

    def __await__(self) -> Generator[Deferred[T], None, T]:
        return self.whenDone().__await__()
