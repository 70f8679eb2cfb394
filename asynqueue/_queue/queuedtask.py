"""
A task with a Deferred.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from asynqueue._core.options import USUAL, TaskOptions
from asynqueue._core.states import FINISHED, PENDING, UNDERWAY
from asynqueue._core.task import NO_KEYWORDS, Progress, Task


class TaskOwner(Protocol):
    """
    Whoever a task belongs to: a queue.
    """

    def seconds(self) -> float:
        """The time, in seconds."""

    def settled(self, task: QueuedTask) -> None:
        """A task is done, one way or the other."""

    def dropped(self, task: QueuedTask, wasUnderway: bool) -> None:
        """A task was cancelled by whoever made the call, and is settled."""

    def progressed(self, task: QueuedTask) -> None:
        """A task's run has come further."""


class TaskDeferred(Deferred[Any]):
    """
    The Deferred of a task that is not done yet.
    """

    task: QueuedTask


class QueuedTask(Task):
    """
    A L{Task<asynqueue.tasks.Task>} that was put into a queue, as C{submit} returns it. It can be
    awaited.

    @ivar d: the Deferred of its result, the same that C{call} returns. It fires with what the
        function returned, a L{Deferator<asynqueue.iteration.Deferator>} if that is an iterator, the
        consumer if there is one, or a Failure.
    """

    __slots__ = ("d", "owner")

    def __init__(
        self,
        id: int,
        owner: TaskOwner,
        function: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] = NO_KEYWORDS,
        options: TaskOptions = USUAL,
    ) -> None:
        super().__init__(id, function, args, kwargs, options, owner.seconds())
        self.owner = owner
        self.d = d = TaskDeferred(_cancel)
        d.task = self

    def callback(self, result: Any) -> None:
        """
        A worker has the result. If the task is not UNDERWAY any more, the result came too late and
        is dropped.
        """
        if self.state is not UNDERWAY:
            return
        self.finish(result, self.owner.seconds())
        self._settle()
        self.d.callback(result)

    def errback(self, failure: Failure | BaseException) -> None:
        """
        The task failed. If it is done already, the failure came too late and is dropped.
        """
        if self.state is not UNDERWAY and self.state is not PENDING:
            return
        if not isinstance(failure, Failure):
            failure = Failure(failure)
        self.fail(failure, self.owner.seconds())
        self._settle()
        self.d.errback(failure)

    def reported(self, done: float, total: float | None) -> None:
        """
        The task's function said how far it has come. (For workers to call, in the reactor's
        thread.) Unless the task is UNDERWAY, this came too late and is dropped.
        """
        if self.state is not UNDERWAY:
            return
        self.progress = Progress(done, total, self.owner.seconds())
        self.owner.progressed(self)

    def cancel(self) -> bool:
        """
        Give the task up: it fails with C{CancelledError}. One that is pending never runs. One that
        is underway in a process is asked to end, then killed with its process, which is replaced.
        What a thread or the main loop is doing goes on, and its result is dropped.

        @return: C{False} if it was done already.
        """
        if self.isDone:
            return False
        self.d.cancel()
        return True

    def whenDone(self) -> Deferred[Any]:
        """
        @return: a new Deferred that fires as this task ends: with its result, or with its failure,
            which then counts as handled. Cancelling it changes nothing for the task.
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

    def _settle(self) -> None:
        # Without this the task and its Deferred would refer to each other, and last until garbage
        # is collected.
        del self.d.task
        self.owner.settled(self)


def _cancel(d: Deferred[Any]) -> None:
    """
    The Deferred's owner cancels it. Twisted fires it with C{CancelledError} when this has returned.
    """
    assert isinstance(d, TaskDeferred)
    task = d.task
    owner = task.owner
    wasUnderway = task.state == UNDERWAY
    task.giveUp(Failure(CancelledError(f"{task} was cancelled")), owner.seconds())
    del d.task
    owner.settled(task)
    owner.dropped(task, wasUnderway)
