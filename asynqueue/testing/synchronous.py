"""
A queue that does its work at once, for tests of code that uses a queue.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Hashable
from typing import Any, ClassVar, TypeVar, Unpack

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Clock
from zope.interface import implementer

from asynqueue._core.checks import checkCount
from asynqueue._queue.engine import Engine
from asynqueue._queue.queuedtask import QueuedTask
from asynqueue._queue.taskqueue import QueueKeywords, TaskQueue, takesQueueKeywords
from asynqueue._runner.messages import Message
from asynqueue._waiters import TaskDeferred
from asynqueue._workers.process import ProcessWorker
from asynqueue.interfaces import IWorker
from asynqueue.testing.memory import MemoryChannel, MemoryWorker

_T = TypeVar("_T")


@implementer(IReactorTime)
class InstantReactor:
    """
    Makes the calls that are due at once before L{operate} returns, and leaves later ones to a
    clock.

    @ivar isHeld: whether the functions given to L{unlessHeld} are held back.
    """

    def __init__(self, clock: Clock) -> None:
        self.isHeld = False
        self._held: dict[Callable[[], object], None] = {}
        self._clock = clock
        # The calls that are due. The time of this clock stands still.
        self._due = Clock()
        self._isOperating = False

    def seconds(self) -> float:
        """
        See C{twisted.internet.interfaces.IReactorTime}.
        """
        return self._clock.seconds()

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kwargs: object
    ) -> IDelayedCall:
        """
        See C{twisted.internet.interfaces.IReactorTime}.
        """
        if delay > 0:
            return self._clock.callLater(delay, self.operate, callable, *args, **kwargs)
        return self._due.callLater(0, callable, *args, **kwargs)

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """
        See C{twisted.internet.interfaces.IReactorTime}.
        """
        return [*self._due.getDelayedCalls(), *self._clock.getDelayedCalls()]

    def operate(self, function: Callable[..., _T], *args: object, **kw: object) -> _T:
        """
        Call a function, then make all calls that are due. If this is called again meanwhile, it
        only calls its function, and the outer call makes the calls that are due. So calls that
        lead to one another do not recurse deeply.

        @return: what the function returns.
        """
        if self._isOperating:
            return function(*args, **kw)
        self._isOperating = True
        try:
            try:
                return function(*args, **kw)
            finally:
                self._due.advance(0)
        finally:
            self._isOperating = False

    def unlessHeld(self, function: Callable[[], object]) -> None:
        """
        Call a function now or, while L{isHeld}, once at L{release}.
        """
        if self.isHeld:
            self._held[function] = None
        else:
            function()

    def release(self) -> None:
        """
        Call the functions that were held back, and make all calls that are due.
        """
        self.isHeld = False
        self.operate(self._callHeld)

    def _callHeld(self) -> None:
        held, self._held = self._held, {}
        for function in held:
            function()


class SynchronousDeferred(TaskDeferred):
    """
    The Deferred of a call. If a callback runs as soon as it is added, and puts a call into the
    queue, that call runs when the callback has returned rather than on top of it.
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
    A channel to a runner in this process that does all its work at once.
    """

    # A runner goes on as soon as it may, so no time passes in which a call could be stopped.
    isMortal = False

    _reactor: InstantReactor

    def send(self, messages: list[Message]) -> None:
        """
        See L{IChannel<asynqueue.interfaces.IChannel>}.
        """
        self._reactor.operate(super().send, messages)
        # Only tests of workers look at these messages, and they may be large.
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
    A worker of a L{SynchronousQueue}, qualified for the series of a worker in a child process.
    """

    cQualified: ClassVar[list[Hashable]] = ["process", "local"]
    channelClass = SynchronousChannel


