"""
Queues that make their workers themselves: processes, threads, or the main loop.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IReactorTime

from asynqueue._core.checks import checkCount
from asynqueue._queue.queuedtask import QueuedTask
from asynqueue._queue.taskqueue import KEYWORDS, TaskQueue
from asynqueue._reactor import defaultReactor
from asynqueue._workers.local import AsyncWorker
from asynqueue._workers.process import ProcessWorker
from asynqueue._workers.threads import ThreadWorker


class OwnWorkersQueue(TaskQueue):
    """
    The base of queues that make their workers themselves. A subclass says what they are.

    @cvar workerClass: makes a worker of keywords: C{callStats}, C{reactor} and what else its
        constructor takes.
    """

    workerClass: ClassVar[Any]

    def __init__(
        self,
        N: int,
        *,
        callStats: bool = False,
        reactor: IReactorTime | None = None,
        **options: Any,
    ) -> None:
        """
        Start the workers.

        @param N: how many.
        @param callStats: whether to keep the times that L{stats} returns.
        @param reactor: the reactor to use. Default: the global reactor.
        @param options: L{TaskQueue}'s other keywords, and the worker class's, for every worker.
        @raise ValueError: if N is not a positive integer.
        """
        checkCount("the number of workers", N)
        own = {name: options.pop(name) for name in KEYWORDS & options.keys()}
        super().__init__(reactor=reactor, **own)
        self._workerOptions = {**options, "callStats": callStats, "reactor": reactor}
        # Whoever waits for the workers waits for a call, or an update.
        self.resize(N).addErrback(lambda _: None)

    def resize(self, N: int) -> Deferred[None]:
        """
        Change the number of workers. Those that are too many finish the calls that they have.

        @return: a Deferred that fires when the new workers are ready and the superfluous ones are
            gone.
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
        Crash all my workers, busy or not, and detach them. Calls that wait go on waiting, for
        workers that are attached later or for L{resize}.

        @return: a Deferred that fires when they are gone, with the tasks that they left unfinished,
            which fail with C{WorkerDetached}.
        """
        gone = [self.detachWorker(worker, crash=True) for worker in self._own()]
        return DeferredList(gone).addCallback(_allOf)

    def stats(self) -> Deferred[list[tuple[float, float]]]:
        """
        @return: a Deferred that fires with the C{stats} of all my workers in one list. Empty unless
            I was made with C{callStats=True}.
        """
        gathered = DeferredList([worker.stats() for worker in self._own()])
        return gathered.addCallback(_allOf)

    def _own(self) -> list[Any]:
        """
        My workers, but for those of other kinds that somebody has attached.
        """
        return [worker for worker in self.workers() if isinstance(worker, self.workerClass)]


def _firstFailure(outcomes: list[tuple[bool, Any]]) -> Any:
    return next((result for succeeded, result in outcomes if not succeeded), None)


def _allOf(outcomes: list[tuple[bool, list[Any]]]) -> list[Any]:
    """
    Several lists in one.
    """
    return [item for _, items in outcomes for item in items]


class ProcessQueue(OwnWorkersQueue):
    """
    A L{TaskQueue} with some L{ProcessWorker}s::

        async with ProcessQueue(ProcessQueue.cores()) as queue:
            print(await queue.call(function, argument))

    Its C{timeout} says after how many seconds processes that do not stop are killed.
    """

    workerClass: ClassVar[Any] = ProcessWorker

    @classmethod
    def cores(cls) -> int:
        """
        @return: how many processor cores this program may use.
        """
        number: int = cls.workerClass.cores()
        return number


class ThreadQueue(OwnWorkersQueue):
    """
    A L{TaskQueue} with L{ThreadWorker}s.

    One thread, as by default, is of use in itself: no two of its calls ever run at once, so what
    they work on needs no lock.

    Its C{timeout} says how long a busy thread may hold up a shutdown, in seconds, before it is left
    behind; by default, for ever.
    """

    workerClass: ClassVar[Any] = ThreadWorker

    def __init__(self, N: int = 1, **options: Any) -> None:
        """
        Start the threads.

        @param N: how many.
        @param options: C{callStats}, C{reactor}, L{TaskQueue}'s other keywords and
            L{ThreadWorker}'s, such as C{raw} and C{debug}.
        @raise ValueError: if N is not a positive integer.
        """
        super().__init__(N, **options)

    @property
    def worker(self) -> ThreadWorker | None:
        """
        The first of the queue's workers; C{None} if all are gone.
        """
        return next(iter(self._own()), None)

    def deferToThread(self, f: Callable[..., Any], *args: Any, **kw: Any) -> Deferred[Any]:
        """
        Call a function in a thread, before everything that waits.

        @param kw: L{TaskQueue.call}'s keywords and the function's.
        @return: a Deferred, as C{call} returns it.
        """
        return self.call(f, *args, **{**kw, "doNext": True})


class ThreadLooper:
    """
    A thread to call functions in, one at a time, in the order of the calls.

    It is a L{ThreadQueue} of one thread, without the rest.
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
        self._options: dict[str, Any] = {"raw": raw, "reactor": reactor, "debug": debug}
        self._queue = ThreadQueue(**self._options)

    @property
    def threadRunning(self) -> bool:
        """
        Whether the thread takes calls.
        """
        return bool(self._queue)

    def deferToThread(self, f: Callable[..., Any], *args: Any, **kw: Any) -> Deferred[Any]:
        """
        Call a function in the thread.

        @param kw: the function's keywords; and C{doNext=True} to go before the calls that wait,
            C{consumer} for an C{IConsumer} of the items if the function returns an iterator, C{raw}
            and L{TaskQueue.call}'s other ones.
        @return: a Deferred, as L{TaskQueue.call} returns it.
        @raise QueueStopped: after L{stop}.
        """
        queue = self._queue
        if queue.isRunning() and not len(queue):
            # The system had no thread left to give. It may have by now.
            worker = ThreadWorker(**self._options)
            queue.attachWorker(worker).addErrback(lambda _: None)
        return queue.call(f, *args, **kw)

    call = deferToThread

    def stop(self) -> Deferred[None]:
        """
        Run the calls that wait, end the iterations, then end the thread.

        @return: a Deferred that fires with C{None} when it has ended.
        """
        return self._queue.shutdown()


