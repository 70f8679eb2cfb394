"""
What a task queue does with its tasks, behind its face.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Mapping as Keywords
from itertools import count
from typing import Any
from weakref import WeakSet

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from asynqueue._core.options import USUAL, TaskOptions
from asynqueue._core.scheduler import Scheduler
from asynqueue._core.states import CANCELLED, PENDING, QUEUE, RUNNING, STOPPED, nextState
from asynqueue._core.task import functionName
from asynqueue._iteration.deferator import Deferator
from asynqueue._queue.broadcast import Update
from asynqueue._queue.observers import PROGRESSED, QUEUED, ObserverList
from asynqueue._queue.pool import WorkerPool
from asynqueue._queue.queuedtask import QueuedTask
from asynqueue._queue.shutdown import Shutdown
from asynqueue._queue.timers import Timers
from asynqueue._reactor import callFromAnyThread, defaultReactor
from asynqueue._runner.context import Pairs, resolve
from asynqueue._runner.packing import PLAIN
from asynqueue.errors import QueueStopped, WorkerError

_UNSET = object()


class DeclaredContext:
    """
    Some context variables, by their names.
    """

    def __init__(self, names: Iterable[str]) -> None:
        """
        @param names: C{"package.module.variable"} or C{"package.module:variable"} each.
        @raise ValueError: if one of them names no context variable.
        """
        if isinstance(names, str):
            raise ValueError(f"contextvars must be a list of names, not the one name {names!r}")
        self._variables = [(name, resolve(name)) for name in dict.fromkeys(names)]

    def __bool__(self) -> bool:
        """
        Whether there is any.
        """
        return bool(self._variables)

    def capture(self) -> Pairs | None:
        """
        @return: the names and present values of those that are set, or C{None} if none is.
        """
        found = [(name, variable.get(_UNSET)) for name, variable in self._variables]
        return tuple(pair for pair in found if pair[1] is not _UNSET) or None


class Engine:
    """
    Puts tasks into the schedule, has the scheduler decide when there is something to decide, and
    hears what becomes of the tasks: from themselves, and from the pool of the workers.
    """

    def __init__(self, reactor: IReactorTime | None, contextvars: Iterable[str]) -> None:
        self._reactor: IReactorTime = defaultReactor() if reactor is None else reactor
        self.seconds = self._reactor.seconds
        self._state: str = RUNNING
        declared = DeclaredContext(contextvars)
        self._declared = declared if declared else None
        self._ids = count(1)
        self._scheduler: Scheduler[QueuedTask] = Scheduler()
        self._observers = ObserverList(self.seconds)
        self._timers = Timers(self._reactor, self._stopRun)
        self._pool = WorkerPool(self, self._scheduler, self._observers, self._timers, self._reactor)
        self._checks = self._pool.checks
        self._underway = self._pool.underway
        # Those that were handed out as results, and that somebody still has.
        self._iterations: WeakSet[Deferator] = WeakSet()
        # What is being handed out.
        self._decided: list[tuple[Any, list[QueuedTask]]] = []
        self._batches = 0
        self._unchecked: list[QueuedTask] = []
        self._isDeciding = False
        self._mayDecide = False
        self._wakeUp: IDelayedCall | None = None
        self._shutdown: Shutdown | None = None

    def __len__(self) -> int:
        """
        How many workers I have.
        """
        return len(self._pool)

    def checkRunning(self, what: str) -> None:
        """
        @param what: what somebody wants of me.
        @raise QueueStopped: after C{shutdown}, saying so.
        """
        if self._state is not RUNNING:
            raise QueueStopped(f"{self!r} is asked for {what}, but takes nothing on any more")

    # Tasks, from submission to the end ------------------------------------------------------------

    def _submit(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Keywords[str, Any],
        options: TaskOptions,
        context: Pairs | None = None,
    ) -> QueuedTask:
        """
        @param context: the context variables that are to travel; by default, the present ones.
        """
        if self._state is not RUNNING:
            self.checkRunning(functionName(function))
        if not callable(function):
            raise TypeError(f"{function!r} cannot be called")
        task = QueuedTask(next(self._ids), self, function, args, kwargs, options)
        if self._declared is not None:
            task.context = (self._declared.capture() if context is None else context) or None
        self._scheduler.put(task)
        if self._observers.observers:
            self._observers.note(QUEUED, task)
        if self._batches or self._scheduler.hasFreeWorker:
            self.wake()
        elif self._wakeUp is None:
            # A worker may take it ahead; with many calls in a row, they are looked at together.
            self._wakeSoon()
        # If it was sent, it was looked at for that already.
        if task.state is PENDING:
            if function is self._checks.passed and not kwargs and task.context is None:
                # The usual way, which takes half the time of PLAIN.issuperset().
                for value in args:
                    if type(value) not in PLAIN:
                        self._check(task)
                        break
            else:
                self._check(task)
        if self._observers.observers:
            self._observers.tell()
        return task

    def updateTask(self, update: Update) -> QueuedTask:
        """
        Make a task of an update, outside of the schedule. (For the pool to call.)
        """
        task = QueuedTask(next(self._ids), self, update.function, update.args, update.kwargs)
        task.context = update.context
        if self._observers.observers:
            self._observers.note(QUEUED, task)
        return task

    def soon(self, function: Callable[[], None]) -> None:
        """
        Have something called in the reactor's thread. (For mappings to call, from any thread.)
        """
        callFromAnyThread(self._reactor, function)

    def settled(self, task: QueuedTask) -> None:
        """
        A task is done. (For tasks to call.)
        """
        if task.priority is not None:
            self._scheduler.done(task)
            self._underway.discard(task)
        if task.options is not USUAL and task.options.isTimed:
            self._timers.stop(task)
        if type(task.result) is Deferator:
            self._iterations.add(task.result)
        if self._shutdown is not None:
            self._shutdown.settled(task)
        if self._observers.observers:
            reason = None if task.failure is None else task.failure.value
            self._observers.note(task.state, task, task.worker, reason)
            if task.state is not CANCELLED:
                self._observers.tell()

    def dropped(self, task: QueuedTask, wasUnderway: bool) -> None:
        """
        A task was cancelled. (For tasks to call.)
        """
        if wasUnderway:
            self._stopRun(task)
        else:
            self._scheduler.cancel(task)
        if self._observers.observers:
            self._observers.tell()
        self.wake()

    def progressed(self, task: QueuedTask) -> None:
        """
        A task's run has come further. (For tasks to call.)
        """
        self._timers.progressed(task)
        if self._observers.observers:
            self._observers.note(PROGRESSED, task, task.worker)
            self._observers.tell()

    def _stopRun(self, task: QueuedTask) -> None:
        # Not one of the six members: a worker without it lets the run go on.
        cancel = getattr(task.worker, "cancel", None)
        if cancel is not None:
            cancel(task)

    def _check(self, task: QueuedTask) -> None:
        """
        Fail a task that waits, if no worker could be sent it. Where a callback has put it, that is
        done when the callback has returned: each failure may lead to the next.
        """
        if self._isDeciding or self._batches:
            self._unchecked.append(task)
            self._mayDecide = True
        else:
            self._checkNow(task)

    def _checkNow(self, task: QueuedTask) -> None:
        try:
            refusal = self._checks.refusal(task)
        except Exception as error:
            # As a worker would find out.
            refusal = error.with_traceback(None)
        # Arguments may have code of their own that is run to pickle them, and changes things.
        if refusal is not None and self._scheduler.cancel(task):
            task.errback(Failure(refusal))
            self.wake()

    def _checkAll(self) -> None:
        tasks, self._unchecked = self._unchecked, []
        for task in tasks:
            if task.state is PENDING:
                self._checkNow(task)

    def _refuse(self, task: QueuedTask, why: str) -> None:
        if self._scheduler.cancel(task):
            stopped = f"{task} was not run: the queue shut down, and {why}"
            task.errback(Failure(QueueStopped(stopped)))

    # Deciding, and what the pool tells ----------------------------------------------------------

    def begin(self) -> None:
        """
        Some facts follow. (For the pool to call.)
        """
        self._batches += 1

    def end(self) -> None:
        """
        That was all. (For the pool to call.)
        """
        self._batches -= 1
        if self._mayDecide and not self._batches:
            self.wake()

    def wake(self) -> None:
        """
        There may be something to decide. (For the pool to call.)
        """
        self._mayDecide = True
        if self._isDeciding or self._batches:
            return
        isOver = False
        self._isDeciding = True
        try:
            while self._mayDecide:
                self._mayDecide = False
                if self._shutdown is not None:
                    self._shutdown.sift()
                self._decide()
                if self._unchecked:
                    self._checkAll()
                if self._shutdown is not None:
                    isOver = self._shutdown.check()
        finally:
            self._isDeciding = False
        if isOver and self._state != STOPPED:
            self._stop()

    def _stop(self) -> None:
        assert self._shutdown is not None
        self._state = nextState(QUEUE, self._state, "stopped", self)
        if self._wakeUp is not None:
            self._wakeUp.cancel()
            self._wakeUp = None
        self._shutdown.finish()

    def _wakeSoon(self) -> None:
        if self._wakeUp is None and self._state is not STOPPED:
            self._wakeUp = self._reactor.callLater(0, self._woken)

    def _woken(self) -> None:
        self._wakeUp = None
        self.wake()

    def _decide(self) -> None:
        self._decided = self._scheduler.decide()
        for worker, tasks in self._decided:
            self._pool.hand(worker, tasks)
        self._decided = []
        if self._observers.observers:
            self._observers.tell()

    def workerGaveUp(self, worker: Any, reason: WorkerError) -> None:
        """
        A worker has left. What only it could have run fails for the same reason, and if it was the
        last one, all that waits. (For the pool to call.)
        """
        isLast = not len(self)
        qualified = {None, *worker.cQualified, *worker.iQualified}
        for task in self._scheduler.unrunnable():
            isLost = isLast or task.series in qualified
            # Somebody may have attached another worker on hearing of a failure before.
            isServed = self._scheduler.serves(task.series)
            if isLost and not isServed and self._scheduler.cancel(task):
                task.errback(Failure(reason))
        self.wake()
