"""
The roster: the workers of a queue, from hiring to leaving.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue.errors import (
    ImplementationError,
    InvariantError,
    WorkerDetached,
    WorkerError,
)
from asynqueue.interfaces import IEmployer, IUniverseWorker, IWorker
from asynqueue.queue.queued import QueuedTask
from asynqueue.queue.updates import Update, Updates, notRun
from asynqueue.tasks.scheduler import Scheduler
from asynqueue.tasks.states import PENDING


class Desk(Protocol):
    """
    What the roster needs of its queue.
    """

    def begin(self) -> None:
        """Facts follow."""

    def end(self) -> None:
        """That was all: decide."""

    def wake(self) -> None:
        """There may be something to decide."""

    def workerGaveUp(self, worker: Any, reason: WorkerError) -> None:
        """A worker has left the roster because it can work no more."""

    def updateTask(self, update: Update) -> QueuedTask:
        """Make a task of an update, outside of the schedule."""

    def startTimer(self, task: QueuedTask) -> None:
        """A task with a timeout is given to a worker."""

    def stopTimer(self, task: QueuedTask) -> None:
        """A task is not with a worker any more."""


@dataclass(slots=True, eq=False)
class Employment:
    """
    What the roster knows of one worker.

    @ivar isFarSide: whether it is an C{IUniverseWorker}.
    @ivar hired: the Deferred to fire with the ID when the worker is first ready.
    @ivar isOpen: whether the worker may get tasks.
    @ivar reason: why it last lost its universe.
    @ivar held: what a worker of six members has.
    @ivar updates: the updates that it is to be given before it may get other tasks.
    @ivar isGiving: whether it is being given updates at this moment.
    @ivar left: the Deferred to fire when it is gone, once it was let go.
    @ivar reassign: whether what it then leaves unfinished goes back into the queue.
    @ivar unfinished: what it left.
    @ivar timer: the call that crashes it, if it takes too long to go.
    """

    ID: int
    worker: Any
    isFarSide: bool
    hired: Deferred[int]
    isOpen: bool = False
    reason: Exception | None = None
    held: set[QueuedTask] = field(default_factory=set)
    updates: deque[QueuedTask] = field(default_factory=deque)
    isGiving: bool = False
    left: Deferred[list[QueuedTask]] | None = None
    reassign: bool = False
    unfinished: list[QueuedTask] = field(default_factory=list)
    timer: IDelayedCall | None = None


@implementer(IEmployer)
class Roster:
    """
    Hires workers, hands them the tasks that the scheduler decided on, tells the scheduler what
    became of them, and lets workers go.
    """

    log = Logger()

    def __init__(self, desk: Desk, scheduler: Scheduler[QueuedTask], reactor: IReactorTime) -> None:
        self._desk = desk
        self._scheduler = scheduler
        self._reactor = reactor
        self._lastID = 0
        self._employments: dict[int, Employment] = {}
        self._byWorker: dict[Any, Employment] = {}
        self._updates = Updates(desk.updateTask, self._give)

    def __len__(self) -> int:
        return len(self._employments)

    @property
    def isEmpty(self) -> bool:
        """
        Whether all workers are gone, even those that were let go.
        """
        return not self._byWorker

    @property
    def workers(self) -> list[Any]:
        """
        The workers, in the order in which they were hired.
        """
        return [employment.worker for employment in self._employments.values()]

    def get(self, ID: int) -> Any:
        """
        @return: the worker with this ID, or C{None}.
        """
        employment = self._employments.get(ID)
        return None if employment is None else employment.worker

    # Hiring ---------------------------------------------------------------------------------------

    def hire(self, worker: Any) -> Deferred[int]:
        """
        @return: a Deferred that fires with the worker's ID when it is ready for tasks.
        @raise ImplementationError: if it is no L{IWorker}.
        """
        _checkWorker(worker)
        if worker in self._byWorker:
            raise ValueError(f"{worker!r} is attached to this queue already")
        self._lastID += 1
        hired: Deferred[int] = Deferred()
        isFarSide = IUniverseWorker.providedBy(worker)
        employment = Employment(self._lastID, worker, isFarSide, hired)
        self._employments[employment.ID] = self._byWorker[worker] = employment
        worker.ID = employment.ID
        qualified = [*worker.cQualified, *worker.iQualified]
        capacity = worker.capacity if isFarSide else None
        self._scheduler.hire(worker, qualified, capacity)
        worker.setResignator(lambda: self._resigned(employment))
        if isFarSide:
            worker.employ(self)
        else:
            self._replay(employment)
        return hired

    def qualify(self, worker: Any, series: Hashable) -> None:
        """
        A worker may run one more series.

        @raise ValueError: if it is not attached.
        """
        if worker not in self._byWorker:
            raise ValueError(f"{worker!r} is not attached to this queue")
        if series not in worker.iQualified:
            worker.iQualified.append(series)
        self._scheduler.qualify(worker, series)
        self._desk.wake()

    def update(self, update: Update, sequential: bool) -> Deferred[list[Any]]:
        """
        Run an update on every worker, and on every later one unless it is ephemeral.
        """
        return self._updates.add(update, list(self._employments.values()), sequential)

    def _give(self, employment: Employment, task: QueuedTask) -> None:
        """
        Give a worker a task that the scheduler does not know of.
        """
        worker = employment.worker
        if employment.isFarSide:
            task.start(worker, self._reactor.seconds())
            worker.runMany([task])
        else:
            self._scheduler.close(worker)
            employment.updates.append(task)
            self._giveUpdates(employment)

    def _giveUpdates(self, employment: Employment) -> None:
        """
        Give a worker of six members its updates, one whenever it is free, and then open it.
        """
        if employment.isGiving:
            return
        employment.isGiving = True
        while employment.updates and not employment.held:
            task = employment.updates.popleft()
            task.start(employment.worker, self._reactor.seconds())
            self._runOne(employment, task)
        employment.isGiving = False
        if employment.isOpen and not employment.updates and not employment.held:
            self._scheduler.open(employment.worker)

    def _replay(self, employment: Employment) -> None:
        """
        Bring a new universe up to date, then open the worker.
        """
        self._updates.replay(employment).addCallback(self._open, employment)

    def _open(self, _: object, employment: Employment) -> None:
        if employment.ID not in self._employments:
            return
        employment.isOpen = True
        self._giveUpdates(employment)
        if not employment.hired.called:
            employment.hired.callback(employment.ID)
        self._desk.wake()

    # Handing out ----------------------------------------------------------------------------------

    def hand(self, worker: Any, tasks: list[QueuedTask]) -> None:
        """
        Give a worker the tasks that were decided on for it, unless somebody has cancelled them or
        let the worker go since: when tasks are handed out, callbacks may run.
        """
        employment = self._byWorker.get(worker)
        if employment is None or not employment.isOpen:
            self._takeBack(worker, tasks)
            return
        now = self._reactor.seconds()
        started = []
        for task in tasks:
            if task.state is PENDING:
                task.start(worker, now)
                started.append(task)
                if task.options.timeout is not None:
                    self._desk.startTimer(task)
            else:
                self._scheduler.release(worker, [(task, None)])
        if employment.isFarSide:
            worker.runMany(started)
        else:
            for task in started:
                self._runOne(employment, task)

    def _takeBack(self, worker: Any, tasks: list[QueuedTask]) -> None:
        """
        What was decided on for a worker is not for it after all.
        """
        self._scheduler.release(worker, [(task, None) for task in tasks])
        for task in tasks:
            if task.state is PENDING:
                self._scheduler.putBack(task)
        self._desk.wake()

    def _runOne(self, employment: Employment, task: QueuedTask) -> None:
        """
        Give a task to a worker of six members.
        """

        def ready(result: Any) -> None:
            if isinstance(result, Failure):
                task.errback(result)
                self.log.failure(
                    "the Deferred of {worker}.run() is to say when it is ready, but it failed",
                    result,
                    worker=employment.worker,
                )
            if task in employment.held:
                employment.held.discard(task)
                self._scheduler.release(employment.worker, [(task, None)])
            self._giveUpdates(employment)
            self._desk.wake()

        employment.held.add(task)
        maybeDeferred(employment.worker.run, task).addBoth(ready)

    # IEmployer ------------------------------------------------------------------------------------

    def begin(self) -> None:
        """
        The worker has heard something.
        """
        self._desk.begin()

    def end(self) -> None:
        """
        That was all.
        """
        self._desk.end()

    def ready(self, worker: Any) -> None:
        """
        The worker has a universe.
        """
        self._replay(self._byWorker[worker])

    def released(self, worker: Any, ended: list[tuple[QueuedTask, float | None]]) -> None:
        """
        The worker no longer has these tasks.
        """
        self._scheduler.release(worker, ended)
        self._desk.wake()

    def givenBack(self, worker: Any, tasks: list[QueuedTask]) -> None:
        """
        These wait again, in their old place. Updates do not: they are replayed.
        """
        for task in tasks:
            if task.expected is not None:
                self._putBack(task)
            else:
                self._updates.givenBack(task)
        self._desk.wake()

    def _putBack(self, task: QueuedTask) -> None:
        task.giveBack()
        self._desk.stopTimer(task)
        self._scheduler.putBack(task)

    def stalled(self, worker: Any) -> None:
        """
        Send it nothing ahead.
        """
        if worker in self._byWorker:
            self._scheduler.stall(worker)

    def lost(self, worker: Any, reason: Exception) -> None:
        """
        It gets nothing until it is ready again.
        """
        employment = self._byWorker.get(worker)
        if employment is not None:
            employment.reason = reason
            employment.isOpen = False
            self._scheduler.close(worker)

    # Leaving --------------------------------------------------------------------------------------

    def _resigned(self, employment: Employment) -> None:
        if employment.ID not in self._employments:
            return
        reason = employment.reason
        if not isinstance(reason, WorkerError):
            reason = WorkerError(f"{employment.worker!r} resigned")
        self._desk.begin()
        try:
            self.detach(employment.ID, reassign=True, crash=True, reason=reason)
            self._desk.workerGaveUp(employment.worker, reason)
        finally:
            self._desk.end()

    def find(self, workerOrID: Any) -> int | None:
        """
        @return: the ID of a worker given as itself or by its ID, or C{None} if it is not attached.
        """
        if isinstance(workerOrID, int):
            return workerOrID if workerOrID in self._employments else None
        employment = self._byWorker.get(workerOrID)
        return None if employment is None else employment.ID

    def detach(
        self,
        ID: int,
        reassign: bool = False,
        crash: bool = False,
        timeout: float | None = None,
        reason: WorkerError | None = None,
    ) -> Deferred[list[QueuedTask]]:
        """
        Let a worker go.

        @param timeout: after how many seconds it is crashed if it has not stopped; C{None} for
            never.
        @param reason: why, if it did not wait to be let go.
        @return: a Deferred that fires when it is gone, with the tasks that it left unfinished and
            that were not reassigned.
        """
        employment = self._employments.pop(ID)
        employment.isOpen = False
        self._scheduler.close(employment.worker)
        left: Deferred[list[QueuedTask]] = Deferred()
        employment.left = left
        employment.reassign = reassign
        self._forget(employment, reason)
        if crash:
            self._crash(employment)
        elif timeout is not None:
            employment.timer = self._reactor.callLater(timeout, self._crash, employment)
        if employment.worker in self._byWorker:
            maybeDeferred(employment.worker.stop).addBoth(self._gone, employment)
        return left

    def _forget(self, employment: Employment, reason: WorkerError | None) -> None:
        """
        Tell those who wait for what a worker that is let go will not do any more.
        """
        gone = WorkerDetached(f"{employment.worker!r} was detached before it was ready")
        if not employment.hired.called:
            employment.hired.errback(Failure(reason or gone))
        while employment.updates:
            employment.updates.popleft().errback(Failure(notRun(employment)))
        self._updates.forget(employment)

    def stopAll(self) -> None:
        """
        Let all workers go that are not going yet.
        """
        for ID in list(self._employments):
            self.detach(ID)

    def crashAll(self) -> None:
        """
        Crash all workers, those that are going already too.
        """
        self.stopAll()
        for employment in list(self._byWorker.values()):
            self._crash(employment)

    def _crash(self, employment: Employment) -> None:
        worker = employment.worker
        tasks = worker.crash()
        employment.unfinished += self._abandon(tasks, worker, employment.reassign)
        self._scheduler.dismiss(worker)
        self._desk.wake()
        if not employment.isFarSide:
            # A worker of one's own may not know how to stop once it has crashed.
            self._gone(None, employment)

    def _gone(self, result: Any, employment: Employment) -> None:
        worker = employment.worker
        if isinstance(result, Failure):
            self.log.failure("{worker} failed to stop", result, worker=worker)
        if self._byWorker.pop(worker, None) is None:
            return
        if employment.timer is not None and employment.timer.active():
            employment.timer.cancel()
        self._scheduler.dismiss(worker)
        self._updates.forget(employment)
        self._desk.wake()
        if employment.left is not None:
            employment.left.callback(employment.unfinished)

    def _abandon(self, tasks: list[QueuedTask], worker: Any, reassign: bool) -> list[QueuedTask]:
        """
        Decide what becomes of the tasks that a crashed worker leaves.
        """
        failed = []
        for task in tasks:
            if task.isDone:
                continue
            if reassign and task.expected is not None:
                self._putBack(task)
            else:
                failed.append(task)
                task.errback(Failure(WorkerDetached(f"{worker} was crashed with {task}")))
        return failed


def _checkWorker(worker: Any) -> None:
    if not IWorker.providedBy(worker):
        raise ImplementationError(
            f"{worker!r} does not provide IWorker: decorate its class with @implementer(IWorker)"
        )
    for name in ("cQualified", "iQualified"):
        if not isinstance(getattr(worker, name, None), list):
            raise InvariantError(f"{worker!r}: its {name} must be a list of series")
