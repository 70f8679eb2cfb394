"""
A queue for tests of code that uses one.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, ClassVar, Unpack

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from asynqueue._core.checks import checkCount
from asynqueue._queue.engine import Engine
from asynqueue._queue.queuedtask import QueuedTask, TaskDeferred
from asynqueue._queue.taskqueue import QueueKeywords, TaskQueue
from asynqueue._runner.messages import Message
from asynqueue.testing.instant import InstantReactor
from asynqueue.testing.memory import MemoryChannel, MemoryWorker


class SynchronousDeferred(TaskDeferred):
    """
    The Deferred of a call. When a callback that is added here runs at once and makes a call, that
    call runs when the callback has returned, and not on top of it.
    """

    reactor: InstantReactor

    def addCallbacks(self, *args: Any, **kw: Any) -> Any:
        return self.reactor.operate(super().addCallbacks, *args, **kw)

    def addCallback(self, *args: Any, **kw: Any) -> Any:
        return self.reactor.operate(super().addCallback, *args, **kw)

    def addErrback(self, *args: Any, **kw: Any) -> Any:
        return self.reactor.operate(super().addErrback, *args, **kw)

    def addBoth(self, *args: Any, **kw: Any) -> Any:
        return self.reactor.operate(super().addBoth, *args, **kw)


class SynchronousChannel(MemoryChannel):
    """
    A channel to a runner in this process that does at once what it can.
    """

    # Nobody waits for a call that has been given up: its runner goes on as soon as it may.
    isMortal = False

    _reactor: InstantReactor

    def send(self, messages: list[Message]) -> None:
        """
        See L{IChannel<asynqueue.interfaces.IChannel>}.
        """
        self._reactor.operate(super().send, messages)
        # Nobody looks at what was sent, and it may be large.
        self.sent.clear()

    def advance(self) -> None:
        """
        The far half of a step.
        """
        if not self._reactor.isHeld:
            super().advance()

    def _pump(self) -> None:
        self._reactor.unlessHeld(super()._pump)


class SynchronousWorker(MemoryWorker):
    """
    A worker of a L{SynchronousQueue}. It is qualified for what a worker in a child process is.
    """

    cQualified: ClassVar[list[Hashable]] = ["process", "local"]
    channelClass = SynchronousChannel


class SynchronousEngine(Engine):
    """
    An engine whose work is done before whoever asks for it goes on.
    """

    reactor: InstantReactor

    def submit(self, *args: Any, **kw: Any) -> QueuedTask:
        return self.reactor.operate(self._submitHere, *args, **kw)

    def _submitHere(self, *args: Any, **kw: Any) -> QueuedTask:
        task = super().submit(*args, **kw)
        # It has not run yet, so nobody else has its Deferred.
        d: Any = task.d
        d.__class__ = SynchronousDeferred
        d.reactor = self.reactor
        return task

    def wake(self) -> None:
        self.reactor.operate(super().wake)


class SynchronousQueue(TaskQueue):
    """
    A L{TaskQueue<asynqueue.TaskQueue>} for tests: by the time that C{call} returns, the function
    has run, in this process, and the Deferred has fired::

        class ThumbnailTests(SynchronousTestCase):
            def test_oneForEachPicture(self):
                queue = SynchronousQueue()
                d = makeThumbnails(queue, ["a.png", "b.png"])
                self.assertEqual(self.successResultOf(d), 2)

    No reactor is touched, and no process or thread is started. But functions, arguments, results,
    exceptions and items travel through pickles, just as they do to a child process and back, so
    that what cannot travel fails here with the same errors. What this does not show: that a child
    process can import the function (here its module is imported already), and code that relies on
    global variables being shared, or not shared, with the caller.

    Time stands still, unless the test moves L{clock}: C{queue.clock.advance(5)}. A call takes no
    time. To see what happens while calls are underway, L{hold} them.

    Items of an iterator are made as far as the taker's credit goes, and then as they are taken.

    A call that is made by a callback of another call's Deferred, or by a consumer, runs when that
    callback has returned. So its Deferred may have not fired yet when C{call} returns; and a call
    that leads to the next, ten thousand times, is no deep recursion.

    If a function returns a coroutine, that runs in an event loop of C{asyncio}, as in a child
    process; so no such loop may be running in this thread already.

    @ivar clock: the clock that gives the time, for tasks' timeouts and all else.
    """

    _engineClass: ClassVar[type[Engine]] = SynchronousEngine

    def __init__(
        self,
        N: int = 1,
        *,
        series: tuple[Hashable, ...] = (),
        raw: bool = False,
        callStats: bool = False,
        clock: Clock | None = None,
        **options: Unpack[QueueKeywords],
    ) -> None:
        """
        @param N: the number of workers, which is the number of results of an update, and says how
            calls are distributed while they are held.
        @param series: the series that all workers are qualified for, besides C{None}, C{'process'}
            and C{'local'}.
        @param raw: whether an iterator that a task returns comes back as it is, where the call does
            not say. Default: C{False}.
        @param callStats: whether the workers keep the times of calls. Default: C{False}.
        @param clock: the clock. Default: a new C{twisted.internet.task.Clock}.
        @param options: the keywords of L{TaskQueue<asynqueue.TaskQueue>}, such as C{timeout},
            except for C{reactor}.
        @raise ValueError: if N is not a positive integer.
        @raise TypeError: if there is another keyword.
        """
        checkCount("the number of workers", N)
        # TaskQueue gets a reactor from here, and would complain of two.
        if "reactor" in options:
            raise TypeError("a SynchronousQueue takes a clock instead of a reactor")
        self.clock = Clock() if clock is None else clock
        self._instant = InstantReactor(self.clock)
        super().__init__(reactor=self._instant, **options)
        for _ in range(N):
            worker = SynchronousWorker(
                series, raw=raw, callStats=callStats, reactor=self._instant, stepSeconds=0.0
            )
            self.attachWorker(worker).addErrback(lambda _: None)

    # Holding --------------------------------------------------------------------------------------

    def hold(self) -> None:
        """
        From now on, let workers be given calls but run none, nor produce items, until L{release}:
        to test what happens before a call's Deferred fires, such as a timeout or a cancellation.
        """
        self._instant.isHeld = True

    def release(self) -> None:
        """
        Run what was held, before this returns, and what comes from now on.
        """
        self._instant.release()

    # At once --------------------------------------------------------------------------------------

    def update(self, *args: Any, **kw: Any) -> Deferred[list[Any]]:
        """
        See L{TaskQueue<asynqueue.TaskQueue>}.
        """
        return self._instant.operate(super().update, *args, **kw)

    def attachWorker(self, worker: Any) -> Deferred[int]:
        """
        See L{TaskQueue<asynqueue.TaskQueue>}.
        """
        return self._instant.operate(super().attachWorker, worker)

    def detachWorker(
        self, workerOrID: Any, reassign: bool = False, crash: bool = False
    ) -> Deferred[list[QueuedTask]]:
        """
        See L{TaskQueue<asynqueue.TaskQueue>}.
        """
        return self._instant.operate(super().detachWorker, workerOrID, reassign, crash)

    def shutdown(self) -> Deferred[None]:
        """
        See L{TaskQueue<asynqueue.TaskQueue>}. It is over when this returns, even if calls were
        held: they are released.
        """
        done = self._instant.operate(super().shutdown)
        self.release()
        return done
