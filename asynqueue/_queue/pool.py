"""
The workers of a queue, from the time that they are attached until they are gone.
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

from asynqueue._core.scheduler import Scheduler
from asynqueue._core.states import LOST, PENDING, UNDERWAY
from asynqueue._queue.broadcast import Broadcast, Update, notRun
from asynqueue._queue.checks import Checks
from asynqueue._queue.observers import GIVEN_BACK, HIRED, LEFT, REPLACED, STARTED, ObserverList
from asynqueue._queue.queuedtask import QueuedTask
from asynqueue._queue.timers import Timers
from asynqueue.errors import ImplementationError, InvariantError, WorkerDetached, WorkerError
from asynqueue.interfaces import IRunnerWorker, IWorker, IWorkerListener


class Desk(Protocol):
    """
    What a pool needs of its queue.
    """

    def begin(self) -> None:
        """Facts follow."""

    def end(self) -> None:
        """That was all: decide."""

    def wake(self) -> None:
        """There may be something to decide."""

    def workerGaveUp(self, worker: Any, reason: WorkerError) -> None:
        """A worker has left the pool because it can work no more."""

    def updateTask(self, update: Update) -> QueuedTask:
        """Make a task of an update, outside of the schedule."""


@dataclass(slots=True, eq=False)
class WorkerRecord:
    """
    What the pool knows of one worker.

    @ivar isFarSide: whether it is an C{IRunnerWorker}.
    @ivar hired: the Deferred to fire with the ID when the worker is first ready.
    @ivar isOpen: whether the worker may get tasks.
    @ivar hasRunner: whether it has been ready since it was hired, or since it was last lost.
    @ivar reason: why it last lost its runner.
    @ivar gaveUp: why it can work no more, if it can not.
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
    hasRunner: bool = False
    reason: Exception | None = None
    gaveUp: WorkerError | None = None
    held: set[QueuedTask] = field(default_factory=set)
    updates: deque[QueuedTask] = field(default_factory=deque)
    isGiving: bool = False
    left: Deferred[list[QueuedTask]] | None = None
    reassign: bool = False
    unfinished: list[QueuedTask] = field(default_factory=list)
    timer: IDelayedCall | None = None


def checkWorker(worker: Any) -> None:
    """
    @raise ImplementationError: if it is no L{IWorker}; C{InvariantError} if its lists are none.
    """
    if not IWorker.providedBy(worker):
        raise ImplementationError(
            f"{worker!r} does not provide IWorker: decorate its class with @implementer(IWorker)"
        )
    for name in ("cQualified", "iQualified"):
        if not isinstance(getattr(worker, name, None), list):
            raise InvariantError(f"{worker!r}: its {name} must be a list of series")


