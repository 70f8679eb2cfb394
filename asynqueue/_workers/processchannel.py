"""
The channel to a child process.
"""

from __future__ import annotations

import signal
import sys
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
from asynqueue._reactor import turnsOf
from asynqueue._runner.exceptions import describe, explained, withoutFrames
from asynqueue._runner.framing import OpenFrame, Sink, encode
from asynqueue._runner.messages import CALL, QUIT, RAISED, Message
from asynqueue._runner.pipes import NearPipe
from asynqueue._runner.processmain import NUDGE, ChildOptions
from asynqueue._workers.launch import ChildProcess, Launcher, launcherOf, startContext
from asynqueue._workers.procinfo import MemoryWatch
from asynqueue.errors import CallNotPicklable, WorkerDied, WorkerStartError
from asynqueue.interfaces import IChannel
from asynqueue.tools.delay import Delay

HANG_UP_SECONDS: Final = 1.0
"""How long a child may live on after it closed its end of the pipe."""

ENDING_SECONDS: Final = 0.001
"""If a child seems to have ended, but the system cannot tell how yet: how long to wait before
asking again, at first. Each time takes twice as long as the one before, up to C{CHECK_SECONDS},
because the child may live on: only the fork server has ended, and no descriptor says so."""

CHECK_SECONDS: Final = 1.0
"""How often, at the most, the polling asks whether the child has ended although no descriptor says
so. A process that a task has forked may hold the descriptors open."""


START_SECONDS: Final = 60.0
"""How long a child may take until it is ready for calls, where the worker does not say."""

STANDBY_SECONDS: Final = 0.25
"""The first polling interval, in seconds, if the reactor watches the pipe."""


def pollingDelay(reactor: IReactorTime, interval: float, backoff: float) -> Delay:
    """
    Make the intervals of polling a pipe.

    @param interval: the first one, in seconds, if the reactor does not watch the pipe.
    @param backoff: the factor by which each is longer than the last.
    """
    isWatched = IReactorFDSet.providedBy(reactor)
    first = max(interval, STANDBY_SECONDS) if isWatched else interval
    return Delay(first, backoff, reactor=reactor)


NEW: Final = "NEW"
QUEUED: Final = "QUEUED"
ASKED: Final = "ASKED"
STARTED: Final = "STARTED"
SPEAKING: Final = "SPEAKING"
OVER: Final = "OVER"

