"""
Queues that make their workers themselves: processes, threads, the main loop, or servers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from multiprocessing.context import BaseContext
from typing import Any, ClassVar, TypeVar, Unpack
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IReactorTime

from asynqueue._core.checks import checkCount
from asynqueue._queue.queuedtask import QueuedTask
from asynqueue._queue.taskqueue import QueueKeywords, TaskQueue, takesQueueKeywords
from asynqueue._reactor import defaultReactor
from asynqueue._runner.codecs import PicklerName
from asynqueue._workers.local import AsyncWorker
from asynqueue._workers.process import ProcessWorker
from asynqueue._workers.processchannel import START_SECONDS
from asynqueue._workers.threads import ThreadWorker

_Item = TypeVar("_Item")


class OwnWorkersQueue(TaskQueue):
    """
    The base of queues that make their workers themselves.

    @cvar workerClass: the class of the workers. A subclass sets it.
    """

    workerClass: ClassVar[type[ProcessWorker | ThreadWorker]]

    def __init__(
        self,
        N: int,
        reactor: IReactorTime | None,
        workerOptions: dict[str, Any],
        options: QueueKeywords,
    ) -> None:
        """
        Start the workers.

        @param N: the number of workers.
        @param reactor: the reactor to use, or C{None} for the global reactor.
        @param workerOptions: the other keywords for L{workerClass}.
        @param options: the other keywords for L{TaskQueue}.
        @raise ValueError: if N is not a positive integer.
        """
        checkCount("the number of workers", N)
        super().__init__(reactor=reactor, **options)
        self._workerOptions = {**workerOptions, "reactor": reactor}
        # The caller waits for a call or an update, rather than for the workers.
        self.resize(N).addErrback(lambda _: None)

    def resize(self, N: int) -> Deferred[None]:
        """
        Change the number of workers. If there are too many, the last ones finish the calls that
        they have and leave.

        @param N: the new number of workers.
        @return: a Deferred that fires with C{None} when the new workers are ready and the
            superfluous ones are gone. It fails with the reason why a worker could not start.
        @raise ValueError: if N is not a positive integer.
        @raise QueueStopped: after C{shutdown}.
        """
        checkCount("the number of workers", N)
        self._engine.checkRunning("resize")
        workers = self._own()
        changes: list[Deferred[Any]] = [self.detachWorker(worker) for worker in workers[N:]]
        for _ in range(N - len(workers)):
            changes.append(self.attachWorker(self.workerClass(**self._workerOptions)))
        return DeferredList(changes, consumeErrors=True).addCallback(_firstFailure)

    def crashWorkers(self) -> Deferred[list[QueuedTask]]:
        """
        Crash all workers, busy or not, and detach them. Waiting calls go on waiting, until
        L{resize} or L{attachWorker} provides new workers.

        @return: a Deferred that fires when the workers are gone, with a list of the tasks that they
            left unfinished. These tasks fail with C{WorkerDetached}.
        """
        gone = [self.detachWorker(worker, crash=True) for worker in self._own()]
        return DeferredList(gone).addCallback(_allOf)

    def stats(self) -> Deferred[list[tuple[float, float]]]:
        """
        Collect the times of the calls that the workers have run.

        @return: a Deferred that fires with one list of the C{stats} of all workers: pairs of
            seconds. The list is empty unless the queue was made with C{callStats=True}.
        """
        gathered = DeferredList([worker.stats() for worker in self._own()])
        return gathered.addCallback(_allOf)

    def _own(self) -> list[Any]:
        """
        Return the workers that this queue made. Workers of other classes may have been attached.
        """
        return [worker for worker in self.workers() if isinstance(worker, self.workerClass)]


def _firstFailure(outcomes: list[tuple[bool, object]]) -> Any:
    return next((result for succeeded, result in outcomes if not succeeded), None)


def _allOf(outcomes: list[tuple[bool, list[_Item]]]) -> list[_Item]:
    return [item for _, items in outcomes for item in items]


class ProcessQueue(OwnWorkersQueue):
    """
    A L{TaskQueue} with some L{ProcessWorker}s::

        async with ProcessQueue() as queue:
            print(await queue.call(function, argument))

    A process that does not stop within C{timeout} seconds is killed.
    """

    workerClass: ClassVar[type[ProcessWorker]] = ProcessWorker

    @takesQueueKeywords
    def __init__(
        self,
        N: int | None = None,
        *,
        series: Iterable[Hashable] = (),
        raw: bool = False,
        callStats: bool = False,
        useReactor: bool = False,
        context: BaseContext | None = None,
        forwardLogs: bool = True,
        maxTasks: int | None = None,
        maxKilobytes: int | None = None,
        preload: Iterable[str] = (),
        startTimeout: float = START_SECONDS,
        pickler: PicklerName = "pickle",
        reactor: IReactorTime | None = None,
        **options: Unpack[QueueKeywords],
    ) -> None:
        """
        Start the processes. L{ProcessWorker} describes the keywords from C{series} to
        C{pickler} at length, and L{TaskQueue} those of C{options}.

        @param N: the number of processes. Default: C{None}, for as many as L{cores} says.
        @param series: the series that all processes are qualified for, besides C{None},
            C{'process'} and C{'local'}.
        @param raw: whether an iterator that a task returns is brought back as it is, where the call
            does not say. Default: C{False}; its items are streamed.
        @param callStats: whether to keep the times that C{stats} returns. Default: C{False}.
        @param useReactor: whether the processes run a reactor. Default: C{False}.
        @param context: the C{multiprocessing} context to start processes with. Default: the
            C{forkserver} method, or C{spawn} where there is none.
        @param forwardLogs: whether log messages of the processes are logged in this one. Default:
            C{True}.
        @param maxTasks: after how many tasks a process is replaced by a new one. Default: never.
        @param maxKilobytes: above how many kilobytes of resident memory a process is replaced.
            Default: never.
        @param preload: the names of modules that are loaded once for all processes.
        @param startTimeout: within how many seconds a new process has to be ready for calls.
            Default: 60.
        @param pickler: C{"pickle"}, or C{"cloudpickle"} to send functions and classes by value that
            the processes cannot import. Default: C{"pickle"}.
        @param reactor: the reactor to use. Default: the global reactor.
        @param options: C{timeout}, C{drainTimeout}, C{warn}, C{verbose}, C{spew}, C{observers} and
            C{contextvars}, as for L{TaskQueue}.
        @raise ValueError: if N is not a positive integer, or another number is not valid, or
            C{preload} is given together with another start method than C{forkserver}, or there
            is no such pickler.
        @raise TypeError: if C{preload} is not a list of texts, or there is an unknown keyword.
        @raise ExtraMissing: if the pickler is not installed.
        """
        workerOptions = {
            "series": [*series],
            "raw": raw,
            "callStats": callStats,
            "useReactor": useReactor,
            "context": context,
            "forwardLogs": forwardLogs,
            "maxTasks": maxTasks,
            "maxKilobytes": maxKilobytes,
            "preload": preload,
            "startTimeout": startTimeout,
            "pickler": pickler,
        }
        super().__init__(self.cores() if N is None else N, reactor, workerOptions, options)

    @classmethod
    def cores(cls) -> int:
        """
        Return how many processor cores this program may use: those of its affinity, as C{taskset}
        sets it, or fewer if the quota of its control group, as of a container, allows fewer. A part
        of a core counts as one.
        """
        return cls.workerClass.cores()


class ThreadQueue(OwnWorkersQueue):
    """
    A L{TaskQueue} with some L{ThreadWorker}s.

    With one thread, which is the default, no two calls ever run at once, so their data needs no
    lock.

    A busy thread can hold up a shutdown for C{timeout} seconds, by default without limit. Then it
    is left behind.
    """

    workerClass: ClassVar[type[ThreadWorker]] = ThreadWorker

    @takesQueueKeywords
    def __init__(
        self,
        N: int = 1,
        *,
        series: Iterable[Hashable] = (),
        raw: bool = False,
        callStats: bool = False,
        debug: bool | None = None,
        reactor: IReactorTime | None = None,
        **options: Unpack[QueueKeywords],
    ) -> None:
        """
        Start the threads. L{ThreadWorker} describes C{debug} at length, and L{TaskQueue} the
        keywords of C{options}.

        @param N: the number of threads. Default: 1.
        @param series: the series that all threads are qualified for, besides C{None}, C{'thread'}
            and C{'local'}.
        @param raw: whether an iterator that a task returns comes back as it is, where the call does
            not say. Default: C{False}; its items are streamed.
        @param callStats: whether to keep the times that C{stats} returns. Default: C{False}.
        @param debug: whether tasks that touch the reactor are stopped with C{ReactorTouched}.
            Default: whether Python runs in its development mode.
        @param reactor: the reactor to use. Default: the global reactor.
        @param options: C{timeout}, C{drainTimeout}, C{warn}, C{verbose}, C{spew}, C{observers} and
            C{contextvars}, as for L{TaskQueue}.
        @raise ValueError: if N is not a positive integer, or C{drainTimeout} is negative.
        @raise TypeError: if there is an unknown keyword.
        """
        workerOptions = {
            "series": [*series],
            "raw": raw,
            "callStats": callStats,
            "debug": debug,
        }
        super().__init__(N, reactor, workerOptions, options)

    @property
    def worker(self) -> ThreadWorker | None:
        """
        The first of the queue's own workers; C{None} if all are gone.
        """
        return next(iter(self._own()), None)

    def deferToThread(self, f: Callable[..., Any], *args: Any, **kw: Any) -> Deferred[Any]:
        """
        Call a function in a thread, before everything that waits.

        @param f: the function.
        @param args: positional arguments for the function.
        @param kw: the keywords of L{TaskQueue.call}, and those of the function.
        @return: a Deferred, as C{call} returns it.
        @raise QueueStopped: after C{shutdown}.
        """
        return self.call(f, *args, **{**kw, "doNext": True})


class ThreadLooper:
    """
    Calls functions in one thread, one at a time, in the order of the calls.

    A L{ThreadQueue} with one thread does this too, and has many more methods.
    """

    def __init__(
        self,
        raw: bool = False,
        reactor: IReactorTime | None = None,
        debug: bool | None = None,
    ) -> None:
        """
        Start the thread.

        @param raw: whether an iterator that a function returns is brought back as it is, rather
            than as a L{Deferator<asynqueue.iteration.Deferator>}, where the call does not say.
        @param reactor: the reactor to use. Default: the global reactor.
        @param debug: see L{ThreadWorker}.
        """
        self._queue = ThreadQueue(1, raw=raw, reactor=reactor, debug=debug)

    @property
    def threadRunning(self) -> bool:
        """
        Whether the thread takes calls.
        """
        return bool(self._queue)

    def deferToThread(self, f: Callable[..., Any], *args: Any, **kw: Any) -> Deferred[Any]:
        """
        Call a function in the thread.

        @param f: the function.
        @param args: positional arguments for the function.
        @param kw: the keywords of the function, and those of L{TaskQueue.call}, such as
            C{doNext=True} to go before the calls that wait, or a C{consumer} of the items if the
            function returns an iterator.
        @return: a Deferred, as L{TaskQueue.call} returns it.
        @raise QueueStopped: after L{stop}.
        """
        queue = self._queue
        if queue.isRunning() and not len(queue):
            # The thread could not start, because the system had none left. It may have one by now.
            queue.resize(1).addErrback(lambda _: None)
        return queue.call(f, *args, **kw)

    call = deferToThread

    def stop(self) -> Deferred[None]:
        """
        Run the calls that wait, end the iterations, then end the thread.

        @return: a Deferred that fires with C{None} when the thread has ended.
        """
        return self._queue.shutdown()


_loopers: WeakKeyDictionary[Any, ThreadLooper] = WeakKeyDictionary()
"""The thread of L{deferToThread} for each reactor. L{deferToThread} is a function that is called
without an object, so its thread has to be kept here."""


def deferToThread(f: Callable[..., Any] | None = None, *args: Any, **kw: Any) -> Deferred[Any]:
    """
    Call a function in one thread that all callers of C{deferToThread} share. It runs the calls one
    at a time, in their order. The first call starts the thread.

    @param f: the function. C{None} ends the thread after the calls that wait. The next call starts
        another thread.
    @param args: positional arguments for the function.
    @param kw: keywords, as for L{ThreadLooper.deferToThread}.
    @return: a Deferred, as L{TaskQueue.call} returns it. Without a function, a Deferred that fires
        with C{None} when the thread has ended, or at once if there is none.
    """
    reactor = defaultReactor()
    if f is None:
        looper = _loopers.pop(reactor, None)
        return succeed(None) if looper is None else looper.stop()
    looper = _loopers.get(reactor)
    if looper is None:
        looper = _loopers[reactor] = ThreadLooper()
    return looper.deferToThread(f, *args, **kw)


class NullQueue(TaskQueue):
    """
    A L{TaskQueue} that runs its calls in the main loop. Use it to queue calls that do not block,
    because they return a Deferred or a coroutine::

        async with NullQueue(slots=10) as queue:
            page = await queue.call(fetch, url, niceness=5)
    """

    @takesQueueKeywords
    def __init__(
        self,
        *,
        slots: int = 1,
        raw: bool = False,
        series: Iterable[Hashable] = (),
        reactor: IReactorTime | None = None,
        **options: Unpack[QueueKeywords],
    ) -> None:
        """
        @param slots: how many calls may be underway at once, waiting for their Deferreds. Default:
            1.
        @param raw: whether an iterator that a call returns is its result as it is, rather than a
            L{Deferator<asynqueue.iteration.Deferator>}, where the call does not say. Default:
            C{False}.
        @param series: the series of calls that the queue runs, besides C{None}, C{'async'} and
            C{'local'}.
        @param reactor: the reactor to use. Default: the global reactor.
        @param options: the other keywords of L{TaskQueue}.
        @raise ValueError: if C{slots} is not a positive integer, or C{drainTimeout} is negative.
        """
        worker = AsyncWorker(series, raw=raw, slots=slots, reactor=reactor)
        super().__init__(worker, reactor=reactor, **options)
