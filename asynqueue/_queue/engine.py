"""
The engine of a task queue: it owns the tasks, and does what the scheduler decides.

A call goes out by calls: L{Engine.submit}, the scheduler, the worker, its channel. It comes back by
events, which are data: L{Engine.handle} applies a whole list of them to the books, then tells the
observers, then fires the Deferreds, then decides once what runs next.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from collections.abc import Mapping as Keywords
from functools import partial
from itertools import count
from typing import Any, Final
from weakref import WeakSet, ref

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue._core.checks import checkCount
from asynqueue._core.keywords import explainKeywords
from asynqueue._core.options import USUAL, TaskOptions
from asynqueue._core.scheduler import Scheduler
from asynqueue._core.states import DROPPED, PENDING, QUEUE, RUNNING, STOPPED, UNDERWAY, nextState
from asynqueue._core.task import functionName, giveUpAll
from asynqueue._iteration.deferator import Deferator
from asynqueue._iteration.sources import ItemSource
from asynqueue._observers import (
    GIVEN_BACK,
    PROGRESSED,
    QUEUED,
    RETRYING,
    STARTED,
    ObserverList,
)
from asynqueue._queue.broadcast import Update
from asynqueue._queue.pool import OPEN, WorkerPool, WorkerRecord
from asynqueue._queue.queuedtask import QueuedTask
from asynqueue._queue.shutdown import Refused, Shutdown
from asynqueue._queue.timers import Timers
from asynqueue._reactor import ReactorSteps, SteadyClock, callFromAnyThread, defaultReactor
from asynqueue._runner.context import Pairs, resolve
from asynqueue._runner.packing import PLAIN
from asynqueue._waiters import TaskDeferred, Waiters
from asynqueue._workers.events import (
    Began,
    Blocked,
    Freed,
    GaveUp,
    GivenBack,
    Lost,
    Offered,
    Progressed,
    Raised,
    Ready,
    Returned,
    Stalled,
    Unblocked,
    WorkerEvent,
    Yielded,
    perform,
)
from asynqueue._workers.procinfo import Sight
from asynqueue.errors import (
    AdminError,
    AsynQueueError,
    IterationStopped,
    QueueFull,
    QueueStopped,
    RemoteError,
    StateError,
    TaskTerminated,
    WorkerError,
)
from asynqueue.interfaces import IWorker

CLOSE_SECONDS: Final = 0.3
"""For how long, in seconds, generators may close when a shutdown's time is over."""

TOLD_AT_ONCE: Final = 1000
"""Of how many calls that are cancelled together the Deferreds fire at once, at the least."""

IDLE: Final = "IDLE"
"""The engine does nothing. A change leads to a decision at once."""
ANSWERING: Final = "ANSWERING"
"""The callback of a lone result runs. Its first call may be given to a free worker at once."""
BUSY: Final = "BUSY"
"""Decisions are handed out, or callbacks run. The caller below decides about what they change."""
CHANGING: Final = "CHANGING"
"""The books are being changed. The garbage collector or a signal may then run code of the program
between any two steps. The engine does what that code asks for when the change is complete."""

_UNSET = object()


