"""
The channel to a child process.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from multiprocessing.context import BaseContext
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IReactorFDSet,
    IReactorTime,
    IReadDescriptor,
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


@implementer(IReadDescriptor)
class _EndWatch:
    """
    Has a reactor tell when a process has ended.
    """

    def __init__(self, fd: int, ended: Callable[[], None]) -> None:
        self._fd = fd
        self._ended = ended

    def fileno(self) -> int:
        return self._fd

    def doRead(self) -> None:
        self._ended()

    def connectionLost(self, reason: Any) -> None:
        # Every descriptor ends up here when the reactor stops.
        self._ended()

    def logPrefix(self) -> str:
        return "asynqueue"


@implementer(IChannel, IReadWriteDescriptor)
class PipeChannel:
    """
    A child process and the pipe to it.

    The pipe is waited for by polling with exponential back-off, which works under every reactor.
    Where the reactor watches file descriptors, it tells when the pipe is ready, and the polling
    stands by for what nothing else tells.
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
        @param delay: what polls.
        @param options: how the child works.
        @param context: how to start the child. Default: L{startContext}.
        """
        self._reactor = reactor
        self._delay = delay
        self._options = child.ChildOptions() if options is None else options
        self._context: Any = startContext() if context is None else context
        self._watcher = reactor if IReactorFDSet.providedBy(reactor) else None
        self._hasSpoken = False
        # While this is set, nothing is to be heard.
        self._isHushed = False
        self._isOver = False
        self._isWriting = False
        # With a reactor that watches, only that says when to ask whether the child has ended.
        self._mayHaveEnded = self._watcher is None
        self._checked = float("-inf")
        self._polled = 0
        self._polling: Deferred[Any] | None = None
        self._hangUpTimer: IDelayedCall | None = None
        self._again: IDelayedCall | None = None
        self._memory = MemoryWatch(reactor.seconds)
        self._child: ChildProcess | None = None

    @property
    def process(self) -> Any:
        """
        The C{multiprocessing} process, once L{open} was called; an L{EndedProcess} when it is over.
        """
        return None if self._child is None else self._child.process

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
        self._endWatch = _EndWatch(self._child.endFd, self._childEnded)
        if self._watcher is not None:
            self._watcher.addReader(self)
            self._watcher.addReader(self._endWatch)
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
        hasRest = self._pipe.send(encode(messages))
        if self._watcher is None:
            # The back-off starts over; but nothing is to be heard from within this call.
            self._isHushed = True
            self._delay.ring()
            self._isHushed = False
        elif hasRest:
            self._watchWriting(True)

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
        Kill the child, and whatever its tasks have started.
        """
        if self._child is not None and not self._isOver:
            self._child.kill()

    def residentKilobytes(self) -> int | None:
        """
        Return the child's resident memory, in kilobytes, or C{None} if it is not there any more.
        """
        return None if self._child is None else self._child.residentKilobytes()

    def _signal(self, number: int) -> None:
        if self._child is not None and not self._isOver:
            self._child.signal(number)

    # IReadWriteDescriptor, for the pipe -----------------------------------------------------------

    def fileno(self) -> int:
        return self._pipe.fd

    def logPrefix(self) -> str:
        return "asynqueue"

    def doRead(self) -> None:
        """
        Hear what the child says.
        """
        try:
            messages = self._pipe.read()
            if messages:
                if not self._hasSpoken:
                    self._hasSpoken = True
                    self._memory.look(self.residentKilobytes)
                self._receiver.received(messages)
        except Exception:
            self._broke(Failure())
            return
        if self._pipe.isClosed:
            self._hangUp()

    def doWrite(self) -> None:
        """
        Write what waits, as far as the pipe takes it.
        """
        self._pipe.write()
        self._watchWriting(self._pipe.hasOutgoing)

    def connectionLost(self, reason: Any) -> None:
        """
        Hear the rest. A pipe whose writers are gone ends up here, and so does every descriptor when
        the reactor stops.
        """
        if not self._isOver:
            self.doRead()

    def _watchWriting(self, isWriting: bool) -> None:
        if self._watcher is None or isWriting == self._isWriting:
            return
        self._isWriting = isWriting
        if isWriting:
            self._watcher.addWriter(self)
        else:
            self._watcher.removeWriter(self)

    # Polling, and the child's end -----------------------------------------------------------------

    def _wait(self) -> None:
        self._polling = self._delay.untilEvent(self._poll)
        self._polling.addErrback(self._pollingFailed)

    def _pollingFailed(self, failure: Failure) -> None:
        if failure.check(CancelledError) is None:
            self._polling = None
            self._broke(failure)

    def _poll(self) -> bool:
        """
        Move what can be moved, both ways, and look whether the child has ended.

        @return: whether all is over.
        """
        if self._isHushed:
            return False
        # In this order, because what the child wrote before it ended is in the pipe by the time
        # that it has ended.
        if self._hasEnded():
            self._end()
        if not self._isOver and not self._pipe.isClosed:
            self.doRead()
            if not self._isOver and self._pipe.hasOutgoing:
                self.doWrite()
            if not self._isOver:
                self._memory.look(self.residentKilobytes)
            if self._pipe.transferred != self._polled:
                # Where something moved, more may follow: the back-off starts over.
                self._polled = self._pipe.transferred
                self._delay.ring()
        return self._isOver

    def _hasEnded(self) -> bool:
        if self._isOver or self._child is None:
            return False
        if not self._mayHaveEnded:
            now = self._reactor.seconds()
            if now - self._checked < CHECK_SECONDS:
                return False
            self._checked = now
        return self._child.hasEnded

    def _childEnded(self) -> None:
        """
        All that the child had open is closed.
        """
        if self._isOver or self._child is None:
            return
        if self._child.hasEnded:
            self._end()
        elif self._again is None or not self._again.active():
            # How it ended is not known yet.
            self._mayHaveEnded = True
            self._again = self._reactor.callLater(ENDING_SECONDS, self._childEnded)

    def _end(self) -> None:
        """
        Hear the rest of what the child said, and let go of it.
        """
        while not self._isOver and not self._pipe.isClosed:
            before = self._pipe.transferred
            self.doRead()
            if self._pipe.transferred == before:
                break
        if not self._isOver:
            self._over()

    def _broke(self, failure: Failure) -> None:
        """
        Give the child up, because what it sent makes no sense or finds no memory, and wait for its
        end.
        """
        if self._isOver:
            return
        self.log.failure("{pid} is killed because its messages are broken", failure, pid=self.pid)
        self._pipe.close()
        self._hangUp()
        self.kill()
        if self._polling is None:
            self._wait()

    def _hangUp(self) -> None:
        """
        Read no more. A child that closed its end is about to end itself.
        """
        if self._watcher is not None:
            self._watcher.removeReader(self)
            self._watchWriting(False)
        if self._hangUpTimer is None and not self._isOver:
            self._hangUpTimer = self._reactor.callLater(HANG_UP_SECONDS, self.kill)

    def _over(self) -> None:
        """
        Let go of everything: the child is gone, and everything that it said was heard.
        """
        assert self._child is not None
        self._isOver = True
        if self._watcher is not None:
            self._watcher.removeReader(self)
            self._watcher.removeReader(self._endWatch)
            self._watchWriting(False)
        for call in (self._hangUpTimer, self._again):
            if call is not None and call.active():
                call.cancel()
        if self._polling is not None:
            self._polling.cancel()
        self._pipe.close()
        died = self._child.ended(self._memory)
        reason: Exception = died
        if not self._hasSpoken:
            reason = WorkerStartError(f"{died.death()}, before it could take a call")
            reason.__cause__ = died
        self._receiver.lost(reason)
