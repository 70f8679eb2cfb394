"""
Workers with only the six members of C{IWorker}.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue._core.states import DRAINING, READY, STOPPED
from asynqueue.errors import StateError
from asynqueue.interfaces import IWorker

if TYPE_CHECKING:
    from asynqueue._queue.queuedtask import QueuedTask


@implementer(IWorker)
class StepWorker:
    """
    A worker that has one task at a time, and ends it when the test says so.

    It checks that it gets a task only when the Deferred of the last C{run} has fired, and none
    after C{stop} or C{crash}.

    @ivar task: the present task, or C{None}.
    @ivar past: all tasks that were given to the worker.
    @ivar state: READY, DRAINING or STOPPED.
    """

    cQualified: ClassVar[list[Hashable]] = []

    def __init__(self, series: Iterable[Hashable] = ()) -> None:
        self.iQualified = list(series)
        # A test knows when there is one.
        self.task: QueuedTask | Any = None
        self.past: list[QueuedTask] = []
        self.state: str = READY
        self._resign: Callable[[], object] | None = None
        self._free: Deferred[None] | None = None
        self._stopWaiters: list[Deferred[None]] = []

    # IWorker --------------------------------------------------------------------------------------

    def setResignator(self, callableObject: Callable[[], object]) -> None:
        """
        See L{IWorker}.
        """
        self._resign = callableObject

    def run(self, task: QueuedTask) -> Deferred[None]:
        """
        See L{IWorker}.

        @raise StateError: if the worker has a task, is stopping or has stopped.
        """
        if self._free is not None:
            raise StateError(self, f"busy with {self.task}", f"run {task}")
        if self.state != READY:
            raise StateError(self, self.state, f"run {task}")
        self.task = task
        self.past.append(task)
        free = self._free = Deferred()
        return free

    def stop(self) -> Deferred[None]:
        """
        See L{IWorker}.
        """
        if self.state == READY:
            self.state = DRAINING
        if self._free is None:
            self.state = STOPPED
        if self.state == STOPPED:
            return succeed(None)
        stopped: Deferred[None] = Deferred()
        self._stopWaiters.append(stopped)
        return stopped

    def crash(self) -> list[QueuedTask]:
        """
        See L{IWorker}.
        """
        unfinished = [] if self.task is None else [self.task]
        self.task = None
        self.state = STOPPED
        self._isFree()
        return unfinished

    # For tests ------------------------------------------------------------------------------------

    def finish(self, result: object = None) -> None:
        """
        End the task with a result.
        """
        task, self.task = self.task, None
        task.callback(result)
        self._isFree()

    def fail(self, error: Exception) -> None:
        """
        End the task with a failure.
        """
        task, self.task = self.task, None
        task.errback(Failure(error))
        self._isFree()

    def step(self) -> bool:
        """
        Run the task, if there is one.

        @return: whether there was a task.
        """
        if self.task is None:
            return False
        function, args, kwargs = self.task.callTuple
        try:
            result = function(*args, **kwargs)
        except Exception as error:
            self.fail(error)
        else:
            self.finish(result)
        return True

    def resign(self) -> None:
        """
        Resign, as a worker does that can no longer work.
        """
        if self._resign is None:
            raise StateError(self, "without a resignator", "resign")
        self._resign()

    def _isFree(self) -> None:
        free, self._free = self._free, None
        if free is not None:
            free.callback(None)
        if self._free is None and self.state != READY:
            self.state = STOPPED
            waiters, self._stopWaiters = self._stopWaiters, []
            for waiter in waiters:
                waiter.callback(None)


class InlineWorker(StepWorker):
    """
    A worker that runs each task before C{run} returns, as one in the main loop may.
    """

    def run(self, task: QueuedTask) -> Deferred[None]:
        """
        See L{IWorker}.
        """
        free = super().run(task)
        self.step()
        return free
