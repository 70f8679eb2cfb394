"""
The task queue.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from types import TracebackType
from typing import Any, ClassVar, Self

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from asynqueue._core.options import USUAL
from asynqueue._core.states import RUNNING
from asynqueue._core.task import NO_KEYWORDS, functionName
from asynqueue._iteration.deferator import Deferator
from asynqueue._lifecycle import DRAIN_SECONDS, Ending
from asynqueue._queue.broadcast import Update
from asynqueue._queue.engine import Engine
from asynqueue._queue.map import startMap
from asynqueue._queue.observers import LoadProducer, LoggingObserver, Observer
from asynqueue._queue.options import CallOptions, makeOptions, takeOptions
from asynqueue._queue.queuedtask import QueuedTask

KEYWORDS = frozenset(
    {
        "contextvars",
        "drainTimeout",
        "observers",
        "reactor",
        "returnFailure",
        "spew",
        "timeout",
        "verbose",
        "warn",
    }
)
"""The keywords of L{TaskQueue}, for queues that have more of their own."""


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

    _engineClass: ClassVar[type[Engine]] = Engine

    def __init__(
        self,
        *workers: Any,
        timeout: float | None = None,
        drainTimeout: float | None = DRAIN_SECONDS,
        warn: bool = False,
        verbose: bool = False,
        spew: bool = False,
        returnFailure: bool = True,
        observers: Iterable[Observer] = (),
        contextvars: Iterable[str] = (),
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        @param workers: providers of C{IWorker} to attach at once.
        @param timeout: see L{timeout}. A shutdown's countdown begins with L{shutdown}, calls still
            to be run included.
        @param drainTimeout: for how many seconds calls that are underway may go on after a SIGINT
            or SIGTERM at which the reactor stops; those that wait then fail with C{QueueStopped}. 0
            to wait for none. With C{None} the queue leaves signals to others, who shut it down; if
            nobody does, its workers are crashed. Default: 5, half of what Docker allows.
        @param warn: whether tasks that fail, and what becomes of workers, are logged; see
            L{LoggingObserver}. Their Deferreds fail all the same.
        @param verbose: whether what is logged shows the arguments of calls. It has nothing logged
            by itself.
        @param spew: whether every task is logged, with its arguments and its result. Logs may grow
            huge.
        @param returnFailure: accepted for AsynQueue 0.9's callers. Failures come back always.
        @param observers: see L{addObserver}.
        @param contextvars: the names of context variables whose values travel with every call to
            where it runs: C{"package.module.variable"} or C{"package.module:variable"} each. The
            value is the one that holds where the call is put, if the variable is set there. It must
            be picklable where the call must be.
        @param reactor: the clock and reactor to use. Default: the global reactor.
        @raise ImplementationError: if a worker does not provide C{IWorker}.
        @raise ValueError: if one of C{contextvars} is not the name of a context variable, or
            C{drainTimeout} is negative.
        """
        self.timeout = timeout
        self._engine = self._engineClass(self, reactor, contextvars, drainTimeout)
        self._ending = Ending(
            self._engine.reactor,
            self._engine,
            self._engine.countUnderway,
            self._engine.drain,
            self._engine.cut,
            self._engine.endNow,
            self._engine.abort,
        )
        self._engine.whenStopped(self._stopped)
        self._loadProducers: list[LoadProducer] = []
        if warn or spew:
            self.addObserver(LoggingObserver(verbose=verbose, spew=spew))
        for observer in observers:
            self.addObserver(observer)
        for worker in workers:
            self.attachWorker(worker).addErrback(lambda _: None)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__}: {self._engine.state}, {len(self)} workers, "
            f"{len(self._engine.scheduler)} tasks pending>"
        )

    def __len__(self) -> int:
        """
        How many workers I have.
        """
        return len(self._engine.pool)

    def __bool__(self) -> bool:
        """
        Whether I am running and have a worker.
        """
        return self.isRunning() and len(self) > 0

    def isRunning(self) -> bool:
        """
        @return: C{True} until L{shutdown} is called.
        """
        return self._engine.state == RUNNING

    # Calls ----------------------------------------------------------------------------------------

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
            return self._engine.submit(function, args, NO_KEYWORDS, USUAL).d
        return self._engine.submit(function, args, kw, takeOptions(kw)).d

    def submit(self, function: Callable[..., Any], /, *args: Any, **kw: Any) -> QueuedTask:
        """
        Put a call into the queue, as L{call} does, and get the task itself: its C{id}, C{state},
        times and worker, C{cancel()}, its Deferred C{d}; it can be awaited.
        """
        return self._engine.submit(function, args, kw, takeOptions(kw))

    def options(self, **options: Any) -> CallOptions:
        """
        Name the options first, in order to make calls from which no keyword is taken.

        @param options: any of L{call}'s keywords, and those that C{call} leaves to the function:
            C{retries}, how many times the call is run again if its worker dies with it;
            C{idempotent}, C{True} for one that may be done twice, and is then run up to three
            times; C{stallTimeout}, after how many seconds without a L{report} it fails with
            C{TaskStalled}. A call that may be run again, and whose worker dies each time, fails
            with C{PoisonTask}.
        @return: an object with C{call}, C{submit} and C{map}.
        @raise TypeError: if one of them is no option.
        """
        return CallOptions(self._engine, makeOptions(options))

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
        return startMap(self._engine, function, iterable, window, chunksize, makeOptions(options))

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
        self._engine.checkRunning(f"update({functionName(function)})")
        if "consumer" in kw:
            raise ValueError("an update takes no consumer, for it may have many results")
        ephemeral = kw.pop("ephemeral", False)
        sequential = kw.pop("sequential", False)
        update = Update(function, args, kw, ephemeral, self._engine.captureContext())
        return self._engine.update(update, sequential)

    # Many at once ---------------------------------------------------------------------------------

    @property
    def load(self) -> int:
        """
        How many calls are pending or underway. Updates do not count, nor does an iteration whose
        L{Deferator<asynqueue.iteration.Deferator>} is there.
        """
        return self._engine.scheduler.alive

    def cancelSeries(self, series: Hashable, underway: bool = False) -> int:
        """
        Give up the calls of a series, as if each one's Deferred were cancelled: they fail with
        C{CancelledError}.

        What callbacks put into the queue on hearing of it is not touched.

        @param series: its name; C{None} for the calls that name no series.
        @param underway: whether to give up those too that workers have, as C{task.cancel()} does,
            at its cost. By default only those that wait.
        @return: how many calls were cancelled.
        """
        return self._engine.cancelSeries(series, underway)

    def cancelAll(self, underway: bool = False) -> int:
        """
        Give up all calls, as L{cancelSeries} does those of one series. Updates and iterations are
        not calls.

        @param underway: whether to give up those too that workers have.
        @return: how many calls were cancelled.
        """
        return self._engine.cancelAll(underway)

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
        self._engine.checkRunning(f"attachWorker({worker!r})")
        return self._engine.pool.attach(worker)

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
            unfinished and that were not reassigned. Empty, and at once, for a worker that is not
            attached, or is leaving already.
        """
        record = self._engine.pool.find(workerOrID)
        if record is None:
            return succeed([])
        return self._engine.pool.detach(record, reassign, crash, self.timeout)

    def qualifyWorker(self, worker: Any, series: Hashable) -> None:
        """
        Qualify a worker for one more series.

        @raise ValueError: if it is not attached.
        """
        self._engine.pool.qualify(worker, series)

    def workers(self, ID: int | None = None) -> Any:
        """
        @return: the worker with this ID, or C{None} if there is none; without an ID, a list of all
            workers.
        """
        if ID is None:
            return self._engine.pool.workers
        record = self._engine.pool.find(ID)
        return None if record is None else record.worker

    # Watching -------------------------------------------------------------------------------------

    def addObserver(self, observer: Observer) -> None:
        """
        Have a callable called with an L{Event<asynqueue.Event>} for everything
        that happens from now on to tasks and workers; see
        L{IObserver<asynqueue.interfaces.IObserver>}. One that is an observer already is called once
        all the same.

        @raise TypeError: if it cannot be called.
        """
        self._engine.observers.add(observer)

    def removeObserver(self, observer: Observer) -> None:
        """
        Tell an observer nothing more.

        @raise ValueError: if it is none.
        """
        self._engine.observers.remove(observer)

    def subscribe(self, consumer: Any) -> None:
        """
        Write the C{load} to a consumer whenever it changes: an integer, each time that a call is
        put into the queue, and each time that one is done.

        As in AsynQueue 0.9 only changes are written: what the load is at this moment, C{load}
        tells.

        The consumer gets a push producer, of its own. While that is paused, nothing is written; on
        resuming, the latest figure is, if it is another one than before. After C{stopProducing},
        and when the queue has shut down, the producer is unregistered. What the consumer raises is
        logged. Subscribing it again changes nothing.

        @param consumer: a provider of C{IConsumer}.
        @raise ImplementationError: if it is none.
        @raise RuntimeError: (by the consumer) if it has another producer.
        """
        self._loadProducers = [one for one in self._loadProducers if one.isProducing]
        if all(one.consumer is not consumer for one in self._loadProducers):
            self._loadProducers.append(LoadProducer(self, consumer))

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
        return self._engine.shutdown(self.timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.shutdown()

    def _stopped(self) -> None:
        self._ending.forget()
        producers, self._loadProducers = self._loadProducers, []
        for producer in producers:
            producer.stopProducing()
