"""
What runs in a worker's child process.
"""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import sys
import time
from multiprocessing.connection import Connection
from typing import Any, Final

from asynqueue.universe.framing import FrameDecoder, decode, encode
from asynqueue.universe.messages import Message
from asynqueue.universe.universe import Universe
from asynqueue.workers.process.begun import SharedNumber

NUDGE: Final = getattr(signal, "SIGURG", None)
"""The signal that has a busy child look at its messages. Its default is to be ignored, so that it
does no harm to a process that does not expect it."""

LOOK_SECONDS: Final = 0.002
"""How long a child with calls in hand goes on before it looks for more messages."""


class FarPipe:
    """
    The far end of the pipe, which blocks.

    @ivar isClosed: C{True} once the near end is gone.
    @ivar isWaitedFor: C{True} while nothing else is done but waiting for it.
    """

    def __init__(self, fd: int) -> None:
        self.isClosed = False
        self.isWaitedFor = False
        self._fd = fd
        self._decoder = FrameDecoder()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    def post(self, message: Message) -> None:
        """
        Write one message, to the last byte.
        """
        pieces = encode([message])
        if len(pieces) == 1:
            piece = pieces[0]
            written = os.write(self._fd, piece)
            if written == len(piece):
                return
            pieces = [memoryview(piece)[written:]]
        for piece in pieces:
            left = memoryview(piece)
            while left:
                left = left[os.write(self._fd, left) :]

    def hasInput(self) -> bool:
        """
        Whether L{read} would not wait.
        """
        return bool(self._poll.poll(0))

    def read(self) -> list[Message]:
        """
        Wait for something to come, and read it.

        @return: the messages that are now complete; maybe none.
        """
        count = os.readv(self._fd, [self._decoder.space()])
        if not count:
            self.isClosed = True
            return []
        messages: list[Message] = []
        for segments in self._decoder.filled(count):
            messages += decode(segments)
        return messages


def main(connection: Connection, life: Connection, begun: SharedNumber, raw: bool) -> None:
    """
    Run the calls that come over a pipe, until told to quit or the near end is gone.

    @param connection: the pipe's far end.
    @param life: the far end of another pipe, on which nothing is ever sent.
    @param begun: where to note the call that begins.
    @param raw: whether iterators are brought back as they are, where a call does not say.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        # It was held back until it is ignored.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    dieWith(life)
    if sys.stderr is not None:
        faulthandler.enable()
    pipe = FarPipe(connection.fileno())
    universe = Universe(pipe.post, begin=begun.set, raw=raw)
    _heedSignals(pipe, universe)
    try:
        universe.hello()
        _serve(pipe, universe)
    except (BrokenPipeError, ConnectionResetError):
        # The near end is gone, and with it everybody who could want a result.
        return


def _serve(pipe: FarPipe, universe: Universe) -> None:
    clock = time.perf_counter
    looked = clock()
    while not universe.ended and not pipe.isClosed:
        if not universe.hasWork:
            universe.receive(_waitForMessages(pipe, universe))
            looked = clock()
        elif clock() - looked >= LOOK_SECONDS:
            if pipe.hasInput():
                universe.receive(pipe.read())
            looked = clock()
        universe.step()
    universe.close()


def _waitForMessages(pipe: FarPipe, universe: Universe) -> list[Message]:
    """
    Read, in a way that SIGTERM puts an end to. What that leaves unread was not begun.
    """
    pipe.isWaitedFor = True
    try:
        # SIGTERM may have come just before.
        return [] if universe.ended else pipe.read()
    except _NoMoreWaiting:
        return []
    finally:
        pipe.isWaitedFor = False


class _NoMoreWaiting(BaseException):
    """
    Raised by SIGTERM in a child that waits for its next message.
    """


def _heedSignals(pipe: FarPipe, universe: Universe) -> None:
    isReading = mustRead = False

    def nudged(number: int, frame: Any) -> None:
        nonlocal isReading, mustRead
        # Between tasks the loop reads for itself, and must not be disturbed while it does. Nor must
        # this handler be by the signals that come meanwhile: it reads again for them.
        mustRead = True
        if universe.running is None or isReading:
            return
        while mustRead:
            isReading, mustRead = True, False
            try:
                while pipe.hasInput() and not pipe.isClosed:
                    universe.receive(pipe.read())
            finally:
                isReading = False
        universe.interrupt()

    def terminated(number: int, frame: Any) -> None:
        universe.terminate()
        if pipe.isWaitedFor:
            raise _NoMoreWaiting

    signal.signal(signal.SIGTERM, terminated)
    if NUDGE is not None:
        signal.signal(NUDGE, nudged)
        # Where a task is in a system call of a library, let that go on rather than fail.
        signal.siginterrupt(NUDGE, False)


def dieWith(life: Connection) -> None:
    """
    On Linux, have the kernel kill this process as soon as the near end of a pipe is closed, even if
    it is busy then. That happens when the near process ends, in whatever way, whether or not it is
    this one's parent: with C{forkserver} it is not.

    @param life: the pipe's far end.
    """
    if sys.platform != "linux":
        return
    import fcntl

    fd = life.fileno()
    fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
    if life.poll():
        # It was closed before.
        os.kill(os.getpid(), signal.SIGKILL)
