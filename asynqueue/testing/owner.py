"""
Those who give workers their tasks, where there is no queue.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from asynqueue._core.options import USUAL
from asynqueue._queue.queuedtask import QueuedTask
from asynqueue.interfaces import IWorkerListener


class TaskOwner:
    """
    Makes tasks that belong to no queue.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self.seconds = reactor.seconds
        self._ids = count(1)

    def make(self, function: Callable[..., Any], *args: Any, **options: Any) -> QueuedTask:
        """
        @param options: the task's options.
        """
        task = QueuedTask(next(self._ids), self, function, args, options=USUAL.changed(**options))
        task.d.addErrback(lambda _: None)
        return task

    def settled(self, task: QueuedTask) -> None:
        """Nothing is to be done."""

    def dropped(self, task: QueuedTask, wasUnderway: bool) -> None:
        """Whoever cancels tells the worker."""

    def progressed(self, task: QueuedTask) -> None:
        """The task knows how far it has come."""


@implementer(IWorkerListener)
class RecordingListener:
    """
    Notes what it is told.

    @ivar notes: the name of each event, with what it was about: a list of tasks, or a reason.
    """

    def __init__(self) -> None:
        self.notes: list[tuple[str, Any]] = []
        self.depth = 0

    def of(self, name: str) -> list[Any]:
        """
        @return: what the events of this name were about.
        """
        return [what for noted, what in self.notes if noted == name]

    def begin(self) -> None:
        """Noted."""
        self.depth += 1

    def end(self) -> None:
        """Noted."""
        self.depth -= 1

    def ready(self, worker: Any) -> None:
        """Noted."""
        self.notes.append(("ready", None))

    def released(self, worker: Any, ended: list[tuple[Any, float | None]]) -> None:
        """Noted, for each task apart."""
        self.notes += [("released", task) for task, _ in ended]

    def givenBack(self, worker: Any, tasks: list[Any]) -> None:
        """Noted, if there are any."""
        if tasks:
            self.notes.append(("givenBack", tasks))

    def stalled(self, worker: Any) -> None:
        """Noted."""
        self.notes.append(("stalled", None))

    def lost(self, worker: Any, reason: Exception) -> None:
        """Noted."""
        self.notes.append(("lost", reason))
