"""
A queue with worker threads of its own, and simpler ways to have something done in a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from asynqueue.deferreds.clock import defaultReactor
from asynqueue.queue.ownworkers import OwnWorkersQueue
from asynqueue.workers.threads import ThreadWorker


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
