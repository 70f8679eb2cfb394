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
from itertools import islice
from typing import Final

from asynqueue._runner.framing import FrameDecoder, Segments, decode, encode
from asynqueue._runner.messages import Message


class FarPipe:
    """
    Reads and writes messages. What a task starts in other threads may post, too.

    @ivar isClosed: C{True} once the near end is gone.
    """

    def __init__(self, fd: int) -> None:
        self.isClosed = False
        self._mainThread = threading.get_ident()
        self._lock = threading.RLock()
        self._isPosting = self._isWriting = False
        self._postponed: deque[list[bytes | memoryview]] = deque()
        self._heldBack: list[int] = []
        self.fd = fd
        self._decoder = FrameDecoder()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    def post(self, message: Message) -> None:
        """
        Write one message, to the last byte.
        """
        pieces = encode([message])
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
        Called by the handler of a signal, which runs in the main thread between any two of its
        steps: whether that is in the middle of a message. If so, the signal is raised again after
        it.
        """
        if self._isPosting and number not in self._heldBack:
            self._heldBack.append(number)
        return self._isPosting

    def _writeInTurn(self, pieces: list[bytes | memoryview]) -> None:
        with self._lock:
            if self._isWriting:
                # The garbage collector works in the middle of a message, and what it runs has
                # something to say.
                self._postponed.append(pieces)
                return
            while True:
                self._isWriting = True
                try:
                    self._write(pieces)
                finally:
                    self._isWriting = False
                if not self._postponed:
                    return
                pieces = self._postponed.popleft()

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
        with self._decoder.space() as space:
            count = os.readv(self.fd, [space])
        if not count:
            self.isClosed = True
            return []
        messages: list[Message] = []
        for segments in self._decoder.filled(count):
            messages += decode(segments)
        return messages


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


class NearPipe:
    """
    Reads frames from a pipe, and writes frames to it as far as it takes them.

    @ivar isClosed: C{True} once the far end is gone, or this one was closed.
    @ivar transferred: how many bytes were read and written so far.
    """

    def __init__(self, fd: int) -> None:
        """
        @param fd: the file descriptor of a pipe or socket that goes both ways. It is made
            non-blocking.
        """
        os.set_blocking(fd, False)
        _widen(fd)
        self.fd = fd
        self.isClosed = False
        self.transferred = 0
        self._decoder = FrameDecoder()
        self._outgoing: deque[memoryview] = deque()

    @property
    def hasOutgoing(self) -> bool:
        """
        Whether something waits until the pipe takes more.
        """
        return bool(self._outgoing)

    def put(self, pieces: list[bytes | memoryview]) -> None:
        """
        Queue a frame's pieces. They leave with L{write}.
        """
        for piece in pieces:
            if len(piece):
                self._outgoing.append(memoryview(piece))

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
            except OSError:
                # The reader is gone. What it said before is still to be read; that ends with the
                # end of file.
                outgoing.clear()
                return
            limit -= written
            self.transferred += written
            self._sent(written)

    def _next(self, limit: int) -> list[memoryview]:
        """
        What is to be written next. No more than may be: while the far end reads, the system would
        go on and on.
        """
        pieces = []
        for piece in islice(self._outgoing, PIECES):
            pieces.append(piece[:limit])
            limit -= len(piece)
            if limit <= 0:
                break
        return pieces

    def _sent(self, count: int) -> None:
        outgoing = self._outgoing
        while count:
            first = outgoing[0]
            if count < len(first):
                outgoing[0] = first[count:]
                return
            count -= len(first)
            outgoing.popleft()

    def read(self) -> list[Segments]:
        """
        Read what is there now, but not for too long.

        @return: the frames that are complete.
        @raise ProtocolError: if these are no frames.
        """
        frames: list[Segments] = []
        limit = SHARE
        for _ in range(READS):
            with self._decoder.space() as space:
                room = min(len(space), limit)
                try:
                    count = os.readv(self.fd, [space[:room]])
                except BlockingIOError:
                    break
                except OSError:
                    count = 0
            if not count:
                self.isClosed = True
                break
            self.transferred += count
            frames += self._decoder.filled(count)
            limit -= count
            if count < room or not limit:
                break
        return frames

    def close(self) -> None:
        """
        Forget what was not written. The file descriptor is its owner's to close.
        """
        self.isClosed = True
        self._outgoing.clear()


def _widen(fd: int) -> None:
    """
    Ask for large buffers, where the pipe is a socket: the system gives what it allows.
    """
    with socket.socket(fileno=os.dup(fd)) as pipe:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            pipe.setsockopt(socket.SOL_SOCKET, option, BUFFER)
