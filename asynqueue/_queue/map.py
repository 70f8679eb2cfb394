"""
Map: the calls of one function for each item of an iterable, made in chunks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from asynqueue._core.checks import checkCount
from asynqueue._core.options import TaskOptions
from asynqueue._core.task import functionName
from asynqueue._iteration.deferator import Deferator
from asynqueue._iteration.sources import ItemSource
from asynqueue._queue.engine import Engine
from asynqueue._runner.chunks import ChunkResult, raisedIn, runChunk
from asynqueue._runner.context import Pairs
from asynqueue.errors import CallNotPicklable, CallNotRebuilt

CHUNK_SECONDS: Final = 0.02
"""How long the run of one chunk should take. The overhead of a task is small against it, and a
person does not notice it."""

LARGEST_CHUNK: Final = 4096
"""The largest number of items in a chunk."""

UNBEGUN: Final = (CallNotPicklable, CallNotRebuilt)
"""The errors of a chunk's task if a single item may be the reason, and no call was run."""

GROWTH: Final = 4
"""A chunk has at most this many times as many items as one whose run was measured before."""


def startMap(
    queue: object,
    engine: Engine,
    function: Callable[..., Any],
    iterables: tuple[Iterable[Any], ...],
    window: int | None,
    chunksize: int | None,
    options: TaskOptions,
    ordered: bool,
    returnExceptions: bool,
) -> Deferator:
    """
    Call a function for each item of an iterable. See C{TaskQueue.map}.
    """
    engine.checkRunning(f"map({functionName(function)})")
    if options.consumer is not None:
        raise ValueError("map takes no consumer, because its results are those of many calls")
    context = engine.captureContext() or ()
    sizes = window, chunksize
    flags = ordered, returnExceptions
    return Deferator(Mapping(queue, engine, function, iterables, *sizes, options, context, *flags))


