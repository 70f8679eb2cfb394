"""
The task queue.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from types import TracebackType
from typing import Any, Self

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from asynqueue.deferreds.endings import DRAIN_SECONDS
from asynqueue.queue.calls import Calls
from asynqueue.queue.endings import EndingQueue
from asynqueue.queue.loadproducer import LoadProducer
from asynqueue.queue.loggingobserver import LoggingObserver
from asynqueue.queue.news import Observer
from asynqueue.queue.queued import QueuedTask
from asynqueue.tasks.states import RUNNING, STOPPED

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


class TaskQueue(Calls, EndingQueue):
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
        super().__init__(reactor, contextvars)
        self.timeout = timeout
        self._endWithProgram(drainTimeout)
        self._loadProducers: list[LoadProducer] = []
        if warn or spew:
            self.addObserver(LoggingObserver(verbose=verbose, spew=spew))
        for observer in observers:
            self.addObserver(observer)
        for worker in workers:
            self.attachWorker(worker).addErrback(lambda _: None)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__}: {self._state}, {len(self._roster)} workers, "
            f"{len(self._scheduler)} tasks pending>"
        )

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
            unfinished and that were not reassigned. Empty, and at once, for a worker that is not
            attached, or is leaving already.
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

    # Watching -------------------------------------------------------------------------------------

    def addObserver(self, observer: Observer) -> None:
        """
        Have a callable called with an L{Event<asynqueue.queue.events.Event>} for everything that
        happens from now on to tasks and workers; see
        L{IObserver<asynqueue.interfaces.IObserver>}. One that is an observer already is called once
        all the same.

        @raise TypeError: if it cannot be called.
        """
        self._news.add(observer)

    def removeObserver(self, observer: Observer) -> None:
        """
        Tell an observer nothing more.

        @raise ValueError: if it is none.
        """
        self._news.remove(observer)

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
        if self._state == STOPPED:
            return succeed(None)
        done = self._beginShutdown(self.timeout).whenDone()
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

    def _stop(self) -> None:
        self._news.tell()
        producers, self._loadProducers = self._loadProducers, []
        for producer in producers:
            producer.stopProducing()
        super()._stop()
