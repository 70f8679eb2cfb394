"""
Both ends of the pipe between a program and its worker process.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final

from asynqueue._runner.framing import (
    SCRATCH,
    FrameDecoder,
    OpenFrame,
    PassOn,
    Segments,
    Sink,
    decode,
    encode,
    encodeTexts,
)
from asynqueue._runner.messages import Message

CHUNK: Final = 1 << 14
"""How many bytes are read at once between two frames. Python allocates the memory for more of them
in a slower way."""

PASSED: Final = 1 << 16
"""How many bytes of a frame that is passed on are read at once."""


class FrameReader:
    """
    Reads messages from a file descriptor.

    @ivar isClosed: C{True} once the other end is gone.
    @ivar hasMore: whether there may be more to read, because the last reading got as much as it had
        asked for.
    @ivar transferred: how many bytes were read, and written, so far.
    """

    def __init__(self, fd: int, passOn: PassOn | None = None) -> None:
        self.fd = fd
        self.isClosed = self.hasMore = False
        self.transferred = 0
        self._decoder = FrameDecoder(passOn=passOn)

    def readOnce(self, limit: int = SCRATCH) -> list[Message]:
        """
        Read once. If the file descriptor is blocking, wait until something comes.

        @param limit: how many bytes to read at the most.
        @return: the messages that are now complete. There may be none.
        @raise BlockingIOError: if the file descriptor does not block, and there is nothing.
        @raise ProtocolError: if what came are no messages.
        """
        decoder = self._decoder
        if decoder.isBetween:
            room = CHUNK if limit > CHUNK else limit
            data = os.read(self.fd, room)
            count = len(data)
            frames = decoder.feed(data)
        elif decoder.isPassing:
            room = min(limit, PASSED, decoder.left)
            data = os.read(self.fd, room)
            count = len(data)
            decoder.passOn(memoryview(data))
            frames = []
        else:
            with decoder.space() as space:
                room = min(limit, len(space))
                count = os.readv(self.fd, [space[:room]])
            frames = decoder.filled(count)
        if not count:
            self.isClosed = True
        self.hasMore = count == room
        self.transferred += count
        if len(frames) == 1:
            return decode(frames[0])
        return [message for frame in frames for message in decode(frame)]


class FarPipe(FrameReader):
    """
    The child's end. It reads and writes messages. Threads that a task starts may post, too.
    """

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._mainThread = threading.get_ident()
        self._lock = threading.RLock()
        self._isPosting = self._isWriting = False
        self._postponed: deque[list[bytes | memoryview]] = deque()
        self._heldBack: list[int] = []
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    def post(self, message: Message) -> None:
        """
        Write one message, to the last byte.
        """
        pieces = encode([message])
        if len(pieces) == 2:
            # Its pickle is large, and may have a large text.
            pieces = encodeTexts([message])
        if threading.get_ident() != self._mainThread:
            self._writeInTurn(pieces)
            return
        wasPosting, self._isPosting = self._isPosting, True
        try:
            self._writeInTurn(pieces)
        finally:
            self._isPosting = wasPosting
        while self._heldBack and not wasPosting:
            signal.raise_signal(self._heldBack.pop())

    def holdsBack(self, number: int) -> bool:
        """
        Return whether the main thread is in the middle of writing a message. If it is, the signal
        is raised again after the message. To be called by the handler of a signal, which runs in
        the main thread between any two of its steps.
        """
        if self._isPosting and number not in self._heldBack:
            self._heldBack.append(number)
        return self._isPosting

    def _writeInTurn(self, pieces: list[bytes | memoryview]) -> None:
        # A "with" statement takes twice as long. No signal's handler comes between, because signals
        # are held back.
        self._lock.acquire()
        try:
            if self._isWriting:
                # The garbage collector has come in the middle of a message of this thread, and what
                # it runs posts something.
                self._postponed.append(pieces)
                return
            self._isWriting = True
            try:
                self._write(pieces)
                while self._postponed:
                    self._write(self._postponed.popleft())
            finally:
                self._isWriting = False
        finally:
            self._lock.release()

    def _write(self, pieces: list[bytes | memoryview]) -> None:
        if len(pieces) == 1:
            piece = pieces[0]
            written = os.write(self.fd, piece)
            if written == len(piece):
                return
            pieces = [memoryview(piece)[written:]]
        for piece in pieces:
            left = memoryview(piece)
            while left:
                left = left[os.write(self.fd, left) :]

    def leave(self, end: Callable[[], object]) -> None:
        """
        Never write again, because this process is a forked copy of the worker. Its other threads,
        which may have been writing, are not here.

        @param end: is called in place of writing a message.
        """
        self._lock = threading.RLock()
        self._isPosting = self._isWriting = False
        self._postponed.clear()
        self._heldBack.clear()
        self._mainThread = threading.get_ident()
        self._write = lambda pieces: end()  # type: ignore[method-assign, assignment]

    def hasInput(self) -> bool:
        """
        Return whether L{read} would not wait.
        """
        return bool(self._poll.poll(0))

    def read(self) -> list[Message]:
        """
        Wait until something comes, and read it.

        @return: the messages that are now complete. There may be none.
        """
        return self.readOnce()


READS: Final = 64
"""How often a readable pipe is read before the reactor gets its turn."""

SHARE: Final = 1 << 21
"""About how many bytes are read, and written, before the reactor gets its turn. A few milliseconds'
worth, mostly of memory that is used for the first time. No less than the pipe holds, so that what a
child leaves in it is read at once."""

BUFFER: Final = 1 << 20
"""Bytes that the system is asked to hold for each direction."""

PIECES: Final = 64
"""How many pieces are written at once."""

PassFrame = Callable[[list[Message], OpenFrame], Sink | None]
"""Is asked what takes the bytes of a frame's buffers while they arrive. It gets the messages that
came before, and the frame. If it returns C{None}, the frame's messages arrive whole."""