class Mapping(ItemSource):
    """
    The source of a map's results.

    It takes items out of the iterable only while fewer than a window of them are underway or have
    results that nobody has taken. Unless the size of a chunk is given, it is fitted to the measured
    run times.
    """

    def __init__(
        self,
        queue: object,
        engine: Engine,
        function: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        window: int | None,
        chunksize: int | None,
        options: TaskOptions,
        context: Pairs | None,
        ordered: bool,
        returnExceptions: bool,
    ) -> None:
        """
        @param queue: the queue, to which the program refers as long as it refers to this.
        @param context: the context variables of every call, as they were when the map began. Their
            values at the time when results are taken do not matter.
        @param ordered: whether results come in the order of the items, rather than as they are
            there.
        @param returnExceptions: whether to go on after a call that raises. Its exception then comes
            in place of its result.
        @raise ValueError: if C{window} or C{chunksize} is not a positive integer.
        @raise TypeError: if C{iterable} is not iterable.
        """
        super().__init__()
        if not iterables:
            raise TypeError("map needs at least one iterable")
        checkCount("window", window, optional=True)
        checkCount("chunksize", chunksize, optional=True)
        self._queue = queue
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
        self._isOrdered = ordered
        self._goesOn = returnExceptions
        self._ahead = 0
        self._chunksAhead = 0
        # In the order in which their results are delivered.
        self._chunks: OrderedDict[_Chunk, None] = OrderedDict()
        self._isFilling = False
        # While the queue is full.
        self._waiting: Deferred[None] | None = None
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
                if self._engine.isFull:
                    self._waitForRoom()
                    break
                self._submitNext(room)
        finally:
            self._isFilling = False
        self._deliver()

    def _waitForRoom(self) -> None:
        if self._waiting is None:
            self._waiting = self._engine.whenReady()
            # If the queue is shut down, the next chunk finds that out.
            self._waiting.addBoth(self._waited)

    def _waited(self, _: object) -> None:
        self._waiting = None
        self._fill()

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
            chunk = _Chunk(items)
            self._chunks[chunk] = None
            self._ahead += chunk.size
            self._chunksAhead += 1
            self._submitRest(chunk, chunk.size)
        if failure is not None:
            self._chunks[_Chunk([], failure)] = None
        self._deliver()

    def _submitRest(self, chunk: _Chunk, size: int) -> None:
        """
        Submit the next items of a chunk. If their task is done at once, note that and submit those
        after them.

        @param size: how many.
        """
        while size:
            items = chunk.items[len(chunk.results) :][:size]
            arguments: tuple[Any, ...] = (self._function, items)
            if self._isApart or self._goesOn:
                # An item that may be called again is called before those that follow it.
                arguments += (self._isApart, self._goesOn and self._options.retry is None)
            try:
                task = self._engine.submit(
                    runChunk, arguments, {}, self._options, self._context, mustFit=False
                )
            except BaseException:
                self._couldNotSubmit(chunk, Failure())
                return
            if not task.d.called:
                chunk.pending = task.d
                task.d.addBoth(self._ran, chunk, size)
                return
            outcome: list[Any] = []
            task.d.addBoth(outcome.append)
            size = self._note(outcome[0], chunk, size)
        if not self._isOrdered and chunk in self._chunks:
            self._chunks.move_to_end(chunk, last=False)

    def _couldNotSubmit(self, chunk: _Chunk, failure: Failure) -> None:
        """
        Have the iteration fail after what was submitted before.
        """
        self._hasMore = False
        if self._goesOn:
            chunk.results += [failure.value] * (chunk.size - len(chunk.results))
            chunk.items = []
            self._chunks[_Chunk([], failure)] = None
        else:
            chunk.end(failure)

    def _submitAgain(self, chunk: _Chunk) -> None:
        chunk.pending = None
        self._submitRest(chunk, chunk.size - len(chunk.results))
        self._deliver()

    def _ran(self, result: ChunkResult | Failure, chunk: _Chunk, size: int) -> None:
        chunk.pending = None
        if not self.isOver:
            self._submitRest(chunk, self._note(result, chunk, size))
            self._deliver()

    def _note(self, result: ChunkResult | Failure, chunk: _Chunk, size: int) -> int:
        """
        Note what became of some items of a chunk.

        @return: how many of its items are to be submitted next.
        """
        following = 2 * size
        if not isinstance(result, Failure):
            results, seconds, failures = result
            self._fit(size, seconds)
            start = len(chunk.results)
            chunk.results += results
            chunk.runs = 1 if results else chunk.runs + 1
            for place, described in failures.items():
                error, delay = raisedIn(described), None
                if self._options.retry is not None:
                    error, delay = self._options.retry.decide(error, chunk.runs)
                if delay is not None:
                    chunk.pending = self._engine.later(delay, self._submitAgain, chunk)
                    return 0
                if self._goesOn:
                    # What has ended the run of the chunk comes after the results.
                    chunk.results[start + place : start + place + 1] = [error]
                    chunk.runs = 0
                else:
                    chunk.end(Failure(error))
        elif not self._goesOn:
            chunk.end(result)
        else:
            if result.check(*UNBEGUN) is not None:
                if size > 1:
                    return size // 2
                # The item after one that is at fault may be, too.
                following = 1
            chunk.results += [result.value] * size
        left = len(chunk.items) - len(chunk.results)
        if left <= 0:
            chunk.items = []
        return max(0, min(left, following))

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
            chunk = next(iter(chunks))
            if not chunk.isDone:
                break
            del chunks[chunk]
            failure = chunk.failure
            if failure is not None and chunk.results:
                # add() may call back and ask for more at once. The failure is to come next.
                self._hasMore = False
                last = _Chunk([], failure)
                chunks[last] = None
                chunks.move_to_end(last, last=False)
            elif failure is not None:
                self._break(failure)
                return
            self.add(chunk.results)
        if not chunks and not self._hasMore and not self._isFilling:
            self.end()

    def _break(self, failure: Failure) -> None:
        """
        Fail the iteration, because a call failed.
        """
        self.fail(failure)
        self._close()

    def _close(self) -> None:
        chunks, self._chunks = self._chunks, OrderedDict()
        for chunk in chunks:
            if chunk.pending is not None:
                chunk.pending.cancel()
        if self._waiting is not None:
            self._waiting.cancel()
        close = getattr(self._items, "close", None)
        if close is not None:
            close()


class _Chunk:
    """
    One chunk.

    @ivar items: its items, until their results are there.
    @ivar size: their number.
    @ivar results: the results that are there.
    @ivar failure: why there are no more results, if that is so.
    @ivar runs: how often the first item that has no result was called.
    @ivar pending: the Deferred of the task that is underway for it, or the call that submits the
        next one; C{None} if there is neither.
    """

    __slots__ = ("failure", "items", "pending", "results", "runs", "size")

    def __init__(self, items: list[Any], failure: Failure | None = None) -> None:
        self.items = items
        self.size = len(items)
        self.results: list[Any] = []
        self.failure = failure
        self.runs = 0
        self.pending: Deferred[Any] | IDelayedCall | None = None

    @property
    def isDone(self) -> bool:
        """
        Whether nothing more comes of it.
        """
        return self.failure is not None or not self.items

    def end(self, failure: Failure) -> None:
        """
        Note that no more results come, and why.
        """
        self.failure = failure
        self.items = []
