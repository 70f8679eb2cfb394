"""
The task queue: the public face of an engine and its pool of workers.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, Self, TypedDict, overload

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from asynqueue._core.keywords import spellsOut
from asynqueue._core.options import USUAL
from asynqueue._core.states import RUNNING
from asynqueue._core.task import NO_KEYWORDS, Size, T, functionName
from asynqueue._iteration.deferator import Deferator
from asynqueue._lifecycle import DRAIN_SECONDS, Ending
from asynqueue._observers import LoggingObserver, Observer
from asynqueue._queue.broadcast import Update
from asynqueue._queue.engine import Engine
from asynqueue._queue.loadproducer import STOPPED, LoadProducer
from asynqueue._queue.map import startMap
from asynqueue._queue.options import CallOptions, makeOptions, takeOptions
from asynqueue._queue.queuedtask import Later, QueuedTask
from asynqueue.admin import openIfWanted
from asynqueue.admin.administrable import Administrable, Showing
from asynqueue.errors import WrongEventLoop
from asynqueue.interfaces import IAdministered, IWorker

if TYPE_CHECKING:
    from asynqueue.admin.server import Administration


class QueueKeywords(TypedDict, total=False):
    """
    The keywords of L{TaskQueue}, but for C{reactor}. Queues with keywords of their own take these
    as well.
    """

    timeout: float | None
    drainTimeout: float | None
    warn: bool
    verbose: bool
    spew: bool
    returnFailure: bool
    observers: Iterable[Observer]
    contextvars: Iterable[str]
    maxPending: int | None


class TaskQueue(Administrable):
    """
    A queue of calls for some workers::

        queue = TaskQueue(ProcessWorker(), ProcessWorker())
        d = queue.call(function, argument, niceness=5)
        ...
        d = queue.shutdown()

    Calls wait here, in order of their priority, until a worker that is qualified for their series
    can take them. A call of a series for which no worker is qualified waits until there is one.

    Call the methods in the reactor's thread only.

    @ivar timeout: how long workers may take to stop, in seconds, before they are crashed; C{None}
        for no limit.
    """

    log = Logger()

    _engineClass: ClassVar[type[Engine]] = Engine

    @spellsOut()
    def __init__(
        self,
        *workers: IWorker,
        timeout: float | None = None,
        drainTimeout: float | None = DRAIN_SECONDS,
        warn: bool = False,
        verbose: bool = False,
        spew: bool = False,
        returnFailure: bool = True,
        observers: Iterable[Observer] = (),
        contextvars: Iterable[str] = (),
        maxPending: int | None = None,
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        @param workers: providers of C{IWorker} to attach at once.
        @param timeout: how many seconds workers may take to stop before they are crashed. In a
            shutdown the time is counted from L{shutdown}, so the calls that are still to be run
            count as well. Default: C{None}, for no limit.
        @param drainTimeout: how many seconds the calls that are underway may go on after a SIGINT
            or SIGTERM that stops the reactor. Waiting calls then fail with C{QueueStopped}. With 0
            the queue waits for no call. With C{None} it ignores signals, and the program has to
            shut it down; if it does not, the workers are crashed. Default: 5 seconds, half of what
            Docker allows.
        @param warn: whether to log tasks that fail, and the events of workers. See
            L{LoggingObserver}. The Deferreds of failed tasks fail all the same. Default: C{False}.
        @param verbose: whether log messages show the arguments of calls. This alone has nothing
            logged. Default: C{False}.
        @param spew: whether to log every task, with its arguments and its result. Logs may grow
            huge. Default: C{False}.
        @param returnFailure: accepted for AsynQueue 0.9's callers. Failures always come back.
        @param observers: observers to add at once. See L{addObserver}.
        @param contextvars: the names of context variables whose values travel with every call to
            its worker, each C{"package.module.variable"} or C{"package.module:variable"}. If the
            variable is set where the call is put into the queue, its value there travels. The value
            must be picklable where the call must be.
        @param maxPending: how many calls may be pending at once. More are refused with
            C{QueueFull}; see L{whenReady}. C{map} waits for room instead. Default: C{None}, for no
            limit.
        @param reactor: the clock and reactor to use. Default: the global reactor.
        @raise TypeError: if there is an unknown keyword.
        @raise ImplementationError: if a worker does not provide C{IWorker}.
        @raise ValueError: if one of C{contextvars} is not the name of a context variable,
            C{drainTimeout} is negative, or C{maxPending} is not a positive integer.
        """
        self.timeout = timeout
        self._engine = self._engineClass(
            type(self).__name__, reactor, contextvars, drainTimeout, maxPending
        )
        self._ending = Ending(
            self._engine.reactor,
            self._engine,
            self._engine.countUnderway,
            self._engine.drain,
            self._engine.cut,
            self._engine.endNow,
            self._engine.abort,
        )
        self._loadProducers: list[LoadProducer] = []
        self._administrations: list[Administration] = []
        stopped = partial(_stopped, self._ending, self._loadProducers, self._administrations)
        self._engine.whenStopped(stopped)
        if warn or spew:
            self.addObserver(LoggingObserver(verbose=verbose, spew=spew))
        for observer in observers:
            self.addObserver(observer)
        for worker in workers:
            self.attachWorker(worker).addErrback(lambda _: None)
        openIfWanted(self)

    def __repr__(self) -> str:
        return repr(self._engine)

    def __del__(self) -> None:
        # There is none if the constructor has refused an argument.
        engine: Engine | None = self.__dict__.get("_engine")
        if engine is None or not engine.isLost:
            return
        try:
            warnings.warn(
                f"{self!r} was dropped without shutdown(). It is shut down when its calls are done",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
        finally:
            engine.dropped(self.timeout)

    def __len__(self) -> int:
        """
        Return the number of attached workers.
        """
        return len(self._engine.pool)

    def __reduce__(self) -> NoReturn:
        """
        @raise TypeError: always.
        """
        raise TypeError(
            f"a queue belongs to its process, so {self!r} cannot be pickled. Perhaps a method of "
            "an object was to be called that has the queue as an attribute: give the call what it "
            "needs instead, or leave the queue out of the object's __getstate__"
        )

    def __bool__(self) -> bool:
        """
        Return whether the queue is running and has a worker.
        """
        return self.isRunning() and len(self) > 0

    def isRunning(self) -> bool:
        """
        Return C{True} until L{shutdown} is called.
        """
        return self._engine.state == RUNNING

    # Calls ----------------------------------------------------------------------------------------

    @overload
    def call(self, function: Callable[..., Later], /, *args: Any, **kw: Any) -> Deferred[Any]: ...

    @overload
    def call(self, function: Callable[..., T], /, *args: Any, **kw: Any) -> Deferred[T]: ...

    def call(self, function: Callable[..., Any], /, *args: Any, **kw: Any) -> Deferred[Any]:
        """
        Put a call into the queue.

        The queue takes the keywords listed here. All others go to the function. Use L{options} to
        pass a function a keyword of one of these names.

        @param function: the function to call. For a worker in another process the function, its
            arguments and its result must be picklable.
        @param args: positional arguments for the function.
        @keyword niceness: an integer from -20 to 20, as in UNIX: lower is more urgent. Default: 0.
        @keyword series: the hashable name of a series. Only workers that are qualified for the
            series run the call. Default: C{None}, for which every worker is qualified.
        @keyword doNext: C{True} to go before everything that waits.
        @keyword doLast: C{True} to go after everything else.
        @keyword timeout: how many seconds the run may take before the call fails with
            C{TaskTimeout}. Default: no limit.
        @keyword consumer: an C{IConsumer} that gets the items, if the function returns an iterator.
        @keyword raw: C{True} to bring an iterator back as it is, which must then be picklable,
            instead of streaming its items. Default: as the worker was made.
        @keyword returnFailure: accepted for AsynQueue 0.9's callers. Failures always come back.
        @return: a Deferred that fires with what the function returned. If that is an iterator, the
            Deferred fires with a L{Deferator<asynqueue.iteration.Deferator>} over the items as soon
            as the first one is there; or, with a consumer, it fires with the consumer after the
            last item. The Deferred fails with what the function raised, with C{WorkerDied} if the
            worker's process died during the call, with C{CallNotPicklable} or another error of
            transport, or with C{QueueStopped}. Cancelling the Deferred gives the call up.
        @raise QueueStopped: after L{shutdown}.
        @raise QueueFull: if C{maxPending} calls are pending.
        @raise ValueError: if an option has a value that it cannot have.
        @raise ImplementationError: if C{consumer} does not provide C{IConsumer}.
        """
        if not kw:
            return self._engine.submit(function, args, NO_KEYWORDS, USUAL).d
        return self._engine.submit(function, args, kw, takeOptions(kw)).d

    @overload
    def submit(self, function: Callable[..., Later], /, *args: Any, **kw: Any) -> QueuedTask: ...

    @overload
    def submit(self, function: Callable[..., T], /, *args: Any, **kw: Any) -> QueuedTask[T]: ...

    def submit(self, function: Callable[..., Any], /, *args: Any, **kw: Any) -> QueuedTask:
        """
        Put a call into the queue, as L{call} does, and return the task. The task has an C{id}, a
        C{state}, times, a worker, a method C{cancel()} and a Deferred C{d}. It can be awaited.

        @return: the task.
        @raise QueueStopped: after L{shutdown}.
        """
        return self._engine.submit(function, args, kw, takeOptions(kw))

    def options(self, **options: Any) -> CallOptions:
        """
        Name the options first, so that all keywords of the calls go to the function.

        @param options: any keyword of L{call}, and four that C{call} leaves to the function.
            C{retries} says how many times the call is run again if its worker dies during it.
            C{idempotent=True} says that it is safe to run the call twice; it is then run up to
            three times. C{retryOn} says after which exceptions of the function the call is run
            again: a type, some types, or a L{Retry<asynqueue.Retry>}, which says how often and
            after which delays, too. C{stallTimeout} says after how many seconds without a L{report}
            the call fails with C{TaskStalled}. A call that may be run again, and whose worker dies
            each time, fails with C{PoisonTask}.
        @return: an object with C{call}, C{submit} and C{map}.
        @raise TypeError: if a keyword is not an option.
        @raise ValueError: if an option has a value that it cannot have.
        @raise ImplementationError: if C{consumer} does not provide C{IConsumer}.
        """
        return CallOptions(self, self._engine, makeOptions(options))

    @overload
    def map(
        self,
        function: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        window: int | None = None,
        chunksize: int | None = None,
        ordered: bool = True,
        returnExceptions: Literal[False] = False,
        **options: Any,
    ) -> Deferator[T]: ...

    @overload
    def map(
        self,
        function: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        window: int | None = None,
        chunksize: int | None = None,
        ordered: bool = True,
        returnExceptions: bool,
        **options: Any,
    ) -> Deferator[T | BaseException]: ...

    def map(
        self,
        function: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        window: int | None = None,
        chunksize: int | None = None,
        ordered: bool = True,
        returnExceptions: bool = False,
        **options: Any,
    ) -> Deferator[Any]:
        """
        Call a function for each item of an iterable, many at a time. With several iterables, call
        it with an item of each, until the shortest is at its end.

        Items are taken out of the iterables only as results are taken. The first call that raises
        ends the iteration, after the results before it. Later items may have been worked on; their
        results are lost. With C{returnExceptions=True} the iteration goes on instead.

        @param function: the function, which is called with one item of each iterable.
        @param iterables: the items. They are taken in the reactor's thread, so this must not block.
        @param window: how many items may be underway or have results that were not taken yet.
            Default: three chunks for each worker.
        @param chunksize: how many items make one task. By default this is fitted to the run times,
            so that a task takes about 20 ms.
        @param ordered: whether the results come in the order of the items. With C{False} the
            results of each chunk come as soon as they are there. Default: C{True}.
        @param returnExceptions: whether to go on after a call that raises. Its exception then comes
            in place of its result. If a chunk fails as a whole, because its worker died or its time
            was over or a result cannot be pickled, its error comes in place of each of its results.
            If an iterable raises, or the queue is shut down before all items were taken, the
            iteration fails all the same. Default: C{False}.
        @param options: the keywords of L{call}, and those of L{options}, but no C{consumer}. A
            C{timeout} is that of a chunk.
        @return: a L{Deferator<asynqueue.iteration.Deferator>} over the results.
        @raise QueueStopped: after L{shutdown}.
        @raise TypeError: if there is no iterable, one of them is not iterable, or a keyword is not
            an option.
        @raise ValueError: if C{window} or C{chunksize} is not a positive integer, an option has a
            value that it cannot have, or there is a C{consumer}.
        """
        return startMap(
            self,
            self._engine,
            function,
            iterables,
            window,
            chunksize,
            makeOptions(options),
            ordered,
            returnExceptions,
        )

    def update(self, function: Callable[..., Any], /, *args: Any, **kw: Any) -> Deferred[list[Any]]:
        """
        Run a call on every worker. Workers that are attached later run it too, before they get any
        task, and so does each new process that replaces one that died.

        @param function: the function to call.
        @param args: positional arguments for the function.
        @keyword ephemeral: C{True} to leave out workers and processes that come later. Default:
            C{False}.
        @keyword sequential: C{True} to run the call on one worker after the other. Default:
            C{False}, for all at once.
        @return: a Deferred that fires when all present workers have run the call, with the list of
            their results in the order in which the workers were attached. If the call fails on some
            of them, the Deferred fails with the first failure in that order. Failures on later
            workers are logged. A worker whose processes die of the same update again and again
            gives up.
        @raise QueueStopped: after L{shutdown}.
        @raise ValueError: if there is a keyword C{consumer}.
        """
        self._engine.checkRunning(f"update({functionName(function)})")
        if "consumer" in kw:
            raise ValueError("an update takes no consumer, because it may have many results")
        ephemeral = kw.pop("ephemeral", False)
        sequential = kw.pop("sequential", False)
        update = Update(function, args, kw, ephemeral, self._engine.captureContext())
        return self._engine.update(update, sequential)

    # Many at once ---------------------------------------------------------------------------------

    @property
    def load(self) -> int:
        """
        The number of calls that are pending or underway. A call whose function returns an iterator
        is underway until its last item has arrived. Updates do not count.
        """
        return self._engine.scheduler.alive

    def size(self) -> Size:
        """
        Return how many calls are underway, and how many are pending. The calls that wait for
        another run because of C{retryOn} are pending. Updates do not count.
        """
        underway = len(self._engine.underway)
        return Size(underway, self.load - underway)

    def seconds(self) -> float:
        """
        Return the time by the queue's clock, in seconds. Tasks and events tell times by it.
        """
        return self._engine.seconds()

    def cancelSeries(self, series: Hashable, underway: bool = False) -> int:
        """
        Cancel the calls of a series, as if each call's Deferred were cancelled. The calls fail with
        C{CancelledError}.

        All tasks are CANCELLED when this returns, before the first callback hears of it. Calls that
        the callbacks put into the queue are not cancelled.

        The Deferreds fire in the order of the series. The Deferreds of the first thousand calls
        fire before this returns. If there are more, the others fire in the reactor's next turns, so
        that none of these takes long. A L{shutdown} waits for them. While Deferreds of an earlier
        cancellation of that kind are still to fire, all of these fire after those.

        @param series: the name of the series; C{None} for the calls that name no series.
        @param underway: whether to cancel the calls that workers have as well, as C{task.cancel()}
            does, which may cost a process each. Default: C{False}, for waiting calls only.
        @return: how many calls were cancelled.
        """
        return self._engine.cancelSeries(series, underway)

    def cancelAll(self, underway: bool = False) -> int:
        """
        Cancel all calls, as L{cancelSeries} cancels those of one series. Updates go on.

        @param underway: whether to cancel the calls that workers have as well. Default: C{False}.
        @return: how many calls were cancelled.
        """
        return self._engine.cancelAll(underway)

    def pause(self) -> None:
        """
        Begin no more calls until L{resume}. New calls are taken on and wait. The calls that workers
        have go on, also those that a worker was sent ahead, and updates are run. Pausing a queue
        that is paused changes nothing. L{shutdown} ends the pause.

        @raise QueueStopped: after L{shutdown}.
        """
        self._engine.pause()

    def resume(self) -> None:
        """
        Begin calls again, after L{pause}.

        @raise QueueStopped: after L{shutdown}.
        """
        self._engine.resume()

    @property
    def paused(self) -> bool:
        """
        Whether the queue is paused.
        """
        return self._engine.scheduler.isPaused

    def tasks(self) -> list[QueuedTask]:
        """
        List the calls that are pending or underway. Updates are not among them.

        The list is a copy, for which each task is looked at once: a million tasks take the reactor
        about a second.

        @return: the tasks that are underway, in the order of putting; then those that wait, in the
            order in which one worker that is qualified for everything would take them; then those
            that wait for another run because of C{retryOn}.
        """
        return self._engine.tasks()

    @property
    def room(self) -> float:
        """
        How many more calls the queue takes now, apart from those that somebody waits to make with
        L{whenReady}: C{math.inf} without C{maxPending}, and 0 or less if the queue is full or was
        shut down.
        """
        return self._engine.room

    def whenReady(self) -> Deferred[None]:
        """
        Wait until the queue has room, if it was made with C{maxPending}.

        @return: a Deferred that fires with C{None} when there is room for another call, at once if
            there is. Of several that wait, as many fire as there is room for, in the order of
            asking. The room is not kept: somebody who calls later than in a callback may find it
            taken. Cancelling the Deferred ends the wait.
        @raise QueueStopped: after L{shutdown}. The Deferreds that wait then fail with it.
        """
        return self._engine.whenReady()

    # Workers --------------------------------------------------------------------------------------

    def attachWorker(self, worker: IWorker) -> Deferred[int]:
        """
        Attach a worker.

        @param worker: a provider of C{IWorker}.
        @return: a Deferred that fires with the worker's ID when it is ready for tasks. It fails
            with C{WorkerDetached} if the worker is detached before that, or with the reason why it
            could not start.
        @raise ImplementationError: if the worker does not provide C{IWorker}.
        @raise InvariantError: if C{cQualified} or C{iQualified} is not a list.
        @raise ValueError: if the worker is attached already.
        @raise QueueStopped: after L{shutdown}. The caller then has to stop the worker.
        """
        if self._engine.state is not RUNNING:
            self._engine.checkRunning(f"attachWorker({worker!r})")
        return self._engine.attach(worker)

    def detachWorker(
        self, workerOrID: IWorker | int | None, reassign: bool = False, crash: bool = False
    ) -> Deferred[list[QueuedTask]]:
        """
        Detach a worker after it has finished its tasks.

        @param workerOrID: the worker, or its ID.
        @param reassign: whether tasks that the worker leaves unfinished, because it is crashed, go
            back into the queue. Tasks that had begun are then run again from their start, so they
            must be safe to do twice. Otherwise all of them fail with C{WorkerDetached}. Default:
            C{False}.
        @param crash: whether to crash the worker at once. Otherwise that happens after L{timeout}
            seconds. Default: C{False}.
        @return: a Deferred that fires when the worker is gone, with a list of the tasks that it
            left unfinished and that were not reassigned. If the worker is not attached, or was
            detached already, the Deferred fires at once with an empty list.
        """
        record = self._engine.pool.find(workerOrID)
        if record is None:
            return succeed([])
        return self._engine.pool.detach(record, reassign, crash, self.timeout)

    def qualifyWorker(self, worker: IWorker, series: Hashable) -> None:
        """
        Qualify a worker for one more series.

        @param worker: the worker.
        @param series: the hashable name of the series.
        @raise ValueError: if the worker is not attached.
        """
        self._engine.pool.qualify(worker, series)

    # A worker of the program has members of its own, so its type is left open.
    @overload
    def workers(self, ID: None = None) -> list[Any]: ...

    @overload
    def workers(self, ID: int) -> Any: ...

    def workers(self, ID: int | None = None) -> Any:
        """
        Look one worker up, or list all.

        @param ID: the ID that L{attachWorker}'s Deferred fired with.
        @return: the worker with this ID, or C{None} if there is none. Without an ID, a list of all
            workers.
        """
        if ID is None:
            return self._engine.pool.workers
        record = self._engine.pool.find(ID)
        return None if record is None else record.worker

    # Watching -------------------------------------------------------------------------------------

    def addObserver(self, observer: Observer) -> None:
        """
        Call an observer with an L{Event<asynqueue.Event>} for everything that happens from now on
        to tasks and workers. See L{IObserver<asynqueue.interfaces.IObserver>}. Adding an observer
        again changes nothing.

        @param observer: a callable.
        @raise TypeError: if it is not callable.
        """
        self._engine.observers.add(observer)

    def removeObserver(self, observer: Observer) -> None:
        """
        Stop calling an observer.

        @param observer: what L{addObserver} was called with.
        @raise ValueError: if it is not an observer of this queue.
        """
        self._engine.observers.remove(observer)

    def subscribe(self, consumer: Any) -> None:
        """
        Write the C{load} to a consumer whenever it changes: an integer, each time that a call is
        put into the queue, and each time that one is done.

        As in AsynQueue 0.9 only changes are written. The present load is not; C{load} has it.

        The consumer gets a push producer of its own. While the producer is paused, nothing is
        written. When it resumes, it writes the latest load if that has changed. The producer is
        unregistered after C{stopProducing}, and when the queue has shut down. Exceptions that the
        consumer raises are logged. Subscribing a consumer again changes nothing.

        @param consumer: a provider of C{IConsumer}.
        @raise ImplementationError: if the consumer does not provide C{IConsumer}.
        @raise RuntimeError: (from the consumer) if it has another producer.
        """
        self._loadProducers[:] = [one for one in self._loadProducers if one.state != STOPPED]
        if all(one.consumer is not consumer for one in self._loadProducers):
            self._loadProducers.append(LoadProducer(self._engine, consumer))

    def _checkAdministrable(self) -> None:
        self._engine.checkRunning("admin")

    def _inspect(self, showing: Showing) -> tuple[IAdministered, IReactorTime]:
        from asynqueue._queue.inspection import QueueInspection

        view = QueueInspection(self, self._engine, showing)
        return view, self._engine.reactor

    # Shutting down --------------------------------------------------------------------------------

    def shutdown(self) -> Deferred[None]:
        """
        Take no more calls, run the calls that the queue has, then stop the workers.

        An iteration that is being consumed goes on to its end. When everything else has ended,
        one from which nothing was ever taken fails with C{IterationStopped}; so does one from which
        nothing was taken for 2 seconds although items are there, because its consumer is paused for
        example. Calls for which no worker is qualified fail with C{QueueStopped}. After L{timeout}
        seconds, all calls and iterations that are left fail.

        @return: a Deferred that fires with C{None} when all workers are gone. Calling this again
            returns another such Deferred.
        """
        return self._engine.shutdown(self.timeout)

    def drain(self) -> Deferred[None]:
        """
        Shut down as at a SIGTERM: refuse new calls, fail those that wait with C{QueueStopped}, and
        let those that are underway end. After C{drainTimeout} seconds these fail, too, because
        their workers are crashed. If C{drainTimeout} is C{None}, there is no limit.

        @return: a Deferred that fires with C{None} when all workers are gone.
        """
        return self._ending.begin("it was asked to drain")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        done = self.shutdown()
        if not done.called and _isAwaitedByAsyncio(sys._getframe(1)):
            # Otherwise asyncio only complains of a bad yield.
            done.addErrback(lambda _: None)
            raise WrongEventLoop(
                self,
                "belongs to Twisted's reactor, and its Deferreds cannot be awaited in a coroutine "
                "of asyncio",
                "import the queue from asynqueue.aio; or, if the program runs on Twisted's asyncio "
                "reactor, await queue.call(...).asFuture(loop), and shut the queue down like that",
            )
        await done


def _isAwaitedByAsyncio(frame: FrameType | None) -> bool:
    """
    Tell whether a task of asyncio awaits a coroutine, with no Deferred in between.

    @param frame: the frame of the coroutine, which is running.
    """
    asyncio = sys.modules.get("asyncio")
    try:
        task = None if asyncio is None else asyncio.current_task()
    except RuntimeError:
        # No loop runs.
        return False
    if task is None:
        return False
    outermost = getattr(task.get_coro(), "cr_frame", None)
    while frame is not None and frame.f_code.co_flags & (CO_COROUTINE | CO_ASYNC_GENERATOR):
        if frame is outermost:
            return True
        frame = frame.f_back
    return False


def _stopped(
    ending: Ending, producers: list[LoadProducer], administrations: list[Administration]
) -> None:
    """
    A queue has stopped, which the program may have dropped.
    """
    ending.forget()
    while administrations:
        administrations.pop().close()
    while producers:
        producer = producers.pop(0)
        try:
            producer.stopProducing()
        except BaseException:
            # The consumer is the program's own. The others are let go all the same.
            TaskQueue.log.failure("{consumer} failed to let go", consumer=producer.consumer)


takesQueueKeywords = spellsOut(TaskQueue.__init__, QueueKeywords.__annotations__)
"""Decorates the C{__init__} of a queue that takes L{QueueKeywords} besides its own."""
