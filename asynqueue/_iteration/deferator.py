"""
The Deferator: items that arrive in their own time, to be iterated over.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic

from twisted.internet.defer import Deferred
from twisted.python.reflect import safe_repr

from asynqueue._core.task import T
from asynqueue._iteration.sources import ItemSource, SourceState, makeSource
from asynqueue._runner.streams import isIterator
from asynqueue.errors import IterationStopped, NotReadyError


class ItemDeferred(Deferred[Any]):
    """
    A Deferred of a L{Deferator}'s next item.

    A callback of it may ask for the item after it, whose callback asks for the next, and so on. For
    that, the methods that may run callbacks do it under L{Deferator._unroll}. (After a failure
    there is no next, so an errback has no need of it.)

    Cancelling it loses nothing: the item that it would have fired with is the next one's.
    """

    def __init__(self, deferator: Deferator) -> None:
        super().__init__(deferator._waitNoMore)
        self._deferator = deferator

    def stop(self) -> None:
        """
        Stop the L{Deferator}.
        """
        self._deferator.stop()

    def addCallbacks(self, *args: Any, **kw: Any) -> Any:
        return self._deferator._unroll(super().addCallbacks, *args, **kw)

    def addCallback(self, *args: Any, **kw: Any) -> Any:
        return self._deferator._unroll(super().addCallback, *args, **kw)

    def addBoth(self, *args: Any, **kw: Any) -> Any:
        return self._deferator._unroll(super().addBoth, *args, **kw)


class Deferator(Generic[T]):
    """
    A B{Defer}red-yielding iterB{ator}, and an asynchronous iterator, over items that come from
    elsewhere or take their time.

    In a coroutine::

        async with deferator:
            async for item in deferator:
                ...

    Each item comes as soon as it has arrived. A failure of the iteration is raised once, after the
    items before it. Leaving the C{async with} early stops the iteration.

    Or with C{inlineCallbacks}, where you wait for each Deferred before you ask for the next one::

        for d in deferator:
            item = yield d
            if isEnough(item):
                d.stop()
                break

    Python has to know at once whether there is another C{d}. So an item's Deferred fires only when
    it is known whether another item follows: this way is one item behind. If the iteration fails,
    one last Deferred fails, after those of the items. If it turns out to be empty when the first
    Deferred is out already, that one fires with C{None}. If it is stopped while a Deferred is out,
    that one fails with L{IterationStopped<asynqueue.errors.IterationStopped>}.

    You may mix the two ways, but ask for one item at a time. A Deferator that is garbage-collected
    before its end stops its iteration, so that nothing far away goes on producing. Still call
    L{stop} where you can, because nobody knows when Python collects its garbage.

    A Deferator has the methods and attributes of its own Deferred, C{d}, too.

    @ivar d: fires with C{True} when the iteration has run to its end, and with C{False} when it was
        stopped or failed. It never fails, and cancelling it stops the iteration.
    @ivar source: where the items come from.
    @ivar representation: a text that tells what is iterated over.
    """

    isIterator = staticmethod(isIterator)

    # __getattr__ finds these in the Deferred.
    addBoth: Callable[..., Deferred[Any]]
    addCallback: Callable[..., Deferred[Any]]
    addCallbacks: Callable[..., Deferred[Any]]
    addErrback: Callable[..., Deferred[Any]]
    called: bool
    cancel: Callable[[], None]
    chainDeferred: Callable[[Deferred[Any]], Deferred[None]]

    def __init__(self, objOrRep: Any, /, *args: Any, **kw: Any) -> None:
        """
        Construct it with an L{ItemSource}, with a L{Prefetcherator} that was set up, or with an
        iterator. An iterator is advanced on demand, and an item that is a Deferred is waited for.
        Anything else counts as an empty iteration, unless a function comes with it.

        @param objOrRep: one of these; or, with a function, a text or an object whose C{repr} tells
            what is iterated over.
        @param args: a function to get the items from, and its arguments. It returns, perhaps as a
            Deferred, a 3-tuple: the next item, whether that is valid (it is not if there was no
            item at all), and whether more are left. So it must be one step ahead; see
            L{Prefetcherator}.
        @param kw: the function's keywords.
        @raise TypeError: if the function is not callable.
        """
        self._waiting: Deferred[Any] | None = None
        self._isUnrolling = False
        self.representation = _represent(objOrRep)
        source = self.source = makeSource(objOrRep, args, kw)

        def cancelled(d: Deferred[bool]) -> None:
            source.stop()
            if not d.called:
                d.callback(False)

        # It refers to the source and not to the Deferator, because a cycle would put off __del__.
        self.d: Deferred[bool] = Deferred(cancelled)
        if source.state is SourceState.ENDED and not source.items:
            self.finish()

    def __del__(self) -> None:
        d = self.__dict__.get("d")
        if d is not None and not d.called:
            self.source.abandoned(self.stop)

    def __repr__(self) -> str:
        source = self.source
        return (
            f"<Deferator of {self.representation}: "
            f"{source.state.value}, {len(source.items)} items waiting>"
        )

    @property
    def moreLeft(self) -> bool:
        """
        Whether there may be more to get: an item, or the failure that ends the iteration. As long
        as that is not known, it is C{True}.
        """
        source = self.source
        return bool(source.items or not source.isOver or self._hasFailureToTell())

    def __bool__(self) -> bool:
        """
        Whether there may be more to get; see L{moreLeft}. So the result of a call whose iterator
        is empty is false, as an empty list is.
        """
        return self.moreLeft

    def __len__(self) -> int:
        """
        How many items are left, which is known only at the end.

        @return: 0 at the end of the iteration.
        @raise TypeError: before that.
        """
        if self.moreLeft:
            raise TypeError(f"{self!r} has no length, because more items may come")
        return 0

    def __getattr__(self, name: str) -> Any:
        if name in ("d", "source"):
            raise AttributeError(f"this Deferator has no {name!r} yet")
        return getattr(self.d, name)

    def stop(self) -> None:
        """
        End the iteration here: items that have arrived are dropped, the producer is told to close,
        and C{d} fires with C{False} if it has not fired. Stopping again has no effect.
        """
        try:
            self.source.stop()
        finally:
            self.finish()

    def finish(self) -> None:
        """
        Fire C{d}, if it has not fired, with whether the iteration has come to its own end.

        Call this at the end if you take the items straight from C{source}, as an
        L{IterationProducer<asynqueue.iteration.IterationProducer>} does.
        """
        if not self.d.called:
            source = self.source
            self.d.callback(source.state is SourceState.ENDED and not source.items)

    # As an iterator of Deferreds ------------------------------------------------------------------

    def __iter__(self) -> Deferator[T]:
        return self

    def __next__(self) -> ItemDeferred:
        """
        @return: the Deferred of the next item; see the class for when it fires.
        @raise StopIteration: at the end.
        @raise NotReadyError: if the last Deferred has not fired.
        """
        self._checkNotWaiting()
        source = self.source
        isDecided = self._isDecided()
        if isDecided and not source.items and not self._hasFailureToTell():
            self.finish()
            raise StopIteration
        d = ItemDeferred(self)
        if isDecided and source.items and source.listener is None and not self._isUnrolling:
            d.callback(source.take())
        else:
            self._wait(d, self._settle)
            self._settle()
        return d

    def _settle(self) -> None:
        """
        Fire the Deferred that is out, if possible; then the one that its callbacks have asked for,
        and so on.
        """
        if not self._isUnrolling:
            self._unroll(lambda: None)

    def _unroll(self, function: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        """
        Call a function that may run an item's callbacks. If they ask for the next item, its
        Deferred is fired from here afterwards, rather than from within them, because a long run of
        items that are ready would become a deep recursion.
        """
        if self._isUnrolling:
            return function(*args, **kw)
        self._isUnrolling = True
        try:
            result = function(*args, **kw)
            while type(self._waiting) is ItemDeferred and self._isDecided():
                self._fire(self._waiting)
        finally:
            self._isUnrolling = False
        return result

    def _isDecided(self) -> bool:
        """
        Tell whether it is known what comes next: an item and what follows it, or the end. If not,
        ask the source for more.
        """
        source = self.source
        if not source.knowsWhatFollows:
            source.want()
            if not source.knowsWhatFollows:
                # The one item that may be there stays until another one comes. If it has used up
                # the producer's credit, no other one would come.
                source.acknowledge()
        return source.knowsWhatFollows

    def _fire(self, d: ItemDeferred) -> None:
        self._waitNoMore(d)
        source = self.source
        if source.items:
            d.callback(source.take())
        elif self._hasFailureToTell():
            self.finish()
            d.errback(source.failure)
        elif source.state is SourceState.STOPPED:
            d.errback(IterationStopped(f"{self!r} was stopped while its next item was awaited"))
        else:
            d.callback(None)

    # As an asynchronous iterator ------------------------------------------------------------------

    def __aiter__(self) -> Deferator[T]:
        return self

    async def __anext__(self) -> T:
        """
        @return: the next item.
        @raise StopAsyncIteration: at the end.
        @raise NotReadyError: if an item is being waited for already.
        """
        self._checkNotWaiting()
        source = self.source
        while not source.items:
            if self._hasFailureToTell():
                self.finish()
                source.failure.raiseException()  # type: ignore[union-attr]
            if source.isOver:
                self.finish()
                raise StopAsyncIteration
            source.want()
            if not source.items and not source.isOver:
                await self._deferUntilChange()
        item: T = source.take()
        return item

    async def __aenter__(self) -> Deferator[T]:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _deferUntilChange(self) -> Deferred[None]:
        d: Deferred[None] = Deferred(self._waitNoMore)

        def changed() -> None:
            self._waitNoMore(d)
            d.callback(None)

        self._wait(d, changed)
        return d

    # For both -------------------------------------------------------------------------------------

    def _checkNotWaiting(self) -> None:
        if self._waiting is not None:
            raise NotReadyError(f"{self!r} was asked for an item before the last one was there")

    def _hasFailureToTell(self) -> bool:
        return self.source.failure is not None and not self.d.called

    def _wait(self, d: Deferred[Any], listener: Callable[[], None]) -> None:
        # Only from now on, and until _waitNoMore(), does the source refer to me.
        self.source.listen(listener)
        self._waiting = d

    def _waitNoMore(self, d: Deferred[Any]) -> None:
        if self._waiting is d:
            self._waiting = None
            self.source.listen(None)


def _represent(objOrRep: object) -> str:
    if isinstance(objOrRep, ItemSource):
        return type(objOrRep).__name__
    text = objOrRep if isinstance(objOrRep, str) else safe_repr(objOrRep)
    return text.strip("<>")
