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

from asynqueue._core.states import Table, nextState
from asynqueue._runner.exceptions import describe, explained, withoutFrames
from asynqueue._runner.framing import encode
from asynqueue._runner.messages import CALL, RAISED, Message
from asynqueue._runner.pipes import NearPipe
from asynqueue._runner.processmain import NUDGE, ChildOptions
from asynqueue._workers.launch import ChildProcess, startContext
from asynqueue._workers.procinfo import MemoryWatch
from asynqueue.errors import CallNotPicklable, WorkerStartError
from asynqueue.interfaces import IChannel
from asynqueue.tools.delay import Delay

HANG_UP_SECONDS: Final = 1.0
"""How long a child may live on after it closed its end of the pipe."""

ENDING_SECONDS: Final = 0.001
"""If a child seems to have ended, but the system cannot tell how yet: how long to wait before
asking again."""

CHECK_SECONDS: Final = 1.0
"""How often, at the most, the polling asks whether the child has ended although no descriptor says
so. A process that a task has forked may hold the descriptors open."""


START_SECONDS: Final = 60.0
"""How long a child may take until it is ready for calls, where the worker does not say."""

NEW: Final = "NEW"
STARTED: Final = "STARTED"
SPEAKING: Final = "SPEAKING"
OVER: Final = "OVER"

CHANNEL: Final[Table] = {
    NEW: {"start": STARTED, "refuse": OVER},
    # The child process is there, and has sent no message yet.
    STARTED: {"speak": SPEAKING, "end": OVER},
    SPEAKING: {"end": OVER},
    # The child has ended, or could not be started.
    OVER: {},
}


@implementer(IReadDescriptor)
class _EndWatch:
    """
    Calls a function when the reactor says that a process has ended.
    """

    def __init__(self, fd: int, ended: Callable[[], None]) -> None:
        self._fd = fd
        self._ended = ended

    def fileno(self) -> int:
        return self._fd

    def doRead(self) -> None:
        self._ended()

    def connectionLost(self, reason: Failure) -> None:
        # The reactor calls this for every descriptor when it stops.
        self._ended()

    def logPrefix(self) -> str:
        return "asynqueue"


