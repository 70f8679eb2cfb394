"""
The queues of one event loop of asyncio, and the reactor that they share. Signals drain them, and
the end of the loop ends those that the program has not shut down.

The loop runs everything. The reactor is an adapter of it: nobody calls the reactor's C{run}, it
installs no signal handlers, and it is not Twisted's global reactor.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import warnings
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any, Final, TypeGuard, TypeVar
from weakref import WeakKeyDictionary, finalize

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import Deferred
from twisted.internet.posixbase import PosixReactorBase

from asynqueue._dispatch.rdq import ResizableDispatchQueue
from asynqueue._lifecycle import Handler, drainAll
from asynqueue._queue.taskqueue import TaskQueue

_T = TypeVar("_T")

Queue = TaskQueue | ResizableDispatchQueue

END_SECONDS: Final = 5.0
"""How long the end of a loop waits for queues that nobody has shut down. Killing a process takes
some milliseconds."""


class LoopReactor(AsyncioSelectorReactor):
    """
    Twisted's reactor on a loop that the program runs. The loop goes on when the reactor stops.

    @ivar loop: the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.loop = loop
        self.startRunning(installSignalHandlers=False)

    def crash(self) -> None:
        # AsyncioSelectorReactor's own would stop the loop.
        PosixReactorBase.crash(self)

    def callFromThread(  # type: ignore[override]
        self, callable: Callable[..., object], *args: object, **kwargs: object
    ) -> None:
        # A thread may come late, when the loop is closed.
        with suppress(RuntimeError):
            super().callFromThread(callable, *args, **kwargs)  # type: ignore[no-untyped-call]

    def startCoroutine(self, coroutine: Coroutine[Any, Any, _T]) -> Deferred[_T]:
        """
        Run a coroutine as a task of the loop, where it may await asyncio's own awaitables.
        """
        return Deferred.fromFuture(self.loop.create_task(coroutine))

    def release(self) -> None:
        """
        Give back everything that this has in the loop.
        """
        if self.running:
            self.fireSystemEvent("shutdown")
        self.removeReader(self.waker)  # type: ignore[no-untyped-call]
        self._internalReaders.discard(self.waker)
        self.waker.connectionLost(None)
        if self._timerHandle is not None:
            self._timerHandle.cancel()