CHANNEL: Final[Table] = {
    NEW: {"start": QUEUED},
    # Other child processes are starting, and this one waits for its turn.
    QUEUED: {"ask": ASKED, "refuse": OVER, "end": OVER},
    # The system, or the fork server, was asked for the child process.
    ASKED: {"answer": STARTED, "refuse": OVER},
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

    def __init__(
        self, fd: int, pid: int | None, ended: Callable[[], None], stopping: Callable[[], None]
    ) -> None:
        self._fd = fd
        self._pid = pid
        self._ended = ended
        self._stopping = stopping

    def __repr__(self) -> str:
        # Trial shows this if a test leaves a queue open.
        return f"<asynqueue's watch over the worker process {self._pid}>"

    def fileno(self) -> int:
        return self._fd

    def doRead(self) -> None:
        self._ended()

    def connectionLost(self, reason: Failure) -> None:
        # The reactor calls this for every descriptor when it stops.
        self._stopping()

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
    @ivar searchPath: the C{sys.path} of this process when the child was started, which is that of
        the child.
    @ivar passOn: is asked what takes the bytes of large buffers while they arrive from the child.
        It gets the messages whose buffers they are, with empty ones. If it returns C{None}, the
        messages arrive whole. It is set before L{open}. Default: all messages arrive whole.
    """

    isMortal = True
    passOn: Callable[[list[Message], OpenFrame], Sink | None] | None = None

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        delay: Delay,
        options: ChildOptions | None = None,
        context: BaseContext | None = None,
        startTimeout: float = START_SECONDS,
        launcher: Launcher | None = None,
        recordPath: str | None = None,
    ) -> None:
        """
        @param reactor: the clock, which also watches the pipe if it can.
        @param delay: the intervals of the polling.
        @param options: how the child works.
        @param context: the C{multiprocessing} context to start the child with. Default:
            L{startContext}.
        @param startTimeout: after how many seconds a child that has sent nothing is killed.
        @param launcher: says when the child may be started. Default: the one that all workers of
            the reactor share.
        @param recordPath: where a file is made in which the child notes which call it begins, and
            which outlasts it. Default: nowhere.
        """
        self._recordPath = recordPath
        self._launcher = launcherOf(reactor) if launcher is None else launcher
        self._turns = turnsOf(reactor)
        # What was to be sent before the child was there.
        self._early: list[Message] = []
        # Why the child could not be started, and the call that is going to tell it.
        self._refusal: tuple[WorkerStartError, IDelayedCall] | None = None
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
        self._isPaused = False
        self._isWriting = False
        # A reactor that watches descriptors says when to ask whether the child has ended.
        self._mayHaveEnded = self._watcher is None
        self._checked = float("-inf")
        self._polled = 0
        # How many bytes of a frame are going to follow, and what is to be sent after it.
        self._frameLeft = 0
        self._held: list[Message] = []
        # The frames of which the pipe has not taken all: their sizes and messages.
        self._unfinished: list[tuple[int, list[Message]]] = []
        self._polling: Deferred[Any] | None = None
        self._hangUpTimer: IDelayedCall | None = None
        self._again: IDelayedCall | None = None
        self._endingSeconds = ENDING_SECONDS
        self._memory = MemoryWatch(reactor.seconds)
        self._hasDumped = False
        self.searchPath: list[str] = []
        self._child: ChildProcess | None = None
        self._endWatch: _EndWatch | None = None

    @property
    def process(self) -> Any:
        """
        The C{multiprocessing} process, after L{open}; an L{EndedProcess} when it has ended. If it
        waits for its turn to be started, it is started now. C{None} if that failed.
        """
        self._launcher.hurry(self._launch)
        return None if self._child is None else self._child.process

    def pauseReading(self, isPaused: bool) -> None:
        """
        Read nothing from the child for now, so that it waits when the pipe is full, or read again.
        The messages that a child leaves behind at its end are read in any case.
        """
        if isPaused == self._isPaused or not self._isLive or self._pipe.isClosed:
            return
        self._isPaused = isPaused
        if self._watcher is not None:
            (self._watcher.removeReader if isPaused else self._watcher.addReader)(self)

    @property
    def waitingBytes(self) -> int:
        """
        How many bytes the pipe has not taken yet.
        """
        return self._pipe.outgoingBytes if self._isLive else 0

    @property
    def _isLive(self) -> bool:
        return self.state in (STARTED, SPEAKING)

    def _move(self, event: str) -> None:
        self.state = nextState(CHANNEL, self.state, event, self)

    # IChannel -------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        # Trial shows this if a test leaves a queue open.
        return f"<asynqueue's pipe to the worker process {self.pid}: {self.state}>"

    @property
    def pid(self) -> int | None:
        """
        The child's process ID, or C{None} as long as it is not known.
        """
        if self._child is None or self.state in (QUEUED, ASKED):
            return None
        pid: int | None = self._child.process.pid
        return pid

    @property
    def lastBegun(self) -> int:
        """
        The number of the last call that the child began.
        """
        return 0 if self._child is None else self._child.lastBegun

    def open(self, receiver: Any) -> None:
        """
        Start the child, as soon as it is its turn.
        """
        self._receiver = receiver
        self._move("start")
        self._launcher.ask(self._launch)
        if self._refusal is not None:
            (reason, telling), self._refusal = self._refusal, None
            telling.cancel()
            raise reason

    def _launch(self) -> None:
        self.searchPath = [*sys.path]
        try:
            self._child = ChildProcess(self._context, self._options, self._recordPath)
        except (OSError, EOFError) as error:
            self._refuse(error)
            return
        self._move("ask")
        self._startTimer = self._reactor.callLater(self._startTimeout, self._isLate)
        self._pipe = NearPipe(self._child.fd, None if self.passOn is None else self._offer)
        self._watchEnd(self._child.endFd)
        if self._child.hasAnswered:
            self._answer()
        # The child may have sent its hello already.
        self._isHushed = True
        self._wait()
        self._isHushed = False

    def _refuse(self, error: Exception) -> None:
        """
        Be over, because the child could not be started.
        """
        self._move("refuse")
        self._launcher.done(self._launch)
        self._release()
        self._child = None
        reason = WorkerStartError(f"a worker process could not be started: {error}")
        # The frames of a traceback would keep descriptors open.
        reason.__cause__ = withoutFrames(error)
        # Unless it is still being opened, and the caller hears of it.
        self._refusal = reason, self._reactor.callLater(0, self._receiver.lost, reason)

    def _answer(self) -> None:
        """
        Go on with a child that is there.
        """
        assert self._child is not None
        try:
            self._child.answer()
        except (OSError, EOFError) as error:
            self._refuse(error)
            return
        self._move("answer")
        self._watchEnd(self._child.endFd)
        if self._watcher is not None:
            self._watcher.addReader(self)
        early, self._early = self._early, []
        if early:
            self.send(early)

    def _watchEnd(self, fd: int) -> None:
        if self._watcher is not None:
            self._unwatchEnd()
            self._endWatch = _EndWatch(fd, self.pid, self._childEnded, self._endIfEnded)
            self._watcher.addReader(self._endWatch)

    def _unwatchEnd(self) -> None:
        if self._watcher is not None and self._endWatch is not None:
            self._watcher.removeReader(self._endWatch)
            self._endWatch = None

    def send(self, messages: list[Message]) -> None:
        """
        Send messages.
        """
        if self.state in (QUEUED, ASKED):
            # A child that was not asked for is not started only to be told to quit.
            if messages == [(QUIT,)] and self._launcher.isWaiting(self._launch):
                self.kill()
            else:
                self._early += messages
            return
        if not self._isLive:
            return
        if self._frameLeft:
            self._held += messages
            return
        self._write(encode(messages), messages)

    def beginFrame(self, pieces: list[bytes | memoryview], left: int) -> bool:
        """
        Send the beginning of a frame. What L{send} gets then waits until the frame is whole.

        @param left: how many bytes are going to follow through L{continueFrame}.
        @return: C{False} if nothing was sent, because the child is not there yet or has ended.
        """
        if not self._isLive:
            return False
        self._frameLeft = left
        self._write(pieces, [])
        return True

    def continueFrame(self, piece: memoryview) -> None:
        """
        Send more of a frame. The bytes must not change any more.
        """
        if not self._isLive:
            return
        self._write([piece], [])
        self._frameLeft -= len(piece)
        if not self._frameLeft and self._held:
            held, self._held = self._held, []
            self.send(held)

    def _write(self, pieces: list[bytes | memoryview], messages: list[Message]) -> None:
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
        if self.state == QUEUED:
            self._move("end")
            self._launcher.done(self._launch)
            self._reactor.callLater(0, self._receiver.lost, WorkerDied())
        elif self.state == ASKED:
            # It is worth waiting until it is known which process it is.
            self._answer()
        if self._child is not None and self._isLive:
            self._child.kill()

    def residentKilobytes(self) -> int | None:
        """
        Return the child's resident memory, in kilobytes, or C{None} if the child has ended.
        """
        child = None if self.pid is None else self._child
        return None if child is None else child.residentKilobytes()

    def dump(self) -> None:
        """
        Have the child's stacks written into its flight recorder.
        """
        if self._child is not None and self._isLive:
            self._hasDumped = True
            self._child.dump()

    def stacks(self) -> str | None:
        """
        Return what was written there.
        """
        return self._child.dumped if self._child is not None and self._hasDumped else None

    def _isLate(self) -> None:
        if self.state in (ASKED, STARTED):
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
                self._hear(messages)
        except Exception:
            self._broke(Failure())
            return
        if self._pipe.isClosed:
            self._hangUp()

    def _hear(self, messages: list[Message]) -> None:
        if self.state == STARTED:
            self._move("speak")
            self._launcher.done(self._launch)
            self._memory.look(self.residentKilobytes)
        self._receiver.received(messages)

    def _offer(self, before: list[Message], opened: OpenFrame) -> Sink | None:
        assert self.passOn is not None
        if before:
            self._hear(before)
        return self.passOn(opened.messages(), opened)

    def doWrite(self) -> None:
        """
        Write as much of the waiting bytes as the pipe takes.
        """
        try:
            self._pipe.write()
        except OSError as error:
            self._notWritten(error)
            return
        if not self._pipe.hasOutgoing:
            # What was sent is not needed any more.
            self._unfinished.clear()
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
        if self.state == ASKED and self._child is not None and self._child.hasAnswered:
            self._answer()
        # In this order, because a child that has ended has written its last bytes before.
        if self._hasEnded():
            self._end()
        if self._isLive and not self._pipe.isClosed:
            if not self._isPaused:
                self.doRead()
            if self._isLive and self._pipe.hasOutgoing:
                self.doWrite()
            if self._isLive:
                self._memory.look(self.residentKilobytes)
            if self._pipe.transferred != self._polled:
                # The back-off starts over, because more bytes may follow.
                self._polled = self._pipe.transferred
                self._delay.ring()
        return self.state == OVER

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
        The descriptor says that the child is there, or has ended. Many may have ended at once.
        """
        if self.state == ASKED:
            self._answer()
        elif self._isLive:
            self._unwatchEnd()
            self._turns.do(self._endIfEnded)

    def _endIfEnded(self) -> None:
        if self._child is None or not self._isLive:
            return
        if self._child.hasEnded:
            self._end()
        elif self._endWatch is None and self._child.watchAnew():
            self._watchEnd(self._child.endFd)
        elif self._again is None or not self._again.active():
            # The system cannot tell yet how it ended.
            self._mayHaveEnded = True
            self._again = self._reactor.callLater(self._endingSeconds, self._endIfEnded)
            self._endingSeconds = min(2 * self._endingSeconds, CHECK_SECONDS)

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
        self._mayHaveEnded = True
        if self._hangUpTimer is None and self._isLive:
            self._hangUpTimer = self._reactor.callLater(HANG_UP_SECONDS, self.kill)

    def _over(self) -> None:
        """
        Release everything, because the child has ended and its last message was read.
        """
        assert self._child is not None
        hasSpoken = self.state == SPEAKING
        self._move("end")
        self._launcher.done(self._launch)
        self._release()
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

    def _release(self) -> None:
        """
        Watch nothing any more, and stop all timers.
        """
        if self._watcher is not None:
            if self._child is not None:
                self._watcher.removeReader(self)
            self._unwatchEnd()
            self._watchWriting(False)
        for call in (self._hangUpTimer, self._again, self._startTimer):
            if call is not None and call.active():
                call.cancel()
        if self._polling is not None:
            self._polling.cancel()


def _hasBuffers(message: Message) -> bool:
    """
    Whether a message is a call whose arguments have buffers beside the pickle.
    """
    return (
        message[0] == CALL
        and type(message[3]) is tuple
        and any(type(part) is list for part in message[3])
    )
