"""
Mapping: one function over many arguments, in order, without holding more of them than asked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
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
"""How long one chunk's run should take: long against what a task costs, short against a person's
patience."""

LARGEST_CHUNK: Final = 4096
GROWTH: Final = 4
"""A chunk has at most so many items, and at most so many times as many as one that was measured
before."""


def startMap(
    engine: Engine,
    function: Callable[[Any], Any],
    iterable: Iterable[Any],
    window: int | None,
    chunksize: int | None,
    options: TaskOptions,
) -> Deferator:
    """
    Call a function for each item of an iterable, as C{TaskQueue.map} says.
    """
    engine.checkRunning(f"map({functionName(function)})")
    if options.consumer is not None:
        raise ValueError("map takes no consumer, because its results are those of many calls")
    context = engine.captureContext() or ()
    return Deferator(Mapping(engine, function, iterable, window, chunksize, options, context))


class Mapping(ItemSource):
    """
    The results of a function over an iterable.

    The iterable is advanced only as far as results are taken: no more than a window's worth of
    items is underway or waiting to be taken. Unless a chunk's size is given, it is fitted to the
    run times that were measured.
    """

    def __init__(
        self,
        engine: Engine,
        function: Callable[[Any], Any],
        iterable: Iterable[Any],
        window: int | None,
        chunksize: int | None,
        options: TaskOptions,
        context: Pairs | None = None,
    ) -> None:
        """
        @param context: the context variables that every call is to find. Those of a mapping's
            beginning, not of when its results are taken.
        @raise ValueError: if C{window} or C{chunksize} is not a positive integer.
        @raise TypeError: if C{iterable} is none.
        """
        super().__init__()
        checkCount("window", window, optional=True)
        checkCount("chunksize", chunksize, optional=True)
        self._engine = engine
        self._function = function
        self._items = iter(iterable)
        self._window = window
        self._chunksize = chunksize
        self._options = options
        self._context = context
        self._size = chunksize or 1
        self._hasMore = True
        self._ahead = 0
        self._chunksAhead = 0
        # In the order of the results: each chunk's Deferred, or its results once it is done.
        self._chunks: deque[_Chunk] = deque()
        self._isFilling = False
        self._fill()

    # ItemSource -----------------------------------------------------------------------------------

    def consumed(self, count: int, cost: int) -> None:
        """
        A chunk's results were taken.
        """
        self._ahead -= count
        self._chunksAhead -= 1
        self._fill()

    def stopped(self) -> None:
        """
        Nobody wants the rest.
        """
        self._hasMore = False
        self._close()

    def abandoned(self, stop: Callable[[], None]) -> None:
        """
        Whoever took the results is garbage.
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
        How many items the next chunk may have.
        """
        if self._window is None:
            # Enough that every worker has a chunk to run, one ahead, and one whose results are
            # being taken.
            return self._size if self._chunksAhead < 3 * max(1, len(self._engine.pool)) else 0
        return min(self._size, self._window - self._ahead)

    def _submitNext(self, size: int) -> None:
        items: list[Any] = []
        failure = None
        try:
            items.extend(islice(self._items, size))
        except Exception:
            # What came before still counts; extend() keeps it.
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
                runChunk, (self._function, items), {}, self._options, self._context
            )
        except Exception:
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
        Let the results arrive whose turn it is.
        """
        chunks = self._chunks
        while chunks and not self.isOver and not isinstance(chunks[0].outcome, Deferred):
            chunk = chunks.popleft()
            outcome = chunk.outcome
            if isinstance(outcome, Failure):
                self._break(outcome)
                return
            results, _, described = outcome
            if described is not None:
                # It comes next, even if whoever hears of the results asks for more at once.
                self._hasMore = False
                chunks.appendleft(_Chunk(0, Failure(rebuild(described))))
            self.add(results)
        if not chunks and not self._hasMore and not self._isFilling:
            self.end()

    def _break(self, failure: Failure) -> None:
        """
        A call failed, and with it the rest.
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
    Some items, and what became of them.
    """

    __slots__ = ("outcome", "size")

    def __init__(self, size: int, outcome: Any) -> None:
        self.size = size
        self.outcome = outcome
