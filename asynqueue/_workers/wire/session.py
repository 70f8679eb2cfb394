"""
A session: two streams of bytes, one in each direction, that survive the connections they cross.

Each side counts the bytes of its frames of messages from the session's first one. It keeps what the
other side has not acknowledged. After a cut, each side says how many bytes have arrived, and the
other goes on at that byte. So nothing is lost and nothing arrives twice, wherever the cut was.

A frame may be sent while it is being made, and be abandoned in the middle. The mark of that counts
as one byte. So it has its place between the bytes, and is kept and repeated as they are.
Nothing here does I/O or knows a clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from asynqueue._runner.framing import SCRATCH, FrameDecoder, OpenFrame, PassOn, Segments, Sink
from asynqueue.errors import ProtocolError

WINDOW: Final = 1 << 24
"""How many bytes may be on their way without being acknowledged. A side that has no room
acknowledges nothing, so that no more than this comes, and it still hears what is acknowledged to
it."""

TOGETHER: Final = 1 << 12
"""Pieces that are smaller than this are put together, so that few are kept."""

ABANDONED: Final = memoryview(b"\0")
"""The mark that stands for the rest of a frame that was abandoned. It is this very object."""


class Session:
    """
    One side of a session.

    @ivar end: how many bytes were given to be sent.
    @ivar cursor: how many of them were taken to be sent, over the present connection or before.
    @ivar farthest: the highest that C{cursor} ever was.
    @ivar acknowledged: how many of them have arrived, as the other side said.
    @ivar received: how many bytes of the other side's have arrived.
    """

    def __init__(self, largest: int, passOn: PassOn | None = None) -> None:
        """
        @param largest: how many bytes a frame of the other side's may have.
        @param passOn: is asked what takes the bytes of a large frame while they arrive. It gets the
            frames that came before, and takes out of the list what it uses.
        """
        self.end = self.cursor = self.farthest = self.acknowledged = self.received = 0
        self._waiting: deque[memoryview] = deque()
        self._kept: deque[memoryview] = deque()
        # How many bytes of a frame are going to follow, and the frames to be sent after it.
        self._frameLeft = 0
        self._held: list[Sequence[bytes | memoryview]] = []
        self._passOn = passOn
        self._decoder = FrameDecoder(largest, None if passOn is None else self._offer)
        # The frames that the present call of C{receive} has completed.
        self._complete: list[Segments] = []

    @property
    def keptBytes(self) -> int:
        """
        How many bytes are held for the other side.
        """
        return self.end - self.acknowledged

    @property
    def hasWaiting(self) -> bool:
        """
        Whether L{take} gives something now.
        """
        return bool(self._waiting) and self.cursor < self.acknowledged + WINDOW

    def put(self, pieces: Sequence[bytes | memoryview]) -> None:
        """
        Add a frame, to be sent after all that was added before.
        """
        if self._frameLeft:
            self._held.append(pieces)
        else:
            self._add(pieces)

    def beginFrame(self, pieces: Sequence[bytes | memoryview], left: int) -> None:
        """
        Add the beginning of a frame.

        @param left: how many bytes are going to follow, through L{continueFrame}.
        """
        self._add(pieces)
        self._frameLeft = left

    def continueFrame(self, piece: memoryview) -> None:
        """
        Add more of the frame that was begun. The bytes must not change any more.
        """
        self._add([piece])
        self._frameLeft -= len(piece)
        self._addHeld()

    def abandonFrame(self) -> None:
        """
        Have the other side forget the frame that was begun, if its rest was not added.
        """
        if self._frameLeft:
            self._frameLeft = 0
            self._waiting.append(ABANDONED)
            self.end += 1
            self._addHeld()

    def _addHeld(self) -> None:
        if self._held and not self._frameLeft:
            held, self._held = self._held, []
            for pieces in held:
                self._add(pieces)

    def _add(self, pieces: Sequence[bytes | memoryview]) -> None:
        for piece in pieces:
            if len(piece):
                self._waiting.append(memoryview(piece).cast("B"))
                self.end += len(piece)

    def take(self, limit: int) -> tuple[int, list[memoryview]]:
        """
        Take what is to be sent next.

        @param limit: how many bytes to take at the most.
        @return: the number of the first byte, and the bytes in pieces, or L{ABANDONED} alone. They
            are kept until they are acknowledged.
        """
        start = self.cursor
        taken: list[memoryview] = []
        limit = min(limit, self.acknowledged + WINDOW - start)
        waiting = self._waiting
        while waiting and limit > 0:
            if waiting[0] is ABANDONED:
                if taken:
                    break
                limit = 1
            piece = waiting.popleft()
            if len(piece) > limit:
                waiting.appendleft(piece[limit:])
                piece = piece[:limit]
            taken.append(piece)
            limit -= len(piece)
            self.cursor += len(piece)
        if len(taken) > 1 and self.cursor - start <= TOGETHER:
            taken = [memoryview(b"".join(taken))]
        self._kept.extend(taken)
        self.farthest = max(self.farthest, self.cursor)
        return start, taken

    def heard(self, received: int) -> None:
        """
        The other side says how many bytes have arrived. They are not needed any more.

        @raise ProtocolError: if it cannot be so many, or is fewer than before.
        """
        if not self.acknowledged <= received <= self.cursor:
            raise ProtocolError(
                f"the other side says that {received} bytes have arrived, where "
                f"{self.acknowledged} to {self.cursor} are possible"
            )
        kept = self._kept
        while self.acknowledged < received:
            piece = kept.popleft()
            surplus = self.acknowledged + len(piece) - received
            if surplus > 0:
                kept.appendleft(piece[len(piece) - surplus :])
                self.acknowledged = received
            else:
                self.acknowledged += len(piece)

    def resume(self, received: int) -> None:
        """
        Go on over a new connection, at the byte that the other side lacks.

        @param received: how many bytes have arrived there.
        @raise ProtocolError: if it cannot be so many.
        """
        self.heard(received)
        self._waiting.extendleft(reversed(self._kept))
        self._kept.clear()
        self.cursor = received

    def receive(self, start: int, data: memoryview) -> list[Segments]:
        """
        Take in bytes of the other side's.

        @param start: the number of the first of them.
        @param data: the bytes.
        @return: the frames that are now complete. Bytes that had arrived before are skipped.
        @raise ProtocolError: if bytes before them are missing, or these are no frames.
        """
        self._checkStart(start)
        data = data[self.received - start :]
        self.received += len(data)
        decoder = self._decoder
        frames = self._complete = []
        while len(data):
            if decoder.isPassing:
                data = decoder.passOn(data)
                continue
            if decoder.isBetween and len(data) <= SCRATCH:
                frames += decoder.feed(bytes(data))
                break
            with decoder.space() as space:
                count = min(len(space), len(data))
                space[:count] = data[:count]
            frames += decoder.filled(count)
            data = data[count:]
        return frames

    def receiveAbandonment(self, start: int) -> None:
        """
        Take in that the other side has abandoned the frame that it was sending.

        @param start: the number of the byte that the mark of it counts as.
        @raise ProtocolError: if bytes before it are missing, or there is no such frame.
        """
        self._checkStart(start)
        if start == self.received:
            self._decoder.abandon()
            self.received += 1

    def _checkStart(self, start: int) -> None:
        if start > self.received:
            raise ProtocolError(
                f"bytes from number {start} on came, where number {self.received} was to be next"
            )

    def _offer(self, frames: list[Segments], opened: OpenFrame) -> Sink | None:
        assert self._passOn is not None
        before = self._complete
        before += frames
        frames.clear()
        return self._passOn(before, opened)
