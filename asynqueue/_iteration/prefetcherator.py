"""
An iterator that is one item ahead.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.python.failure import Failure

from asynqueue._runner.streams import isIterator
from asynqueue.errors import NotReadyError


class Prefetcherator:
    """
    Fetches an iterator's items one ahead, so that it is known with each item whether there is
    another one. L{getNext} can be the function of a
    L{Deferator<asynqueue.iteration.Deferator>}.

    C{StopIteration} ends the iteration. So does any other error of the iterator: the L{getNext}
    after the last good item fails with it.

    @ivar ID: an identification of your choice.
    @ivar nextCallTuple: the function that gets the next item, its arguments and its keywords. Not
        set before L{setup}, nor after the last prefetch.
    @ivar lastFetch: what was fetched and not given out yet: a tuple of one item, or a failure. It
        is not set if there is nothing, or during a fetch.
    """

    __slots__ = ["ID", "lastFetch", "nextCallTuple"]

    ID: Any
    lastFetch: tuple[Any] | Failure
    nextCallTuple: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]

    def __init__(self, ID: Any = None) -> None:
        self.ID = ID

    def __repr__(self) -> str:
        text = f"<Prefetcherator {self.ID!r}"
        if hasattr(self, "nextCallTuple"):
            text += f" calling {self.nextCallTuple!r}"
        return text + ">"

    def isBusy(self) -> bool:
        """
        Tell whether an iteration was set up and has not come to its end.
        """
        return hasattr(self, "nextCallTuple") or hasattr(self, "lastFetch")

    def setup(self, iteratorOrCallable: Any = None, /, *args: Any, **kw: Any) -> Deferred[bool]:
        """
        Begin an iteration, and fetch its first item.

        @param iteratorOrCallable: an iterator; or a generator function, which is called once to get
            one; or a callable to be called for each item, which returns it, perhaps as a Deferred,
            or raises C{StopIteration}.
        @param args: the callable's arguments.
        @param kw: the callable's keywords.
        @return: a Deferred that fires with C{True} if L{getNext} has something to give, an item or
            an error. It fires with C{False} if the iteration is empty, if the argument is none of
            the above, or if another iteration has not come to its end.
        """
        if self.isBusy():
            return succeed(False)
        if inspect.isgeneratorfunction(iteratorOrCallable):
            iteratorOrCallable = iteratorOrCallable(*args, **kw)
        if isIterator(iteratorOrCallable):
            self.nextCallTuple = iteratorOrCallable.__next__, (), {}
        elif callable(iteratorOrCallable):
            self.nextCallTuple = iteratorOrCallable, args, kw
        else:
            return succeed(False)
        return self._fetch()

    def getNext(self) -> Deferred[tuple[Any, bool, bool]]:
        """
        Get the next item, and fetch the one after it.

        @return: a Deferred that fires, when both are done, with a 3-tuple: the item, whether it is
            valid, and whether more is left. At the end, or without a L{setup}, it fires with
            C{(None, False, False)}. It fails with the iteration's error after the last item, and
            with L{NotReadyError} if the last fetch is not done yet.
        """
        if not hasattr(self, "lastFetch"):
            if hasattr(self, "nextCallTuple"):
                return fail(NotReadyError(f"{self!r} is still fetching the next item"))
            return succeed((None, False, False))
        fetched = self.lastFetch
        del self.lastFetch
        if isinstance(fetched, Failure):
            return fail(fetched)
        return self._fetch().addCallback(lambda moreLeft: (fetched[0], True, moreLeft))

    def _fetch(self) -> Deferred[bool]:
        """
        @return: a Deferred that fires with C{True} if there was something to fetch.
        """
        function, args, kw = self.nextCallTuple
        return maybeDeferred(function, *args, **kw).addCallbacks(self._got, self._failed)

    def _got(self, item: Any) -> bool:
        self.lastFetch = (item,)
        return True

    def _failed(self, failure: Failure) -> bool:
        del self.nextCallTuple
        if isinstance(failure.value, StopIteration):
            return False
        self.lastFetch = failure
        return True
