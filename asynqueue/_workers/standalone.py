"""
What a worker does for itself as long as it belongs to no queue.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from asynqueue._workers.events import (
    Ended,
    Freed,
    GaveUp,
    GivenBack,
    Raised,
    Ready,
    Returned,
    WorkerEvent,
    perform,
)

if TYPE_CHECKING:
    from asynqueue._queue.queuedtask import QueuedTask
    from asynqueue.interfaces import IPoolWorker


class Standalone:
    """
    Ends tasks as a worker's events say, and keeps those that were given back for the next runner.

    @ivar resign: is called, if it is set, when the worker can never work again.
    """

    def __init__(
        self,
        worker: IPoolWorker,
        crash: Callable[[], list[QueuedTask]],
        reactor: IReactorTime,
    ) -> None:
        """
        @param crash: crashes the worker and returns the tasks that it leaves.
        """
        self.resign: Callable[[], object] | None = None
        self._worker = worker
        self._crash = crash
        self._reactor = reactor
        self._kept: list[QueuedTask] = []
        self._ended: Exception | None = None

    @property
    def kept(self) -> list[QueuedTask]:
        """
        The tasks that wait for the next runner.
        """
        return self._kept

    def take(self) -> list[QueuedTask]:
        """
        Return what was kept and is still wanted. It is not kept any longer.
        """
        kept, self._kept = self._kept, []
        return [task for task in kept if not task.isDone]

    def __call__(self, events: list[WorkerEvent]) -> None:
        """
        Hear what happened to the worker.
        """
        for event in events:
            if isinstance(event, Returned):
                event.task.callback(event.value)
            elif isinstance(event, Raised):
                event.task.errback(event.failure)
            elif isinstance(event, GivenBack):
                self._keep(event)
            elif isinstance(event, Ready):
                self(self._worker.runMany(self.take()))
            elif isinstance(event, GaveUp):
                self._giveUp(event.reason)
            elif isinstance(event, Ended):
                self._ended = event.reason
                _failAll(self.take(), event.reason)
            elif not isinstance(event, Freed):
                perform(event, self._worker, self._reactor)

    def _keep(self, event: GivenBack) -> None:
        self._kept += event.tasks
        if event.hadBegun:
            for task in event.tasks:
                task.attempts += 1
        if self._ended is not None:
            # Whoever heard of a death before these came back has stopped the worker.
            _failAll(self.take(), self._ended)

    def _giveUp(self, reason: Exception) -> None:
        if self.resign is not None:
            self.resign()
        _failAll(self._crash(), reason)


def _failAll(tasks: list[QueuedTask], reason: Exception) -> None:
    for task in tasks:
        task.errback(Failure(reason))
