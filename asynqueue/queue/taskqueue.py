"""
The task queue.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from collections.abc import Mapping as Keywords
from itertools import count
from types import TracebackType
from typing import Any, Self

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer, IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from asynqueue.deferreds.clock import callFromAnyThread, defaultReactor
from asynqueue.errors import ImplementationError, QueueStopped, TaskTimeout, WorkerError
from asynqueue.interfaces import IUniverseWorker
from asynqueue.iteration.deferator import Deferator
from asynqueue.queue.mapping import Mapping
from asynqueue.queue.options import CallOptions
from asynqueue.queue.queued import QueuedTask
from asynqueue.queue.roster import Roster
from asynqueue.queue.shutdown import Shutdown
from asynqueue.queue.updates import Update
from asynqueue.tasks.options import OPTION_NAMES, USUAL, TaskOptions
from asynqueue.tasks.scheduler import Scheduler
from asynqueue.tasks.states import QUEUE, RUNNING, STOPPED, nextState
from asynqueue.tasks.task import NO_KEYWORDS, functionName


class TaskQueue:
    """
    A queue of calls for some workers::

        queue = TaskQueue(ProcessWorker(), ProcessWorker())
        d = queue.call(function, argument, niceness=5)
        ...
        d = queue.shutdown()

    Calls wait here, in order of their priority, until a worker that is qualified for their series
    can take them. A call of a series for which no worker is qualified waits until there is one.

    My methods must be called in the reactor's thread.

    @ivar timeout: how long workers may take to stop, in seconds, before they are crashed; C{None}
        for ever.
    """

    def __init__(
        self, *workers: Any, timeout: float | None = None, reactor: IReactorTime | None = None
    ) -> None:
        """
        @param workers: providers of C{IWorker} to attach at once.
        @param timeout: see L{timeout}. A shutdown's countdown begins with L{shutdown}, calls still
            to be run included.
        @param reactor: the clock and reactor to use. Default: the global reactor.
        @raise ImplementationError: if a worker does not provide C{IWorker}.
        """
        self.timeout = timeout
        self._reactor: IReactorTime = defaultReactor() if reactor is None else reactor
        self._state: str = RUNNING
        self._ids = count(1)
        self._scheduler: Scheduler[QueuedTask] = Scheduler()
        self._roster = Roster(self, self._scheduler, self._reactor)
        self._timers: dict[QueuedTask, IDelayedCall] = {}
        self._batches = 0
        self._isDeciding = False
        self._mayDecide = False
        self._wakeUp: IDelayedCall | None = None
        self._shutdown: Shutdown | None = None
        self.seconds = self._reactor.seconds
        for worker in workers:
            self.attachWorker(worker).addErrback(lambda _: None)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__}: {self._state}, {len(self._roster)} workers, "
            f"{len(self._scheduler)} tasks pending>"
        )

    def __len__(self) -> int:
        """
        How many workers I have.
        """
        return len(self._roster)

    def __bool__(self) -> bool:
        """
        Whether I am running and have a worker.
        """
        return self.isRunning() and len(self) > 0

    def isRunning(self) -> bool:
        """
        @return: C{True} until L{shutdown} is called.
        """
        return self._state == RUNNING

    def checkRunning(self, what: str) -> None:
        """
        @param what: what somebody wants of me.
        @raise QueueStopped: after L{shutdown}, saying so.
        """
        if self._state is not RUNNING:
            raise QueueStopped(f"{self!r} is asked for {what}, but takes nothing on any more")

    # Calls ----------------------------------------------------------------------------------------
    # -------

    def call(self, function: Callable[..., Any], /, *args: Any, **kw: Any) -> Deferred[Any]:
        """
        Put a call into the queue.

        These keywords are mine; all others go to the function. To pass a function a keyword of the
        same name, use L{options}.

        @param function: what to call. For a worker in another process it must be picklable, and so
            must its arguments and its result.
        @param args: positional arguments for the function.
        @keyword niceness: an integer in -20...20, lower is more urgent, as in UNIX; 0 by default.
        @keyword series: the hashable name of a series; only workers that are qualified for it run
            the call.
        @keyword doNext: C{True} to go before everything that waits.
        @keyword doLast: C{True} to go after everything else.
        @keyword timeout: seconds that the run may take, before the call fails with C{TaskTimeout}.
        @keyword consumer: an C{IConsumer} for the items, if the function returns an iterator.
        @keyword raw: C{True} to get an iterator back as it is, where it can be pickled.
        @keyword returnFailure: accepted for AsynQueue 0.9's callers. Failures come back always.
        @return: a Deferred. It fires with what the function returned; if that is an iterator, with
            a L{Deferator<asynqueue.iteration.Deferator>} over its items as soon as the first is
            there, or, after the last item, with the consumer. It fails with what the function
            raised, with C{WorkerDied} if the worker's process died with it, with
            C{CallNotPicklable} and its like, or with C{QueueStopped}. Cancelling it gives the call
            up.
        @raise QueueStopped: after L{shutdown}.
        @raise ValueError: if an option has a value that it cannot have.
        @raise ImplementationError: if C{consumer} does not provide C{IConsumer}.
        """
        if not kw:
            return self._submit(function, args, NO_KEYWORDS, USUAL).d
        return self._submit(function, args, kw, _takeOptions(kw)).d

    def submit(self, function: Callable[..., Any], /, *args: Any, **kw: Any) -> QueuedTask:
        """
        Put a call into the queue, as L{call} does, and get the task itself: its C{id}, C{state},
        times and worker, C{cancel()}, its Deferred C{d}; it can be awaited.
        """
        return self._submit(function, args, kw, _takeOptions(kw))

    def options(self, **options: Any) -> CallOptions:
        """
        Name the options first, in order to make calls from which no keyword is taken.

        @param options: any of L{call}'s keywords.
        @return: an object with C{call}, C{submit} and C{map}.
        @raise TypeError: if one of them is no option.
        """
        return CallOptions(self, _makeOptions(options))

    def map(
        self,
        function: Callable[[Any], Any],
        iterable: Iterable[Any],
        window: int | None = None,
        chunksize: int | None = None,
        **options: Any,
    ) -> Deferator:
        """
        Call a function for each item of an iterable, many at a time.

        The iterable is advanced only as results are taken. The first call that raises ends the
        iteration: results before it come first; later items may have been worked on and are lost.

        @param function: takes an item.
        @param iterable: the items. It is advanced in the reactor's thread, so it should not block.
        @param window: how many items may be on their way, from being taken out of the iterable to
            their results being taken. By default three chunks a worker.
        @param chunksize: how many items make one task. By default this is fitted to the run times,
            so that a task takes about 20 ms.
        @param options: L{call}'s keywords C{niceness}, C{series}, C{timeout} (which is a chunk's)
            and so on.
        @return: a L{Deferator<asynqueue.iteration.Deferator>} over the results, in the order of the
            items.
        """
        return self._map(function, iterable, window, chunksize, _makeOptions(options))

    def update(self, function: Callable[..., Any], /, *args: Any, **kw: Any) -> Deferred[list[Any]]:
        """
        Have every worker run a call: those attached now, those attached later, and each new process
        that takes a dead one's place, before it gets any task.

        @keyword ephemeral: C{True} to leave out the workers and processes to come.
        @keyword sequential: C{True} to have one worker after the other run it.
        @return: a Deferred that fires with the results of the present workers, in the order in
            which they were attached, or with the first failure when all are done. Failures on later
            workers are logged.
        @raise QueueStopped: after L{shutdown}.
        """
        self.checkRunning(functionName(function))
        if "consumer" in kw:
            raise ValueError("an update takes no consumer, for it may have many results")
        ephemeral = kw.pop("ephemeral", False)
        sequential = kw.pop("sequential", False)
        return self._roster.update(Update(function, args, kw, ephemeral), sequential)

    # Workers --------------------------------------------------------------------------------------

    def attachWorker(self, worker: Any) -> Deferred[int]:
        """
        Hire a worker.

        @param worker: a provider of C{IWorker}.
        @return: a Deferred that fires with the worker's ID when it is ready for tasks. It fails
            with C{WorkerDetached} if the worker is let go before that, or with the reason why it
            could not start.
        @raise ImplementationError: if it does not provide C{IWorker}, C{InvariantError} if its
            lists of series are no lists.
        @raise ValueError: if it is attached already.
        @raise QueueStopped: after L{shutdown}. The worker is then the caller's to stop.
        """
        self.checkRunning(f"a place for {worker!r}")
        return self._roster.hire(worker)

    def detachWorker(
        self, workerOrID: Any, reassign: bool = False, crash: bool = False
    ) -> Deferred[list[QueuedTask]]:
        """
        Let a worker go, after it has finished what it has.

        @param workerOrID: the worker, or its ID.
        @param reassign: whether tasks that it leaves unfinished, because it is crashed, go back
            into the queue. If not, they fail with C{WorkerDetached}.
        @param crash: whether to crash it at once. Otherwise that happens after L{timeout} seconds.
        @return: a Deferred that fires when it is gone, with a list of the tasks that it left
            unfinished and that were not reassigned. Empty for a worker that is not attached.
        """
        ID = self._roster.find(workerOrID)
        if ID is None:
            return succeed([])
        return self._roster.detach(ID, reassign, crash, self.timeout)

    def qualifyWorker(self, worker: Any, series: Hashable) -> None:
        """
        Qualify a worker for one more series.

        @raise ValueError: if it is not attached.
        """
        self._roster.qualify(worker, series)

    def workers(self, ID: int | None = None) -> Any:
        """
        @return: the worker with this ID, or C{None} if there is none; without an ID, a list of all
            workers.
        """
        return self._roster.workers if ID is None else self._roster.get(ID)

    # Shutting down --------------------------------------------------------------------------------

    def shutdown(self) -> Deferred[None]:
        """
        Take no more calls, run those that are here, then stop the workers.

        Iterations are not waited for: they fail with C{IterationStopped}, so that one without end,
        or without anybody who takes its items, does not hold things up. Calls that no worker is
        qualified for fail with C{QueueStopped}, and so does all that is left after L{timeout}
        seconds.

        @return: a Deferred that fires with C{None} when all workers are gone. Further calls return
            such a Deferred too.
        """
        if self._state == STOPPED:
            return succeed(None)
        if self._shutdown is None:
            self._state = nextState(QUEUE, self._state, "shutdown", self)
            self._shutdown = Shutdown(
                self._scheduler, self._roster, self._reactor, self.timeout, self._refuse
            )
        done = self._shutdown.whenDone()
        self.wake()
        return done

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.shutdown()

    def _refuse(self, task: QueuedTask, why: str) -> None:
        if self._scheduler.cancel(task):
            stopped = f"{task} was not run: the queue shut down, and {why}"
            task.errback(Failure(QueueStopped(stopped)))

    # Tasks, from submission to the end ------------------------------------------------------------

    def _submit(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Keywords[str, Any],
        options: TaskOptions,
    ) -> QueuedTask:
        if self._state is not RUNNING:
            self.checkRunning(functionName(function))
        if not callable(function):
            raise TypeError(f"{function!r} cannot be called")
        task = QueuedTask(next(self._ids), self, function, args, kwargs, options)
        self._scheduler.put(task)
        if self._batches or self._scheduler.hasFreeWorker:
            self.wake()
        elif self._wakeUp is None:
            # A worker may take it ahead; with many calls in a row, they are looked at together.
            self._wakeUp = self._reactor.callLater(0, self._woken)
        return task

    def _map(
        self,
        function: Callable[[Any], Any],
        iterable: Iterable[Any],
        window: int | None,
        chunksize: int | None,
        options: TaskOptions,
    ) -> Deferator:
        self.checkRunning(functionName(function))
        if options.consumer is not None:
            raise ValueError("map takes no consumer: its results are those of many calls")
        return Deferator(Mapping(self, function, iterable, window, chunksize, options))

    def updateTask(self, update: Update) -> QueuedTask:
        """
        Make a task of an update, outside of the schedule.
        """
        return QueuedTask(next(self._ids), self, update.function, update.args, update.kwargs)

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
        self.stopTimer(task)

    def dropped(self, task: QueuedTask, wasUnderway: bool) -> None:
        """
        A task was cancelled. (For tasks to call.)
        """
        if wasUnderway:
            self._stopRun(task)
        else:
            self._scheduler.cancel(task)
            self.wake()

    def startTimer(self, task: QueuedTask) -> None:
        """
        A task with a timeout is given to a worker. (For the roster to call.)
        """
        assert task.options.timeout is not None
        self._timers[task] = self._reactor.callLater(task.options.timeout, self._timedOut, task)

    def stopTimer(self, task: QueuedTask) -> None:
        """
        A task is done, or not with a worker any more. (For the roster to call.)
        """
        if task.options.timeout is not None:
            timer = self._timers.pop(task, None)
            if timer is not None and timer.active():
                timer.cancel()

    def _timedOut(self, task: QueuedTask) -> None:
        seconds = task.options.timeout
        task.errback(Failure(TaskTimeout(f"{task} ran for longer than {seconds} seconds")))
        self._stopRun(task)

    def _stopRun(self, task: QueuedTask) -> None:
        if IUniverseWorker.providedBy(task.worker):
            task.worker.cancel(task)

    # Deciding, and what the roster tells ----------------------------------------------------------

    def begin(self) -> None:
        """
        Some facts follow. (For the roster to call.)
        """
        self._batches += 1

    def end(self) -> None:
        """
        That was all. (For the roster to call.)
        """
        self._batches -= 1
        if self._mayDecide and not self._batches:
            self.wake()

    def wake(self) -> None:
        """
        There may be something to decide. (For the roster to call.)
        """
        self._mayDecide = True
        if self._isDeciding or self._batches:
            return
        isOver = False
        self._isDeciding = True
        try:
            while self._mayDecide:
                self._mayDecide = False
                self._decide()
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

    def _woken(self) -> None:
        self._wakeUp = None
        self.wake()

    def _decide(self) -> None:
        for worker, tasks in self._scheduler.decide():
            self._roster.hand(worker, tasks)

    def workerGaveUp(self, worker: Any, reason: WorkerError) -> None:
        """
        A worker has left. What only it could have run fails for the same reason, and if it was the
        last one, all that waits. (For the roster to call.)
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


def _takeOptions(kw: dict[str, Any]) -> TaskOptions:
    """
    Take the queue's own keywords out of a call's.
    """
    own = OPTION_NAMES & kw.keys()
    if not own:
        return USUAL
    return _makeOptions({name: kw.pop(name) for name in own})


def _makeOptions(keywords: dict[str, Any]) -> TaskOptions:
    options = TaskOptions(**keywords)
    consumer = options.consumer
    if consumer is not None and not IConsumer.providedBy(consumer):
        raise ImplementationError(f"{consumer!r} does not provide IConsumer")
    return options
