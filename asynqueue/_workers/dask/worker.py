"""
A worker that runs its calls on a Dask cluster.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from itertools import count
from pickle import dumps
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue._core.checks import checkCount
from asynqueue._core.groups import Capacity
from asynqueue._core.retry import backoff
from asynqueue._core.states import DRAINING, LOST, READY, STARTING, STOPPED, WORKER, nextState
from asynqueue._iteration.patience import StreamPatience
from asynqueue._iteration.sources import ItemSource
from asynqueue._reactor import ReactorInbox, callEach, callFromAnyThread, defaultReactor
from asynqueue._runner.codecs import PICKLED
from asynqueue._runner.messages import CANCEL, Message
from asynqueue._runner.packing import STANDARD
from asynqueue._waiters import OneShotObserverList
from asynqueue._workers.events import (
    Began,
    Blocked,
    Ended,
    Freed,
    GaveUp,
    GivenBack,
    Lost,
    Raised,
    Ready,
    Returned,
    StreamLost,
    Unblocked,
    WorkerEvent,
    diedWith,
    released,
)
from asynqueue._workers.from09 import OldTask, asGiven, asTask
from asynqueue._workers.picklability import CallCheck, refusedCall
from asynqueue._workers.procinfo import RunnerFacts
from asynqueue._workers.protocol import NearStream, RunnerProtocol
from asynqueue._workers.standalone import Standalone
from asynqueue.errors import (
    DaskWorkerDied,
    ExtraMissing,
    IterationStopped,
    ProtocolError,
    StateError,
    WorkerDied,
    WorkerError,
    WorkerStartError,
    textOf,
    typeName,
)
from asynqueue.interfaces import IPoolWorker

if TYPE_CHECKING:
    from asynqueue._queue.queuedtask import QueuedTask
    from asynqueue._workers.dask.cluster import Cluster, End, Sent
    from asynqueue._workers.dask.far import UpdateOutcome

BATCH_SECONDS: Final = 0.05
"""About how many seconds' worth of calls a batch has, where it has several."""

BATCH_CALLS: Final = 1000
"""How many calls a batch has at the most."""

LOOK_SECONDS: Final = 0.5
"""How often it is looked whether the scheduler is there."""

GRACE_SECONDS: Final = 1.0
"""How many seconds a call may take to end after it was interrupted."""

UNKNOWN: Final = 1.0
"""How many seconds a call counts for of which nothing is known."""


class Batch:
    """
    Calls that travel together, and the streams that they yield. It is the link that its streams
    have to the far side.

    @ivar protocol: what is known of the calls.
    @ivar sent: what the cluster knows of the batch.
    """

    def __init__(self, worker: DaskWorker, name: str) -> None:
        from asynqueue._workers.dask.cluster import Sent

        self.protocol = RunnerProtocol(self)
        self.sent: Sent = Sent(
            name, partial(worker._arrived, self), partial(worker._batchEnded, self)
        )
        self.size = 0
        self._worker = worker
        self._timers: dict[int, IDelayedCall] = {}

    def send(self, messages: list[Message]) -> None:
        """
        Send messages.
        """
        self._worker._cluster.send(self.sent, messages)

    def stopStream(self, number: int) -> None:
        """
        See to it that a stream ends.
        """
        self.cancel(number)

    def soon(self, function: Callable[[], None]) -> None:
        """
        Have a function called in the reactor's thread, from whichever thread.
        """
        callFromAnyThread(self._worker._reactor, function)

    def cancel(self, number: int) -> None:
        """
        Have a call or a stream end.
        """
        worker = self._worker
        worker._cluster.send(
            self.sent, [(CANCEL, number)], missed=lambda: worker._cancelMissed(self)
        )
        if worker.restartWorkers and number not in self._timers:
            self._timers[number] = worker._reactor.callLater(
                GRACE_SECONDS, self._hasNotEnded, number
            )

    def _hasNotEnded(self, number: int) -> None:
        del self._timers[number]
        if self.protocol.has(number):
            self._worker._cluster.restartWorker(self.sent)

    def over(self) -> None:
        """
        Stop all timers.
        """
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()


