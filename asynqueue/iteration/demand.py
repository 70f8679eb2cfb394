"""
Sources that get each item when a taker wants it, from a function or an iterator on the near side,
asynchronous or not.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from types import CoroutineType
from typing import Any, Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue.iteration.prefetcherator import Prefetcherator
from asynqueue.iteration.source import ItemSource
from asynqueue.universe.iterators import isAsyncIterator, isIterator

_LATER: Final = (Deferred, CoroutineType, Failure)


def makeSource(obj: Any, args: tuple[Any, ...], kw: dict[str, Any]) -> ItemSource:
    """
    Make a source of what a L{Deferator<asynqueue.iteration.Deferator>} is constructed with, which
    says what that may be.

    @raise TypeError: if there is a function that is not callable.
    """
    if args:
        if not callable(args[0]):
            raise TypeError(f"A Deferator gets its items from a function, but not from {args[0]!r}")
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
    The base of all: it calls a function for each item, and never again before the last call is
    through. A subclass says what the function's result means.

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
            # As with maybeDeferred(), which would do all of this, at twice the cost for an item.
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
                f"{self._callTuple[0]!r} is to return an item, whether it is valid and whether "
                f"more are left, but it returned {result!r}"
            )
        item, isValid, moreLeft = result
        if isValid and moreLeft:
            self.promisesMore = True
            self._addFirst(item)
            return
        self.promisesMore = False
        if isValid:
            # Nothing will be asked for from within this, as the call counts as not through.
            self.add((item,))
        self.end()


class IteratorSource(DemandSource):
    """
    Gets its items from an iterator. It blocks the reactor for as long as the iterator takes to come
    up with the next one. An item that is a Deferred or a coroutine is waited for.

    The source fails with the iterator's error. C{stop} closes a generator, and whatever its
    C{finally} clauses raise comes out of C{stop}.
    """

    def __init__(self, iterator: Iterator[Any]) -> None:
        super().__init__(iterator.__next__)
        self._iterator = iterator

    def stopped(self) -> None:
        super().stopped()
        iterator = self._iterator
        if (
            inspect.isgenerator(iterator)
            and inspect.getgeneratorstate(iterator) != inspect.GEN_RUNNING
        ):
            iterator.close()

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
    reactor's thread: what it awaits are Deferreds and coroutines.

    The source fails with the iterator's error. C{stop} cancels the Deferred that the iterator is
    waiting for, then closes the iterator with its C{aclose} if it has one. If that fails, nobody is
    left to be told, so it is logged.
    """

    log = Logger()

    def __init__(self, iterator: AsyncIterator[Any]) -> None:
        super().__init__(self._getNext)
        self._iterator = iterator
        self._isStepping = False

    def stopped(self) -> None:
        super().stopped()
        if not self._isStepping:
            Deferred.fromCoroutine(self._close())

    def _getNext(self) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._step())

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
            except Exception:
                self.log.failure("an asynchronous iterator raised when it was closed")

    def _got(self, result: Any) -> None:
        self._addFirst(result)

    def _failed(self, failure: Failure) -> None:
        if failure.check(StopAsyncIteration):
            self.end()
        else:
            self.fail(failure)