class NearPipe(FrameReader):
    """
    The parent's end. Reads messages, and writes frames as far as the pipe takes them, without ever
    waiting.

    @ivar outgoingBytes: how many bytes wait until the pipe takes more.
    """

    def __init__(self, fd: int, passFrame: PassFrame | None = None) -> None:
        """
        @param fd: the file descriptor of a pipe or socket that goes both ways. It is made
            non-blocking.
        @param passFrame: takes the frames with large buffers while they arrive.
        """
        os.set_blocking(fd, False)
        _widen(fd)
        super().__init__(fd, None if passFrame is None else self._offer)
        self._passFrame = passFrame
        # What the present call of L{read} has read.
        self._messages: list[Message] = []
        self._outgoing: deque[bytes | memoryview] = deque()
        self.outgoingBytes = 0

    @property
    def hasOutgoing(self) -> bool:
        """
        Whether something waits until the pipe takes more.
        """
        return bool(self._outgoing)

    def send(self, pieces: list[bytes | memoryview]) -> bool:
        """
        Write a frame's pieces, as far as the pipe takes them now. The rest waits for L{write}.

        @return: whether anything waits.
        """
        if len(pieces) == 1 and not self._outgoing:
            piece = pieces[0]
            try:
                written = os.write(self.fd, piece) if len(piece) <= SHARE else 0
            except OSError:
                # L{write} finds the same, and tells what it means.
                written = 0
            self.transferred += written
            if written == len(piece):
                return False
            pieces = [memoryview(piece)[written:]]
        self.put(pieces)
        self.write()
        return bool(self._outgoing)

    def put(self, pieces: list[bytes | memoryview]) -> None:
        """
        Queue a frame's pieces. They leave with L{write}.
        """
        for piece in pieces:
            if len(piece):
                self._outgoing.append(piece)
                self.outgoingBytes += len(piece)

    def write(self, limit: int = SHARE) -> None:
        """
        Write what the pipe takes now, but no more than C{limit} bytes.
        """
        outgoing = self._outgoing
        while outgoing and limit > 0:
            pieces = self._next(limit)
            try:
                written = os.writev(self.fd, pieces)
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionError):
                # The reader is gone. Its last messages are still to be read, up to the end of file.
                self._forget()
                return
            limit -= written
            self.transferred += written
            self._sent(written)

    def _next(self, limit: int) -> list[bytes | memoryview]:
        """
        Return what is to be written next, up to C{limit} bytes. Given more, the system would go on
        for as long as the far end reads.
        """
        pieces: list[bytes | memoryview] = []
        for piece in islice(self._outgoing, PIECES):
            pieces.append(piece if len(piece) <= limit else memoryview(piece)[:limit])
            limit -= len(piece)
            if limit <= 0:
                break
        return pieces

    def _sent(self, count: int) -> None:
        outgoing = self._outgoing
        self.outgoingBytes -= count
        while count:
            first = outgoing[0]
            if count < len(first):
                outgoing[0] = memoryview(first)[count:]
                return
            count -= len(first)
            outgoing.popleft()

    def read(self) -> list[Message]:
        """
        Read what is there now, but not for too long.

        @return: the messages that are complete.
        @raise ProtocolError: if these are no messages.
        """
        messages = self._messages = []
        end = self.transferred + SHARE
        for _ in range(READS):
            try:
                messages += self.readOnce(end - self.transferred)
            except BlockingIOError:
                break
            except OSError:
                self.isClosed = True
                break
            if self.isClosed or not self.hasMore or self.transferred >= end:
                break
        self._messages = []
        return messages

    def _offer(self, frames: list[Segments], opened: OpenFrame) -> Sink | None:
        assert self._passFrame is not None
        before = [*self._messages]
        for frame in frames:
            before += decode(frame)
        self._messages.clear()
        frames.clear()
        return self._passFrame(before, opened)

    def close(self) -> None:
        """
        Forget what was not written. The file descriptor is its owner's to close.
        """
        self.isClosed = True
        self._forget()

    def _forget(self) -> None:
        self._outgoing.clear()
        self.outgoingBytes = 0


def _widen(fd: int) -> None:
    """
    Ask for large buffers, where the pipe is a socket: the system gives what it allows.
    """
    with socket.socket(fileno=os.dup(fd)) as pipe:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            pipe.setsockopt(socket.SOL_SOCKET, option, BUFFER)
