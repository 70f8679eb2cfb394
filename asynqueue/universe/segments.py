"""
Large segments of a frame, as they arrive: each becomes what it was at the other end, written piece
by piece, and is not copied in one go at its end.
"""

from __future__ import annotations

import mmap
from io import BytesIO
from typing import Any, Final, Protocol

MEMORY: Final = 0
BYTES: Final = 1
BYTEARRAY: Final = 2
"""What a segment is: some writable memory, or an object of one of the two types."""

LARGE_PAGES: Final = 1 << 22
"""From how many bytes on a segment of memory gets pages of its own."""


def kindOf(buffer: memoryview) -> int:
    """
    @return: as what a buffer is to arrive.
    """
    owner = type(buffer.obj)
    return BYTES if owner is bytes else BYTEARRAY if owner is bytearray else MEMORY


class Segment(Protocol):
    """
    A large segment that has begun to arrive.
    """

    def space(self) -> memoryview:
        """Where the next bytes belong; at least one. It is to be released before L{filled} is
        called, or if it is not: who holds on to it keeps the object from being finished, or thrown
        away, as it should be."""

    def filled(self, count: int) -> bool:
        """So many bytes were written to L{space}; whether they were the last."""

    def finished(self) -> Any:
        """The object, after the last bytes."""


def makeSegment(kind: int, size: int) -> Segment:
    """
    @param kind: what it is.
    @param size: how many bytes it has.
    """
    if kind == BYTES:
        return _BytesSegment(size)
    if kind == BYTEARRAY:
        return _ByteArraySegment(size)
    return _MemorySegment(size)


class _MemorySegment:
    """
    Memory that comes straight from the system if it is large, in large pages where the system has
    them: filling those for the first time takes a third of the time.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._got = 0
        self._memory: bytearray | mmap.mmap
        if size < LARGE_PAGES or not hasattr(mmap, "MADV_HUGEPAGE"):
            self._memory = bytearray(size)
        else:
            self._memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            self._memory.madvise(mmap.MADV_HUGEPAGE)

    def space(self) -> memoryview:
        return memoryview(self._memory)[self._got :]

    def filled(self, count: int) -> bool:
        self._got += count
        return self._got == self._size

    def finished(self) -> Any:
        return self._memory


class _BytesSegment:
    """
    Bytes that are written to before anybody else has them. The stream is what gives access to them,
    and gives them away at the end, without a copy if nobody holds on to L{space}. They begin as
    zeros, for which the system needs no memory until something is written there.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._got = 0
        self._stream = BytesIO(bytes(size))

    def space(self) -> memoryview:
        return self._stream.getbuffer()[self._got :]

    def filled(self, count: int) -> bool:
        self._got += count
        return self._got == self._size

    def finished(self) -> Any:
        return self._stream.getvalue()


class _ByteArraySegment:
    """
    A bytearray that is written to, and may be resized at the end, if nobody holds on to L{space}.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._got = 0
        self._array = _makeByteArray(size)

    def space(self) -> memoryview:
        return memoryview(self._array)[self._got :]

    def filled(self, count: int) -> bool:
        self._got += count
        return self._got == self._size

    def finished(self) -> Any:
        return self._array


def _makeByteArray(size: int) -> bytearray:
    """
    A bytearray whose content is yet to be written. To fill it with zeros, as its type does, would
    have all its memory provided by the system at once, which takes half a millisecond a megabyte.
    CPython's own function leaves it as it is.
    """
    import ctypes

    api = getattr(ctypes, "pythonapi", None)
    if api is None:
        return bytearray(size)
    kind = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_char_p, ctypes.c_ssize_t)
    array: bytearray = kind(("PyByteArray_FromStringAndSize", api))(None, size)
    return array
