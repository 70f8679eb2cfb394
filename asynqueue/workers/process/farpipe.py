"""
The far end of a pipe, which blocks.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections import deque

from asynqueue.universe.framing import FrameDecoder, decode, encode
from asynqueue.universe.messages import Message


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