class DeclaredContext:
    """
    The context variables that travel with a queue's calls.
    """

    def __init__(self, names: Iterable[str]) -> None:
        """
        @param names: C{"package.module.variable"} or C{"package.module:variable"} each.
        @raise ValueError: if one of them does not name a context variable.
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


class OpenStream:
    """
    The stream of a task that yields items.

    @ivar source: where the items come from.
    """

    __slots__ = ("_changed", "_original", "source")

    def __init__(
        self,
        source: ItemSource,
        changed: Callable[[], None],
        original: ref[QueuedTask] | None = None,
    ) -> None:
        """
        @param changed: is called when the stream changes.
        @param original: the task as the program knows it, if its Deferator was handed out.
        """
        self.source = source
        self._changed = changed
        self._original = original
        source.observers += (changed,)

    @property
    def isHandedOut(self) -> bool:
        """
        Whether the task's Deferator was handed out.
        """
        return self._original is not None

    def taskOf(self, task: QueuedTask) -> QueuedTask:
        """
        @param task: the task that is in the books.
        @return: the task as the program knows it, or the same one if the program does not refer to
            its own any more.
        """
        return task if self._original is None else self._original() or task

    def forget(self) -> None:
        """
        Hear no more of the stream.
        """
        observers = self.source.observers
        self.source.observers = tuple(each for each in observers if each is not self._changed)


class Engine:
    """
    Owns the tasks of a queue, from their submission to their end.

    It does not refer to the queue, which can therefore notice that the program has dropped it.

    @ivar seconds: gives the time.
    @ivar state: a state of L{QUEUE<asynqueue._core.states.QUEUE>}.
    @ivar scheduler: holds the tasks that wait, and decides.
    @ivar pool: has the workers.
    @ivar observers: hear what happens.
    @ivar underway: the tasks of the schedule that workers have.
    @ivar drainTimeout: for how many seconds calls that are underway may go on after a signal that
        asks the program to end. With C{None}, others handle signals.
    @ivar maxPending: how many calls may be pending at once; C{None} for no limit.
    """

    log = Logger()

    def __init__(
        self,
        kind: str,
        reactor: IReactorTime | None,
        contextvars: Iterable[str],
        drainTimeout: float | None,
        maxPending: int | None = None,
    ) -> None:
        """
        @param kind: the name of the queue's class, for errors.
        """
        self.reactor: IReactorTime = defaultReactor() if reactor is None else reactor
        self.seconds = self.reactor.seconds
        self.state: str = RUNNING
        self.drainTimeout = drainTimeout
        self.maxPending = checkCount("maxPending", maxPending, optional=True)
        self.scheduler: Scheduler[QueuedTask] = Scheduler()
        self.observers = ObserverList(self.seconds)
        self.underway: set[QueuedTask] = set()
        self.pool = WorkerPool(
            self.scheduler,
            self.observers,
            self.handle,
            self._updateTask,
            self.reactor,
            self.underway,
            self._crashed,
        )
        self._kind = kind
        # A forked process has no part in it.
        self._pid = os.getpid()
        declared = DeclaredContext(contextvars)
        self._declared = declared if declared else None
        self._ids = count(1)
        # Timeouts count by a clock that is never set back.
        self._clock = SteadyClock(self.reactor)
        self._timers = Timers(self._clock, self._stopRun, self._waitsForTaker, self._lookAt)
        # The Deferators that were handed out as results, and that are still referred to.
        self._iterations: WeakSet[Deferator] = WeakSet()
        # The streams of the tasks that yield items.
        self._streams: dict[QueuedTask, OpenStream] = {}
        # What was decided, as long as it is being handed out.
        self._decided: list[tuple[WorkerRecord, list[QueuedTask]]] = []
        # What came at once of tasks that were given to workers, and was not applied yet.
        self._refused: deque[tuple[WorkerRecord, list[WorkerEvent]]] = deque()
        self._unchecked: list[QueuedTask] = []
        # The tasks that wait for another run, each with the call that puts it back.
        self._retries: dict[QueuedTask, IDelayedCall] = {}
        self._ready: Waiters[None] = Waiters()
        # Why the last worker gave up, until another one is attached.
        self._whyNobody: WorkerError | None = None
        # IDLE, ANSWERING, BUSY or CHANGING. Each begins within another one, and what begins one
        # restores the one before.
        self._phase: str = IDLE
        # What was asked for while the books were being changed.
        self._late: deque[Callable[[], None]] = deque()
        # The tasks that were cancelled together, and whose Deferreds have not fired yet.
        self._cancelled: deque[QueuedTask] = deque()
        self._steps = ReactorSteps(self.reactor, self.wake)
        # Whether something has changed since the last decision.
        self._hasChanged = False
        self._wakeUp: IDelayedCall | None = None
        self._shutdown: Shutdown | None = None
        self._dropTimeout: float | None = None
        self._stopped: Callable[[], None] = _doNothing

    def __repr__(self) -> str:
        return (
            f"<{self._kind}: {self.state}, {len(self.pool)} workers, "
            f"{len(self.scheduler)} tasks pending>"
        )

    def checkRunning(self, what: str) -> None:
        """
        @param what: what was asked of the queue.
        @raise QueueStopped: after L{shutdown}, saying so.
        """
        if self.state is not RUNNING:
            raise QueueStopped(f"{self!r} is shut down: {what} was refused")

    # Going out ------------------------------------------------------------------------------------

    def submit(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Keywords[str, Any],
        options: TaskOptions,
        context: Pairs | None = None,
        mustFit: bool = True,
    ) -> QueuedTask:
        """
        Take a call on. It may be with a worker when this returns, but its Deferred has not fired.

        @param context: the context variables that travel with the call. Default: the present ones.
        @param mustFit: whether the call is refused if the queue is full.
        """
        if self.state is not RUNNING:
            self.checkRunning(f"call({functionName(function)})")
        if not callable(function):
            raise TypeError(
                f"{function!r} cannot be called: name the function, and its arguments after it"
            )
        if self.maxPending is not None and mustFit and len(self.scheduler) >= self.maxPending:
            raise QueueFull(f"{self!r} may have no more than {self.maxPending} calls pending")
        task = QueuedTask(next(self._ids), function, args, kwargs, options, self.seconds())
        # What QueuedTask.belongTo does, without the call.
        task.d = d = TaskDeferred(task)
        d.owner = self
        if context is not None:
            task.context = context or None
        elif self._declared is not None:
            task.context = self._declared.capture()
        if self._phase is CHANGING:
            self._late.append(partial(self._schedule, task))
        else:
            self._schedule(task)
        return task

    def _schedule(self, task: QueuedTask) -> None:
        observers = self.observers
        if observers.observers:
            observers.record(QUEUED, task)
        phase, self._phase = self._phase, CHANGING
        mayStart = phase is not BUSY
        try:
            # The scheduler knows workers by any name: here by their records.
            record: Any = self.scheduler.submit(task, mayStart)
        finally:
            self._phase = phase
        if not mayStart:
            self._hasChanged = True
        elif record is not None:
            self._giveNow(record, task)
        elif self._whyNobody is not None and not len(self.pool):
            self._failBecauseNobodyIsLeft(task, self._whyNobody)
        elif self._wakeUp is None:
            # A worker may take it ahead. Many calls in a row are looked at together.
            self.wakeSoon()
        # Sending a call finds out whether it can be sent.
        if task.state is PENDING:
            self._checkIfNew(task)
        if observers.observers:
            observers.flush()
        if self._late:
            self._catchUp()

    def _catchUp(self) -> None:
        """
        Do what was asked for in the middle of a change of the books.
        """
        while self._late and self._phase is not CHANGING:
            self._late.popleft()()

    def _failBecauseNobodyIsLeft(self, task: QueuedTask, reason: WorkerError) -> None:
        # A queue that never had a worker, or whose workers were detached, waits for one. If all of
        # them gave up, the next call would have no better luck.
        if self.scheduler.cancel(task):
            task.errback(Failure(reason))

    def _failAllThatWait(self, reason: WorkerError) -> None:
        for task in list(self.scheduler):
            self._failBecauseNobodyIsLeft(task, reason)

    def attach(self, worker: IWorker) -> Deferred[int]:
        """
        Attach a worker, as L{WorkerPool.attach<asynqueue._queue.pool.WorkerPool.attach>} does.
        """
        self._whyNobody = None
        return self.pool.attach(worker)

    def _giveNow(self, record: WorkerRecord, task: QueuedTask) -> None:
        wasIdle, self._phase = self._phase is IDLE, BUSY
        try:
            refused = self._give(record, [task])
            if refused and wasIdle:
                self.handle(record, refused)
            elif refused:
                # A callback made the call. It hears of the refusal when it has returned.
                self._refused.append((record, refused))
                self._hasChanged = True
        finally:
            # A worker in this thread may have ended the task at once. Of the calls that a callback
            # makes, the others are decided on together.
            self._phase = IDLE if wasIdle else BUSY
        if self._hasChanged and wasIdle:
            self._decideAll()

    def _give(self, record: WorkerRecord, tasks: list[QueuedTask]) -> list[WorkerEvent]:
        """
        Give a worker what was decided on for it, unless it was cancelled or the worker was closed
        meanwhile: as tasks are given, callbacks may run.

        @return: what came of them at once.
        """
        scheduler, observers = self.scheduler, self.observers
        if record.state is not OPEN:
            self._takeBack(record, tasks)
            return []
        now = self.seconds()
        started = []
        for task in tasks:
            if task.state is not PENDING:
                scheduler.release(record, [(task, None)])
                continue
            task.start(record.worker, now)
            started.append(task)
            self.underway.add(task)
            if task.options is not USUAL and task.options.isTimed:
                self._timers.start(task)
            if observers.observers:
                observers.record(STARTED, task, record.worker)
        try:
            refused = record.port.runMany(started)
        except StateError as error:
            # Somebody has stopped this worker without asking the queue.
            refused = [Lost(error), GivenBack(started)]
        return refused

    def _takeBack(self, record: WorkerRecord, tasks: list[QueuedTask]) -> None:
        self.scheduler.release(record, [(task, None) for task in tasks])
        for task in tasks:
            if task.state is PENDING:
                self.scheduler.putBack(task)
        self._hasChanged = True

    def _updateTask(self, update: Update) -> QueuedTask:
        """
        Make a task of an update, outside of the schedule.
        """
        ID, now = next(self._ids), self.seconds()
        task = QueuedTask(ID, update.function, update.args, update.kwargs, now=now)
        task.belongTo(self)
        task.context = update.context
        if self.observers.observers:
            self.observers.record(QUEUED, task)
        return task

    # Room -----------------------------------------------------------------------------------------

    @property
    def isFull(self) -> bool:
        """
        Whether the queue takes no call for now, because as many as may be are pending.
        """
        isBounded = self.maxPending is not None and self.state is RUNNING
        return isBounded and self._room() <= 0

    def whenReady(self) -> Deferred[None]:
        """
        @return: a Deferred that fires when there is room for another call.
        """
        self.checkRunning("room for a call")
        return succeed(None) if self.room > 0 else self._ready.add()

    @property
    def room(self) -> float:
        """
        How many more calls the queue takes, apart from those that L{whenReady} has promised room.
        """
        return self._room() - len(self._ready)

    def _room(self) -> float:
        if self.state is not RUNNING:
            return 0
        return math.inf if self.maxPending is None else self.maxPending - len(self.scheduler)

    def _tellReady(self) -> None:
        room = self._room()
        while self._ready and room > 0:
            self._ready.take().callback(None)
            room = min(room - 1, self._room())

    # Coming back ----------------------------------------------------------------------------------

    def handle(self, record: WorkerRecord, events: list[WorkerEvent]) -> None:
        """
        Take in what happened to a worker and to the tasks that it had.
        """
        phase = self._phase
        if phase is CHANGING:
            self._late.append(partial(self.handle, record, events))
            return
        answering = ANSWERING if phase is IDLE and len(events) == 1 else BUSY
        self._hasChanged = True
        now = self.seconds()
        try:
            self._phase = CHANGING
            for event in events:
                try:
                    if isinstance(event, Returned) and event.task.state is UNDERWAY:
                        task = event.task
                        task.finish(event.value, now)
                        self.scheduler.ended(record, task, event.seconds)
                        self._end(task)
                    else:
                        self._apply(record, event)
                except BaseException:
                    # The name of a series may be at fault, or a signal's handler. What else has
                    # happened is applied all the same.
                    self._couldNotApply(record, event)
            self._phase = BUSY
            if self._late:
                self._catchUp()
            if self.observers.observers:
                self.observers.flush()
            self._fire(record, events, answering)
        finally:
            self._phase = phase
        if phase is IDLE:
            self._decideAll()

    def _fire(self, record: WorkerRecord, events: list[WorkerEvent], answering: str) -> None:
        """
        Fire the Deferreds of the tasks that are done, in that phase, and perform the other events.
        """
        for event in events:
            if isinstance(event, (Returned, Raised)):
                d = event.task.d
                if not d.called and event.task.state is not PENDING:
                    self._phase = answering
                    d.callback(event.task.outcome)
                    self._phase = BUSY
            else:
                self._perform(record, event)

    def _perform(self, record: WorkerRecord, event: WorkerEvent) -> None:
        """
        Do what an event means besides a change of the books.
        """
        try:
            if isinstance(event, Ready):
                self.pool.ready(record)
            elif isinstance(event, Offered):
                self.pool.offered(record, event)
            elif isinstance(event, GaveUp):
                self._gaveUp(record, event.reason)
            elif not isinstance(event, Progressed):
                # Progress is in the books already. Taken in again, it would be told twice.
                perform(event, record.worker, self.reactor)
        except BaseException:
            # The code is the program's own. What else has happened is told all the same.
            self.log.failure("{event} of {worker} failed", event=event, worker=record.worker)

    def _couldNotApply(self, record: WorkerRecord, event: WorkerEvent) -> None:
        self.log.failure(
            "{event} of {worker} could not be taken in", event=event, worker=record.worker
        )
        if isinstance(event, (Returned, Raised)):
            event.task.errback(Failure())

    # Nothing below runs code of the program, up to where L{handle} has told the observers.

    def _apply(self, record: WorkerRecord, event: WorkerEvent) -> None:
        """
        Apply an event to the books: the states of tasks, and what the scheduler knows.
        """
        if isinstance(event, (Returned, Raised)):
            self._applyEnd(record, event)
        elif isinstance(event, Yielded):
            self.scheduler.ended(record, event.task, event.seconds, isOver=False)
        elif isinstance(event, Freed):
            self.scheduler.ended(record, event.task, None, isOver=False)
        elif isinstance(event, GivenBack):
            self.scheduler.release(record, [(task, None) for task in event.tasks])
            for task in event.tasks:
                self._putBack(task, event.hadBegun)
        elif isinstance(event, Progressed):
            if event.task is not None:
                event.task.reported(event.done, event.total)
        elif isinstance(event, Began):
            self.pool.begin(record, event.task)
        elif isinstance(event, (Stalled, Blocked, Unblocked)):
            if record.isOpen:
                self._changeFlow(record, event)
        elif isinstance(event, Lost):
            self.pool.close(record, event.reason)

    def _changeFlow(self, record: WorkerRecord, event: Stalled | Blocked | Unblocked) -> None:
        """
        Give a worker fewer tasks or none for now, or as many as ever again.
        """
        if isinstance(event, Stalled):
            self.scheduler.stall(record)
        elif isinstance(event, Blocked):
            self.scheduler.close(record)
        else:
            self.scheduler.open(record)

    def _applyEnd(self, record: WorkerRecord, event: Returned | Raised) -> None:
        """
        Apply the end of a task, unless it came too late.
        """
        task = event.task
        isOver = isinstance(event, Raised) and not task.isDone
        if isOver and isinstance(event, Raised):
            failure = event.failure
            if task.options.retry is not None and task.state is UNDERWAY:
                failure, delay = self._delayBeforeRetry(task, failure)
                if delay is not None:
                    self.scheduler.ended(record, task, event.seconds, False)
                    self._runAgain(task, failure, delay)
                    return
            # The policy of retrying may have cancelled it.
            isOver = not task.isDone
            if isOver:
                task.fail(failure, self.seconds())
        self.scheduler.ended(record, task, event.seconds, isOver)
        if isOver:
            self._end(task)

    def _putBack(self, task: QueuedTask, hadBegun: bool) -> None:
        """
        Have a task wait again, in its old place, unless it is done meanwhile.
        """
        if task.isUpdate and task.state is PENDING:
            self.pool.updateGivenBack(task)
            return
        if task.state is not UNDERWAY:
            return
        if self.observers.observers:
            self.observers.record(GIVEN_BACK, task, task.worker)
        if hadBegun:
            # Giving it back takes this attempt away, but it was one.
            task.attempts += 1
        if task.isUpdate:
            self.pool.updateGivenBack(task)
            return
        task.giveBack()
        self.underway.discard(task)
        self._timers.stop(task)
        self.scheduler.putBack(task)

    def failed(self, task: QueuedTask, failure: Failure) -> Failure | None:
        """
        See L{TaskOwner<asynqueue._queue.queuedtask.TaskOwner>}.
        """
        failure, delay = self._delayBeforeRetry(task, failure)
        if delay is None:
            # The policy of retrying may have cancelled it.
            return None if task.isDone else failure
        if self._phase is CHANGING:
            self._late.append(partial(self._runAgain, task, failure, delay))
        else:
            self._runAgain(task, failure, delay)
            if self.observers.observers and self._phase is IDLE:
                self.observers.flush()
        return None

    def _delayBeforeRetry(self, task: QueuedTask, failure: Failure) -> tuple[Failure, float | None]:
        """
        @return: why the task failed, and how many seconds it is to wait for another run; C{None} if
            it is not run again.
        """
        retry, error = task.options.retry, failure.value
        isOwn = isinstance(error, RemoteError) or not isinstance(
            error, (AsynQueueError, CancelledError)
        )
        # Items that have been handed on cannot be taken back.
        isStreamed = task in self._streams
        isEnding = self._shutdown is not None and self._shutdown.isDraining
        if retry is None or error is None or not isOwn or isStreamed or isEnding:
            return failure, None
        reason, delay = retry.decide(error, task.attempts)
        if reason is not error:
            return Failure(reason), None
        return failure, None if task.isDone else delay

    def _runAgain(self, task: QueuedTask, failure: Failure, delay: float) -> None:
        """
        Have a task whose run has failed wait, and put it back into its old place after the delay.
        """
        task.retry(failure)
        self.underway.discard(task)
        self._timers.stop(task)
        self.scheduler.rest(task)
        self._retries[task] = self.later(delay, self._restIsOver, task)
        if self.observers.observers:
            self.observers.record(RETRYING, task, task.worker, failure.value)

    def _restIsOver(self, task: QueuedTask) -> None:
        del self._retries[task]
        self.scheduler.putBack(task)
        self.wake()

    def _end(self, task: QueuedTask) -> None:
        """
        Take note that a task is done.
        """
        known = self._streamOver(task) if task in self._streams else task
        self.underway.discard(task)
        if task.options is not USUAL and task.options.isTimed:
            self._timers.stop(task)
        if task in self._retries:
            self._retries.pop(task).cancel()
        if task.kwargs and task.failure is not None:
            explainKeywords(task.failure.value, task.function, task.kwargs)
        if self.state is not RUNNING:
            # Nothing else tells of the end of a stream.
            self.wakeSoon()
        if self.observers.observers:
            reason = None if task.failure is None else task.failure.value
            self.observers.record(task.state, known, task.worker, reason)

    def _gaveUp(self, record: WorkerRecord, reason: Exception) -> None:
        """
        Let a worker go that can never work again. Tasks that only it could have run fail for the
        same reason, and if it was the last worker, all tasks that wait.
        """
        if record.isLeaving:
            return
        if not isinstance(reason, WorkerError):
            reason = WorkerError(f"{record.worker!r} gave up: {reason}")
        self.pool.detach(record, reassign=True, crash=True, reason=reason)
        isLast = not len(self.pool)
        if isLast:
            self._whyNobody = reason
        qualified = {None, *record.port.cQualified, *record.port.iQualified}
        for task in list(self.scheduler.unrunnable()):
            isLost = isLast or task.series in qualified
            # Another worker may have been attached by whoever heard of a failure before.
            isServed = self.scheduler.serves(task.series)
            if isLost and not isServed and self.scheduler.cancel(task):
                task.errback(Failure(reason))
        self._hasChanged = True

    # What tasks tell ------------------------------------------------------------------------------

    def ended(self, task: QueuedTask) -> None:
        """
        See L{TaskOwner<asynqueue._queue.queuedtask.TaskOwner>}.
        """
        if self._phase is CHANGING:
            self._late.append(partial(self.ended, task))
            return
        phase, self._phase = self._phase, CHANGING
        try:
            if not task.isUpdate:
                self.scheduler.done(task)
        except BaseException:
            self._couldNotEnd(task)
        self._phase = phase
        self._end(task)
        if self.observers.observers:
            self.observers.flush()
        if self._late:
            self._catchUp()

    def cancelled(self, task: QueuedTask, wasUnderway: bool) -> None:
        """
        See L{TaskOwner<asynqueue._queue.queuedtask.TaskOwner>}.
        """
        if self._phase is CHANGING:
            self._late.append(partial(self.cancelled, task, wasUnderway))
            return
        phase, self._phase = self._phase, CHANGING
        try:
            if not wasUnderway:
                self.scheduler.cancel(task)
            if not task.isUpdate:
                self.scheduler.done(task)
        except BaseException:
            self._couldNotEnd(task)
        self._phase = phase
        self._end(task)
        if wasUnderway:
            self._stopRun(task)
        if self.observers.observers:
            self.observers.flush()
        if self._late:
            self._catchUp()
        self.wake()

    def _couldNotEnd(self, task: QueuedTask) -> None:
        # The name of its series may be at fault, or a signal's handler. The Deferred fires all the
        # same.
        self.log.failure("the end of {task} could not be taken in", task=task)

    def progressed(self, task: QueuedTask) -> None:
        """
        See L{TaskOwner<asynqueue._queue.queuedtask.TaskOwner>}.
        """
        known = task
        stream = self._streams.get(task)
        if stream is not None:
            known = stream.taskOf(task)
            if known is not task:
                known.follow(task)
        self._timers.progressed(task)
        if task.d.whenProgressed is not None:
            task.d.whenProgressed(task.progress)
        if self.observers.observers:
            self.observers.record(PROGRESSED, known, task.worker)
            if self._phase is IDLE:
                self.observers.flush()

    # Streams --------------------------------------------------------------------------------------

    def yields(self, task: QueuedTask, source: ItemSource) -> None:
        """
        See L{TaskOwner<asynqueue._queue.queuedtask.TaskOwner>}.
        """
        self._streams[task] = OpenStream(source, partial(self._streamChanged, task))

    def handsOut(self, task: QueuedTask, deferator: Deferator) -> None:
        """
        See L{TaskOwner<asynqueue._queue.queuedtask.TaskOwner>}. From here on the queue keeps the
        task's successor in its books, so that it does not keep the Deferator alive.
        """
        stream = self._streams.pop(task, None)
        if stream is not None:
            stream.forget()
        after = task.successor()
        self._streams[after] = OpenStream(
            deferator.source, partial(self._streamChanged, after), ref(task)
        )
        deferator.source.task = after
        self.underway.discard(task)
        self.underway.add(after)
        if task.options is not USUAL and task.options.isTimed:
            self._timers.handOver(task, after)
        self._iterations.add(deferator)
        if self._shutdown is not None:
            self._shutdown.awaitIteration(deferator)
        elif self.state is DROPPED:
            self._lookAfter(deferator)

    def cancelStream(self, task: QueuedTask) -> None:
        """
        See L{TaskOwner<asynqueue._queue.queuedtask.TaskOwner>}.
        """
        for after, stream in list(self._streams.items()):
            if stream.taskOf(after) is task:
                after.cancel()

    def _streamChanged(self, task: QueuedTask) -> None:
        """
        Take note that items of a task have arrived, or that there will be none any more.
        """
        stream = self._streams.get(task)
        if stream is None:
            return
        source = stream.source
        if not source.isOver:
            if task.options is not USUAL and task.options.isTimed:
                self._timers.progressed(task)
        elif stream.isHandedOut:
            # The producer that feeds a consumer ends its task itself.
            if source.failure is None:
                task.callback(None)
            else:
                task.errback(source.failure)

    def _streamOver(self, task: QueuedTask) -> QueuedTask:
        """
        Take note that a task that yields items is done.

        @return: the task as the program knows it.
        """
        stream = self._streams[task]
        known = stream.taskOf(task)
        if known is not task:
            known.follow(task)
        source = stream.source
        if source.isOver and (stream.isHandedOut or not source.items):
            del self._streams[task]
            stream.forget()
        return known

    def _stopRun(self, task: QueuedTask) -> None:
        """
        Stop the run of a task that has been ended here, and its stream.
        """
        stream = self._streams.pop(task, None)
        try:
            if stream is None:
                self.pool.cancel(task)
                return
            stream.forget()
            if stream.isHandedOut and task.failure is not None:
                stream.source.shut(task.failure)
            else:
                stream.source.stop()
        except BaseException:
            # A generator has raised when it was closed, or a worker of the program's own has.
            self.log.failure("the run of {task} could not be stopped", task=task)

    def _lookAt(self, task: QueuedTask) -> Deferred[Sight] | None:
        record = self.pool.find(task.worker)
        return None if record is None else record.port.lookAt(task)

    def terminateCall(self, d: Deferred[Any]) -> Deferred[None]:
        """
        See L{TaskOwner<asynqueue._queue.queuedtask.TaskOwner>}.
        """
        return maybeDeferred(lambda: self.terminate(self._underwayOf(d)))

    def stacksOfCall(self, d: Deferred[Any]) -> Deferred[str]:
        """
        See L{TaskOwner<asynqueue._queue.queuedtask.TaskOwner>}.
        """

        def ask() -> Deferred[str]:
            record = self.pool.find(self._underwayOf(d).worker)
            if record is None:
                raise AdminError("the worker of the task is leaving its task queue")
            told: Deferred[str] = record.port.stacks()
            return told

        return maybeDeferred(ask)

    def _underwayOf(self, d: Deferred[Any]) -> QueuedTask:
        for task in self.underway:
            if task.d is d:
                return task
        raise AdminError("the task waits in its task queue, and no worker has it")

    def terminate(self, task: QueuedTask) -> Deferred[None]:
        """
        Look at the run of a task that is underway, and kill the process in which it runs.

        @return: a Deferred that fires when that was done. It fails with C{AdminError} if the task
            ended meanwhile, and with C{WorkerError} if there is no process that could be killed for
            this task alone.
        """

        def end(seen: Sight) -> None:
            record = self.pool.find(task.worker)
            if task.state is not UNDERWAY or record is None:
                raise AdminError(f"{task} has ended before it could be terminated")
            record.port.terminate(task)
            error = TaskTerminated(f"{task} was terminated: its process was killed on request")
            error.lastSeen(*seen)
            task.errback(Failure(error))
            self.wake()

        # Whoever waits for the task may wait for this one, too, while the task's end is being told.
        done: Deferred[None] = Deferred()
        seen = self._lookAt(task) or succeed(Sight())
        seen.addCallback(end).addCallbacks(done.callback, done.errback)
        return done

    def _waitsForTaker(self, task: QueuedTask) -> bool:
        stream = self._streams.get(task)
        return stream is not None and len(stream.source.items) > 0

    @property
    def toldLoad(self) -> int:
        """
        How many tasks are not done, as far as observers were told.
        """
        return self.scheduler.alive + len(self._cancelled)

    def openStreams(self) -> list[tuple[QueuedTask, ItemSource]]:
        """
        @return: the tasks that yield items, each as the program knows it and with where its items
            come from.
        """
        return [(stream.taskOf(task), stream.source) for task, stream in self._streams.items()]

    def _openSources(self) -> Iterable[ItemSource]:
        """
        The streams that are not over, or from which not everything was taken.
        """
        sources = [stream.source for stream in self._streams.values()]
        sources += [each.source for each in self._iterations if not each.called]
        return dict.fromkeys(sources)

    def _giveUpStream(self, source: ItemSource) -> None:
        """
        End the stream of a source that is not being consumed.
        """
        for task, stream in list(self._streams.items()):
            if stream.source is source:
                why = f"{self!r} is shut down, and nobody takes the items of {task}"
                self._endStream(task, why)

    def _crashed(self, worker: IWorker) -> None:
        """
        End the streams of a worker that was crashed, even if it had sent their last items, where a
        consumer has paused. It may never resume.
        """
        for task, stream in list(self._streams.items()):
            if task.worker is worker and stream.source.isOver and stream.source.isPaused:
                self._endStream(task, f"{worker} was crashed, and nobody takes the items of {task}")

    def _endStream(self, task: QueuedTask, why: str) -> None:
        task.errback(Failure(IterationStopped(why)))
        self._stopRun(task)

    # Calls that cannot be sent --------------------------------------------------------------------

    def _checkIfNew(self, task: QueuedTask) -> None:
        """
        Look whether a task that waits can be sent, unless one like it was found good before.
        """
        if task.function is self.pool.checks.passed and not task.kwargs and task.context is None:
            # The usual way, which takes half the time of PLAIN.issuperset().
            for value in task.args:
                if type(value) not in PLAIN:
                    break
            else:
                return
        if self._phase is not IDLE:
            # Where a callback has put it, this is done later, because each failure may lead to the
            # next.
            self._unchecked.append(task)
            self._hasChanged = True
        else:
            self._check(task)

    def _check(self, task: QueuedTask) -> None:
        """
        Fail a task that waits, if it could be sent to no worker.
        """
        try:
            refusal: BaseException | None = self.pool.checks.refusal(task)
        except BaseException as error:
            # A worker would find the same.
            refusal = error.with_traceback(None)
        # Pickling may run code of the arguments, which may change anything.
        if refusal is not None and self.scheduler.cancel(task):
            task.errback(Failure(refusal))
            self.wake()

    def _checkAll(self) -> None:
        unchecked, self._unchecked = self._unchecked, []
        for task in unchecked:
            if task.state is PENDING:
                self._check(task)

    # Deciding -------------------------------------------------------------------------------------

    def wake(self) -> None:
        """
        Decide who runs what, because something has changed.
        """
        self._hasChanged = True
        if self._phase is IDLE:
            self._decideAll()
        elif self._phase is CHANGING:
            self._late.append(self.wake)

    def _decideAll(self) -> None:
        """
        Decide, until nothing changes any more.
        """
        isOver = False
        self._phase = BUSY
        try:
            while self._hasChanged:
                self._hasChanged = False
                if self.state is not RUNNING:
                    self._refuseHopeless()
                if self.scheduler.waiting:
                    self._decide()
                while self._refused:
                    self.handle(*self._refused.popleft())
                if self._unchecked:
                    self._checkAll()
                if self.maxPending is not None and self._ready:
                    self._tellReady()
                if self._whyNobody is not None and not len(self.pool):
                    self._failAllThatWait(self._whyNobody)
                if self.observers.observers:
                    self.observers.flush()
                if self._shutdown is not None:
                    self._refuse(self._shutdown.refused())
                    isOver = not self._steps and self._shutdown.isOver()
        finally:
            self._phase = IDLE
        if isOver and self.state != STOPPED:
            self._stop()

    def _decide(self) -> None:
        self._phase = CHANGING
        try:
            decided: Any = self.scheduler.decide()
        finally:
            self._phase = BUSY
        if self._late:
            self._catchUp()
        self._decided = decided
        for record, tasks in decided:
            refused = self._give(record, tasks)
            if refused:
                self._refused.append((record, refused))
        self._decided = []

    def wakeSoon(self) -> None:
        """
        Decide in the reactor's next turn.
        """
        if self._wakeUp is None and self.state is not STOPPED:
            self._wakeUp = self.reactor.callLater(0, self._woken)

    def _woken(self) -> None:
        self._wakeUp = None
        self.wake()

    def later(self, seconds: float, function: Callable[..., object], *args: object) -> IDelayedCall:
        """
        Have a function called after a time that no change of the system's clock makes longer.
        """
        return self._clock.callLater(seconds, function, *args)

    def soon(self, function: Callable[[], None]) -> None:
        """
        Have a function called in the reactor's thread, from whichever thread.
        """
        callFromAnyThread(self.reactor, function)

    # Many at once ---------------------------------------------------------------------------------

    def tasks(self) -> list[QueuedTask]:
        """
        @return: the tasks that are not done: those that are underway, in the order of putting, then
            those that wait, by priority, then those that wait for another run.
        """
        streams = self._streams
        underway = [
            streams[task].taskOf(task) if task in streams else task
            for task in sorted(self.underway, key=_idOf)
        ]
        onTheWay = [task for _, tasks in self._decided for task in tasks if task.state is PENDING]
        return [*underway, *onTheWay, *self.scheduler.walk(), *self.scheduler.resting()]

    def cancelSeries(self, series: Hashable, underway: bool) -> int:
        """
        Cancel the tasks of a series.

        @return: how many were cancelled.
        """
        clear = partial(self.scheduler.clearSeries, series)
        waiting = self.scheduler.waitingIn(series)
        return self._cancelMany(
            clear, waiting, lambda task: bool(task.options.series == series), underway
        )

    def cancelAll(self, underway: bool) -> int:
        """
        Cancel all tasks.

        @return: how many were cancelled.
        """
        waiting = iter(self.scheduler)
        return self._cancelMany(self.scheduler.clear, waiting, lambda task: True, underway)

    def _cancelMany(
        self,
        clear: Callable[[list[QueuedTask]], None],
        waiting: Iterator[QueuedTask],
        isMeant: Callable[[QueuedTask], bool],
        underway: bool,
    ) -> int:
        # When a callback calls this, some tasks may be on their way from here to a worker.
        onTheWay = [task for _, tasks in self._decided for task in tasks if task.state is PENDING]
        tasks = [task for task in onTheWay if isMeant(task)]
        begun = [task for task in self.underway if underway and isMeant(task)]
        begun.sort(key=_idOf)
        if self._phase is CHANGING:
            # The books can be changed later only.
            return sum([task.cancel() for task in [*waiting, *tasks, *begun]])
        cancelled = giveUpAll(self._takeOut(clear, tasks), self.seconds())
        self._cancelled += tasks
        self._steps.add(iter(self._tellCancelled, False), TOLD_AT_ONCE)
        phase, self._phase = self._phase, BUSY
        try:
            for task in begun:
                cancelled += task.cancel()
        finally:
            self._phase = phase
        if self._late:
            self._catchUp()
        self.wake()
        return cancelled

    def _takeOut(
        self, clear: Callable[[list[QueuedTask]], None], tasks: list[QueuedTask]
    ) -> list[QueuedTask]:
        """
        Take tasks that wait out of the books.

        @param tasks: those that are on their way to a worker. The others are put before these.
        """
        waiting: list[QueuedTask] = []
        phase, self._phase = self._phase, CHANGING
        try:
            clear(waiting)
            for task in tasks:
                self.scheduler.done(task)
        except BaseException:
            # The name of a series may be at fault, or a signal's handler. The Deferreds fire all
            # the same.
            self.log.failure("the books of {engine} could not be cleared", engine=self)
        self._phase = phase
        tasks[:0] = waiting
        if self._retries:
            for task in self._retries.keys() & tasks:
                self._retries.pop(task).cancel()
        return tasks

    def _tellCancelled(self) -> bool:
        """
        Tell of the next task that was cancelled together with others.

        @return: whether there was one.
        """
        if not self._cancelled:
            return False
        phase, self._phase = self._phase, BUSY
        try:
            task = self._cancelled.popleft()
            self._end(task)
            if self.observers.observers:
                self.observers.flush()
            task.fire()
        finally:
            self._phase = phase
        return True

    def update(self, update: Update, sequential: bool) -> Deferred[list[Any]]:
        """
        Run an update on every worker.
        """
        done = self.pool.update(update, sequential)
        if self.observers.observers:
            self.observers.flush()
        return done

    def captureContext(self) -> Pairs | None:
        """
        @return: the declared context variables that are set, and their present values; and what
            tracers add to these.
        """
        declared = None if self._declared is None else self._declared.capture()
        return (*(declared or ()), *self.observers.capture()) or None

    def pause(self) -> None:
        """
        Give workers no tasks.
        """
        self.checkRunning("pause")
        self.scheduler.pause()

    def resume(self) -> None:
        """
        Give workers tasks again.
        """
        self.checkRunning("resume")
        self.scheduler.resume()
        self.wake()

    # Dropped --------------------------------------------------------------------------------------

    @property
    def isLost(self) -> bool:
        """
        Whether a queue that is dropped now would leave something behind that was not shut down.
        """
        if self.state is not RUNNING or self._pid != os.getpid():
            return False
        return bool(self.pool.needsStop or self.scheduler.alive)

    def dropped(self, timeout: float | None) -> None:
        """
        The program has dropped the queue. Let the calls, the updates and the iterations that it has
        come to their ends, because somebody may wait for their results. Then shut down. This may be
        called in any thread, and in the middle of anything.

        @param timeout: after how many seconds of the shutdown the workers are crashed. C{None} for
            never.
        """

        def drop() -> None:
            # A clock that has no threads calls this in the middle of anything, too.
            self.reactor.callLater(0, self._drop, timeout)

        self.soon(drop)

    def _drop(self, timeout: float | None) -> None:
        if self.state is not RUNNING:
            return
        self.state = nextState(QUEUE, self.state, "drop", self)
        self._dropTimeout = timeout
        # Nobody is left to do it.
        self.scheduler.resume()
        for deferator in list(self._iterations):
            self._lookAfter(deferator)
        self.wake()

    def _lookAfter(self, deferator: Deferator) -> None:
        def over(result: bool) -> bool:
            self.wakeSoon()
            return result

        if not deferator.called:
            deferator.addCallback(over)

    def _refuseHopeless(self) -> None:
        if self.state is DROPPED:
            self._shutDownIfIdle()
        if self._shutdown is not None:
            self._refuse(self._shutdown.refused())

    def _shutDownIfIdle(self) -> None:
        why = "its queue was dropped, and no worker is qualified for its series"
        self._refuse([(task, why) for task in self.scheduler.unrunnable()])
        if self.scheduler.alive or self._steps or not self.pool.isUpToDate:
            return
        if all(deferator.called for deferator in list(self._iterations)):
            self._beginShutdown(self._dropTimeout)

    # The end --------------------------------------------------------------------------------------

    def shutdown(self, timeout: float | None) -> Deferred[None]:
        """
        Take no more calls, run those that are here, then stop the workers.

        @param timeout: after how many seconds the workers are crashed. C{None} for never.
        """
        done = self._beginShutdown(timeout).whenDone()
        self.wake()
        return done

    def whenStopped(self, stopped: Callable[[], None]) -> None:
        """
        Have a function called when the queue has stopped, before the Deferreds of L{shutdown} fire.
        """
        self._stopped = stopped

    def _beginShutdown(self, timeout: float | None) -> Shutdown:
        if self._shutdown is None:
            self.state = nextState(QUEUE, self.state, "shutdown", self)
            refused = QueueStopped(f"{self!r} is shut down: room for a call was refused")
            self._ready.fire(Failure(refused))
            # What waits is run, or refused if the program ends.
            self.scheduler.resume()
            self._shutdown = Shutdown(
                self.scheduler,
                self.pool,
                self.underway,
                self._clock,
                timeout,
                self._openSources,
                self._giveUpStream,
                self._outOfTime,
                self.wakeSoon,
            )
            for deferator in list(self._iterations):
                self._shutdown.awaitIteration(deferator)
        return self._shutdown

    def _refuse(self, refused: Refused) -> None:
        for task, why in refused:
            if self.scheduler.cancel(task):
                text = f"{task} was not run: {why}"
                task.errback(Failure(QueueStopped(text)))

    def _outOfTime(self) -> None:
        assert self._shutdown is not None
        self._refuse(self._shutdown.outOfTime())
        self._endStreams("the time for that is over")
        if self.scheduler.held:
            self.pool.crashAll()
        else:
            # The generators whose streams have just ended may still run their C{finally} clauses.
            self._shutdown.wait(CLOSE_SECONDS, self._crashAll)
        self.wake()

    def _crashAll(self) -> None:
        self.pool.crashAll()
        self.wake()

    def _endStreams(self, why: str) -> None:
        """
        End all streams, because the shutdown waits for them no longer.
        """
        for task in list(self._streams):
            text = f"{self!r} is shut down before the last item of {task} was taken: {why}"
            self._endStream(task, text)

    def _stop(self) -> None:
        assert self._shutdown is not None
        self.state = nextState(QUEUE, self.state, "stopped", self)
        if self._wakeUp is not None:
            self._wakeUp.cancel()
            self._wakeUp = None
        for task in sorted(self.underway, key=_idOf):
            # Its worker, one of the program's own, has stopped without ending it.
            task.errback(Failure(WorkerError(f"{task.worker!r} has stopped without ending {task}")))
        self.observers.flush()
        self._stopped()
        self._shutdown.finish()

    # The end of the program (see asynqueue._lifecycle) --------------------------------------------

    def countUnderway(self) -> int:
        """
        How many calls are underway.
        """
        return len(self.underway)

    def drain(self, why: str) -> Deferred[None]:
        """
        Begin nothing more, and wait for what is underway.
        """
        shutdown = self._beginShutdown(None)
        shutdown.drain(why)
        done = shutdown.whenDone()
        self.wake()
        return done

    def cut(self, why: str) -> Deferred[None]:
        """
        After L{drain}: end what is underway.
        """
        shutdown = self._beginShutdown(None)
        done = shutdown.whenDone()
        shutdown.cut(why)
        self._endStreams(why)
        self._steps.finish()
        self.wake()
        return done

    def endNow(self, why: str) -> None:
        """
        End everything, because the reactor has had its last turn.
        """
        self.drain(why)
        self.cut(why)
        self.pool.finish()

    def abort(self) -> None:
        """
        End everything, without complaining, because the interpreter ends.
        """
        # This is never taken back: from here on nothing is begun.
        self._phase = BUSY
        for d in self._ready.deferreds:
            # No code is left to handle it.
            d.addErrback(lambda _: None)
        self._beginShutdown(None)
        for task in self._cancelled:
            # No code is left to handle it.
            task.d.addErrback(lambda _: None)
        self._steps.finish()
        for task in [*self.scheduler, *self.underway]:
            d = task.d
            try:
                task.cancel()
            except BaseException:
                # Something of the program's own has failed. The others hear of it all the same.
                self.log.failure("{task} could not be cancelled", task=task)
            d.addErrback(lambda _: None)
        self.pool.killAll()


def _idOf(task: QueuedTask) -> int:
    return task.id


def _doNothing() -> None:
    """
    Do nothing when the queue has stopped.
    """
