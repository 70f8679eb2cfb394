"""
Map: the calls of one function for each item of an iterable, made in chunks, results in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from asynqueue._core.checks import checkCount
from asynqueue._core.options import TaskOptions
from asynqueue._core.task import functionName
from asynqueue._iteration.deferator import Deferator
from asynqueue._iteration.sources import ItemSource
from asynqueue._queue.engine import Engine
from asynqueue._runner.chunks import ChunkResult, runChunk
from asynqueue._runner.context import Pairs
from asynqueue._runner.exceptions import rebuild

CHUNK_SECONDS: Final = 0.02
"""How long the run of one chunk should take. The overhead of a task is small against it, and a
person does not notice it."""

LARGEST_CHUNK: Final = 4096
"""The largest number of items in a chunk."""

GROWTH: Final = 4
"""A chunk has at most this many times as many items as one whose run was measured before."""


def startMap(
    engine: Engine,
    function: Callable[..., Any],
    iterables: tuple[Iterable[Any], ...],
    window: int | None,
    chunksize: int | None,
    options: TaskOptions,
) -> Deferator:
    """
    Call a function for each item of an iterable. See C{TaskQueue.map}.
    """
    engine.checkRunning(f"map({functionName(function)})")
    if options.consumer is not None:
        raise ValueError("map takes no consumer, because its results are those of many calls")
    context = engine.captureContext() or ()
    return Deferator(Mapping(engine, function, iterables, window, chunksize, options, context))


class Mapping(ItemSource):
    """
    The source of a map's results.

    It takes items out of the iterable only while fewer than a window of them are underway or have
    results that nobody has taken. Unless the size of a chunk is given, it is fitted to the measured
    run times.
    """

    def __init__(
        self,
        engine: Engine,
        function: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        window: int | None,
        chunksize: int | None,
        options: TaskOptions,
        context: Pairs | None = None,
    ) -> None:
        """
        @param context: the context variables of every call, as they were when the map began. Their
            values at the time when results are taken do not matter.
        @raise ValueError: if C{window} or C{chunksize} is not a positive integer.
        @raise TypeError: if C{iterable} is not iterable.
        """
        super().__init__()
        if not iterables:
            raise TypeError("map needs at least one iterable")
        checkCount("window", window, optional=True)
        checkCount("chunksize", chunksize, optional=True)
        self._engine = engine
        self._function = function
        self._isApart = len(iterables) > 1
        self._items: Iterator[Any] = iter(iterables[0])
        if self._isApart:
            self._items = zip(*iterables, strict=False)
        self._window = window
        self._chunksize = chunksize
        self._options = options
        self._context = context
        self._size = chunksize or 1
        self._hasMore = True
        self._ahead = 0
        self._chunksAhead = 0
        # In the order of the results.
        self._chunks: deque[_Chunk] = deque()
        self._isFilling = False
        self._fill()

    # ItemSource -----------------------------------------------------------------------------------

    def consumed(self, count: int, cost: int) -> None:
        """
        Submit more chunks, because the results of one were taken.
        """
        self._ahead -= count
        self._chunksAhead -= 1
        self._fill()

    def stopped(self) -> None:
        """
        Cancel the chunks that are underway, because the iteration was stopped.
        """
        self._hasMore = False
        self._close()

    def abandoned(self, stop: Callable[[], None]) -> None:
        """
        Stop soon, because the iterator over the results is garbage.
        """
        self._engine.soon(stop)

    # Chunks ---------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """
        Submit chunks as far as the window allows.
        """
        if self._isFilling:
            return
        self._isFilling = True
        try:
            while self._hasMore and not self.isOver:
                room = self._room()
                if room < 1:
                    break
                self._submitNext(room)
        finally:
            self._isFilling = False
        self._deliver()

    def _room(self) -> int:
        """
        Return how many items the next chunk may have.
        """
        if self._window is None:
            # Each worker runs one chunk, has the next one ahead, and the results of a third are
            # being taken.
            return self._size if self._chunksAhead < 3 * max(1, len(self._engine.pool)) else 0
        return min(self._size, self._window - self._ahead)

    def _submitNext(self, size: int) -> None:
        items: list[Any] = []
        failure = None
        try:
            items.extend(islice(self._items, size))
        except BaseException:
            # extend() keeps the items that came before the error. They still count.
            failure = Failure()
        if failure is not None or len(items) < size:
            self._hasMore = False
        if items:
            self._submitChunk(items)
        if failure is not None:
            self._chunks.append(_Chunk(0, failure))

    def _submitChunk(self, items: list[Any]) -> None:
        try:
            task = self._engine.submit(
                runChunk,
                (self._function, items, True) if self._isApart else (self._function, items),
                {},
                self._options,
                self._context,
            )
        except BaseException:
            self._hasMore = False
            self._chunks.append(_Chunk(0, Failure()))
            return
        chunk = _Chunk(len(items), task.d)
        self._ahead += chunk.size
        self._chunksAhead += 1
        self._chunks.append(chunk)
        task.d.addBoth(self._ran, chunk)

    def _ran(self, result: ChunkResult | Failure, chunk: _Chunk) -> None:
        chunk.outcome = result
        if self.isOver:
            return
        if not isinstance(result, Failure):
            self._fit(chunk.size, result[1])
        self._deliver()

    def _fit(self, size: int, seconds: float) -> None:
        if self._chunksize is None:
            fitting = int(size * CHUNK_SECONDS / max(seconds, 1e-9))
            self._size = max(1, min(fitting, size * GROWTH, LARGEST_CHUNK))

    def _deliver(self) -> None:
        """
        Hand on the results of the chunks at the front that are done.
        """
        chunks = self._chunks
        while chunks and not self.isOver:
            outcome = chunks[0].outcome
            if isinstance(outcome, Deferred):
                break
            chunks.popleft()
            if isinstance(outcome, Failure):
                self._break(outcome)
                return
            results, _, described = outcome
            if described is not None:
                # add() may call back and ask for more at once. The failure is to come next.
                self._hasMore = False
                chunks.appendleft(_Chunk(0, Failure(rebuild(described))))
            self.add(results)
        if not chunks and not self._hasMore and not self._isFilling:
            self.end()

    def _break(self, failure: Failure) -> None:
        """
        Fail the iteration, because a call failed.
        """
        self.fail(failure)
        self._close()

    def _close(self) -> None:
        chunks, self._chunks = self._chunks, deque()
        for chunk in chunks:
            if isinstance(chunk.outcome, Deferred):
                chunk.outcome.cancel()
        close = getattr(self._items, "close", None)
        if close is not None:
            close()


class _Chunk:
    """
    One chunk.

    @ivar size: its number of items.
    @ivar outcome: the Deferred of its task; then what that fired with.
    """

    __slots__ = ("outcome", "size")

    def __init__(self, size: int, outcome: Deferred[Any] | ChunkResult | Failure) -> None:
        self.size = size
        self.outcome = outcome
