"""
The channel to a child process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.context import BaseContext
from multiprocessing.util import Finalize
from typing import Any, Final

import psutil
from twisted.internet.interfaces import (
    IDelayedCall,
    IReactorFDSet,
    IReactorTime,
    IReadWriteDescriptor,
)
from twisted.logger import Logger
from zope.interface import implementer

from asynqueue.deferreds.delay import Delay
from asynqueue.errors import ProtocolError, WorkerDied, WorkerStartError
from asynqueue.interfaces import IChannel
from asynqueue.universe.framing import decode, encode
from asynqueue.universe.messages import Message
from asynqueue.workers.process import child
from asynqueue.workers.process.begun import SharedNumber
from asynqueue.workers.process.nearpipe import NearPipe

HANG_UP_SECONDS: Final = 1.0
"""How long a child may live on after it closed its end of the pipe."""

SAMPLE_SECONDS: Final = 1.0
"""How often, at the most, the child's memory is looked at."""


def startContext(method: str | None = None) -> BaseContext:
    """
    @param method: a start method of C{multiprocessing}; by default C{forkserver}, or C{spawn} where
        there is none. Never C{fork} by default: a copy of a process with a running reactor is not a
        sound place to work in.
    @return: the context to start children with.
    """
    if method is None:
        known = multiprocessing.get_all_start_methods()
        method = "forkserver" if "forkserver" in known else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([child.__name__])
    return context


@implementer(IReadWriteDescriptor)
class _Bell:
    """
    Tells a channel when a file descriptor is ready.
    """

    def __init__(
        self, fd: int, readable: Callable[[], None], writable: Callable[[], None] | None = None
    ) -> None:
        self._fd = fd
        self._readable = readable
        self._writable = writable

    def fileno(self) -> int:
        return self._fd

    def doRead(self) -> None:
        self._readable()

    def doWrite(self) -> None:
        assert self._writable is not None
        self._writable()

    def connectionLost(self, reason: Any) -> None:
        """The reactor stops. The process is ended by the worker's own trigger."""

    def logPrefix(self) -> str:
        return "asynqueue"


