"""
The far end of streams: iterators whose items cross in batches, against credit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Final

from asynqueue._runner.codecs import PICKLED, Answers, Codec
from asynqueue._runner.exceptions import TaskInterrupted, explained
from asynqueue._runner.messages import CREDIT_BYTES, CREDIT_ITEMS, ENDED, ITEMS, Message
from asynqueue._runner.packing import PLAIN, Packed
from asynqueue._runner.progress import ProgressReports
from asynqueue.errors import PayloadTooLarge, ResultNotPicklable, typeName

if TYPE_CHECKING:
    from asynqueue._runner.callrunner import CallRunner


def isIterator(value: object) -> bool:
    """
    Tell whether a call's result is to be iterated over, rather than brought back whole.

    @param value: anything.
    @return: C{True} for an iterator: an object with C{__iter__} and C{__next__}, such as a
        generator, a file or what C{map} and C{zip} return. C{False} for containers, which have no
        C{__next__}, and for anything else.
    """
    kind = type(value)
    return hasattr(kind, "__next__") and hasattr(kind, "__iter__")


def isAsyncIterator(value: object) -> bool:
    """
    Tell whether an object is an asynchronous iterator.

    @param value: anything.
    @return: C{True} for an object with C{__aiter__} and C{__anext__}, such as an asynchronous
        generator.
    """
    kind = type(value)
    return hasattr(kind, "__anext__") and hasattr(kind, "__aiter__")


BATCH_ITEMS: Final = 2048
BATCH_BYTES: Final = 1 << 18
BATCH_SECONDS: Final = 0.005
"""A batch of items goes out when it has so many items or bytes, or has been so long in the
making."""


def quietly(close: Callable[[], object]) -> None:
    """
    Close something after a failure that was reported already. An exception that closing raises goes
    to the interpreter's hook.
    """
    try:
        close()
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)


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
        @param context: the context to run the iterator's code in. Default: a copy of the present
            one.
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

        @param batch: gets the items. If this raises, it has the items that were yielded before.
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
                    # An interruption of the task is none of these.
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


class OpenStreams:
    """
    Lets each stream produce as its credit allows, and posts what comes of it.

    @ivar open: the streams that are not over, by the IDs of their tasks.
    """

    def __init__(
        self,
        runner: CallRunner,
        post: Callable[[Message], None],
        codec: Codec,
        clock: Callable[[], float],
        progress: ProgressReports,
        answers: Answers,
    ) -> None:
        self._runner = runner
        self._answers = answers
        self._progress = progress
        self._post = post
        self._codec = codec
        self._clock = clock
        self.open: dict[int, FarStream] = {}

    @property
    def haveWork(self) -> bool:
        """
        Whether L{step} has something to do.
        """
        return bool(self.open) and any(
            stream.canProduce or stream.closing for stream in self.open.values()
        )

    def add(self, id: int, iterator: Iterator[Any], context: Context) -> None:
        """
        A call yielded an iterator.
        """
        self.open[id] = FarStream(id, iterator, self._clock, self._codec, context)

    def grant(self, id: int, items: int, size: int) -> None:
        """
        Let a stream send more. It may be over already.
        """
        stream = self.open.get(id)
        if stream is not None:
            stream.grant(items, size)

    def unwanted(self, id: int) -> None:
        """
        Have a stream closed. The ID may be that of a call which yields none.
        """
        stream = self.open.get(id)
        if stream is not None:
            stream.closing = True

    def step(self) -> None:
        """
        Let each stream produce one batch, if it has credit.
        """
        for stream in list(self.open.values()):
            if stream.closing:
                self._close(stream)
            elif stream.canProduce:
                self._produce(stream)

    def close(self) -> None:
        """
        Close all.
        """
        for stream in list(self.open.values()):
            if self._runner.isTerminated:
                # It has not come to its end, and must not look as if it had.
                del self.open[stream.id]
                quietly(stream.close)
            else:
                self._close(stream)

    def _produce(self, stream: FarStream) -> None:
        batch: list[Packed] = []
        used = 0
        over = False
        raised: BaseException | None = None
        self._runner.running = stream.id
        try:
            used, over = stream.produce(batch)
        except BaseException as error:
            raised = error
        # At once: a signal's handler interrupts what is running at any call of a function.
        self._runner.running = None
        self._runner.ran(stream.id, raised)
        failure = self._failureOf(stream, raised)
        if batch:
            # If something was raised, nothing was counted.
            used = used or sum(map(self._codec.sizeOf, batch))
            try:
                self._post((ITEMS, stream.id, batch, used))
            except PayloadTooLarge as error:
                failure, over = self._postOthers(stream, batch, error), False
        if failure is not None:
            del self.open[stream.id]
            self._progress.flush(stream.id)
            if not (self._runner.isTerminated and isinstance(failure, TaskInterrupted)):
                self._answers.raised(stream.id, 0.0, failure)
            quietly(stream.close)
        elif over:
            del self.open[stream.id]
            self._progress.flush(stream.id)
            self._post((ENDED, stream.id))

    def _failureOf(self, stream: FarStream, raised: BaseException | None) -> BaseException | None:
        """
        Return what a stream fails with, given what it raised.
        """
        if isinstance(raised, ItemNotPicklable):
            what = f"bring back an item, of type {typeName(type(raised.args[0]))}"
            return explained(ResultNotPicklable, what, raised.__cause__ or raised)
        if isinstance(raised, TaskInterrupted) and stream.closing:
            # The near side has asked for it: the stream is closed and ends like any other.
            return None
        return raised

    def _close(self, stream: FarStream) -> None:
        failure: BaseException | None = None
        try:
            stream.close()
        except BaseException as error:
            failure = error
        del self.open[stream.id]
        self._progress.flush(stream.id)
        if failure is None:
            self._post((ENDED, stream.id))
        else:
            self._answers.raised(stream.id, 0.0, failure)

    def _postOthers(
        self, stream: FarStream, batch: list[Packed], error: PayloadTooLarge
    ) -> BaseException:
        """
        Send the items of a batch that is too large, without the last one, which is at fault: the
        others were within the limit.

        @return: the error that the stream ends with.
        """
        others = batch[:-1]
        if others:
            self._post((ITEMS, stream.id, others, sum(map(self._codec.sizeOf, others))))
        return explained(PayloadTooLarge, "bring back an item", error)
