"""
The channel to a child process.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from multiprocessing.context import BaseContext
from typing import Any, Final

from twisted.internet.interfaces import (
    IDelayedCall,
    IReactorFDSet,
    IReactorTime,
    IReadWriteDescriptor,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue._runner import processmain as child
from asynqueue._runner.framing import encode
from asynqueue._runner.messages import Message
from asynqueue._runner.pipes import NearPipe
from asynqueue._workers.launch import ChildProcess, startContext
from asynqueue._workers.procinfo import MemoryWatch
from asynqueue.errors import WorkerStartError
from asynqueue.interfaces import IChannel
from asynqueue.tools.delay import Delay

HANG_UP_SECONDS: Final = 1.0
"""How long a child may live on after it closed its end of the pipe."""

ENDING_SECONDS: Final = 0.001
"""How long to wait before asking again how a child ended that seems to have."""

CHECK_SECONDS: Final = 1.0
"""How often, at the most, the polling asks whether the child has ended although nothing has said
so. What a task has forked may hold open all that would say it."""


FORKED: Final = (
    "the server that starts them is another process's child. This program has forked itself since "
    "it made its first worker, as daemons do: have it make workers when its reactor runs"
)


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
        # A pipe whose writers are gone, with nothing in it to read, ends up here. So does every
        # descriptor when the reactor stops.
        self._readable()

    def logPrefix(self) -> str:
        return "asynqueue"


@implementer(IChannel)
class PipeChannel:
    """
    A child process and the pipe to it.

    The pipe is waited for by polling with exponential back-off, under any reactor. Where the
    reactor watches file descriptors, one that is ready rings the doorbell, and the polling only
    stands by.
    """

    isMortal = True

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        delay: Delay,
        options: child.ChildOptions | None = None,
        context: BaseContext | None = None,
    ) -> None:
        """
        @param reactor: what gives the time and, if it can, watches the pipe.
        @param delay: what waits for the pipe.
        @param options: how the child is to work.
        @param context: how to start the child. Default: L{startContext}.
        """
        self._reactor = reactor
        self._delay = delay
        self._options = child.ChildOptions() if options is None else options
        self._context: Any = startContext() if context is None else context
        self._watcher = reactor if IReactorFDSet.providedBy(reactor) else None
        self._hasSpoken = False
        self._isOver = self._isHushed = False
        self._lastOrders: IDelayedCall | None = None
        self._again: IDelayedCall | None = None
        self._memory = MemoryWatch(reactor.seconds)
        self._checked = float("-inf")
        self._child: ChildProcess | None = None

    @property
    def process(self) -> Any:
        """
        The C{multiprocessing} process, once L{open} was called; an L{EndedProcess} when it is over.
        """
        return None if self._child is None else self._child.process

    @property
    def _launched(self) -> ChildProcess:
        assert self._child is not None
        return self._child

    # IChannel -------------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """
        The child's process ID.
        """
        return None if self._child is None else self._child.process.pid

    @property
    def lastBegun(self) -> int:
        """
        The number of the last call that the child began.
        """
        return 0 if self._child is None else self._child.lastBegun

    def open(self, receiver: Any) -> None:
        """
        Start the child.
        """
        self._receiver = receiver
        try:
            self._child = ChildProcess(self._context, self._options)
        except (OSError, EOFError) as error:
            self._isOver = True
            why = FORKED if isinstance(error, ChildProcessError) else str(error)
            raise WorkerStartError(f"a worker process could not be started: {why}") from error
        self._pipe = NearPipe(self._child.fd)
        self._watch()
        # The child may have said hello already.
        self._isHushed = True
        self._wait()
        self._isHushed = False

    def send(self, messages: list[Message]) -> None:
        """
        Send messages.
        """
        if self._child is None or self._isOver:
            return
        self._pipe.put(encode(messages))
        self._write()
        if self._watcher is None:
            # The back-off starts over; but nothing is to be heard from within this call.
            self._isHushed = True
            self._delay.ring()
            self._isHushed = False

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
        Send the child SIGKILL, and whatever its tasks have started.
        """
        if self._child is not None and not self._isOver:
            self._child.kill()

    def residentKilobytes(self) -> int | None:
        """
        The child's resident memory.
        """
        return None if self._child is None else self._child.residentKilobytes()

    def _signal(self, number: int) -> None:
        if self._child is not None and not self._isOver:
            self._child.signal(number)

    # Waiting for the pipe and the child -----------------------------------------------------------

    def _watch(self) -> None:
        """
        Where the reactor can, have it ring when the pipe has something or the child has ended.
        """
        self._pipeBell = _Bell(self._pipe.fd, self._delay.ring, self._write)
        self._endBell = _Bell(self._launched.endFd, self._childEnded)
        self._mayHaveEnded = self._watcher is None
        if self._watcher is not None:
            self._watcher.addReader(self._pipeBell)
            self._watcher.addReader(self._endBell)

    def _childEnded(self) -> None:
        self._mayHaveEnded = True
        self._delay.ring()
        if not self._isOver and (self._again is None or not self._again.active()):
            # All that it had open is closed, but how it ended is not known yet.
            self._again = self._reactor.callLater(ENDING_SECONDS, self._childEnded)

    def _look(self) -> bool:
        """
        Move what can be moved, both ways; C{True} once the child is gone and all that it said was
        heard.
        """
        if self._isHushed:
            return False
        # In this order: what the child wrote before it ended is in the pipe by the time that it has
        # ended.
        hasEnded = self._shouldCheck() and self._launched.hasEnded
        if not hasEnded:
            self._memory.look(self._launched.residentKilobytes)
        before = self._pipe.transferred
        self._read()
        if self._pipe.hasOutgoing:
            self._write()
        if not hasEnded:
            if self._watcher is None and self._pipe.transferred != before:
                # Where something moved, more may follow: the back-off starts over.
                self._delay.ring()
            return False
        while self._read():
            pass
        self._over()
        return True

    def _shouldCheck(self) -> bool:
        """
        Whether to ask if the child has ended, which costs something.
        """
        if not self._mayHaveEnded:
            now = self._reactor.seconds()
            if now - self._checked < CHECK_SECONDS:
                return False
            self._checked = now
        return True

    def _wait(self) -> None:
        self._delay.untilEvent(self._look).addErrback(self._broke)

    def _broke(self, failure: Failure) -> None:
        """
        What came cannot be dealt with: it makes no sense, or there is no memory for it. Give the
        child up, and wait for its end.
        """
        self.log.failure("{pid} is killed, for the channel to it broke", failure, pid=self.pid)
        if not self._isOver:
            self._pipe.close()
            self._hangUp()
            self.kill()
            self._wait()

    def _read(self) -> bool:
        """
        Hear what the child says; whether it said something.
        """
        if self._pipe.isClosed:
            return False
        messages = self._pipe.read()
        if self._pipe.isClosed:
            self._hangUp()
        if not messages:
            return False
        self._hasSpoken = True
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
        if self._lastOrders is None:
            self._lastOrders = self._reactor.callLater(HANG_UP_SECONDS, self.kill)

    def _over(self) -> None:
        """
        The child is gone, and everything that it said was heard.
        """
        self._isOver = True
        if self._watcher is not None:
            for bell in (self._pipeBell, self._endBell):
                self._watcher.removeReader(bell)
                self._watcher.removeWriter(bell)
        for call in (self._lastOrders, self._again):
            if call is not None and call.active():
                call.cancel()
        self._pipe.close()
        died = self._launched.ended(self._memory)
        reason: Exception = died
        if not self._hasSpoken:
            reason = WorkerStartError(f"{died.death()}, before it could take a call")
        self._receiver.lost(reason)
