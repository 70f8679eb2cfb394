"""
Stand-ins for a queue in the tests of workers: an owner of tasks, and a listener to events.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from asynqueue._core.options import USUAL
from asynqueue._iteration.deferator import Deferator
from asynqueue._iteration.sources import ItemSource
from asynqueue._queue.queuedtask import QueuedTask
from asynqueue._workers.events import (
    Freed,
    GaveUp,
    GivenBack,
    Lost,
    Raised,
    Ready,
    Returned,
    Stalled,
    WorkerEvent,
    Yielded,
    perform,
)


class TaskOwner:
    """
    Makes tasks that belong to no queue. Failures of these tasks are not reported.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self.seconds = reactor.seconds
        self._ids = count(1)

    def make(self, function: Callable[..., Any], *args: Any, **options: Any) -> QueuedTask:
        """
        Make a task.

        @param function: the function to call.
        @param args: its positional arguments.
        @param options: fields of L{TaskOptions<asynqueue.tasks.TaskOptions>}.
        @return: the task, which is pending.
        """
        ID, now = next(self._ids), self.seconds()
        task = QueuedTask(ID, function, args, options=USUAL.changed(**options), now=now)
        task.belongTo(self)
        task.d.addErrback(lambda _: None)
        return task

    def ended(self, task: QueuedTask) -> None:
        """Do nothing."""

    def failed(self, task: QueuedTask, failure: Failure) -> Failure | None:
        """Have every failure end its task."""
        return failure

    def cancelled(self, task: QueuedTask, wasUnderway: bool) -> None:
        """Do nothing, because the test that cancels a task tells the worker."""

    def progressed(self, task: QueuedTask) -> None:
        """Do nothing, because the task keeps its progress itself."""

    def yields(self, task: QueuedTask, source: ItemSource) -> None:
        """Do nothing, because nobody keeps an eye on the stream."""

    def handsOut(self, task: QueuedTask, deferator: Deferator) -> None:
        """Finish the task here, because nobody keeps an eye on the stream."""
        task.finish(deferator, self.seconds())

    def terminateCall(self, d: Deferred[Any]) -> Deferred[None]:
        """Do nothing."""
        return succeed(None)

    def stacksOfCall(self, d: Deferred[Any]) -> Deferred[str]:
        """Do nothing."""
        return succeed("")

    def cancelStream(self, task: QueuedTask) -> None:
        """Do nothing, because a task is done when its Deferator is handed out."""


class RecordingListener:
    """
    Records the events of a worker, and ends the tasks that they end.

    @ivar notes: a pair for each fact: its name, and what it is about. That is a task, a list of
        tasks, a reason, or C{None}.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self.notes: list[tuple[str, Any]] = []
        self._reactor = reactor

    def of(self, name: str) -> list[Any]:
        """
        Return the second halves of the L{notes} that have this name.
        """
        return [what for noted, what in self.notes if noted == name]

    def __call__(self, events: list[WorkerEvent]) -> None:
        """
        Record events, then end the tasks that they end.
        """
        for event in events:
            self._record(event)
        for event in events:
            if isinstance(event, Returned):
                event.task.callback(event.value)
            elif isinstance(event, Raised):
                event.task.errback(event.failure)
            else:
                perform(event, None, self._reactor)

    def _record(self, event: WorkerEvent) -> None:
        if isinstance(event, Ready):
            self.notes.append(("ready", None))
        elif isinstance(event, (Lost, GaveUp)):
            self.notes.append((type(event).__name__.lower(), event.reason))
        elif isinstance(event, Stalled):
            self.notes.append(("stalled", None))
        elif isinstance(event, (Returned, Raised, Yielded, Freed)):
            self.notes.append(("released", event.task))
        elif isinstance(event, GivenBack):
            self.notes += [("released", task) for task in event.tasks]
            wanted = [task for task in event.tasks if not task.isDone]
            if wanted:
                self.notes.append(("givenBack", wanted))