class LoopQueues:
    """
    The queues of one event loop that have not ended, and their reactor.

    @ivar reactor: the reactor; C{None} while there is no queue.
    """

    def __init__(self) -> None:
        self.reactor: LoopReactor | None = None
        # For each queue, the finalizer of the object that the program has.
        self._open: dict[Queue, finalize[Any, Any]] = {}
        # Reactors that no queue uses any more.
        self._leaving: list[LoopReactor] = []
        # The signal handlers that were there before.
        self._before: dict[int, Handler] = {}
        # A signal that is to end the process when the loop has ended.
        self._last: int | None = None
        # A second signal that came before the first one has had any effect.
        self._second: int | None = None
        # Is set when the last queue has ended, while the loop ends.
        self._allEnded: asyncio.Event | None = None
        # asyncio closes the asynchronous generators that are left when a loop ends. Nothing else
        # tells of that.
        self._generator = self._watchLoop()
        with suppress(StopIteration):
            self._generator.asend(None).send(None)

    def getReactor(self) -> LoopReactor:
        """
        @return: the reactor of the running loop.
        """
        if self.reactor is None:
            self.reactor = LoopReactor(asyncio.get_running_loop())
        return self.reactor

    def add(self, face: object, queue: Queue) -> None:
        """
        Take note of a new queue.

        @param face: the object that the program has.
        @param queue: the queue that it stands for.
        """
        dropped = finalize(face, self._collected, asyncio.get_running_loop(), queue)
        dropped.atexit = False
        self._open[queue] = dropped
        queue._ending.whenOver = lambda: self._remove(queue)
        if queue._ending.owner.drainTimeout is not None:
            self._listen()

    def _remove(self, queue: Queue) -> None:
        dropped = self._open.pop(queue, None)
        if dropped is None:
            return
        dropped.detach()
        if self._open:
            return
        if self._allEnded is not None:
            self._allEnded.set()
        if self.reactor is not None and not self.reactor.loop.is_closed():
            # The reactor may be the caller.
            self.reactor.loop.call_soon(self._release)
        self._leave()

    def _leave(self) -> None:
        if self.reactor is not None:
            self._leaving.append(self.reactor)
            self.reactor = None

    def _release(self) -> None:
        # A signal that comes now still finds a reactor.
        if not self._open:
            self._listenNoMore()
        leaving, self._leaving = self._leaving, []
        for reactor in leaving:
            reactor.release()

    # Queues that nobody shuts down ----------------------------------------------------------------

    def _end(self, queue: Queue, why: str) -> None:
        """
        End a queue, and wait for nothing that is underway.
        """
        queue._ending.drain(why).addErrback(lambda _: None)
        queue._ending.cut(why).addBoth(lambda _: self._remove(queue))

    def _collected(self, loop: asyncio.AbstractEventLoop, queue: Queue) -> None:
        """
        The program has dropped a queue that has not ended. This may be any thread.
        """
        why, name = "it was garbage-collected", repr(queue)
        try:
            loop.call_soon_threadsafe(self._end, queue, why)
        except RuntimeError:
            # The loop was closed without its shutdown_asyncgens, so L{_loopEnds} was not called.
            queue._ending.abort()
        _warn([name], why)

    async def _watchLoop(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self._loopEnds()

    async def _loopEnds(self) -> None:
        why = "its event loop ended"
        names = [repr(queue) for queue, dropped in self._open.items() if dropped.detach()]
        if self._open:
            self._allEnded = asyncio.Event()
            for queue in [*self._open]:
                self._end(queue, why)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._allEnded.wait(), END_SECONDS)
        self._open.clear()
        self._leave()
        self._release()
        # A warning may be an exception.
        _warn(names, why)
        if self._last is not None:
            signal.raise_signal(self._last)

    # Signals --------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """
        Handle the signals that only asyncio or Python handles.
        """
        if threading.current_thread() is not threading.main_thread() or self._before:
            return
        before = signal.getsignal(signal.SIGINT)
        if before is signal.default_int_handler or _isOfRunner(before):
            self._before[signal.SIGINT] = before
            signal.signal(signal.SIGINT, self._signalled)
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._before[signal.SIGTERM] = signal.SIG_DFL
            signal.signal(signal.SIGTERM, self._signalled)

    def _listenNoMore(self) -> None:
        """
        Bring back the handlers that were there before. A handler that the program has installed
        meanwhile stays.
        """
        found, self._before = self._before, {}
        for number, before in found.items():
            if signal.getsignal(number) == self._signalled:
                # asyncio's own is of no use any more when its main task has ended.
                isUseless = _isOfRunner(before) and before.keywords["main_task"].done()
                signal.signal(number, signal.default_int_handler if isUseless else before)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        # The last queue may have ended in this turn of the loop.
        reactor = self.reactor or self._leaving[-1]
        if reactor._exitSignal is None:
            reactor._exitSignal = number
            reactor.loop.call_soon_threadsafe(self._drain, reactor, number)
        else:
            self._second = number

    def _drain(self, reactor: LoopReactor, number: int) -> None:
        def passOn(_: object) -> None:
            reactor.loop.call_soon(self._passOn, number)

        drainAll(reactor, number).addBoth(passOn)
        if self._second is not None:
            signal.raise_signal(self._second)

    def _passOn(self, number: int) -> None:
        """
        Let a signal take the effect that it would have had without queues. These have drained.
        """
        self._release()
        self._listenNoMore()
        interrupt = signal.getsignal(signal.SIGINT)
        if not _isOfRunner(interrupt):
            signal.raise_signal(number)
            return
        if number != signal.SIGINT:
            self._last = number
        # This cancels the main task. If that has ended by now, it raises KeyboardInterrupt.
        interrupt(number, None)


def _isOfRunner(handler: object) -> TypeGuard[partial[object]]:
    """
    Tell whether a handler is the one of C{asyncio.run}, which cancels the main task.
    """
    return isinstance(getattr(getattr(handler, "func", None), "__self__", None), asyncio.Runner)


def _warn(names: list[str], why: str) -> None:
    for name in names:
        warnings.warn(
            f"{name} was not shut down before {why}. Use it with 'async with', or await its "
            "shutdown() or stop()",
            ResourceWarning,
            stacklevel=2,
        )


_byLoop: WeakKeyDictionary[asyncio.AbstractEventLoop, LoopQueues] = WeakKeyDictionary()
"""A loop has no place for objects of others."""


def queuesOfLoop() -> LoopQueues:
    """
    @return: the queues of the running loop.
    @raise RuntimeError: if no loop runs in this thread.
    """
    loop = asyncio.get_running_loop()
    queues = _byLoop.get(loop)
    if queues is None:
        queues = _byLoop[loop] = LoopQueues()
    return queues
