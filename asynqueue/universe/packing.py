"""
Packing: one value, ready to travel in a message.

A plain value (a number, a string, C{None}) travels as it is; it costs next to nothing. Anything
else is pickled by itself, so that a value which cannot be pickled, or be rebuilt, spoils no message
but its own. Large buffers within it (NumPy arrays, for one) stay outside of the pickle and are
never copied by the pickler.
"""

from __future__ import annotations

from pickle import PickleBuffer, dumps, loads
from typing import Any, Final

Packed = Any
"""A plain value, or the pickle's bytes, or a tuple of the pickle and its large buffers."""

PLAIN: Final = frozenset({type(None), bool, int, float, str})
"""The types that travel as they are. Exactly these: a subclass may pickle as it likes."""

LARGE: Final = 1 << 16
"""From how many bytes on a buffer is sent beside the pickle instead of within it."""

MOST: Final = 1 << 10
"""How many buffers of one value are sent beside its pickle; a frame has room for only so many."""


def pack(value: Any) -> Packed:
    """
    @param value: anything that can be pickled.
    @return: what L{unpack} makes into an equal value.
    @raise Exception: whatever pickling it raises.
    """
    if type(value) in PLAIN:
        return value
    buffers: list[PickleBuffer] = []

    def keepInside(buffer: PickleBuffer) -> bool:
        if buffer.raw().nbytes < LARGE or len(buffers) == MOST:
            return True
        buffers.append(buffer)
        return False

    data: Any = dumps(value, 5, buffer_callback=keepInside)
    if len(data) >= LARGE:
        data = PickleBuffer(data)
    return (data, buffers) if buffers else data


def unpack(packed: Packed) -> Any:
    """
    @param packed: what L{pack} returned, after its journey.
    @return: the value.
    @raise BaseException: whatever rebuilding the value raises. That runs code of the value's type.
    """
    kind = type(packed)
    if kind in PLAIN:
        return packed
    if kind is tuple:
        return loads(packed[0], buffers=packed[1])
    return loads(packed)


def sizeOf(packed: Packed) -> int:
    """
    @return: about how many bytes the packed value takes up in a message.
    """
    kind = type(packed)
    if kind is bytes or kind is str:
        return len(packed) + 8
    if kind is int:
        bits: int = packed.bit_length()
        return (bits >> 3) + 16
    if kind in PLAIN:
        return 16
    if kind is tuple:
        return sizeOf(packed[0]) + sum(_bytesOf(buffer) for buffer in packed[1])
    return _bytesOf(packed)


def _bytesOf(buffer: PickleBuffer) -> int:
    size: int = buffer.raw().nbytes
    return size
