"""
The far end of an iteration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import Context, copy_context
from typing import Any, Final

from asynqueue.universe.codecs import PICKLED, Codec
from asynqueue.universe.messages import CREDIT_BYTES, CREDIT_ITEMS
from asynqueue.universe.packing import PLAIN, Packed

BATCH_ITEMS: Final = 2048
BATCH_BYTES: Final = 1 << 18
BATCH_SECONDS: Final = 0.005
"""A batch of items goes out when it has so many items or bytes, or has been so long in the
making."""


class ItemNotPicklable(Exception):
    """
    Wraps the error of an item that cannot be packed, to tell it from the iterator's own errors.
    """


class FarStream:
    """
    An iterator whose items are sent as far as credit allows.

    @ivar id: the ID of the task that yielded it.
    @ivar closing: C{True} once the near side wants no more.
    """

    __slots__ = ("_bytes", "_clock", "_codec", "_context", "_items", "_iterator", "closing", "id")

    def __init__(
        self,
        id: int,
        iterator: Iterator[Any],
        clock: Callable[[], float],
        codec: Codec = PICKLED,
        context: Context | None = None,
    ) -> None:
        """
        @param context: what the iterator's code runs in. Default: a copy of the present one.
        """
        self.id = id
        self.closing = False
        self._codec = codec
        self._context = copy_context() if context is None else context
        self._iterator = iterator
        self._clock = clock
        self._items = CREDIT_ITEMS
        self._bytes = CREDIT_BYTES

    @property
    def canProduce(self) -> bool:
        """
        Whether credit is left.
        """
        return self._items > 0 and self._bytes > 0

    def grant(self, items: int, size: int) -> None:
        """
        The near side allows more.
        """
        self._items += items
        self._bytes += size

    def produce(self, batch: list[Packed]) -> tuple[int, bool]:
        """
        Take the next items and pack them.

        @param batch: gets the items. What it holds when this raises had been yielded before.
        @return: the bytes of credit used, and whether the iterator is over.
        @raise ItemNotPicklable: if an item cannot be packed.
        @raise BaseException: what the iterator raises.
        """
        return self._context.run(self._produce, batch)

    def _produce(self, batch: list[Packed]) -> tuple[int, bool]:
        advance = self._iterator.__next__
        clock, codec = self._clock, self._codec
        pack, sizeOf, isShared = codec.pack, codec.sizeOf, codec.isShared
        deadline = clock() + BATCH_SECONDS
        room = min(self._items, BATCH_ITEMS)
        roomBytes = min(self._bytes, BATCH_BYTES)
        used = 0
        over = False
        while len(batch) < room and used < roomBytes:
            try:
                item = advance()
            except StopIteration:
                over = True
                break
            if type(item) not in PLAIN:
                try:
                    item = pack(item)
                except (Exception, SystemExit, KeyboardInterrupt) as error:
                    # But an interruption of the task passes.
                    raise ItemNotPicklable(item) from error
            batch.append(item)
            used += sizeOf(item)
            if clock() >= deadline or (type(item) is tuple and isShared(item)):
                break
        self._items -= len(batch)
        self._bytes -= used
        return used, over

    def close(self) -> None:
        """
        End the iterator; a generator's C{finally} runs.

        @raise BaseException: what that raises.
        """
        close = getattr(self._iterator, "close", None)
        if close is not None:
            self._context.run(close)
