"""
What becomes of values on their way: pickles, or nothing at all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from asynqueue.universe.calls import DirectReader, PickleReader, Reader
from asynqueue.universe.exceptions import describe, rebuild
from asynqueue.universe.packing import Packed, pack, sizeOf, unpack


@dataclass(frozen=True, slots=True)
class Codec:
    """
    How the two sides of a channel make messages of values, and values of messages. A plain value
    (see L{PLAIN<asynqueue.universe.packing.PLAIN>}) travels as it is, with any of them.

    @ivar pack: makes a value ready to travel, or raises.
    @ivar unpack: makes a value of what arrived, or raises.
    @ivar sizeOf: about how many bytes a packed value takes up.
    @ivar isShared: whether what was packed is the value's own memory, so that it has to leave
        before whoever made it goes on.
    @ivar describe: makes an exception ready to travel. It does not raise.
    @ivar rebuild: makes an exception of what arrived.
    @ivar makeReader: makes what reads the calls of one conversation.
    """

    pack: Callable[[Any], Packed]
    unpack: Callable[[Packed], Any]
    sizeOf: Callable[[Packed], int]
    isShared: Callable[[Packed], bool]
    describe: Callable[[BaseException], Any]
    rebuild: Callable[[Any], BaseException]
    makeReader: Callable[[], Reader]


def _asItIs(value: Any) -> Any:
    return value


def _withoutDeferred(value: Any) -> Any:
    """
    Refuse what is of use only to the reactor that it was made for.
    """
    defer = sys.modules.get("twisted.internet.defer")
    if isinstance(value, getattr(defer, "Deferred", ())):
        raise TypeError(
            "a Deferred stays where its reactor is: a function that returns one is for an "
            "AsyncWorker, or for a ProcessWorker with useReactor=True"
        )
    return value


def _pack(value: Any) -> Packed:
    return pack(_withoutDeferred(value))


def _sizeInMemory(value: Any) -> int:
    try:
        return sys.getsizeof(value)
    except Exception:
        # Some types compute it, and may fail.
        return object.__sizeof__(value)


def _withoutCatcher(error: BaseException) -> BaseException:
    """
    An exception, without the entry of the function that caught it in its traceback.
    """
    trace = error.__traceback__
    return error if trace is None else error.with_traceback(trace.tb_next)


PICKLED: Final = Codec(
    pack=_pack,
    unpack=unpack,
    sizeOf=sizeOf,
    isShared=lambda packed: type(packed) is tuple,
    describe=describe,
    rebuild=rebuild,
    makeReader=PickleReader,
)
"""For two sides that share nothing."""

DIRECT: Final = Codec(
    pack=_withoutDeferred,
    unpack=_asItIs,
    sizeOf=_sizeInMemory,
    isShared=lambda packed: False,
    describe=_withoutCatcher,
    rebuild=_asItIs,
    makeReader=DirectReader,
)
"""For two sides that share their memory: everything arrives as the very object that was sent."""