class Departures:
    """
    The workers of a queue, as far as they are listed, and let go.
    """

    log = Logger()

    def __init__(
        self,
        desk: Desk,
        scheduler: Scheduler[QueuedTask],
        updates: Broadcast,
        news: ObserverList,
        timers: Timers,
        reactor: IReactorTime,
    ) -> None:
        # The tasks of the schedule that workers have.
        self.underway: set[QueuedTask] = set()
        self._timers = timers
        self._desk = desk
        self._scheduler = scheduler
        self._updates = updates
        self._observers = news
        self._reactor = reactor
        # By ID those who may get tasks; by worker those too that are on their way out.
        self._records: dict[int, WorkerRecord] = {}
        self._byWorker: dict[Any, WorkerRecord] = {}
        self._whyCrashed: str | None = None

    def __len__(self) -> int:
        return len(self._records)

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
        return [record.worker for record in self._records.values()]

    def get(self, ID: int) -> Any:
        """
        @return: the worker with this ID, or C{None}.
        """
        record = self._records.get(ID)
        return None if record is None else record.worker

    def find(self, workerOrID: Any) -> int | None:
        """
        @return: the ID of a worker given as itself or by its ID, or C{None} if it is not attached.
        """
        if isinstance(workerOrID, int):
            return workerOrID if workerOrID in self._records else None
        record = self._byWorker.get(workerOrID)
        if record is None or record.ID not in self._records:
            return None
        return record.ID

    # Letting go -----------------------------------------------------------------------------------

    def resigned(self, record: WorkerRecord) -> None:
        """
        A worker can work no more.
        """
        if record.ID not in self._records:
            return
        reason = record.reason
        if not isinstance(reason, WorkerError):
            reason = WorkerError(f"{record.worker!r} resigned")
        record.gaveUp = reason
        self._desk.begin()
        try:
            self.detach(record.ID, reassign=True, crash=True, reason=reason)
            self._desk.workerGaveUp(record.worker, reason)
        finally:
            self._desk.end()

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
        record = self._records.pop(ID)
        record.isOpen = False
        self._scheduler.close(record.worker)
        left: Deferred[list[QueuedTask]] = Deferred()
        record.left = left
        record.reassign = reassign
        self._forget(record, reason)
        if crash:
            self._crash(record)
        elif timeout is not None:
            record.timer = self._reactor.callLater(timeout, self._crash, record)
        if record.worker in self._byWorker:
            maybeDeferred(record.worker.stop).addBoth(self._gone, record)
        return left

    def _forget(self, record: WorkerRecord, reason: WorkerError | None) -> None:
        """
        Tell those who wait for what a worker that is let go will not do any more.
        """
        gone = WorkerDetached(f"{record.worker!r} was detached before it was ready")
        if not record.hired.called:
            record.hired.errback(Failure(reason or gone))
        while record.updates:
            record.updates.popleft().errback(Failure(notRun(record)))
        self._updates.forget(record)

    def stopAll(self) -> None:
        """
        Let all workers go that are not going yet.
        """
        for ID in list(self._records):
            self.detach(ID)

    def crashAll(self, why: str | None = None) -> None:
        """
        Crash all workers, those that are going already too.

        @param why: for the errors of the tasks that they leave, if the program ends.
        """
        self._whyCrashed = why
        self.stopAll()
        for record in list(self._byWorker.values()):
            self._crash(record)

    def killAll(self) -> None:
        """
        Crash all workers, without telling anybody: the interpreter ends.
        """
        for worker in list(self._byWorker):
            worker.crash()

    def _crash(self, record: WorkerRecord) -> None:
        worker = record.worker
        tasks = worker.crash()
        record.unfinished += self._abandon(tasks, worker, record.reassign)
        self._scheduler.detach(worker)
        self._desk.wake()
        if not record.isFarSide:
            # A worker of one's own may not know how to stop once it has crashed.
            self._gone(None, record)

    def _gone(self, result: Any, record: WorkerRecord) -> None:
        worker = record.worker
        if isinstance(result, Failure):
            self.log.failure("{worker} failed to stop", result, worker=worker)
        if self._byWorker.pop(worker, None) is None:
            return
        if record.timer is not None and record.timer.active():
            record.timer.cancel()
        self._scheduler.detach(worker)
        if self._observers.observers:
            self._observers.note(LEFT, worker=worker, reason=record.gaveUp)
        self._desk.wake()
        self._observers.tell()
        if record.left is not None:
            record.left.callback(record.unfinished)

    def _putBack(self, task: QueuedTask) -> None:
        """
        A task of the schedule waits again, in its old place, unless it is done meanwhile.
        """
        if task.state is not UNDERWAY:
            return
        if self._observers.observers:
            self._observers.note(GIVEN_BACK, task, task.worker)
        task.giveBack()
        self.underway.discard(task)
        self._timers.stop(task)
        self._scheduler.putBack(task)

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
                task.errback(Failure(self._asCrash(task, worker)))
        return failed

    def _asCrash(self, task: QueuedTask, worker: Any) -> WorkerError:
        if self._whyCrashed is None:
            return WorkerDetached(f"{worker} was crashed with {task}")
        return WorkerError(f"{worker} was crashed with {task}, for {self._whyCrashed}")


