"""
Where a Deferator's items come from.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from enum import Enum
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue._iteration.prefetcherator import Prefetcherator
from asynqueue._runner.streams import isAsyncIterator, isIterator
from asynqueue.errors import NotReadyError

if TYPE_CHECKING:
    from asynqueue._queue.queuedtask import QueuedTask


class SourceState(Enum):
    """
    The states of an L{ItemSource}::

        OPEN --- end() ----> ENDED ----+
          | ---- fail() ---> FAILED ---+
          | ---- lose() ---> LOST -----+--- stop() ---> STOPPED
          | ------------------ stop() ------------------^

    Any other call than these is ignored. A source is LOST when its far side is gone or is given up.
    A taker that has paused is then not waited for.
    """

    OPEN = "open"
    ENDED = "ended"
    FAILED = "failed"
    LOST = "lost"
    STOPPED = "stopped"


class ItemSource:
    """
    A buffer between the side that feeds an iteration's items and the one taker who wants them.

    The feeding side calls L{add}, L{end}, L{fail}, L{lose} and L{shut}. The taking side looks at
    C{items} and C{isOver}, and calls L{take}. When it finds nothing it calls L{want} and looks
    again. If there is still nothing, it becomes the listener with L{listen}. There is no locking,
    because everything is called in the reactor's thread.

    A subclass overrides the hooks L{want}, L{consumed}, L{stopped} and L{abandoned}. They must not
    raise.

    @ivar items: the items that have arrived and were not taken yet. A taker that removes items from
        the left without L{take} reports them with L{taken}.
    @ivar state: the state.
    @ivar failure: why it ended, if it did not end by itself. It comes after the items.
    @ivar listener: the function that L{listen} was given, or C{None}.
    @ivar observers: functions that are called without arguments at every change that the listener
        hears of, before the listener.
    @ivar isPaused: whether the taker wants no items until it says otherwise.
    @ivar takings: how often the taker took something. It tells whether anybody takes.
    @ivar task: the task that yields the items, until it is done; C{None} if there is none.
    @ivar promisesMore: whether it is known, while it is open, that another item follows those in
        the buffer. Where that is not known, C{for d in deferator} looks one item ahead.
    """

    promisesMore: bool = False
    task: QueuedTask | None = None

    def __init__(self) -> None:
        self.items: deque[Any] = deque()
        self.state = SourceState.OPEN
        self.failure: Failure | None = None
        # Each batch's count and cost; None for items that acknowledge() has reported already.
        self._batches: deque[tuple[int, int] | None] = deque()
        # How many items of the first of these were not taken yet: 0 only if there is none.
        self._remaining = 0
        self.listener: Callable[[], object] | None = None
        self.observers: tuple[Callable[[], object], ...] = ()
        self.isPaused = False
        self.takings = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.state.value}, {len(self.items)} items waiting>"

    @property
    def isOver(self) -> bool:
        """
        Whether nothing more will arrive. The present C{items} can still be taken.
        """
        return self.state is not SourceState.OPEN

    @property
    def credit(self) -> tuple[int, int] | None:
        """
        How many items, and how many bytes, the producer may still send; C{None} if it sends them as
        they are wanted.
        """
        return None

    @property
    def knowsWhatFollows(self) -> bool:
        """
        Whether it is known what follows the first item in C{items}; or, if there is none, whether
        it is known that there will be none.
        """
        count = len(self.items)
        return count > 1 or self.isOver or (count == 1 and self.promisesMore)

    # The feeding side -----------------------------------------------------------------------------

    def add(self, items: Iterable[Any], cost: int = 0) -> None:
        """
        A batch of items arrives. Ignored if the source is over.

        @param items: the items, in order; there may be none. None of them is a Deferred.
        @param cost: how much the batch counts against the producer's credit, in bytes. L{consumed}
            gets it later.
        """
        if self.isOver:
            return
        batch = items if isinstance(items, (list, tuple)) else list(items)
        count = len(batch)
        self.items.extend(batch)
        if not self._batches:
            self._remaining = count
        self._batches.append((count, cost))
        if not count:
            self.taken(0)
        self._notify()

    def end(self) -> None:
        """
        The last item has arrived. Ignored if the source is over.
        """
        if not self.isOver:
            self.state = SourceState.ENDED
            self._notify()

    def fail(self, failure: Failure) -> None:
        """
        No more items will arrive, because of this failure; it comes after those in the buffer.
        Ignored if the source is over.
        """
        self._endWith(SourceState.FAILED, failure)

    def lose(self, failure: Failure) -> None:
        """
        Nothing will come any more, because the far side is gone. The failure comes after the items
        in the buffer, unless the taker has paused. Ignored if the source is over.
        """
        self._endWith(SourceState.LOST, failure)

    def _endWith(self, state: SourceState, failure: Failure) -> None:
        if not self.isOver:
            self.state = state
            self.failure = failure
            self._notify()

    def shut(self, failure: Failure) -> None:
        """
        The feeding side gives up: do what L{lose} does, and close the far side as if the taker had
        called L{stop}. Ignored if the source is over.
        """
        if not self.isOver:
            self.lose(failure)
            self.stopped()

    # The taking side ------------------------------------------------------------------------------

    def take(self) -> Any:
        """
        Take the first item.

        @raise IndexError: if there is none. Look at C{items} first.
        """
        item = self.items.popleft()
        self.takings += 1
        self._remaining -= 1
        if not self._remaining:
            self.taken(0)
        return item

    def taken(self, count: int) -> None:
        """
        Account for items that were removed from the left of C{items}. L{consumed} is called for
        every batch of which nothing is left.

        @param count: how many items.
        """
        self.takings += 1
        batches = self._batches
        while batches and count >= self._remaining:
            count -= self._remaining
            batch = batches.popleft()
            following = batches[0] if batches else None
            self._remaining = following[0] if following else 0
            if batch:
                self.consumed(*batch)
        # Without batches the count is 0, unless stop() came before the items were accounted for.
        if batches:
            self._remaining -= count

    def acknowledge(self) -> None:
        """
        Report the items in the buffer as consumed, although they stay there.

        A taker calls this if it cannot go on before it knows what follows them. So a producer that
        has used up its credit sends more.
        """
        kept = len(self.items)
        self.taken(kept)
        if not self.items:
            return
        if self._batches:
            self._remaining += kept
        else:
            self._batches.append(None)
            self._remaining = kept

    def listen(self, listener: Callable[[], object] | None) -> None:
        """
        Set the one listener. It is called after every change: a batch that was added, or the end
        for any reason. It may call any method of the source.

        @param listener: called without arguments; C{None} for nobody.
        @raise NotReadyError: if somebody else is listening.
        """
        if listener is not None and self.listener not in (None, listener):
            raise NotReadyError(f"{self!r} has a taker already, which waits for the next item")
        self.listener = listener

    def stop(self) -> None:
        """
        The taker wants no more. The items in the buffer are dropped, and with them a failure that
        would have come after them. L{stopped} is called if the source was open.
        """
        if self.state is SourceState.STOPPED:
            return
        wasOpen = self.state is SourceState.OPEN
        self.state = SourceState.STOPPED
        self.failure = None
        self.items.clear()
        self._batches.clear()
        self._remaining = 0
        try:
            if wasOpen:
                self.stopped()
        finally:
            self._notify()

    # Hooks for subclasses -------------------------------------------------------------------------

    def want(self) -> None:
        """
        A taker needs one more item than the buffer holds. It may call this repeatedly while it
        waits.

        A source that works on demand overrides this. It may add the item from within this call.
        """

    def consumed(self, count: int, cost: int) -> None:
        """
        All items of an added batch have been taken. This is called once for each batch, in their
        order; never for those that L{stop} dropped.

        @param count: how many items the batch had.
        @param cost: what L{add} was told.
        """

    def stopped(self) -> None:
        """
        The taker called L{stop} before the source was over: let the far generator close.
        """

    def abandoned(self, stop: Callable[[], None]) -> None:
        """
        The taker was garbage-collected before it came to the end. B{This may be called in any
        thread, and in the middle of anything}, because the garbage collector calls it. A source
        that has a far side overrides it, and has the reactor call C{stop} with
        C{reactor.callFromThread}. By default C{stop} is called at once.

        @param stop: ends the iteration, this source included.
        """
        stop()

    def _notify(self) -> None:
        for observer in self.observers:
            observer()
        if self.listener is not None:
            self.listener()


Run = Callable[[Callable[[], Any]], Any]
"""Calls a function and returns what that returns: in a context, for example."""

_LATER: Final = (Deferred, CoroutineType, Failure)


def makeSource(obj: Any, args: tuple[Any, ...], kw: dict[str, Any]) -> ItemSource:
    """
    Make a source of the arguments of a L{Deferator<asynqueue.iteration.Deferator>}.

    @raise TypeError: if there is a function that is not callable.
    """
    if args:
        if not callable(args[0]):
            raise TypeError(f"a Deferator needs a function to get items from, not {args[0]!r}")
        return CallSource(*args, **kw)
    if isinstance(obj, ItemSource):
        return obj
    if isinstance(obj, Prefetcherator):
        return CallSource(obj.getNext)
    if isIterator(obj):
        return IteratorSource(obj)
    if isAsyncIterator(obj):
        return AsyncIteratorSource(obj)
    source = ItemSource()
    source.end()
    return source


class DemandSource(ItemSource):
    """
    The base of the sources that call a function for each item. The function is called again only
    when the last call is through. A subclass says what the function's result means.

    C{stop} cancels the Deferred of a call that is not through.
    """

    def __init__(self, function: Callable[..., Any], /, *args: Any, **kw: Any) -> None:
        super().__init__()
        self._callTuple = function, args, kw
        self._isAsking = False
        self._asked: Deferred[Any] | None = None

    def want(self) -> None:
        if self._isAsking or self.isOver:
            return
        self._isAsking = True
        function, args, kw = self._callTuple
        try:
            result = function(*args, **kw)
            if not isinstance(result, _LATER):
                self._got(result)
                return
        except BaseException:
            # maybeDeferred() would do all of this, at twice the cost for an item.
            result = Failure()
        asked: Deferred[Any] = maybeDeferred(lambda: result)
        if self.isOver:
            # The function itself has called stop().
            asked.cancel()
        self._asked = asked
        asked.addCallback(self._got).addErrback(self._failed)

    def stopped(self) -> None:
        if self._asked is not None:
            self._asked.cancel()

    def _got(self, result: Any) -> None:
        raise NotImplementedError

    def _failed(self, failure: Failure) -> None:
        self.fail(failure)

    def _addFirst(self, item: Any) -> None:
        # The next want() may come from within add().
        self._isAsking = False
        self.add((item,))


class CallSource(DemandSource):
    """
    Gets its items from a function that returns, perhaps as a Deferred, 3-tuples: the next item,
    whether that is valid (it is not if there was no item at all), and whether more are left.

    The source fails with the function's error, or with C{TypeError} if the function returns
    anything else.
    """

    def _got(self, result: Any) -> None:
        if not isinstance(result, tuple | list) or len(result) != 3:
            raise TypeError(
                f"{self._callTuple[0]!r} must return an item, whether it is valid and whether more "
                f"are left, but it returned {result!r}"
            )
        item, isValid, moreLeft = result
        if isValid and moreLeft:
            self.promisesMore = True
            self._addFirst(item)
            return
        self.promisesMore = False
        if isValid:
            # The taker cannot ask for more from within this, because the call is not through yet.
            self.add((item,))
        self.end()


class IteratorSource(DemandSource):
    """
    Gets its items from an iterator. It blocks the reactor for as long as the iterator takes for the
    next one. An item that is a Deferred or a coroutine is waited for.

    The source fails with the iterator's error. C{stop} closes a generator, and whatever its
    C{finally} clauses raise comes out of C{stop}.
    """

    def __init__(self, iterator: Iterator[Any], run: Run | None = None) -> None:
        """
        @param run: calls the iterator's code. With it, C{stop} closes any iterator that has a
            C{close}, not only a generator.
        """
        super().__init__(iterator.__next__ if run is None else self._step)
        self._iterator = iterator
        self._run = run
        self._isStepping = False

    def stopped(self) -> None:
        super().stopped()
        iterator = self._iterator
        if self._run is not None:
            self._close()
        elif (
            inspect.isgenerator(iterator)
            and inspect.getgeneratorstate(iterator) != inspect.GEN_RUNNING
        ):
            iterator.close()

    def _step(self) -> Any:
        assert self._run is not None
        self._isStepping = True
        try:
            return self._run(self._iterator.__next__)
        finally:
            self._isStepping = False
            if self.isOver:
                # It was stopped by its own code, when it could not be closed.
                self._close()

    def _close(self) -> None:
        close = getattr(self._iterator, "close", None)
        if close is not None and self._run is not None and not self._isStepping:
            self._run(close)

    def _got(self, result: Any) -> None:
        self._addFirst(result)

    def _failed(self, failure: Failure) -> None:
        if isinstance(failure.value, StopIteration):
            self.end()
        else:
            self.fail(failure)


class AsyncIteratorSource(DemandSource):
    """
    Gets its items from an asynchronous iterator, such as an asynchronous generator, in the
    reactor's thread.

    The source fails with the iterator's error. C{stop} cancels the Deferred that the iterator waits
    for, then closes the iterator with its C{aclose} if it has one. If that fails, it is logged,
    because nobody else would hear of it.
    """

    log = Logger()

    def __init__(
        self,
        iterator: AsyncIterator[Any],
        run: Run = lambda function: function(),
        start: Callable[[Coroutine[Any, Any, Any]], Deferred[Any]] = Deferred.fromCoroutine,
    ) -> None:
        """
        @param run: calls the iterator's code.
        @param start: runs a coroutine, which awaits what the iterator does. By default the iterator
            may await Deferreds and coroutines.
        """
        super().__init__(lambda: run(self._getNext))
        self._iterator = iterator
        self._run = run
        self._start = start
        self._isStepping = False

    def stopped(self) -> None:
        self._run(self._cancelAndClose)

    def _cancelAndClose(self) -> None:
        super().stopped()
        if not self._isStepping:
            self._start(self._close())

    def _getNext(self) -> Deferred[Any]:
        return self._start(self._step())

    async def _step(self) -> Any:
        self._isStepping = True
        try:
            return await self._iterator.__anext__()
        finally:
            self._isStepping = False
            if self.isOver:
                # It was stopped meanwhile, when it could not be closed.
                await self._close()

    async def _close(self) -> None:
        close = getattr(self._iterator, "aclose", None)
        if close is not None:
            try:
                await close()
            except BaseException:
                self.log.failure("an asynchronous iterator raised when it was closed")

    def _got(self, result: Any) -> None:
        self._addFirst(result)

    def _failed(self, failure: Failure) -> None:
        if failure.check(StopAsyncIteration):
            self.end()
        else:
            self.fail(failure)
