"""
The workers of a queue, from when they are attached until they are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Set
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue._core.scheduler import Scheduler
from asynqueue._core.states import LOST, UNDERWAY, Table, nextState
from asynqueue._observers import HIRED, LEFT, REPLACED, STARTED, ObserverList
from asynqueue._queue.broadcast import Broadcast, Update
from asynqueue._queue.checks import Checks
from asynqueue._queue.queuedtask import QueuedTask
from asynqueue._reactor import ReactorSteps
from asynqueue._waiters import QuietDeferred
from asynqueue._workers.adapter import adapted
from asynqueue._workers.events import Began, GaveUp, GivenBack, Lost, Offered, Raised, WorkerEvent
from asynqueue.errors import StateError, WorkerDetached, WorkerError
from asynqueue.interfaces import IPoolWorker, IWorker

ATTACHED: Final = "ATTACHED"
OPEN: Final = "OPEN"
CLOSED: Final = "CLOSED"
LEAVING: Final = "LEAVING"
GONE: Final = "GONE"

RECORD: Final[Table] = {
    # The worker was never ready for tasks.
    ATTACHED: {"open": OPEN, "close": CLOSED, "leave": LEAVING},
    # The worker may get tasks.
    OPEN: {"close": CLOSED, "leave": LEAVING},
    # The worker lost its runner, or is about to retire it. It may get tasks from the next one.
    CLOSED: {"open": OPEN, "leave": LEAVING},
    # The worker was detached. It finishes what it has.
    LEAVING: {"gone": GONE},
    GONE: {},
}


@dataclass(slots=True, eq=False)
class WorkerRecord:
    """
    A pool's knowledge of one worker.

    @ivar worker: the worker that was attached.
    @ivar port: the same worker as an C{IPoolWorker}: itself, or its adapter.
    @ivar attached: the Deferred to fire with the ID when the worker is first ready.
    @ivar state: a state of L{RECORD}.
    @ivar updates: how many updates it has, if these do not run in order with its tasks.
    @ivar gaveUp: why it can never work again, if it can not.
    @ivar left: the Deferred to fire when it is gone, once it was detached.
    @ivar reassign: whether the tasks that it then leaves unfinished go back into the queue.
    @ivar unfinished: the tasks that it left, and that failed.
    @ivar timer: the call that crashes it if it takes too long to stop.
    @ivar companions: the workers that were attached because this one was, and leave with it.
    """

    ID: int
    worker: IWorker
    port: IPoolWorker
    attached: QuietDeferred = field(default_factory=QuietDeferred)
    state: str = ATTACHED
    updates: int = 0
    gaveUp: WorkerError | None = None
    left: Deferred[list[QueuedTask]] = field(default_factory=Deferred)
    reassign: bool = False
    unfinished: list[QueuedTask] = field(default_factory=list)
    timer: IDelayedCall | None = None
    companions: list[WorkerRecord] = field(default_factory=list)

    @property
    def isOpen(self) -> bool:
        """
        Whether the worker may get tasks.
        """
        return self.state == OPEN

    @property
    def isLeaving(self) -> bool:
        """
        Whether the worker was detached.
        """
        return self.state in (LEAVING, GONE)

    def move(self, event: str) -> None:
        """
        @raise StateError: if L{RECORD} does not allow the event now.
        """
        self.state = nextState(RECORD, self.state, event, self.worker)


class WorkerPool:
    """
    Attaches workers, brings them up to date, opens and closes them for tasks, and lets them go.

    @ivar checks: finds tasks that could be sent to none of the workers.
    """

    log = Logger()

    def __init__(
        self,
        scheduler: Scheduler[QueuedTask],
        observers: ObserverList,
        handle: Callable[[WorkerRecord, list[WorkerEvent]], None],
        makeUpdateTask: Callable[[Update], QueuedTask],
        reactor: IReactorTime,
        underway: Set[QueuedTask],
        crashed: Callable[[IWorker], None],
    ) -> None:
        """
        @param handle: takes what happens to a worker: a record and a list of events.
        @param makeUpdateTask: makes a task, outside of the schedule, of an update.
        @param underway: the tasks of the schedule that workers have.
        @param crashed: is called with each worker that was crashed.
        """
        self._scheduler = scheduler
        self._observers = observers
        self._handle = handle
        self._reactor = reactor
        self._underway = underway
        self._crashed = crashed
        self._broadcast = Broadcast(makeUpdateTask, self._giveUpdates, self._giveUp)
        self._lastID = 0
        # By ID the workers that may get tasks; by worker those too that are leaving.
        self._records: dict[int, WorkerRecord] = {}
        self._byWorker: dict[object, WorkerRecord] = {}
        self._whyCrashed: str | None = None
        # The workers that have gone while one is being crashed, each with what its C{stop} gave.
        # The tasks of that one come to their ends first.
        self._goneMeanwhile: list[tuple[object, WorkerRecord]] | None = None
        # Lets all workers go, once that was asked for.
        self._leaving = ReactorSteps(reactor, lambda: None)
        self.checks = Checks(self._records)

    def __len__(self) -> int:
        return len(self._records)

    @property
    def isEmpty(self) -> bool:
        """
        Whether all workers are gone, even those that were detached.
        """
        return not self._byWorker

    @property
    def needsStop(self) -> bool:
        """
        Whether there is a worker that would leave something behind if nobody stopped it.
        """
        workers = self._byWorker
        return any(not getattr(worker, "needsNoStop", False) for worker in workers)

    @property
    def isUpToDate(self) -> bool:
        """
        Whether all workers have run all updates.
        """
        return self._broadcast.isOver

    @property
    def workers(self) -> list[IWorker]:
        """
        The workers, in the order in which they were attached.
        """
        return [record.worker for record in self._records.values()]

    @property
    def records(self) -> list[WorkerRecord]:
        """
        The records of the workers, in the order in which they were attached.
        """
        return [*self._records.values()]

    def find(self, workerOrID: IWorker | int | None) -> WorkerRecord | None:
        """
        Find the record of a worker, given as itself or by its ID, or C{None} if it is not attached.
        """
        if isinstance(workerOrID, int):
            return self._records.get(workerOrID)
        record = self._byWorker.get(workerOrID)
        return None if record is None or record.isLeaving else record

    # Attaching ------------------------------------------------------------------------------------

    def attach(self, worker: IWorker) -> Deferred[int]:
        """
        Attach a worker.

        @return: a Deferred that fires with the worker's ID when it is ready for tasks.
        @raise ImplementationError: if it does not provide C{IWorker}.
        @raise ValueError: if it is attached already. If the worker raises something, that comes
            through, and the worker is not attached.
        """
        port = adapted(worker)
        if worker in self._byWorker:
            raise ValueError(f"{worker!r} is attached to this queue already")
        self._lastID += 1
        record = WorkerRecord(self._lastID, worker, port)
        self._records[record.ID] = self._byWorker[worker] = record
        self.checks.forget()
        try:
            # AsynQueue 0.9 does so, though it is no member of the interface.
            worker.ID = record.ID  # type: ignore[attr-defined]
            self._scheduler.attach(record, [*port.cQualified, *port.iQualified], port.capacity)
            port.setListener(partial(self._handle, record))
        except BaseException:
            record.move("leave")
            record.move("gone")
            del self._records[record.ID], self._byWorker[worker]
            self._scheduler.detach(record)
            raise
        return record.attached

    def qualify(self, worker: IWorker, series: Hashable) -> None:
        """
        Qualify a worker for one more series.

        @raise ValueError: if it is not attached.
        """
        record = self._byWorker.get(worker)
        if record is None:
            raise ValueError(f"{worker!r} is not attached to this queue")
        if series not in worker.iQualified:
            worker.iQualified.append(series)
        self._scheduler.qualify(record, series)
        self.checks.forget()
        self._handle(record, [])
        for companion in record.companions:
            if not companion.isLeaving:
                self.qualify(companion.worker, series)

    def offered(self, record: WorkerRecord, offer: Offered) -> None:
        """
        Qualify a worker for the series that its place offers, and attach the other workers there.
        """
        for series in offer.series:
            self.qualify(record.worker, series)
        for worker in offer.workers:
            if record.isLeaving:
                worker.crash()
            else:
                self.attach(worker)
                record.companions.append(self._byWorker[worker])

    def ready(self, record: WorkerRecord) -> None:
        """
        Bring a worker with a new runner up to date, then open it.
        """
        if not record.isLeaving:
            self._bringUpToDate(record, self._broadcast.replay(record))

    def _bringUpToDate(self, record: WorkerRecord, tasks: list[QueuedTask]) -> None:
        while tasks:
            self._startUpdates(record, tasks)
            if not record.port.runsInOrder:
                return
            tasks = self._broadcast.takeOwed(record)
        self._open(record)

    def _open(self, record: WorkerRecord) -> None:
        if record.isLeaving:
            return
        isFirst = not record.attached.called
        record.move("open")
        self._scheduler.open(record)
        if self._observers.observers:
            self._observers.record(HIRED if isFirst else REPLACED, worker=record.worker)
            self._observers.flush()
        if not record.attached.called:
            record.attached.callback(record.ID)
        self._handle(record, [])

    def close(self, record: WorkerRecord, reason: Exception) -> None:
        """
        Give a worker no tasks until it is ready again, because it lost its runner.
        """
        if record.isLeaving or record.state == CLOSED:
            return
        if record.isOpen and self._observers.observers:
            self._observers.record(LOST, worker=record.worker, reason=reason)
        record.move("close")
        self._scheduler.close(record)

    # Updates --------------------------------------------------------------------------------------

    def update(self, update: Update, sequential: bool) -> Deferred[list[Any]]:
        """
        Run an update on every worker, and on every later one unless it is ephemeral.
        """
        return self._broadcast.add(update, list(self._records.values()), sequential)

    def updateGivenBack(self, task: QueuedTask) -> None:
        """
        Run an update again that a worker did not begin.
        """
        self._broadcast.givenBack(task)

    def _giveUpdates(self, record: WorkerRecord, tasks: list[QueuedTask]) -> None:
        """
        Give updates to a worker that is open.
        """
        if not record.port.runsInOrder:
            # Tasks wait until it has run them.
            self._scheduler.close(record)
        self._startUpdates(record, tasks)

    def _startUpdates(self, record: WorkerRecord, tasks: list[QueuedTask]) -> None:
        if record.port.runsInOrder:
            tasks = [task for task in tasks if not task.isDone]
            self._handle(record, [Began(task) for task in tasks])
        else:
            record.updates += len(tasks)
        try:
            events = record.port.runMany(tasks)
        except StateError as error:
            # An observer, or a callback, has had this worker stopped meanwhile.
            events = [Lost(error), GivenBack(tasks)]
        self._handle(record, events)
        if not record.port.runsInOrder:
            for task in tasks:
                task.whenDone().addErrback(lambda _: None).addCallback(self._updateEnded, record)

    def begin(self, record: WorkerRecord, task: QueuedTask) -> None:
        """
        Take note that a worker begins an update.
        """
        if task.isDone:
            return
        task.start(record.worker, self._reactor.seconds())
        if self._observers.observers:
            self._observers.record(STARTED, task, record.worker)

    def _giveUp(self, record: WorkerRecord, reason: WorkerError) -> None:
        """
        Let a worker go that cannot be brought up to date.
        """
        self._handle(record, [GaveUp(reason)])

    def _updateEnded(self, _: object, record: WorkerRecord) -> None:
        record.updates -= 1
        if record.updates or record.isLeaving:
            return
        if record.isOpen:
            self._scheduler.open(record)
            self._handle(record, [])
        else:
            self._bringUpToDate(record, self._broadcast.takeOwed(record))

    # Letting go -----------------------------------------------------------------------------------

    def cancel(self, task: QueuedTask) -> None:
        """
        Stop the run of a task that has been ended here.
        """
        record = self._byWorker.get(task.worker)
        if record is not None:
            record.port.cancel(task)

    def detach(
        self,
        record: WorkerRecord,
        reassign: bool = False,
        crash: bool = False,
        timeout: float | None = None,
        reason: WorkerError | None = None,
    ) -> Deferred[list[QueuedTask]]:
        """
        Let a worker go.

        @param reassign: whether the tasks that it leaves unfinished go back into the queue.
        @param crash: whether it is crashed at once.
        @param timeout: after how many seconds it is crashed if it has not stopped. C{None} for
            never.
        @param reason: why it can never work again, if it can not.
        @return: a Deferred that fires when it is gone, and its companions are, with the tasks that
            they left unfinished and that were not reassigned.
        """
        del self._records[record.ID]
        record.move("leave")
        record.reassign = reassign
        record.gaveUp = reason
        self._scheduler.close(record)
        self.checks.forget()
        if not record.attached.called:
            gone = WorkerDetached(f"{record.worker!r} was detached before it was ready")
            # A program that does not look at it does not look at why it failed, either.
            record.attached.fail(Failure(reason or gone), isQuiet=True)
        self._broadcast.forget(record)
        if crash:
            self._crash(record)
        elif timeout is not None:
            record.timer = self._reactor.callLater(timeout, self._crash, record)
        maybeDeferred(record.port.stop).addBoth(self._gone, record)
        companions = [companion for companion in record.companions if not companion.isLeaving]
        if not companions:
            return record.left
        leaving = [self.detach(each, reassign, crash, timeout, reason) for each in companions]
        return DeferredList([record.left, *leaving]).addCallback(_allUnfinished)

    def detachAll(self) -> None:
        """
        Let all workers go that are not leaving yet: some now, and the others in the reactor's next
        turns.
        """
        if self._records and not self._leaving:
            self._leaving.add(iter(self._detachFirst, False))

    def _detachFirst(self) -> bool:
        """
        @return: whether there was a worker to detach.
        """
        record = next(iter(self._records.values()), None)
        if record is None:
            return False
        self.detach(record)
        return True

    def crashAll(self, why: str | None = None) -> None:
        """
        Crash all workers, also those that are leaving already: some now, and the others in the
        reactor's next turns, or with L{finish}.

        @param why: why, for the errors of the tasks that they leave, if the program ends.
        """
        self._whyCrashed = why
        self._leaving.add(map(self._detachAndCrash, list(self._byWorker.values())))

    def finish(self) -> None:
        """
        Do now what is left to do of L{detachAll} and L{crashAll}.
        """
        self._leaving.finish()

    def _detachAndCrash(self, record: WorkerRecord) -> None:
        # One may be gone because of another.
        if record.state == GONE:
            return
        if not record.isLeaving:
            self.detach(record)
        self._crash(record)

    def killAll(self) -> None:
        """
        Crash all workers, without telling of it, because the interpreter ends.
        """
        for record in list(self._byWorker.values()):
            self._crashPort(record)

    def _crash(self, record: WorkerRecord) -> None:
        if record.timer is not None and record.timer.active():
            record.timer.cancel()
        before, self._goneMeanwhile = self._goneMeanwhile, []
        crashed = self._crashPort(record)
        had = self._tasksOf(record) if crashed is None else crashed
        left = [task for task in had if self._has(record, task)]
        again = [task for task in left if record.reassign and not task.isUpdate]
        failed = [task for task in left if task not in again]
        record.unfinished += failed
        events: list[WorkerEvent] = [GivenBack(again)] if again else []
        for task in failed:
            events.append(Raised(task, None, Failure(self._asCrash(task, record.worker))))
        self._scheduler.detach(record)
        self._handle(record, events)
        self._crashed(record.worker)
        gone, self._goneMeanwhile = self._goneMeanwhile, before
        if crashed is None:
            # It may never say that it has stopped.
            gone.append((None, record))
        for result, other in gone:
            self._gone(result, other)

    def _crashPort(self, record: WorkerRecord) -> list[QueuedTask] | None:
        """
        @return: the tasks that the worker leaves; C{None} if it could not be crashed.
        """
        try:
            return record.port.crash()
        except BaseException:
            # The worker is the program's own. The others are crashed all the same.
            self.log.failure("{worker} could not be crashed", worker=record.worker)
            return None

    def _tasksOf(self, record: WorkerRecord) -> list[QueuedTask]:
        had = [task for task in self._underway if task.worker is record.worker]
        return [*sorted(had, key=attrgetter("id")), *self._broadcast.tasksOf(record)]

    def _has(self, record: WorkerRecord, task: QueuedTask) -> bool:
        """
        Tell whether a task that a worker claims to have is not done, and is not being run, or going
        to be run, once more.
        """
        if task.isUpdate:
            return not task.isDone
        return task.state is UNDERWAY and task.worker is record.worker

    def _asCrash(self, task: QueuedTask, worker: IWorker) -> WorkerError:
        if self._whyCrashed is None:
            return WorkerDetached(f"{worker} was crashed with {task}")
        return WorkerError(f"{worker} was crashed with {task} because {self._whyCrashed}")

    def _gone(self, result: object, record: WorkerRecord) -> None:
        if self._goneMeanwhile is not None:
            self._goneMeanwhile.append((result, record))
            return
        if isinstance(result, Failure):
            self.log.failure("{worker} failed to stop", result, worker=record.worker)
            if record.state == LEAVING:
                # It may still have tasks.
                self._crash(record)
        if record.state == GONE:
            return
        record.move("gone")
        del self._byWorker[record.worker]
        if record.timer is not None and record.timer.active():
            record.timer.cancel()
        self._scheduler.detach(record)
        if self._observers.observers:
            self._observers.record(LEFT, worker=record.worker, reason=record.gaveUp)
        self._handle(record, [])
        record.left.callback(record.unfinished)


def _allUnfinished(outcomes: list[tuple[bool, list[QueuedTask]]]) -> list[QueuedTask]:
    return [task for _, tasks in outcomes for task in tasks]