@implementer(IWorkerListener)
class WorkerPool(Departures):
    """
    Hires workers, hands them the tasks that the scheduler decided on, tells the scheduler what
    became of them, and lets workers go.

    @ivar checks: finds tasks that could be sent to none of them.
    """

    def __init__(
        self,
        desk: Desk,
        scheduler: Scheduler[QueuedTask],
        news: ObserverList,
        timers: Timers,
        reactor: IReactorTime,
    ) -> None:
        updates = Broadcast(desk.updateTask, self._giveUpdate)
        super().__init__(desk, scheduler, updates, news, timers, reactor)
        self._lastID = 0
        self.checks = Checks(self._records)

    # Hiring ---------------------------------------------------------------------------------------

    def attach(self, worker: Any) -> Deferred[int]:
        """
        @return: a Deferred that fires with the worker's ID when it is ready for tasks.
        @raise ImplementationError: if it is no L{IWorker}.
        """
        checkWorker(worker)
        if worker in self._byWorker:
            raise ValueError(f"{worker!r} is attached to this queue already")
        self._lastID += 1
        hired: Deferred[int] = Deferred()
        isFarSide = IRunnerWorker.providedBy(worker)
        record = WorkerRecord(self._lastID, worker, isFarSide, hired)
        self._records[record.ID] = self._byWorker[worker] = record
        self.checks.forget()
        worker.ID = record.ID
        qualified = [*worker.cQualified, *worker.iQualified]
        # Of the six members none says how much a worker takes at once; one that takes more says so.
        self._scheduler.attach(worker, qualified, getattr(worker, "capacity", None))
        worker.setResignator(lambda: self.resigned(record))
        if isFarSide:
            worker.setListener(self)
        else:
            self._replay(record)
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
        self.checks.forget()
        self._desk.wake()

    def _forget(self, record: WorkerRecord, reason: WorkerError | None) -> None:
        self.checks.forget()
        super()._forget(record, reason)

    def update(self, update: Update, sequential: bool) -> Deferred[list[Any]]:
        """
        Run an update on every worker, and on every later one unless it is ephemeral.
        """
        return self._updates.add(update, list(self._records.values()), sequential)

    def _giveUpdate(self, record: WorkerRecord, task: QueuedTask) -> None:
        """
        Give a worker a task that the scheduler does not know of.
        """
        worker = record.worker
        if record.isFarSide:
            self._startUpdate(record, task)
            worker.runMany([task])
        else:
            self._scheduler.close(worker)
            record.updates.append(task)
            self._giveUpdates(record)

    def _giveUpdates(self, record: WorkerRecord) -> None:
        """
        Give a worker of six members its updates, one whenever it is free, and then open it.
        """
        if record.isGiving:
            return
        record.isGiving = True
        while record.updates and not record.held:
            task = record.updates.popleft()
            if task.state is PENDING:
                self._startUpdate(record, task)
                self._runOne(record, task)
        record.isGiving = False
        if record.isOpen and not record.updates and not record.held:
            self._scheduler.open(record.worker)

    def _startUpdate(self, record: WorkerRecord, task: QueuedTask) -> None:
        task.start(record.worker, self._reactor.seconds())
        if self._observers.observers:
            self._observers.note(STARTED, task, record.worker)

    def _replay(self, record: WorkerRecord) -> None:
        """
        Bring a new runner up to date, then open the worker.
        """
        self._updates.replay(record).addCallback(self._open, record)

    def _open(self, _: object, record: WorkerRecord) -> None:
        if record.ID not in self._records:
            return
        isFirst = not record.hired.called
        record.isOpen = record.hasRunner = True
        self._giveUpdates(record)
        if record.left is None and self._observers.observers:
            self._observers.note(HIRED if isFirst else REPLACED, worker=record.worker)
            self._observers.tell()
        if not record.hired.called:
            record.hired.callback(record.ID)
        self._desk.wake()

    # Handing out ----------------------------------------------------------------------------------

    def hand(self, worker: Any, tasks: list[QueuedTask]) -> None:
        """
        Give a worker the tasks that were decided on for it, unless somebody has cancelled them or
        let the worker go since: when tasks are handed out, callbacks may run.
        """
        record = self._byWorker.get(worker)
        if record is None or not record.isOpen:
            self._takeBack(worker, tasks)
            return
        now = self._reactor.seconds()
        started = []
        for task in tasks:
            if task.state is PENDING:
                task.start(worker, now)
                started.append(task)
                if task.options.isTimed:
                    self._timers.start(task)
            else:
                self._scheduler.release(worker, [(task, None)])
        self.underway.update(started)
        if self._observers.observers:
            for task in started:
                self._observers.note(STARTED, task, worker)
        if record.isFarSide:
            worker.runMany(started)
        else:
            for task in started:
                if task.state is UNDERWAY and record.isOpen:
                    self._runOne(record, task)
                else:
                    # The one before was over at once, and whoever heard of it changed things.
                    self._scheduler.release(worker, [(task, None)])
                    self._putBack(task)

    def _takeBack(self, worker: Any, tasks: list[QueuedTask]) -> None:
        """
        What was decided on for a worker is not for it after all.
        """
        self._scheduler.release(worker, [(task, None) for task in tasks])
        for task in tasks:
            if task.state is PENDING:
                self._scheduler.putBack(task)
        self._desk.wake()

    def _runOne(self, record: WorkerRecord, task: QueuedTask) -> None:
        """
        Give a task to a worker of six members.
        """

        def ready(result: Any) -> None:
            if isinstance(result, Failure):
                task.errback(result)
                self.log.failure(
                    "the Deferred of {worker}.run() is to say when it is ready, but it failed",
                    result,
                    worker=record.worker,
                )
            if task in record.held:
                record.held.discard(task)
                self._scheduler.release(record.worker, [(task, None)])
            self._giveUpdates(record)
            self._desk.wake()

        record.held.add(task)
        maybeDeferred(record.worker.run, task).addBoth(ready)

    # IWorkerListener ------------------------------------------------------------------------------

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
        The worker has a runner.
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
            elif task.state is UNDERWAY:
                if self._observers.observers:
                    self._observers.note(GIVEN_BACK, task, worker)
                self._updates.givenBack(task)
        self._desk.wake()

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
        record = self._byWorker.get(worker)
        if record is not None:
            record.reason = reason
            record.isOpen = False
            self._scheduler.close(worker)
            if record.hasRunner and self._observers.observers:
                self._observers.note(LOST, worker=worker, reason=reason)
            record.hasRunner = False
