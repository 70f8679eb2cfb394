"""
Large segments of a frame, as they arrive: each becomes what it was at the other end, written piece
by piece, and is not copied in one go at its end.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from io import BytesIO
from typing import Any, Final

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


class Segment:
    """
    A large segment that has begun to arrive.
    """

    __slots__ = ("_finish", "_got", "_size", "_view")

    def __init__(
        self, size: int, view: Callable[[], memoryview], finish: Callable[[], Any]
    ) -> None:
        """
        @param size: how many bytes it has.
        @param view: gives access to all of them.
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
        return self._view()[self._got :]

    def filled(self, count: int) -> bool:
        """
        So many bytes were written to L{space}.

        @return: whether they were the last.
        """
        self._got += count
        return self._got == self._size

    def finished(self) -> Any:
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
        # the end, without a copy. They begin as zeros, for which the system needs no memory until
        # something is written there.
        stream = BytesIO(bytes(size))
        return Segment(size, stream.getbuffer, stream.getvalue)
    memory = _makeByteArray(size) if kind == BYTEARRAY else _makeMemory(size)
    return Segment(size, lambda: memoryview(memory), lambda: memory)


def _makeMemory(size: int) -> bytearray | mmap.mmap:
    """
    Memory that comes straight from the system if it is large, in large pages where the system has
    them: filling those for the first time takes a third of the time.
    """
    if size < LARGE_PAGES or not hasattr(mmap, "MADV_HUGEPAGE"):
        return bytearray(size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


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