class SynchronousEngine(Engine):
    """
    An engine that has done its work when a call of its methods returns.
    """

    reactor: InstantReactor

    # Nothing outlives a queue that was dropped.
    isLost = False

    def submit(self, *args: Any, **kw: Any) -> QueuedTask:
        return self.reactor.operate(self._submitHere, *args, **kw)

    def _submitHere(self, *args: Any, **kw: Any) -> QueuedTask:
        task = super().submit(*args, **kw)
        # The task has not run yet, so no other code has its Deferred.
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

    It touches no reactor, and starts no process or thread. Functions, arguments, results,
    exceptions and items are pickled and unpickled, as on their way to a child process and back, so
    a value that cannot travel fails here with the same error. This queue does not show whether a
    child process can import the function, because here its module is imported already. Nor does it
    show mistakes of code that shares global variables with the caller, or relies on not sharing
    them.

    Time stands still unless the test moves L{clock}, as with C{queue.clock.advance(5)}. A call
    takes no time. Use L{hold} to see what happens while calls are underway.

    An iterator makes as many items as its credit allows, then others as items are taken.

    A call that a callback of another call's Deferred makes, or a consumer, runs when that callback
    has returned. Its Deferred may therefore not have fired when C{call} returns. Ten thousand calls
    that each lead to the next do not recurse deeply.

    If a function returns a coroutine, that runs in an event loop of C{asyncio}, as in a child
    process. So no such loop may be running in this thread already.

    @ivar clock: the clock of the queue, for the timeouts of tasks and everything else.
    """

    _engineClass: ClassVar[type[Engine]] = SynchronousEngine

    @takesQueueKeywords
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
        @raise TypeError: if there is an unknown keyword. C{reactor} is one, because the queue takes
            a C{clock} instead.
        """
        checkCount("the number of workers", N)
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
        From now on, give workers their calls, but have them run no call and produce no items until
        L{release}. Use this to test what happens before a call's Deferred fires, such as a timeout
        or a cancellation.
        """
        self._instant.isHeld = True

    def release(self) -> None:
        """
        Run all calls that were held, before this returns, and run later calls at once.
        """
        self._instant.release()

    # At once --------------------------------------------------------------------------------------

    def update(self, *args: Any, **kw: Any) -> Deferred[list[Any]]:
        """
        See L{TaskQueue<asynqueue.TaskQueue>}.
        """
        return self._instant.operate(super().update, *args, **kw)

    def attachWorker(self, worker: IWorker) -> Deferred[int]:
        """
        See L{TaskQueue<asynqueue.TaskQueue>}.
        """
        return self._instant.operate(super().attachWorker, worker)

    def detachWorker(
        self, workerOrID: IWorker | int | None, reassign: bool = False, crash: bool = False
    ) -> Deferred[list[QueuedTask]]:
        """
        See L{TaskQueue<asynqueue.TaskQueue>}.
        """
        return self._instant.operate(super().detachWorker, workerOrID, reassign, crash)

    def shutdown(self) -> Deferred[None]:
        """
        See L{TaskQueue<asynqueue.TaskQueue>}. The shutdown is over when this returns. If calls
        were held, it releases them.
        """
        done = self._instant.operate(super().shutdown)
        self.release()
        return done


def killWorker(queue: TaskQueue, number: int = 0) -> None:
    """
    Kill a worker of a queue, as SIGKILL or the system's lack of memory does. The call that it was
    running fails with C{WorkerDied}, or is run again if it may be. The worker gets a new runner.

    A real process is killed at once. If the call has not begun there, the next one runs it. In a
    L{SynchronousQueue}, where calls are over before anybody can do anything,
    L{hold<SynchronousQueue.hold>} them first. The first call that the worker has then counts as one
    that was running, and the death is noticed with L{release<SynchronousQueue.release>}.

    @param queue: the queue.
    @param number: which of the queue's workers, counted from 0.
    @raise TypeError: if the worker is neither a process nor one in memory. A thread cannot be
        killed.
    @raise IndexError: if there is no such worker.
    """
    worker = queue.workers()[number]
    if isinstance(worker, MemoryWorker):
        # Without this, the runner would tell that it had begun nothing.
        worker.channel.tellsBegun = False
        if isinstance(queue, SynchronousQueue):
            queue._instant.operate(worker.die, signal.SIGKILL)
        else:
            worker.die(signal.SIGKILL)
    elif isinstance(worker, ProcessWorker):
        os.kill(worker.process.pid, signal.SIGKILL)
    else:
        raise TypeError(f"{worker!r} has no process that could be killed")
