"""
The view of a task queue that others have, and the actions that they can take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Final
from weakref import WeakMethod

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from asynqueue._core.description import (
    describeCall,
    describeError,
    describeFunction,
    describeValue,
    shortly,
)
from asynqueue._core.states import ENDED, FAILED, PENDING
from asynqueue._observers import Event
from asynqueue._queue.engine import Engine
from asynqueue._queue.pool import WorkerRecord
from asynqueue._queue.queuedtask import QueuedTask
from asynqueue._workers.procinfo import processorSeconds
from asynqueue.admin._history import Inspection
from asynqueue.admin.administrable import Showing
from asynqueue.admin.api import (
    ABSENT,
    DEEPEST,
    LARGEST_PAGE,
    checkPage,
    plain,
    plainPriority,
    plainProgress,
    plainTraceback,
)
from asynqueue.errors import AdminError
from asynqueue.interfaces import IAdministered, IWorker, JSONObject

if TYPE_CHECKING:
    from asynqueue._queue.taskqueue import TaskQueue

STEPS: Final = 64
"""How many tasks are looked at before it is asked whether the reactor's turn has lasted long
enough."""

MOST_WORKERS: Final = 200
"""How many workers a snapshot shows. The system is asked for the memory of each."""


@implementer(IAdministered)
class QueueInspection(Inspection):
    """
    The view of a L{TaskQueue<asynqueue.TaskQueue>} that others have, and the actions that they can
    take. This does not refer to the queue, which is to notice that the program has dropped it.
    """

    def __init__(
        self,
        queue: TaskQueue,
        engine: Engine,
        showing: Showing,
    ) -> None:
        super().__init__(queue, showing, engine.observers, engine.reactor)
        self._engine = engine
        self.verbs: dict[str, Callable[..., object]] = {
            "snapshot": self.snapshot,
            "task": self._task,
            "stacks": self._stacks,
            "cancel": self._cancel,
            "terminate": self._terminate,
            "reprioritise": self._reprioritise,
            "pause": engine.pause,
            "resume": engine.resume,
            "recycle": self._recycle,
        }
        resize = getattr(queue, "resize", None)
        if resize is not None:
            self.verbs["processes"] = partial(self._resize, WeakMethod(resize))

    # Looking --------------------------------------------------------------------------------------

    def _observe(self, event: Event) -> None:
        task, history = event.task, self.history
        if event.kind not in ENDED or task is None or task.isUpdate or history is None:
            return
        facts = self._facts(task, event.time)
        facts["state"] = event.kind
        if event.reason is not None:
            facts["error"] = describeError(event.reason)
            if event.kind == FAILED:
                facts["traceback"] = plainTraceback(task.failure)
        elif "results" in self._show:
            facts["result"] = shortly(task.result)
        history.ended(event.kind, facts)

    def summary(self) -> JSONObject:
        """
        See L{IAdministered}.
        """
        engine = self._engine
        oldest = next(engine.scheduler.walk(), None)
        return {
            "name": self.name,
            "kind": self.kind,
            "state": engine.state,
            "paused": engine.scheduler.isPaused,
            "pending": engine.scheduler.waiting,
            "underway": len(engine.underway),
            "workers": len(engine.pool),
            "waited": None if oldest is None else engine.seconds() - oldest.queuedTime,
            "ended": self._summaryOfEnded(),
            "readOnly": self.isReadOnly,
            "verbs": [*self.verbs],
        }

    def snapshot(self, page: int = 0, size: int = 25) -> JSONObject:
        """
        @param page: which page of the tasks that wait, from 0.
        @param size: how many of them a page has.
        @return: everything that is seen of the queue.
        @raise ValueError: if the page is too far down.
        """
        engine, now = self._engine, self._engine.seconds()
        before = checkPage(page, size)
        pending = islice(engine.scheduler.walk(), before, before + size)
        underway = islice(sorted(engine.underway, key=_idOf), LARGEST_PAGE)
        return {
            **self.summary(),
            "workerCount": len(engine.pool),
            "workers": self._workers(now),
            "tasksUnderway": [self._facts(task, now) for task in underway],
            "tasksPending": [self._facts(task, now) for task in pending],
            "page": page,
            "size": size,
            "seriesCount": engine.scheduler.seriesWaiting,
            "series": [
                {"series": plain(name), "pending": count, "served": isServed}
                for name, count, isServed in islice(engine.scheduler.walkSeries(), LARGEST_PAGE)
            ],
            "streams": [
                {
                    "task": task.id,
                    "function": describeFunction(task.shownFunction),
                    "items": len(source.items),
                    "creditItems": None if source.credit is None else source.credit[0],
                    "creditBytes": None if source.credit is None else source.credit[1],
                    "paused": bool(source.isPaused),
                    "over": source.isOver,
                }
                for task, source in islice(engine.openStreams(), LARGEST_PAGE)
            ],
            "last": self._lastEnded(),
        }

    def _facts(self, task: QueuedTask, now: float) -> JSONObject:
        started, worker = task.startTime, self._engine.pool.find(task.worker)
        progress = task.progress
        facts = {
            "id": task.id,
            "function": describeFunction(task.shownFunction),
            "state": task.state,
            "series": plain(task.options.series),
            "niceness": task.options.niceness,
            "priority": plainPriority(task.priority),
            "attempts": task.attempts,
            "waited": (now if started is None else started) - task.queuedTime,
            "ran": None if started is None else now - started,
            "worker": None if worker is None else worker.ID,
        }
        if progress is not None:
            facts["progress"] = plainProgress(progress, now)
        if "arguments" in self._show:
            facts["call"] = describeCall(task.function, task.args, task.kwargs)
        return facts

    def _workers(self, now: float) -> list[JSONObject]:
        had: dict[IWorker | None, list[QueuedTask]] = {}
        for task in self._engine.underway:
            had.setdefault(task.worker, []).append(task)
        records = self._engine.pool.records[:MOST_WORKERS]
        return [self._worker(record, had.get(record.worker, []), now) for record in records]

    def _worker(self, record: WorkerRecord, has: list[QueuedTask], now: float) -> JSONObject:
        runner = record.port.facts()
        begun = has if runner.begun is None else [task for task in runner.begun if not task.isDone]
        return {
            "id": record.ID,
            "kind": type(record.worker).__name__,
            "name": describeValue(record.worker),
            "state": runner.state or record.state,
            "mayGetTasks": record.isOpen,
            "pid": runner.pid,
            "residentKilobytes": runner.residentKilobytes,
            "processorSeconds": None if runner.pid is None else processorSeconds(runner.pid),
            "restarts": runner.restarts,
            "recycled": runner.recycled,
            "place": dict(runner.place),
            "losses": [{"ago": now - time, "reason": why} for time, why in runner.losses],
            "tasks": len(has),
            "running": [
                {
                    "id": task.id,
                    "function": describeFunction(task.shownFunction),
                    "ran": None if task.startTime is None else now - task.startTime,
                }
                for task in islice(begun, STEPS)
            ],
            "series": [plain(name) for name in [*record.port.cQualified, *record.port.iQualified]],
        }

    def _task(self, task: int) -> Deferred[JSONObject]:
        """
        Find one task that waits, is underway or has ended lately, in several turns of the reactor
        if many wait.
        """
        first = islice(self._engine.scheduler.walk(), DEEPEST)
        near = chain(self._engine.underway, first)
        # Those that a page shows are found at once.
        found = list(islice((each for each in near if each.id == task), 1))

        ended = None if found else self._findEnded(task)
        if ended is not None:
            return succeed(ended)

        def told(_: object) -> JSONObject:
            if not found:
                raise AdminError(f"{self.name} knows no task {task} any more, or not yet")
            return self._facts(found[0], self._engine.seconds())

        steps = iter(()) if found else self._seek(task, found)
        return self._inTurns(steps).addCallback(told)

    def _stacks(self, worker: int | None, task: int | None) -> Deferred[JSONObject]:
        """
        Ask what a worker is doing, or the worker that has a task.
        """
        if (worker is None) == (task is None):
            raise AdminError("say which by one of worker and task")
        if task is not None:
            has = [each for each in self._engine.underway if each.id == task]
            record = self._engine.pool.find(has[0].worker) if has else None
            if record is None:
                raise AdminError(f"no worker of {self.name} has a task {task}")
        else:
            assert worker is not None
            record = self._find(worker)
        ID = record.ID
        told = record.port.stacks()
        resident = record.port.facts().residentKilobytes
        return told.addCallback(
            lambda text: {"worker": ID, "text": text, "residentKilobytes": resident}
        )

    # Steering -------------------------------------------------------------------------------------

    def _cancel(
        self,
        tasks: list[int] | None,
        series: object,
        function: str | None,
        all: bool,
        underway: bool,
    ) -> Deferred[dict[str, int]]:
        """
        Cancel some tasks, in several turns of the reactor if many wait.

        @raise AdminError: unless it is said which, in one way.
        """
        ways: list[Callable[[QueuedTask], bool]] = []
        if tasks is not None:
            named = frozenset(tasks)
            ways.append(lambda task: task.id in named)
        if series is not ABSENT:
            ways.append(lambda task: bool(plain(task.options.series) == series))
        if function is not None:
            ways.append(lambda task: describeFunction(task.shownFunction) == function)
        if all:
            ways.append(lambda task: True)
        if len(ways) != 1:
            raise AdminError("say what to cancel by one of tasks, series, function and all")
        [isMeant] = ways
        # A task that is named may be with a worker already.
        hasUnderway = underway or tasks is not None
        cancelled: list[int] = []
        steps = self._cancelEach(isMeant, hasUnderway, cancelled)
        return self._inTurns(steps).addCallback(lambda _: {"cancelled": len(cancelled)})

    def _cancelEach(
        self, isMeant: Callable[[QueuedTask], bool], underway: bool, cancelled: list[int]
    ) -> Iterator[None]:
        engine = self._engine
        if underway:
            for task in sorted(engine.underway, key=_idOf):
                if isMeant(task) and task.cancel():
                    cancelled.append(task.id)
            yield
        for number, task in enumerate(engine.scheduler):
            if isMeant(task) and task.cancel():
                cancelled.append(task.id)
            if number % STEPS == STEPS - 1:
                yield

    def _terminate(self, task: int) -> Deferred[dict[str, int]]:
        """
        Kill the process in which a task runs.
        """
        found = next((each for each in self._engine.underway if each.id == task), None)
        if found is None:
            raise AdminError(f"no worker of {self.name} has a task {task}")
        done = self._engine.terminate(found)
        return done.addCallback(lambda _: {"terminated": task})

    def _reprioritise(self, task: int, priority: float) -> Deferred[JSONObject]:
        """
        Move a task among those that wait.
        """
        found: list[QueuedTask] = []

        def moved(_: object) -> JSONObject:
            if not found or found[0].state != PENDING:
                raise AdminError(f"no task {task} waits in {self.name}")
            self._engine.scheduler.reprioritise(found[0], priority)
            self._engine.wake()
            return {"task": task, "priority": plainPriority(priority)}

        return self._inTurns(self._seek(task, found)).addCallback(moved)

    def _seek(self, id: int, found: list[QueuedTask]) -> Iterator[None]:
        for number, task in enumerate(self._engine.scheduler):
            if task.id == id:
                found.append(task)
                return
            if number % STEPS == STEPS - 1:
                yield

    def _resize(
        self, weak: WeakMethod[Callable[[int], Deferred[None]]], count: int
    ) -> dict[str, int]:
        resize = weak()
        if resize is None:
            raise AdminError(f"the program has dropped {self.name}")
        # A process that cannot start says so by its worker's losses.
        resize(count).addErrback(lambda _: None)
        return {"count": count}

    def _recycle(self, worker: int) -> JSONObject:
        record = self._find(worker)
        if not record.port.recycle():
            raise AdminError(f"worker {worker} has no process or thread that it could replace now")
        return {"worker": worker}

    def _find(self, worker: int) -> WorkerRecord:
        record = self._engine.pool.find(worker)
        if record is None:
            raise AdminError(f"{self.name} has no worker {worker}")
        return record


def _idOf(task: QueuedTask) -> int:
    return task.id