@implementer(IChannel, IReadWriteDescriptor)
class PipeChannel:
    """
    A child process and the pipe to it.

    The channel polls the pipe with exponential back-off, which works under every reactor. If the
    reactor watches file descriptors, it tells when the pipe is ready, and the channel polls rarely,
    for the cases that the reactor does not notice.

    @ivar state: a state of L{CHANNEL}.
    """

    isMortal = True

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        delay: Delay,
        options: ChildOptions | None = None,
        context: BaseContext | None = None,
        startTimeout: float = START_SECONDS,
    ) -> None:
        """
        @param reactor: the clock, which also watches the pipe if it can.
        @param delay: the intervals of the polling.
        @param options: how the child works.
        @param context: the C{multiprocessing} context to start the child with. Default:
            L{startContext}.
        @param startTimeout: after how many seconds a child that has sent nothing is killed.
        """
        self._startTimeout = startTimeout
        self._startTimer: IDelayedCall | None = None
        self._lateness: TimeoutError | None = None
        self._reactor = reactor
        self._delay = delay
        self._options = ChildOptions() if options is None else options
        self._context: Any = startContext() if context is None else context
        self._watcher = reactor if IReactorFDSet.providedBy(reactor) else None
        self.state: str = NEW
        # Set while this channel's own methods wake the polling. The caller must not get messages
        # from within its call.
        self._isHushed = False
        self._isWriting = False
        # A reactor that watches descriptors says when to ask whether the child has ended.
        self._mayHaveEnded = self._watcher is None
        self._checked = float("-inf")
        self._polled = 0
        # The frames of which the pipe has not taken all: their sizes and messages.
        self._unfinished: list[tuple[int, list[Message]]] = []
        self._polling: Deferred[Any] | None = None
        self._hangUpTimer: IDelayedCall | None = None
        self._again: IDelayedCall | None = None
        self._memory = MemoryWatch(reactor.seconds)
        self._child: ChildProcess | None = None

    @property
    def process(self) -> Any:
        """
        The C{multiprocessing} process, after L{open}; an L{EndedProcess} when it has ended.
        """
        return None if self._child is None else self._child.process

    @property
    def _isLive(self) -> bool:
        return self.state in (STARTED, SPEAKING)

    def _move(self, event: str) -> None:
        self.state = nextState(CHANNEL, self.state, event, self)

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
            self._move("refuse")
            raise WorkerStartError(f"a worker process could not be started: {error}") from error
        self._move("start")
        self._startTimer = self._reactor.callLater(self._startTimeout, self._isLate)
        self._pipe = NearPipe(self._child.fd)
        self._endWatch = _EndWatch(self._child.endFd, self._childEnded)
        if self._watcher is not None:
            self._watcher.addReader(self)
            self._watcher.addReader(self._endWatch)
        # The child may have sent its hello already.
        self._isHushed = True
        self._wait()
        self._isHushed = False

    def send(self, messages: list[Message]) -> None:
        """
        Send messages.
        """
        if not self._isLive:
            return
        pieces = encode(messages)
        try:
            hasRest = self._pipe.send(pieces)
        except OSError as error:
            self._unfinished.append((sum(map(len, pieces)), messages))
            self._notWritten(error)
            return
        if hasRest:
            self._unfinished.append((sum(map(len, pieces)), messages))
        elif self._unfinished:
            self._unfinished.clear()
        if self._watcher is None:
            # The back-off starts over.
            self._isHushed = True
            self._delay.ring()
            self._isHushed = False
        elif hasRest:
            self._watchWriting(True)

    def nudge(self) -> None:
        """
        Have the child look at its messages.
        """
        if NUDGE is not None:
            self._signal(NUDGE)

    def terminate(self) -> None:
        """
        Send the child SIGTERM.
        """
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """
        Kill the child, and every process that its tasks have started.
        """
        if self._child is not None and self._isLive:
            self._child.kill()

    def residentKilobytes(self) -> int | None:
        """
        Return the child's resident memory, in kilobytes, or C{None} if the child has ended.
        """
        return None if self._child is None else self._child.residentKilobytes()

    def _isLate(self) -> None:
        if self.state == STARTED:
            self._lateness = TimeoutError(
                f"process {self.pid} was not ready for calls within startTimeout, "
                f"{self._startTimeout:g} seconds. Its main module may hang when it is imported"
            )
            self.kill()

    def _signal(self, number: int) -> None:
        if self._child is not None and self._isLive:
            self._child.signal(number)

    # IReadWriteDescriptor, for the pipe -----------------------------------------------------------

    def fileno(self) -> int:
        return self._pipe.fd

    def logPrefix(self) -> str:
        return "asynqueue"

    def doRead(self) -> None:
        """
        Read the child's messages.
        """
        try:
            messages = self._pipe.read()
            if messages:
                if self.state == STARTED:
                    self._move("speak")
                    self._memory.look(self.residentKilobytes)
                self._receiver.received(messages)
        except Exception:
            self._broke(Failure())
            return
        if self._pipe.isClosed:
            self._hangUp()

    def doWrite(self) -> None:
        """
        Write as much of the waiting bytes as the pipe takes.
        """
        try:
            self._pipe.write()
        except OSError as error:
            self._notWritten(error)
            return
        self._watchWriting(self._pipe.hasOutgoing)

    def connectionLost(self, reason: Failure) -> None:
        """
        Read the rest. The reactor calls this if all writers of the pipe are gone, and for every
        descriptor when it stops.
        """
        if self._isLive:
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
        Read and write as much as possible, and ask whether the child has ended.

        @return: whether the polling is over.
        """
        if self._isHushed:
            return False
        # In this order, because a child that has ended has written its last bytes before.
        if self._hasEnded():
            self._end()
        if self._isLive and not self._pipe.isClosed:
            self.doRead()
            if self._isLive and self._pipe.hasOutgoing:
                self.doWrite()
            if self._isLive:
                self._memory.look(self.residentKilobytes)
            if self._pipe.transferred != self._polled:
                # The back-off starts over, because more bytes may follow.
                self._polled = self._pipe.transferred
                self._delay.ring()
        return not self._isLive

    def _hasEnded(self) -> bool:
        if self._child is None or not self._isLive:
            return False
        if not self._mayHaveEnded:
            now = self._reactor.seconds()
            if now - self._checked < CHECK_SECONDS:
                return False
            self._checked = now
        return self._child.hasEnded

    def _childEnded(self) -> None:
        """
        End the channel, because the child's descriptors were closed.
        """
        if self._child is None or not self._isLive:
            return
        if self._child.hasEnded:
            self._end()
        elif self._again is None or not self._again.active():
            # The system cannot tell yet how it ended.
            self._mayHaveEnded = True
            self._again = self._reactor.callLater(ENDING_SECONDS, self._childEnded)

    def _end(self) -> None:
        """
        Read the child's last messages, then release everything.
        """
        while self._isLive and not self._pipe.isClosed:
            before = self._pipe.transferred
            self.doRead()
            if self._pipe.transferred == before:
                break
        if self._isLive:
            self._over()

    def _notWritten(self, error: OSError) -> None:
        """
        Give the child up, because part of a frame was written and the rest cannot be: what follows
        would be read as that rest. The calls whose arguments cannot be read fail, because they
        would break each later child, too.
        """
        left = self._pipe.outgoingBytes
        messages: list[Message] = []
        while self._unfinished and left > 0:
            size, messages = self._unfinished.pop()
            left -= size
        described = describe(explained(CallNotPicklable, "send the call", error))
        answers: list[Message] = [
            (RAISED, message[1], 0.0, described) for message in messages if _hasBuffers(message)
        ]
        # The caller must not get messages from within its call.
        self._reactor.callLater(0, self._receiver.received, answers)
        # The frames of a traceback would keep the buffers.
        self._broke(Failure(withoutFrames(error)))

    def _broke(self, failure: Failure) -> None:
        """
        Kill the child, because its bytes are no messages or there is no memory for them, and wait
        for its end.
        """
        if not self._isLive:
            return
        self.log.failure(
            "worker process {pid} was killed because its messages cannot be read",
            failure,
            pid=self.pid,
        )
        self._pipe.close()
        self._hangUp()
        self.kill()
        if self._polling is None:
            self._wait()

    def _hangUp(self) -> None:
        """
        Read no more, because the child closed its end of the pipe. Kill it if it does not end soon.
        """
        if self._watcher is not None:
            self._watcher.removeReader(self)
            self._watchWriting(False)
        if self._hangUpTimer is None and self._isLive:
            self._hangUpTimer = self._reactor.callLater(HANG_UP_SECONDS, self.kill)

    def _over(self) -> None:
        """
        Release everything, because the child has ended and its last message was read.
        """
        assert self._child is not None
        hasSpoken = self.state == SPEAKING
        self._move("end")
        if self._watcher is not None:
            self._watcher.removeReader(self)
            self._watcher.removeReader(self._endWatch)
            self._watchWriting(False)
        for call in (self._hangUpTimer, self._again, self._startTimer):
            if call is not None and call.active():
                call.cancel()
        if self._polling is not None:
            self._polling.cancel()
        self._pipe.close()
        died = self._child.ended(self._memory)
        reason: Exception = died
        if not hasSpoken:
            why = self._child.refusal
            reason = WorkerStartError(
                f"{died.death()}, before it could take a call{(why and f': {why}') or ''}"
            )
            if self._lateness is not None:
                reason = WorkerStartError(str(self._lateness))
            reason.__cause__ = self._lateness or died
        self._receiver.lost(reason)


def _hasBuffers(message: Message) -> bool:
    """
    Whether a message is a call whose arguments have buffers beside the pickle.
    """
    return (
        message[0] == CALL
        and type(message[3]) is tuple
        and any(type(part) is list for part in message[3])
    )
