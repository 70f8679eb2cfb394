"""
Framing: messages to bytes and back, without I/O.

A frame is some messages. Its header is the number of its segments (4 bytes) and, for each, its
length (7 bytes) and its kind (1 byte; all little-endian); the segments follow. The first segment is
a pickle of the list of messages, the others are large buffers that the pickle refers to. The kind
says what a buffer was, so that it is read into an object of its own type, without another copy.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Sequence
from io import BytesIO
from pickle import PickleBuffer, dumps, loads
from typing import Any, Final, NamedTuple

from asynqueue._runner.messages import CALL, ITEMS, RETURNED, Message
from asynqueue.errors import PayloadTooLarge, ProtocolError

MEMORY: Final = 0
BYTES: Final = 1
BYTEARRAY: Final = 2
"""The kinds of segments: writable memory, or an object of one of the two types."""

GROWTH: Final = 1 << 20
"""By how many bytes a bytearray grows."""

LARGE_PAGES: Final = 1 << 22
"""From how many bytes on a segment of memory gets pages of its own."""


def kindOf(buffer: memoryview) -> int:
    """
    @return: as what a buffer is to arrive.
    """
    owner = type(buffer.obj)
    return BYTES if owner is bytes else BYTEARRAY if owner is bytearray else MEMORY


_Bytes = bytes | bytearray | mmap.mmap


class Segment:
    """
    A large segment that has begun to arrive.
    """

    __slots__ = ("_finish", "_got", "_size", "_view")

    def __init__(
        self, size: int, view: Callable[[int], memoryview], finish: Callable[[], _Bytes]
    ) -> None:
        """
        @param size: how many bytes it has.
        @param view: gives access to its bytes, so many of which are there, and to at least one
            more.
        @param finish: gives the object that they are, after the last bytes.
        """
        self._size = size
        self._view = view
        self._finish = finish
        self._got = 0

    def space(self) -> memoryview:
        """
        @return: where the next bytes belong; at least one. It is to be released before L{filled} is
            called, or if it is not: who holds on to it keeps the object from being finished, or
            thrown away, as it should be.
        """
        return self._view(self._got)[self._got :]

    def filled(self, count: int) -> bool:
        """
        So many bytes were written to L{space}.

        @return: whether they were the last.
        """
        self._got += count
        return self._got == self._size

    def finished(self) -> _Bytes:
        """
        @return: the object, after the last bytes.
        """
        return self._finish()


def makeSegment(kind: int, size: int) -> Segment:
    """
    @param kind: what it is.
    @param size: how many bytes it has.
    """
    if kind == BYTES:
        # A stream is what gives access to bytes that nobody else has yet, and gives them away at
        # the end, without a copy: 100 MiB arrive in half the time. They begin as zeros, for which
        # the system needs no memory until something is written there.
        stream = BytesIO(bytes(size))
        return Segment(size, lambda got: stream.getbuffer(), stream.getvalue)
    if kind == BYTEARRAY:
        return _growingSegment(size)
    memory = _makeMemory(size)
    return Segment(size, lambda got: memoryview(memory), lambda: memory)


def _growingSegment(size: int) -> Segment:
    """
    A bytearray that grows as its bytes come. To make the whole at once fills it with zeros, which
    takes half a millisecond a megabyte in one turn of the reactor.
    """
    array = bytearray()

    def view(got: int) -> memoryview:
        if got == len(array):
            array.extend(bytes(min(GROWTH, size - got)))
        return memoryview(array)

    return Segment(size, view, lambda: array)


def _makeMemory(size: int) -> bytearray | mmap.mmap:
    """
    Memory that comes straight from the system if it is large, in large pages where the system has
    them: 100 MiB are filled for the first time in 12 ms instead of 63 (the benchmarks' row of the
    NumPy array).
    """
    if size < LARGE_PAGES or not hasattr(mmap, "MADV_HUGEPAGE"):
        return bytearray(size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


Segments = Sequence[bytes | bytearray | memoryview | mmap.mmap]

_COUNT: Final = struct.Struct("<I")
_ONE: Final = struct.Struct("<IQ")
_HEAD: Final = _ONE.size
_packOne: Final = _ONE.pack
_unpackOne: Final = _ONE.unpack_from

SCRATCH: Final = 1 << 18
"""Bytes that are read at once where frames are small."""

LARGE_TEXT: Final = 1 << 16
"""From how many characters on L{encodeTexts} takes a text out of the pickle."""

LARGEST: Final = 1 << 40
"""Bytes that one frame may have in all, unless another limit is set."""

MANY: Final = 1 << 14
"""Segments that one frame may have. Its header has to fit the scratch space."""

_KIND_SHIFT: Final = 56
_LENGTH: Final = (1 << _KIND_SHIFT) - 1


def encode(messages: Sequence[Message], largest: int = LARGEST) -> list[bytes | memoryview]:
    """
    @param messages: what to send.
    @param largest: how many bytes they may come to.
    @return: the frame's bytes, in pieces to be written in order. A large buffer among them is the
        sender's own memory, not a copy.
    @raise PayloadTooLarge: if the frame would be larger than C{largest}.
    """
    buffers: list[PickleBuffer] = []
    body = dumps(messages, 5, buffer_callback=buffers.append)
    size = len(body)
    if not buffers:
        if size > largest:
            raise tooLarge(size, largest)
        head = _packOne(1, size)
        return [head + body] if size < SCRATCH else [head, body]
    raws = [buffer.raw() for buffer in buffers]
    pieces: list[bytes | memoryview] = [body, *raws]
    sizes = [len(piece) for piece in pieces]
    if len(pieces) > MANY:
        raise PayloadTooLarge(
            f"a message with {len(buffers)} large buffers is over the limit of {MANY - 1} buffers"
        )
    if sum(sizes) > largest:
        raise tooLarge(sum(sizes), largest)
    return [_packHead(sizes, [MEMORY, *map(kindOf, raws)]), *pieces]


def encodeTexts(messages: Sequence[Message], largest: int = LARGEST) -> list[bytes | memoryview]:
    """
    Like L{encode}, but large texts are among the buffers, packed. They are plain values, which
    travel in the pickle otherwise. So whoever passes the frame on knows its messages before it is
    all there.
    """
    pieces = encode(messages, largest)
    if len(pieces) != 2:
        # The pickle is small, or there are buffers.
        return pieces
    return encode([_withTextsPacked(message) for message in messages], largest)


def _withTextsPacked(message: Message) -> Message:
    kind = message[0]
    if kind == RETURNED:
        return (*message[:3], _packText(message[3]))
    if kind == ITEMS:
        return (kind, message[1], [_packText(item) for item in message[2]], message[3])
    if kind == CALL and type(message[3]) is tuple:
        arguments = message[3]
        if any(type(value) is str and len(value) >= LARGE_TEXT for value in arguments):
            packed = PickleBuffer(dumps((arguments, {}), 5))
            return (*message[:3], packed, *message[4:])
    return message


def _packText(value: object) -> object:
    isLarge = type(value) is str and len(value) >= LARGE_TEXT
    return PickleBuffer(dumps(value, 5)) if isLarge else value


def _packHead(sizes: list[int], kinds: list[int]) -> bytes:
    fields = [size | kind << _KIND_SHIFT for size, kind in zip(sizes, kinds, strict=True)]
    return struct.pack(f"<I{len(fields)}Q", len(fields), *fields)


def decode(segments: Segments) -> list[Message]:
    """
    @param segments: one frame's, from L{FrameDecoder}.
    @return: its messages.
    @raise ProtocolError: if they are no messages.
    """
    try:
        if len(segments) == 1:
            # An argument by name takes a sixth of the time that a small frame takes.
            messages = loads(segments[0])
        else:
            messages = loads(segments[0], buffers=segments[1:])
    except Exception as error:
        raise ProtocolError(f"a frame could not be read: {error!r}") from error
    if not isinstance(messages, list):
        raise ProtocolError(f"a frame holds {type(messages).__name__}, not a list of messages")
    return messages


def tooLarge(size: int, largest: int) -> PayloadTooLarge:
    """
    Make the error of a frame whose segments have too many bytes.
    """
    return PayloadTooLarge(f"a message of {size} bytes is over the limit of {largest} bytes")


class OpenFrame(NamedTuple):
    """
    A frame with large buffers, of which only the beginning has come.
    """

    head: bytes
    body: bytes
    sizes: Sequence[int]
    """The sizes of the other segments, whose bytes are still to come."""

    def messages(self) -> list[Message]:
        """
        @return: the frame's messages, with empty buffers.
        @raise ProtocolError: if these are no messages.
        """
        return decode(self.emptied())

    def emptied(self) -> Segments:
        """
        @return: the frame's segments, where all but the first are empty.
        """
        return [self.body, *[b""] * len(self.sizes)]


Sink = Callable[[memoryview], None]
PassOn = Callable[[list[Segments], OpenFrame], Sink | None]


class FrameDecoder:
    """
    Puts frames together from bytes as they come, in whatever pieces.

    Between two frames, read some bytes and hand them to L{feed}. Within a frame, read into
    L{space}, then say how much came with L{filled}. A segment that does not fit the scratch space
    is read into an object of its own directly. The buffers of a frame may also be passed on in
    pieces.

    @ivar isPassing: whether the next bytes are to go to L{passOn}.
    """

    def __init__(self, largest: int = LARGEST, passOn: PassOn | None = None) -> None:
        """
        @param largest: how many bytes a frame may have before the peer is given up.
        @param passOn: is asked what takes the bytes of a frame after its first segment. It gets the
            frames that came before, and takes out of the list what it uses. If it returns C{None},
            the frame is put together here, and it may be asked again.
        """
        self._largest = largest
        self._passOn = passOn
        self._sink: Sink | None = None
        # How many bytes of the frame are still to be passed on.
        self._left = 0
        self._scratch = bytearray(SCRATCH)
        self._view = memoryview(self._scratch)
        self._end = 0
        # The frame that is being read, where it did not come whole.
        self._sizes: list[int] = []
        self._kinds: list[int] = []
        # The first one is of bytes.
        self._segments: list[Any] = []
        self._segment: Segment | None = None

    @property
    def isBetween(self) -> bool:
        """
        C{True} if nothing of an unfinished frame is held.
        """
        return not self._end and not self._sizes

    def feed(self, data: bytes) -> list[Segments]:
        """
        Take bytes that begin a frame. This is the fastest way for small frames. L{isBetween} must
        be C{True}.

        @param data: no more than L{SCRATCH} bytes.
        @return: the frames that are now complete.
        @raise ProtocolError: if these are no frames, or one is too large.
        """
        frames: list[Segments] = []
        start, end = self._takeSmall(data, 0, len(data), frames), len(data)
        if start < end:
            self._view[: end - start] = data[start:]
            self._end = end - start
            self._parse(frames)
        return frames

    def abandon(self) -> None:
        """
        Forget the frame that has begun to arrive, because its rest is not going to come.

        @raise ProtocolError: if there is none, or a part of it was passed on.
        """
        if self.isBetween or self.isPassing:
            raise ProtocolError("a frame was given up that nothing is known of")
        self._end = 0
        self._sizes, self._kinds, self._segments = [], [], []
        self._segment = None

    @property
    def isPassing(self) -> bool:
        return self._sink is not None

    @property
    def left(self) -> int:
        """
        How many bytes of the frame are still to be passed on.
        """
        return self._left

    def passOn(self, data: memoryview) -> memoryview:
        """
        Pass bytes of a large frame on.

        @return: the bytes after the frame.
        """
        assert self._sink is not None
        sink, piece = self._sink, data[: self._left]
        self._left -= len(piece)
        if not self._left:
            self._sink, self._segments, self._sizes = None, [], []
        sink(piece)
        return data[len(piece) :]

    def _takeSmall(
        self, data: bytes | memoryview, start: int, end: int, frames: list[Segments]
    ) -> int:
        """
        Take whole frames of one segment, as nearly all are.

        @return: where they end.
        """
        largest = self._largest
        while end - start >= _HEAD:
            count, size = _unpackOne(data, start)
            body = start + _HEAD
            after = body + size
            if count != 1 or after > end or size > largest:
                break
            frames.append((bytes(data[body:after]),))
            start = after
        return start

    def space(self) -> memoryview:
        """
        @return: where the next bytes belong; at least one. To be released before L{filled} is
            called, or if it is not.
        """
        if self._segment is not None:
            return self._segment.space()
        return self._view[self._end :]

    def filled(self, count: int) -> list[Segments]:
        """
        @param count: how many bytes were read into L{space}.
        @return: the frames that are now complete.
        @raise ProtocolError: if these are no frames, or one is too large.
        """
        frames: list[Segments] = []
        if self._segment is not None:
            if self._segment.filled(count):
                self._keep(self._segment.finished(), frames)
                self._segment = None
                self._parse(frames)
            return frames
        self._end += count
        self._parse(frames)
        return frames

    def _parse(self, frames: list[Segments]) -> None:
        view, start, end = self._view, 0, self._end
        while True:
            if not self._sizes:
                start = self._takeSmall(view, start, end, frames)
                body = self._header(start, end)
                if body is None:
                    break
                start = body
            if len(self._segments) == 1 and self._isPassed(frames):
                piece = bytes(view[start : min(end, start + self._left)])
                start += len(piece)
                self.passOn(memoryview(piece))
                if self.isPassing:
                    break
                continue
            size, kind = self._sizes[len(self._segments)], self._kinds[len(self._segments)]
            if end - start >= size:
                whole = view[start : start + size]
                isBytes = kind == BYTES or not self._segments
                self._keep(bytes(whole) if isBytes else bytearray(whole), frames)
                start += size
            elif size > SCRATCH // 2:
                self._segment = makeSegment(kind, size)
                _fill(self._segment, view[start:end])
                start = end
                break
            else:
                break
        if start:
            left = end - start
            if left:
                self._scratch[:left] = self._scratch[start:end]
            self._end = left

    def _isPassed(self, frames: list[Segments]) -> bool:
        """
        Return whether the bytes after the first segment are passed on.
        """
        if self._passOn is None:
            return False
        head, sizes = _packHead(self._sizes, self._kinds), self._sizes[1:]
        self._left = sum(sizes)
        self._sink = self._passOn(frames, OpenFrame(head, self._segments[0], sizes))
        return self._sink is not None

    def _header(self, start: int, end: int) -> int | None:
        """
        Read a header, if there is a whole one; where it ends.
        """
        if end - start < 4:
            return None
        count: int = _COUNT.unpack_from(self._scratch, start)[0]
        if not 1 <= count <= MANY:
            raise ProtocolError(f"a frame claims to have {count} segments")
        length = 4 + 8 * count
        if end - start < length:
            return None
        fields = struct.unpack_from(f"<{count}Q", self._scratch, start + 4)
        self._sizes = [field & _LENGTH for field in fields]
        self._kinds = [field >> _KIND_SHIFT for field in fields]
        if max(self._kinds) > BYTEARRAY:
            raise ProtocolError(f"a frame claims to have a segment of kind {max(self._kinds)}")
        if sum(self._sizes) > self._largest:
            raise ProtocolError(
                f"a frame of {sum(self._sizes)} bytes is over the limit of {self._largest} bytes"
            )
        return start + length

    def _keep(self, segment: _Bytes, frames: list[Segments]) -> None:
        self._segments.append(segment)
        if len(self._segments) == len(self._sizes):
            frames.append(self._segments)
            self._segments = []
            self._sizes = []


def _fill(segment: Segment, data: memoryview) -> None:
    """
    Write what came before there was a place for it, which is less than the whole.
    """
    while data:
        with segment.space() as space:
            count = min(len(space), len(data))
            space[:count] = data[:count]
        segment.filled(count)
        data = data[count:]
