"""
The streams that a universe has open.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol

from asynqueue.errors import PayloadTooLarge, ResultNotPicklable
from asynqueue.universe.answers import Answers
from asynqueue.universe.codecs import Codec
from asynqueue.universe.exceptions import explained, typeName
from asynqueue.universe.interruption import TaskInterrupted
from asynqueue.universe.messages import ENDED, ITEMS, Message
from asynqueue.universe.packing import Packed
from asynqueue.universe.progress import ProgressReports
from asynqueue.universe.streams import FarStream, ItemNotPicklable


class Host(Protocol):
    """
    What is to know whose code is running: a universe.
    """

    running: int | None
    isTerminated: bool

    def ran(self, id: int) -> None:
        """The code that was running has returned."""


class OpenStreams:
    """
    Lets each stream produce as its credit allows, and posts what comes of it.
    """

    def __init__(
        self,
        host: Host,
        post: Callable[[Message], None],
        codec: Codec,
        clock: Callable[[], float],
        progress: ProgressReports,
        answers: Answers,
    ) -> None:
        self._host = host
        self._answers = answers
        self._progress = progress
        self._post = post
        self._codec = codec
        self._clock = clock
        self._streams: dict[int, FarStream] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, id: int) -> bool:
        return id in self._streams

    @property
    def haveWork(self) -> bool:
        """
        Whether L{step} has something to do.
        """
        return any(stream.canProduce or stream.closing for stream in self._streams.values())

    def add(self, id: int, iterator: Any, context: Context) -> None:
        """
        A call yielded an iterator.
        """
        self._streams[id] = FarStream(id, iterator, self._clock, self._codec, context)

    def grant(self, id: int, items: int, size: int) -> None:
        """
        The near side allows more, of a stream that may be over.
        """
        stream = self._streams.get(id)
        if stream is not None:
            stream.grant(items, size)

    def unwanted(self, id: int) -> None:
        """
        The near side wants no more, of what may be no stream.
        """
        stream = self._streams.get(id)
        if stream is not None:
            stream.closing = True

    def step(self) -> None:
        """
        Let each stream produce one batch, if it has credit.
        """
        for stream in list(self._streams.values()):
            if stream.closing:
                self._close(stream)
            elif stream.canProduce:
                self._produce(stream)

    def close(self) -> None:
        """
        Close all.
        """
        for stream in list(self._streams.values()):
            if self._host.isTerminated:
                # It has not come to its end, and is not to look as if it had.
                del self._streams[stream.id]
                self._closeQuietly(stream)
            else:
                self._close(stream)

    def _produce(self, stream: FarStream) -> None:
        batch: list[Packed] = []
        used = 0
        over = False
        failure: BaseException | None = None
        self._host.running = stream.id
        try:
            used, over = stream.produce(batch)
        except ItemNotPicklable as error:
            what = f"bring back an item, of type {typeName(type(error.args[0]))}"
            failure = explained(ResultNotPicklable, what, error.__cause__ or error)
        except TaskInterrupted as error:
            # If the near side asked for it, the stream is closed and ends like any other.
            failure = None if stream.closing else error
        except BaseException as error:
            failure = error
        finally:
            self._host.ran(stream.id)
        if batch:
            # Where something was raised, nobody counted.
            used = used or sum(map(self._codec.sizeOf, batch))
            try:
                self._post((ITEMS, stream.id, batch, used))
            except PayloadTooLarge as error:
                failure, over = self._postOthers(stream, batch, error), False
        if failure is not None:
            del self._streams[stream.id]
            self._progress.flush(stream.id)
            if not (self._host.isTerminated and isinstance(failure, TaskInterrupted)):
                self._answers.raised(stream.id, 0.0, failure)
            self._closeQuietly(stream)
        elif over:
            del self._streams[stream.id]
            self._progress.flush(stream.id)
            self._post((ENDED, stream.id))

    def _close(self, stream: FarStream) -> None:
        failure: BaseException | None = None
        try:
            stream.close()
        except BaseException as error:
            failure = error
        del self._streams[stream.id]
        self._progress.flush(stream.id)
        if failure is None:
            self._post((ENDED, stream.id))
        else:
            self._answers.raised(stream.id, 0.0, failure)

    def _postOthers(
        self, stream: FarStream, batch: list[Packed], error: PayloadTooLarge
    ) -> BaseException:
        """
        A batch is too large because of its last item, as those before it were few: send these.

        @return: what the stream ends with.
        """
        others = batch[:-1]
        if others:
            self._post((ITEMS, stream.id, others, sum(map(self._codec.sizeOf, others))))
        return explained(PayloadTooLarge, "bring back an item", error)

    def _closeQuietly(self, stream: FarStream) -> None:
        """
        After a failure that was told already, what closing adds to it goes to the interpreter's
        hook.
        """
        try:
            stream.close()
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