@implementer(IPoolWorker)
class DaskWorker:
    """
    Runs tasks on a cluster of Dask distributed::

        queue = TaskQueue(DaskWorker("tcp://scheduler:8786"))

    This one worker stands for all threads of the cluster. It takes as many tasks at once as there
    are threads, and follows the cluster as it grows and shrinks. Tasks that were measured to be
    short travel in batches.

    asynqueue must be installed on the Dask workers, in the same version. Calls are pickled, not
    C{cloudpickle}d, so that functions must be importable there.

    Dask runs a task again if the Dask worker that ran it dies. The calls of this worker do not run
    again: their tasks fail with L{DaskWorkerDied<asynqueue.errors.DaskWorkerDied>} if they may have
    begun, unless they are idempotent or have retries left.

    A call that is cancelled or out of time is interrupted: C{TaskInterrupted} is raised in its
    thread. Code that is no Python code, such as C{time.sleep}, goes on until it returns. With
    C{restartWorkers}, the Dask worker is restarted after a second then, which costs the other calls
    that it runs.

    @cvar cQualified: the series that all instances are qualified for: C{'dask'}.
    @ivar iQualified: the series that this one is qualified for besides.
    @ivar capacity: what the scheduler may give it.
    @ivar state: C{STARTING}; C{READY}; C{LOST} when the scheduler cannot be reached; C{DRAINING}
        after C{stop}; C{STOPPED}.
    @ivar threads: how many threads the cluster has.
    @ivar missing: the names of the Dask resources that no Dask worker offers, though a series needs
        them. Its tasks wait until one does.
    @ivar repeated: how many batches Dask has tried to run a second time.
    """

    cQualified: ClassVar[list[Hashable]] = ["dask"]

    runsInOrder = False
    makeCheck: Callable[[], CallCheck] | None = CallCheck

    log = Logger()

    def __init__(
        self,
        # It is anything that a Client of Dask distributed accepts.
        cluster: Any = None,
        series: Iterable[Hashable] = (),
        resources: Mapping[Hashable, Mapping[str, float]] | None = None,
        slots: int | None = None,
        raw: bool = False,
        forwardLogs: bool = True,
        restartWorkers: bool = False,
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        Begin to connect.

        @param cluster: the address of a scheduler; or a C{Client} of C{distributed}, which is not
            closed at the end; or an object that C{Client} accepts, such as a C{LocalCluster}.
            Default: a new cluster of processes on this machine, which listens on its loopback
            interface only and ends with the worker.
        @param series: the series that this worker is qualified for, besides C{None} and C{'dask'}.
        @param resources: for each further series the Dask resources that its tasks need, as in
            C{{"gpu": {"GPU": 1}}}.
        @param slots: how many tasks the cluster may have at once. Default: as many as it has
            threads, and short ones ahead.
        @param raw: whether an iterator that a task returns is its result as it is, where the call
            does not say. Default: C{False}; its items are streamed.
        @param forwardLogs: whether what tasks log with C{logging} is logged in this process, too.
            The levels are those that are set on the Dask workers. Default: C{True}.
        @param restartWorkers: whether a Dask worker may be restarted if a call on it cannot be
            interrupted. It needs a nanny for that. Default: C{False}.
        @param reactor: the reactor. Default: the global reactor.
        @raise ExtraMissing: if Dask distributed is not installed.
        @raise ValueError: if C{slots} is not a positive integer.
        """
        try:
            from distributed import Client

            from asynqueue._workers.dask.cluster import Cluster
            from asynqueue._workers.dask.far import Session
        except ImportError as error:
            raise ExtraMissing("a DaskWorker", "dask") from error
        self.resources = {} if resources is None else dict(resources)
        self.iQualified = [*series, *self.resources]
        self.restartWorkers = restartWorkers
        self.threads = 0
        self._daskWorkers = 0
        self.repeated = 0
        self.state: str = STARTING
        self._slots = None if slots is None else checkCount("slots", slots)
        self.capacity = Capacity(slots=1 if slots is None else slots)
        self._reactor: IReactorTime = defaultReactor() if reactor is None else reactor
        self._id = secrets.token_hex(8)
        self._numbers = count(1)
        isOurs = not isinstance(cluster, Client)
        makeClient = partial(_makeClient, cluster) if isOurs else lambda: cluster
        inbox: ReactorInbox[Callable[[], object]] = ReactorInbox(self._reactor, callEach)
        session = Session(self._id, raw, forwardLogs)
        self._cluster: Cluster = Cluster(makeClient, isOurs, cluster is None, session, inbox)
        self._waiting: deque[QueuedTask] = deque()
        self._batches: dict[Batch, None] = {}
        self._updates: set[QueuedTask] = set()
        self._standalone = Standalone(self, self.crash, self._reactor)
        self._listener: Callable[[list[WorkerEvent]], None] = self._standalone
        self._runWaiters: dict[QueuedTask, Deferred[None]] = {}
        self._delays = backoff(0.5, 30.0, factor=2.0, random=Random())
        self._failures = 0
        self._retry: IDelayedCall | None = None
        self._looking: IDelayedCall | None = None
        self.missing: set[str] = set()
        self._patience = StreamPatience(self._reactor, self._giveUpStream, self._endIfDue)
        self._reason: Exception = WorkerDied()
        self._isClosing = False
        self._whenGone: OneShotObserverList[None] = OneShotObserverList()
        self._connect()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.state}, {self.threads} threads>"

    @property
    def client(self) -> Any:
        """
        The client of C{distributed}, or C{None} before it is connected.
        """
        return self._cluster.client

    def _move(self, event: str) -> None:
        self.state = nextState(WORKER, self.state, event, self)

    # The cluster ----------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._retry = None
        self._cluster.connect(self._connected, self._counted)

    def _connected(self, error: Exception | None) -> None:
        if self.state != STARTING:
            self._endIfDue()
        elif error is None:
            self._failures = 0
            self._move("hello")
            if self._looking is None:
                self._lookLater()
            self._report([Ready(), *self._fill()])
        elif isinstance(error, (ProtocolError, ImportError)):
            self._giveUp(error)
        else:
            self._tryAgain(error)

    def _tryAgain(self, error: Exception) -> None:
        self._failures += 1
        why = f"{typeName(type(error))}: {textOf(error)}"
        if self._failures == 1:
            self.log.warn("{worker} waits and tries again, because {why}", worker=self, why=why)
        self._retry = self._reactor.callLater(self._delays(self._failures), self._connect)

    def _lookLater(self) -> None:
        self._looking = self._reactor.callLater(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """
        See whether the scheduler is still there, or is there again.
        """
        self._lookLater()
        status = self._cluster.status
        if self.state in (READY, DRAINING) and status != "running":
            self._lose()
        elif self.state == LOST and status in ("running", "closed"):
            self._move("restart")
            if not self._cluster.connectAgain(self._connected):
                self._giveUp(WorkerError("its client was closed"))

    def _lose(self) -> None:
        """
        The scheduler is gone, and with it all that it knew.
        """
        why = "the connection to the scheduler is lost"
        self.log.warn("{worker} waits, because {why}", worker=self, why=why)
        self._reason = WorkerError(why)
        wasDraining = self.state == DRAINING
        self._move("lose")
        events: list[WorkerEvent] = [Lost(self._reason)]
        batches, self._batches = self._batches, {}
        for batch in batches:
            batch.over()
            begun = False if self._cluster.withdraw(batch.sent) else None
            events += self._fateOf(batch, _lostEnd(why, begun, self._reason))
        if self._waiting:
            events.append(GivenBack(list(self._waiting)))
            self._waiting.clear()
        for task in self._updates:
            events.append(Raised(task, None, Failure(self._reason)))
        self._updates.clear()
        self._report(events)
        if wasDraining and self.state == LOST:
            self._move("drain")
            self._close()

    def _giveUp(self, error: Exception) -> None:
        why = WorkerStartError(f"the Dask workers cannot run calls: {textOf(error)}")
        why.__cause__ = self._reason = error
        self.log.error("{worker} gives up: {why}", worker=self, why=why)
        self._report([GaveUp(why)])

    def _counted(self, threads: Mapping[str, int], resources: set[str]) -> None:
        """
        The cluster has as many threads.
        """
        self.threads = sum(threads.values())
        self._daskWorkers = len(threads)
        missing = {
            name for needed in self.resources.values() for name in needed if name not in resources
        }
        for name in sorted(missing - self.missing):
            self.log.warn("no Dask worker offers the resource {name!r}", name=name)
        self.missing = missing
        # An adaptive cluster without workers grows only if there is something to do.
        slots = max(1, self.threads) if self._slots is None else self._slots
        if slots == self.capacity.slots and self.capacity.aheadSeconds:
            return
        isOpen = self.state == READY
        if isOpen:
            self._report([Blocked()])
        self.capacity.slots = slots
        self.capacity.aheadSeconds = 2 * BATCH_SECONDS * slots
        self.capacity.aheadTasks = 2 * BATCH_CALLS * slots
        if isOpen:
            self._report([Unblocked(), *self._fill()])

    # IPoolWorker ----------------------------------------------------------------------------------

    def setResignator(self, callableObject: Callable[[], object]) -> None:
        """
        See L{IWorker<asynqueue.interfaces.IWorker>}.
        """
        self._standalone.resign = callableObject

    def setListener(self, listener: Callable[[list[WorkerEvent]], None]) -> None:
        """
        See L{IPoolWorker<asynqueue.interfaces.IPoolWorker>}.
        """
        self._listener = listener
        if self.state == READY:
            listener([Ready()])

    def run(self, task: object) -> Deferred[None]:
        """
        Run one task.

        @return: a Deferred that fires when the worker no longer has the task.
        @raise StateError: if the worker is stopping or has stopped.
        @raise WorkerError: if the worker belongs to a queue, and the task is one of AsynQueue
            0.9's.
        """
        task = asTask(task, self, self._reactor.seconds)
        if isinstance(task, OldTask) and self._listener is not self._standalone:
            raise WorkerError(f"{self!r} belongs to a queue: put the call of {task} into that")
        done: Deferred[None] = Deferred()
        self._runWaiters[task] = done
        try:
            refused = self.runMany([task])
        except StateError:
            del self._runWaiters[task]
            raise
        self._report(refused)
        return done

    def runMany(self, tasks: list[QueuedTask]) -> list[WorkerEvent]:
        """
        Send the calls of some tasks. Tasks that come before there is a cluster wait for it.
        """
        if self.state in (DRAINING, STOPPED):
            raise StateError(self, self.state, "run")
        if self.state == LOST:
            return [GivenBack(list(tasks))]
        events: list[WorkerEvent] = []
        # A task that no queue has scheduled looks like an update.
        hasQueue = self._listener is not self._standalone
        for task in tasks:
            if hasQueue and task.isUpdate:
                events += self._update(task)
            else:
                self._waiting.append(task)
        return events + self._fill()

    def cancel(self, task: QueuedTask) -> None:
        """
        See L{IPoolWorker<asynqueue.interfaces.IPoolWorker>}. A call that has begun is interrupted.
        """
        if task in self._waiting:
            self._waiting.remove(task)
            self._report([Freed(task)])
            self._endIfDue()
            return
        for batch in self._batches:
            number = batch.protocol.numberOf(task)
            if number is not None:
                stream = batch.protocol.streams.get(number)
                if stream is None:
                    batch.cancel(number)
                else:
                    stream.stop()
                return

    def terminate(self, task: QueuedTask) -> None:
        """
        See L{IPoolWorker<asynqueue.interfaces.IPoolWorker>}. The processes are the cluster's.
        """
        raise WorkerError(
            f"{self!r} cannot kill the cluster's processes: {task} can only be cancelled"
        )

    def lookAt(self, task: QueuedTask) -> None:
        """
        See L{IPoolWorker<asynqueue.interfaces.IPoolWorker>}. The cluster does not tell.
        """

    def facts(self) -> RunnerFacts:
        """
        See L{IPoolWorker<asynqueue.interfaces.IPoolWorker>}. The processes are the cluster's.
        """
        cluster = {
            "workers": self._daskWorkers,
            "threads": self.threads,
            "batches": len(self._batches),
            "repeated": self.repeated,
            "missing": sorted(self.missing),
        }
        return RunnerFacts(self.state, place=cluster)

    def stacks(self) -> Deferred[str]:
        """
        See L{IPoolWorker<asynqueue.interfaces.IPoolWorker>}. The cluster's own dashboard shows it.
        """
        return succeed(f"{self!r} does not tell what its cluster is doing.")

    def recycle(self) -> bool:
        """
        See L{IPoolWorker<asynqueue.interfaces.IPoolWorker>}. The cluster replaces its processes
        itself.
        """
        return False

    def stop(self) -> Deferred[None]:
        """
        Let the calls that were given end, and the streams that are being consumed. End the other
        streams with C{IterationStopped}, then leave the cluster.

        @return: a Deferred that fires when that is done, also after L{crash}.
        """
        if self.state == LOST:
            self._move("drain")
            self._close()
        elif self.state in (STARTING, READY):
            kept = self._standalone.take()
            self._waiting.extendleft(reversed(kept))
            self._move("drain")
            self._report(self._fill())
        self._endIfDue()
        return self._whenGone.whenFired()

    def crash(self) -> list[QueuedTask]:
        """
        Leave the cluster at once. Calls that are running are interrupted. Streams fail with
        C{IterationStopped}.

        @return: the tasks that were given and not ended.
        """
        if self.state == STOPPED:
            return []
        self._move("crash")
        reason = IterationStopped(f"{self} was crashed in mid-iteration")
        left: list[QueuedTask] = []
        events: list[WorkerEvent] = []
        for batch in self._batches:
            batch.over()
            begun, unbegun = batch.protocol.split(None)
            left += [*begun, *unbegun]
            events += batch.protocol.endStreams(reason)
            self._cluster.cancel(batch.sent)
        self._batches.clear()
        left += [*self._waiting, *self._updates, *self._standalone.take()]
        self._waiting.clear()
        self._updates.clear()
        self._report(events)
        self._close()
        self._fireWaiters(left)
        return asGiven(task for task in left if not task.isDone)

    # Batches --------------------------------------------------------------------------------------

    def _fill(self) -> list[WorkerEvent]:
        """
        Send what waits, as far as the cluster takes it.

        @return: an event for each task that cannot be sent.
        """
        events: list[WorkerEvent] = []
        if self._cluster.client is None or self.state not in (READY, DRAINING):
            return events
        # While a thread runs a batch, another batch of short calls is on its way to it.
        limit = self.capacity.slots * (2 if self._slots is None else 1)
        room = limit - sum(1 for batch in self._batches if batch.protocol.underway)
        while self._waiting and room > 0:
            tasks = self._nextBatch(room)
            batch = Batch(self, f"asynqueue-{self._id}-{next(self._numbers)}")
            messages, refused = batch.protocol.call(tasks)
            events += refused
            if messages:
                self._submit(batch, messages, tasks[0])
                room -= 1
        return events

    def _nextBatch(self, room: int) -> list[QueuedTask]:
        waiting = self._waiting
        share = min(BATCH_CALLS, -(-len(waiting) // room))
        tasks = [waiting.popleft()]
        kind = self._kindOf(tasks[0])
        seconds = _secondsOf(tasks[0])
        while waiting and len(tasks) < share:
            task = waiting[0]
            seconds += _secondsOf(task)
            if seconds > BATCH_SECONDS or self._kindOf(task) != kind:
                break
            tasks.append(waiting.popleft())
        return tasks

    def _kindOf(self, task: QueuedTask) -> tuple[Hashable, int]:
        options = task.options
        return options.series if options.series in self.resources else None, options.niceness

    def _submit(self, batch: Batch, messages: list[Message], first: QueuedTask) -> None:
        self._batches[batch] = None
        series, niceness = self._kindOf(first)
        needed = self.resources.get(series)
        try:
            calls = dumps(messages, 5)
        except BaseException as error:
            refused = [
                Raised(task, None, Failure(refusedCall(task, error, STANDARD)))
                for task in batch.protocol.underway.values()
            ]
            del self._batches[batch]
            self._reactor.callLater(0, self._report, refused)
            return
        self._cluster.submit(batch.sent, calls, needed, -niceness)

    def _arrived(self, batch: Batch, messages: list[Message]) -> None:
        """
        A batch said something.
        """
        if batch not in self._batches:
            return
        events = batch.protocol.receive(messages)
        if batch.protocol.error is not None:
            self.log.failure("the messages of a batch make no sense", Failure(batch.protocol.error))
        self._report(events + self._fill())
        self._endIfDue()

    def _batchEnded(self, batch: Batch, end: End | None) -> None:
        """
        Nothing more comes from a batch.
        """
        if batch not in self._batches:
            return
        del self._batches[batch]
        batch.over()
        events = [] if batch.protocol.isIdle else self._fateOf(batch, end)
        if self.state in (READY, DRAINING) and self._cluster.status != "running":
            # What was given back must not be sent again before there is a scheduler.
            self._report(events)
            self._lose()
            return
        self._report(events + self._fill())
        self._endIfDue()

    def _fateOf(self, batch: Batch, end: End | None) -> list[WorkerEvent]:
        """
        What becomes of a lost batch's tasks and streams.
        """
        protocol = batch.protocol
        lastBegun = None if end is None else end.lastBegun
        tasks, unbegun = protocol.split(lastBegun)
        if lastBegun is None:
            tasks, unbegun = [*tasks, *unbegun], []
        if end is not None and end.isOurs:
            return [Freed(task) for task in tasks]
        if end is not None and end.begun is False:
            return [GivenBack(tasks)]
        if end is not None and end.cause is None:
            self.repeated += 1
        why = "it has not answered" if end is None else end.why
        isAlone = end is not None and end.begun is True and len(tasks) == 1
        isKnown = lastBegun is not None or isAlone
        reason = DaskWorkerDied(why, "yes" if isKnown else "unknown")
        if end is not None:
            reason.__cause__ = end.cause
        events: list[WorkerEvent] = [GivenBack(unbegun)] if unbegun else []
        again = []
        for task in tasks:
            if task.isDone or task.attempts >= task.options.runs:
                events.append(diedWith(task, reason))
            else:
                again.append(task)
        if again:
            events.append(GivenBack(again, hadBegun=True))
        return events + protocol.endStreams(reason)

    def _cancelMissed(self, batch: Batch) -> None:
        """
        No Dask worker knows a batch with a call that is not wanted.
        """
        if batch in self._batches and all(task.isDone for task in batch.protocol.underway.values()):
            self._cluster.cancel(batch.sent)

    # Updates --------------------------------------------------------------------------------------

    def _update(self, task: QueuedTask) -> list[WorkerEvent]:
        from asynqueue._workers.dask.far import UpdatePlugin

        body = (*task.callTuple, getattr(task, "context", None))
        try:
            data = dumps(body, 5)
        except BaseException as error:
            return [Raised(task, None, Failure(refusedCall(task, error, STANDARD)))]
        self._updates.add(task)
        self._report([Began(task)])
        name = f"asynqueue-{self._id}-update-{next(self._numbers)}"
        self._cluster.update(UpdatePlugin(name, data), partial(self._updated, task))
        return []

    def _updated(
        self, task: QueuedTask, outcomes: list[UpdateOutcome], error: Exception | None
    ) -> None:
        if task not in self._updates:
            return
        self._updates.discard(task)
        event: WorkerEvent
        try:
            if error is not None:
                raise WorkerError(f"Dask could not run the update: {textOf(error)}") from error
            failed = [value for isSound, value in outcomes if not isSound]
            if failed:
                raise PICKLED.rebuild(failed[0])
            event = Returned(task, None, [PICKLED.unpack(value) for _, value in outcomes])
        except Exception as failure:
            event = Raised(task, None, Failure(failure))
        self._report([event])
        self._endIfDue()

    # The end --------------------------------------------------------------------------------------

    def _giveUpStream(self, stream: ItemSource) -> None:
        reason = IterationStopped(f"{self} stopped in mid-iteration")
        self._report([StreamLost(stream, Failure(reason))])
        stream.stopped()

    def _endIfDue(self) -> None:
        if self.state != DRAINING or self._waiting or self._updates:
            return
        streams: list[NearStream] = []
        for batch in self._batches:
            if batch.protocol.underway:
                return
            streams += batch.protocol.streams.values()
        self._patience.look(streams)
        if not self._batches:
            self._move("stopped")
            self._close()

    def _close(self) -> None:
        self._patience.end()
        for timer in (self._retry, self._looking):
            if timer is not None:
                timer.cancel()
        self._retry = self._looking = None
        self._cluster.close(self._gone)

    def _gone(self) -> None:
        self._report([Ended(self._reason)])
        self._whenGone.fire(None)

    # Telling --------------------------------------------------------------------------------------

    def _report(self, events: list[WorkerEvent]) -> None:
        if not events:
            return
        self._listener(events)
        if self._runWaiters:
            self._fireWaiters(released(events))

    def _fireWaiters(self, tasks: Iterable[QueuedTask]) -> None:
        for task in tasks:
            waiter = self._runWaiters.pop(task, None)
            if waiter is not None:
                waiter.callback(None)


def _secondsOf(task: QueuedTask) -> float:
    expected = getattr(task, "expected", None)
    return UNKNOWN if expected is None else expected


def _lostEnd(why: str, begun: bool | None, cause: Exception) -> End:
    from asynqueue._workers.dask.cluster import End

    return End(why, begun, cause=cause)


def _makeClient(cluster: Any) -> Any:
    from distributed import Client

    if cluster is not None:
        return Client(cluster, set_as_default=False)
    return Client(
        set_as_default=False, processes=True, dashboard_address="127.0.0.1:0", host="127.0.0.1"
    )