_loopers: WeakKeyDictionary[Any, ThreadLooper] = WeakKeyDictionary()
"""The thread of L{deferToThread}, for each reactor that has needed one. It has to be kept
somewhere, since the function is to be called without an object to call it on."""


def deferToThread(f: Callable[..., Any] | None = None, *args: Any, **kw: Any) -> Deferred[Any]:
    """
    Call a function in a thread that all calls of this share, one at a time, in the order of the
    calls. The first call starts the thread.

    @param f: the function. Without one, the thread is ended, after the calls that wait; the next
        call starts another.
    @param args: its arguments.
    @param kw: its keywords, and those of L{ThreadLooper.deferToThread}.
    @return: a Deferred, as L{TaskQueue.call} returns it; without a function, one that fires with
        C{None} when the thread has ended, if there is one.
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
    A L{TaskQueue} that runs its calls in the main loop, so that what does not block can be queued
    too: what returns a Deferred, or a coroutine::

        async with NullQueue(slots=10) as queue:
            page = await queue.call(fetch, url, niceness=5)
    """

    def __init__(
        self,
        *,
        slots: int = 1,
        raw: bool = False,
        series: Iterable[Hashable] = (),
        **kw: Any,
    ) -> None:
        """
        @param slots: how many calls may be underway at once, waiting for their Deferreds.
        @param raw: whether an iterator that a call returns is its result as it is, rather than a
            L{Deferator<asynqueue.iteration.Deferator>}, where the call does not say.
        @param series: the series that may be run, besides C{None}, C{'async'} and C{'local'}.
        @param kw: L{TaskQueue}'s keywords.
        @raise ValueError: if C{slots} is not a positive integer.
        """
        worker = AsyncWorker(series, raw=raw, slots=slots, reactor=kw.get("reactor"))
        super().__init__(worker, **kw)
