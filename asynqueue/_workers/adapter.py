"""
An adapter that makes a worker with the six members of C{IWorker} look like any other to a queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue._core.groups import Capacity
from asynqueue._workers.events import Began, Freed, GaveUp, GivenBack, Ready, WorkerEvent
from asynqueue._workers.procinfo import RunnerFacts
from asynqueue.errors import ImplementationError, InvariantError, WorkerError
from asynqueue.interfaces import IPoolWorker, IWorker

if TYPE_CHECKING:
    from asynqueue._queue.queuedtask import QueuedTask


def adapted(worker: IWorker) -> IPoolWorker:
    """
    Return a worker as the pool of a queue sees it: itself, or an adapter for it.

    @raise ImplementationError: if it does not provide C{IWorker}. C{InvariantError} if its lists of
        series are no lists.
    """
    if not IWorker.providedBy(worker):
        raise ImplementationError(
            f"{worker!r} does not provide IWorker: decorate its class with @implementer(IWorker)"
        )
    for name in ("cQualified", "iQualified"):
        if not isinstance(getattr(worker, name, None), list):
            raise InvariantError(f"{worker!r}: its {name} must be a list of series")
    return worker if IPoolWorker.providedBy(worker) else WorkerAdapter(worker)


@implementer(IPoolWorker)
class WorkerAdapter:
    """
    Gives a worker no more tasks at once than it takes, and tells the queue when it is free.

    A worker that takes several tasks at once has an attribute C{capacity}, and one whose runs can
    be stopped has a method C{cancel(task)}. Neither is one of the six members.

    @ivar worker: the worker.
    """

    log = Logger()

    makeCheck = None
    runsInOrder = False

    def __init__(self, worker: IWorker) -> None:
        self.worker = worker
        self.capacity: Capacity = getattr(worker, "capacity", None) or Capacity()
        self._cancel: Callable[[QueuedTask], None] | None = getattr(worker, "cancel", None)
        self._listener: Callable[[list[WorkerEvent]], None] = _hearNothing
        self._waiting: deque[QueuedTask] = deque()
        # In the order of giving.
        self._held: dict[QueuedTask, None] = {}
        self._isGiving = False
        self._hasCrashed = False
        self._stopping: Deferred[object] | None = None

    def __repr__(self) -> str:
        return repr(self.worker)

    @property
    def cQualified(self) -> list[Hashable]:
        """
        See L{IWorker<asynqueue.interfaces.IWorker>}.
        """
        series: list[Hashable] = self.worker.cQualified
        return series

    @property
    def iQualified(self) -> list[Hashable]:
        """
        See L{IWorker<asynqueue.interfaces.IWorker>}.
        """
        series: list[Hashable] = self.worker.iQualified
        return series

    def setResignator(self, callableObject: Callable[[], object]) -> None:
        """
        See L{IWorker<asynqueue.interfaces.IWorker>}.
        """
        self.worker.setResignator(callableObject)

    def setListener(self, listener: Callable[[list[WorkerEvent]], None]) -> None:
        """
        See L{IPoolWorker<asynqueue.interfaces.IPoolWorker>}. The worker is ready at once.
        """
        self._listener = listener
        self.worker.setResignator(self._resigned)
        listener([Ready()])

    def _resigned(self) -> None:
        self._listener([GaveUp(WorkerError(f"{self.worker!r} resigned"))])

    def run(self, task: QueuedTask) -> Deferred[Any]:
        """
        See L{IWorker<asynqueue.interfaces.IWorker>}.
        """
        return self.worker.run(task)

    def runMany(self, tasks: list[QueuedTask]) -> list[WorkerEvent]:
        """
        See L{IPoolWorker<asynqueue.interfaces.IPoolWorker>}. An update waits until the worker has
        nothing else, and is run alone.
        """
        self._waiting.extend(tasks)
        return self._giveWaiting()

    def _giveWaiting(self) -> list[WorkerEvent]:
        events: list[WorkerEvent] = []
        # A worker may end a task before its run() returns, and so lead back to here.
        if self._isGiving:
            return events
        self._isGiving = True
        try:
            while self._waiting and not self._hasCrashed and self._hasRoom(self._waiting[0]):
                task = self._waiting.popleft()
                if task.isDone:
                    events.append(Freed(task))
                elif self._stopping is not None:
                    # Whoever heard of the task before has had this worker stopped.
                    events.append(GivenBack([task]))
                else:
                    self._give(task)
        finally:
            self._isGiving = False
        return events

    def _hasRoom(self, task: QueuedTask) -> bool:
        if task.isUpdate or any(held.isUpdate for held in self._held):
            return not self._held
        return len(self._held) < self.capacity.slots

    def _give(self, task: QueuedTask) -> None:
        self._held[task] = None
        if task.isUpdate:
            self._listener([Began(task)])
        maybeDeferred(self.worker.run, task).addBoth(self._freed, task)

    def _freed(self, result: object, task: QueuedTask) -> None:
        if isinstance(result, Failure):
            task.errback(result)
            self.log.failure(
                "the Deferred of {worker}.run() says when the worker is ready, but it failed",
                result,
                worker=self.worker,
            )
        if task in self._held:
            del self._held[task]
            self._listener([Freed(task), *self._giveWaiting()])

    def cancel(self, task: QueuedTask) -> None:
        """
        See L{IPoolWorker<asynqueue.interfaces.IPoolWorker>}. A worker that has no C{cancel} lets
        the run go on.
        """
        if task in self._waiting:
            self._waiting.remove(task)
            self._listener([Freed(task)])
        elif self._cancel is not None:
            self._cancel(task)

    def terminate(self, task: QueuedTask) -> None:
        """
        See L{IPoolWorker<asynqueue.interfaces.IPoolWorker>}. There is no process.
        """
        raise WorkerError(
            f"{self.worker!r} has no process that could be killed: {task} can only be cancelled"
        )

    def lookAt(self, task: QueuedTask) -> None:
        """
        See L{IPoolWorker<asynqueue.interfaces.IPoolWorker>}. The six members tell nothing.
        """

    def facts(self) -> RunnerFacts:
        """
        See L{IPoolWorker<asynqueue.interfaces.IPoolWorker>}. The six members tell nothing.
        """
        return RunnerFacts()

    def stacks(self) -> Deferred[str]:
        """
        See L{IPoolWorker<asynqueue.interfaces.IPoolWorker>}.
        """
        return succeed(f"{self.worker!r} does not tell what it is doing.")

    def recycle(self) -> bool:
        """
        See L{IPoolWorker<asynqueue.interfaces.IPoolWorker>}.
        """
        return False

    def stop(self) -> Deferred[object]:
        """
        See L{IWorker<asynqueue.interfaces.IWorker>}. After L{crash} nothing is waited for, because
        a worker of your own may not know how to stop once it has crashed.
        """
        if self._hasCrashed:
            return succeed(None)
        if self._stopping is None:
            self._stopping = Deferred()
            self._giveBackWaiting()
            maybeDeferred(self.worker.stop).addBoth(self._stopped)
        return self._stopping

    def _giveBackWaiting(self) -> None:
        if self._waiting:
            waiting, self._waiting = list(self._waiting), deque()
            self._listener([GivenBack(waiting)])

    def _stopped(self, result: object) -> None:
        if self._stopping is not None and not self._stopping.called:
            self._stopping.callback(result)

    def crash(self) -> list[QueuedTask]:
        """
        See L{IWorker<asynqueue.interfaces.IWorker>}. A worker of your own may fail at this. What it
        was given is known here all the same.
        """
        self._hasCrashed = True
        held, self._held = self._held, {}
        self._giveBackWaiting()
        left: dict[QueuedTask, None] = {}
        try:
            left = dict.fromkeys(self.worker.crash())
        except BaseException:
            self.log.failure("{worker} could not be crashed", worker=self.worker)
        self._stopped(None)
        return [*left, *(task for task in held if task not in left and not task.isDone)]


def _hearNothing(events: list[WorkerEvent]) -> None:
    """
    Do nothing: no queue has this worker yet.
    """
