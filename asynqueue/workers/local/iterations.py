"""
What becomes of the iterators that tasks in the main loop return.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import Context
from typing import Any
from weakref import WeakSet, WeakValueDictionary

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue.iteration.deferator import Deferator
from asynqueue.iteration.demand import AsyncIteratorSource, IteratorSource
from asynqueue.iteration.source import ItemSource
from asynqueue.universe.iterators import isAsyncIterator, isIterator
from asynqueue.workers.channel.delivery import deliver


def isIteration(result: Any) -> bool:
    """
    Tell whether a task's result is to be iterated over.
    """
    return isIterator(result) or isAsyncIterator(result)


def _makeSource(iterator: Any, context: Context) -> ItemSource:
    """
    @param iterator: an iterator, or an asynchronous one.
    @param context: what its code is to run in.
    """
    # A Deferator is both.
    if isAsyncIterator(iterator):
        return AsyncContextSource(context, iterator)
    return ContextSource(Within(context, iterator))


class Within:
    """
    Advances an iterator in a context, and closes it there.
    """

    def __init__(self, context: Context, iterator: Iterator[Any]) -> None:
        self._context = context
        self._iterator = iterator
        self._isRunning = False
        self._isClosing = False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self._isRunning = True
        try:
            return self._context.run(self._iterator.__next__)
        finally:
            self._isRunning = False
            if self._isClosing:
                self.close()

    def close(self) -> None:
        """
        Close it, if it can be closed; if its own code asks for that, then after it has yielded.
        """
        self._isClosing = self._isRunning
        close = getattr(self._iterator, "close", None)
        if close is not None and not self._isRunning:
            self._context.run(close)


class ContextSource(IteratorSource):
    """
    Gets its items from an iterator in its context.
    """

    def __init__(self, within: Within) -> None:
        super().__init__(within)
        self._close = within.close

    def stopped(self) -> None:
        super().stopped()
        self._close()


class AsyncContextSource(AsyncIteratorSource):
    """
    Gets its items from an asynchronous iterator. Each step runs in a copy of its context, as
    Deferreds have it: what a step sets, the next one does not see.
    """

    def __init__(self, context: Context, iterator: AsyncIterator[Any]) -> None:
        super().__init__(iterator)
        self._context = context

    def stopped(self) -> None:
        self._context.copy().run(super().stopped)

    def _getNext(self) -> Deferred[Any]:
        return self._context.copy().run(super()._getNext)


class Iterations:
    """
    The iterations that are underway.
    """

    log = Logger()

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        # A Deferator that nobody else refers to is to be collected, and its source with it.
        self._sources: WeakSet[ItemSource] = WeakSet()
        # Those of tasks that are not done.
        self._fed: WeakValueDictionary[Any, ItemSource] = WeakValueDictionary()
        self._reason: Failure | None = None

    def deliver(self, task: Any, iterator: Any, context: Context) -> None:
        """
        Feed an iterator's items to the task's consumer, and end the task when that is over; or end
        the task with a L{Deferator<asynqueue.iteration.Deferator>}, as soon as there is an item.
        """
        if isinstance(iterator, Deferator) and task.options.consumer is None:
            task.callback(iterator)
            return
        source: Any = _makeSource(iterator, context)
        self._sources.add(source)
        self._fed[task] = source
        if task.isDone:
            self._close(source.stop)
            return
        if self._reason is not None:
            self._shut(source, self._reason)
        source.want()
        deliver(task, source, self._reactor)

    def cancel(self, task: Any) -> None:
        """
        A task is not wanted any more: stop its iteration, unless it has ended with that.
        """
        source = self._fed.get(task)
        if source is not None:
            self._close(source.stop)

    def end(self, reason: Failure) -> None:
        """
        End all iterations, and those that come from now on, with a failure. It comes after the
        items that they have already.
        """
        self._reason = reason
        for source in list(self._sources):
            self._shut(source, reason)

    def _shut(self, source: ItemSource, reason: Failure) -> None:
        if not source.isOver:
            source.fail(reason)
            # Its takers are told why; what it iterates over is let go as if they had stopped it.
            self._close(source.stopped)

    def _close(self, close: Callable[[], object]) -> None:
        try:
            close()
        except BaseException:
            self.log.failure("an iterator raised when it was closed")