@implementer(IChannel)
class PipeChannel:
    """
    A child process and the pipe to it.

    The pipe is waited for by polling with exponential back-off, under any reactor. Where the
    reactor watches file descriptors, one that is ready rings the doorbell, and the polling only
    stands by.

    @ivar process: the C{multiprocessing} process, once L{open} was called.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        delay: Delay,
        raw: bool = False,
        context: BaseContext | None = None,
    ) -> None:
        """
        @param reactor: what gives the time and, if it can, watches the pipe.
        @param delay: what waits for the pipe.
        @param raw: whether the child brings iterators back as they are, where a call does not say.
        @param context: how to start the child. Default: L{startContext}.
        """
        self._reactor = reactor
        self._delay = delay
        self._raw = raw
        self._context: Any = startContext() if context is None else context
        self._watcher = reactor if IReactorFDSet.providedBy(reactor) else None
        self._hasSpoken = False
        self._isOver = False
        self._lastOrders: IDelayedCall | None = None
        self._resident: int | None = None
        self._sampled = float("-inf")
        self.process: Any = None

    # IChannel
    # --------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """
        The child's process ID.
        """
        return None if self.process is None else self.process.pid

    @property
    def lastBegun(self) -> int:
        """
        The number of the last call that the child began.
        """
        return self._begun.get()

    def open(self, receiver: Any) -> None:
        """
        Start the child.
        """
        self._receiver = receiver
        try:
            self._begun = SharedNumber()
            self._near, far = self._context.Pipe()
            with far:
                self.process = self._context.Process(
                    target=child.main, args=(far, self._begun, self._raw), name="asynqueue worker"
                )
                self.process.start()
        except (OSError, EOFError) as error:
            raise WorkerStartError(f"a worker process could not be started: {error}") from error
        finally:
            if hasattr(self, "_begun"):
                self._begun.sent()
        self._pipe = NearPipe(self._near.fileno())
        self._finalizer = Finalize(self, _killQuietly, args=(self.process,), exitpriority=10)
        self._watch()
        self._delay.untilEvent(self._look).addErrback(self._broke)

    def send(self, messages: list[Message]) -> None:
        """
        Send messages.
        """
        if self._isOver:
            return
        self._pipe.put(encode(messages))
        self._write()
        if self._watcher is None:
            self._delay.ring()

    def nudge(self) -> None:
        """
        Have the child look at its messages.
        """
        if child.NUDGE is not None:
            self._signal(child.NUDGE)

    def terminate(self) -> None:
        """
        Send the child SIGTERM.
        """
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """
        Send the child SIGKILL.
        """
        self._signal(signal.SIGKILL)

    def residentKilobytes(self) -> int | None:
        """
        The child's resident memory.
        """
        try:
            return int(psutil.Process(self.pid).memory_info().rss // 1024)
        except psutil.Error:
            return None

    def _signal(self, number: int) -> None:
        if self._isOver or self.process.exitcode is not None:
            return
        try:
            os.kill(self.process.pid, number)
        except ProcessLookupError:
            # It ended since; the sentinel is about to say so.
            return

    # Waiting for the pipe and the child
    # ------------------------------------------------------------------

    def _watch(self) -> None:
        """
        Where the reactor can, have it ring when the pipe has something or the child has ended.
        """
        self._pipeBell = _Bell(self._pipe.fd, self._delay.ring, self._write)
        self._endBell = _Bell(self.process.sentinel, self._childEnded)
        self._mayHaveEnded = self._watcher is None
        if self._watcher is not None:
            self._watcher.addReader(self._pipeBell)
            self._watcher.addReader(self._endBell)

    def _childEnded(self) -> None:
        self._mayHaveEnded = True
        self._delay.ring()

    def _look(self) -> bool:
        """
        Move what can be moved, both ways; C{True} once the child is gone and all that it said was
        heard.
        """
        # In this order: what the child wrote before it ended is in the pipe by the time that it has
        # ended.
        hasEnded = self._mayHaveEnded and self.process.exitcode is not None
        self._read()
        if self._pipe.hasOutgoing:
            self._write()
        if not hasEnded:
            return False
        while self._read():
            pass
        self._over()
        return True

    def _broke(self, failure: Failure) -> None:
        """
        What came cannot be dealt with: there is no memory for it, say. Give the child up.
        """
        self.log.failure("the channel to worker process {pid} broke", failure, pid=self.pid)
        if not self._isOver:
            self._giveUp()
            self._delay.untilEvent(self._look).addErrback(self._broke)

    def _giveUp(self) -> None:
        self._pipe.close()
        self._hangUp()
        self.kill()

    def _read(self) -> bool:
        """
        Hear what the child says; whether it said something.
        """
        if self._pipe.isClosed:
            return False
        try:
            messages = [message for frame in self._pipe.read() for message in decode(frame)]
        except ProtocolError:
            self.log.failure("worker process {pid} is killed, for it babbles", pid=self.pid)
            self._pipe.close()
            self.kill()
            messages = []
        if self._pipe.isClosed:
            self._hangUp()
        if not messages:
            return False
        self._hasSpoken = True
        self._sampleMemory()
        self._receiver.received(messages)
        return True

    def _write(self) -> None:
        self._pipe.write()
        if self._watcher is not None:
            if self._pipe.hasOutgoing:
                self._watcher.addWriter(self._pipeBell)
            else:
                self._watcher.removeWriter(self._pipeBell)

    def _hangUp(self) -> None:
        """
        The child closed its end. It should be about to end itself.
        """
        if self._watcher is not None:
            self._watcher.removeReader(self._pipeBell)
            self._watcher.removeWriter(self._pipeBell)
        self._lastOrders = self._reactor.callLater(HANG_UP_SECONDS, self.kill)

    def _sampleMemory(self) -> None:
        now = self._reactor.seconds()
        if now - self._sampled >= SAMPLE_SECONDS:
            self._sampled = now
            self._resident = self.residentKilobytes()

    def _over(self) -> None:
        """
        The child is gone, and everything that it said was heard.
        """
        self._isOver = True
        if self._watcher is not None:
            for bell in (self._pipeBell, self._endBell):
                self._watcher.removeReader(bell)
                self._watcher.removeWriter(bell)
        if self._lastOrders is not None and self._lastOrders.active():
            self._lastOrders.cancel()
        self._pipe.close()
        self._near.close()
        pid, status = self.process.pid, self.process.exitcode
        self._finalizer.cancel()
        self.process.join()
        died = WorkerDied(
            pid,
            exitCode=status if status >= 0 else None,
            signal=-status if status < 0 else None,
            residentKilobytes=self._resident,
        )
        reason: Exception = died
        if not self._hasSpoken:
            reason = WorkerStartError(f"{died.death()}, before it could take a call")
        self._receiver.lost(reason)


def _killQuietly(process: Any) -> None:
    """
    The interpreter ends, or nobody has the channel any more.
    """
    if process.exitcode is None:
        process.kill()
