"""
Large values, made and looked at in a process of either side. Child processes import this module, so
it is light.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from io import BytesIO
from pickle import PickleBuffer
from typing import Any

MARK = 0xA5


def makeBytes(size: int, places: Sequence[int]) -> bytes:
    """
    @return: so many bytes, zeros but for a mark in some places. Where there is no mark near, they
        take up no memory until they are copied.
    """
    stream = BytesIO(bytes(size))
    with stream.getbuffer() as view:
        for place in places:
            view[place] = MARK
    return stream.getvalue()


def makeByteArray(size: int, places: Sequence[int]) -> bytearray:
    """
    @return: the same in a bytearray, which does take up the memory.
    """
    array = bytearray(size)
    for place in places:
        array[place] = MARK
    return array


def makeArray(size: int, places: Sequence[int]) -> Any:
    """
    @return: the same in a NumPy array.
    """
    import numpy

    array = numpy.zeros(size, numpy.uint8)
    for place in places:
        array[place] = MARK
    return array


def makeText(size: int, places: Sequence[int]) -> str:
    """
    @return: the same in a string, which does take up the memory.
    """
    text = bytearray(size)
    for place in places:
        text[place] = ord("m")
    return text.decode("ascii")


def look(value: Any, places: Sequence[int]) -> tuple[str, int, list[Any]]:
    """
    @return: a value's type's name, its length, and what is in some places of it.
    """
    found = [value[place] for place in places]
    if not isinstance(value, str):
        found = [int(number) for number in found]
    return type(value).__name__, len(value), found


def makeVast(size: int) -> PickleBuffer:
    """
    @return: a buffer that takes up no memory, however large.
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return PickleBuffer(mmap.mmap(-1, size, flags=flags, prot=mmap.PROT_READ))


def yieldVast(count: int, size: int) -> Iterator[Any]:
    """
    Yield some numbers, and then what L{makeVast} makes.
    """
    yield from range(count)
    yield makeVast(size)
    yield count


class VastError(Exception):
    """
    An error that takes what L{makeVast} makes along.
    """


def raiseVast(size: int) -> None:
    """
    Raise one.
    """
    raise VastError(makeVast(size))
