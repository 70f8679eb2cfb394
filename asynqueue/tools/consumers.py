"""
A consumer that makes a list of what it is given.
"""

from __future__ import annotations

from types import CoroutineType
from typing import Any, Final

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue._waiters import Waiters

_LATER: Final = (Deferred, CoroutineType)


@implementer(IConsumer)
class ListConsumer:
    """
    A consumer that makes a list of what it is given: each item goes through L{processItem}, in the
    order of writing. Call the consumer to get a Deferred of the list.

    The producer is paused only while a Deferred from L{processItem} is outstanding. If
    L{processItem} fails, the producer is stopped, and the Deferred of the list fails. If nobody
    ever asks for the list, the failure is logged.

    @ivar count: how many items were written.
    @ivar producer: the producer that is registered, or C{None}.
    """

    def __init__(self, **kw: Any) -> None:
        """
        @param kw: attributes to set on the consumer. L{processItem} may use them.
        """
        self.count = 0
        self.producer: Any = None
        self._results: list[Any] = []
        self._outstanding: set[int] = set()
        self._isPausing = False
        self._hasProducerEnded = False
        self._failure: Failure | None = None
        self._unclaimed: Deferred[Any] | None = None
        self._waiters: Waiters[list[Any]] = Waiters()
        for name, value in kw.items():
            setattr(self, name, value)

    def __call__(self) -> Deferred[list[Any]]:
        """
        Ask for the list.

        @return: a Deferred that fires with a list of all results when the producer has unregistered
            and all items have been processed; or that fails with the first failure of
            L{processItem}. Each call gives a new list.
        """
        if not self._isDone():
            return self._waiters.add()
        if self._failure is None:
            return succeed(list(self._results))
        return fail(self._claim(self._failure))

    def processItem(self, item: Any) -> Any:
        """
        Process an item. Override this; by default the result is the item itself.

        @param item: the item that was written.
        @return: what the list is to hold, perhaps as a Deferred or a coroutine.
        """
        return item

    # IConsumer ------------------------------------------------------------------------------------

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Take a producer. When it has unregistered, another one may register, whose items come after.

        @param producer: an C{IPushProducer}.
        @param streaming: C{True}.
        @raise RuntimeError: if another producer is registered.
        @raise TypeError: if C{streaming} is false.
        """
        if self.producer is not None:
            raise RuntimeError(f"{self!r} has a producer already: {self.producer!r}")
        if not streaming:
            raise TypeError(f"{self!r} takes push producers only, and {producer!r} is not one")
        self.producer = producer
        self._hasProducerEnded = False

    def unregisterProducer(self) -> None:
        """
        The producer has written its last item.
        """
        self.producer = None
        self._isPausing = False
        self._hasProducerEnded = True
        self._checkDone()

    def write(self, data: Any) -> None:
        """
        Process an item, of any type.
        """
        index = self.count
        self.count += 1
        try:
            result = self.processItem(data)
        except BaseException:
            result = Failure()
        self._results.append(result)
        if isinstance(result, _LATER):
            self._outstanding.add(index)
            d: Deferred[Any] = maybeDeferred(lambda: result)
            d.addCallbacks(self._store, self._fail, callbackArgs=(index,))
            d.addCallback(self._processed, index)
            if index in self._outstanding and self.producer is not None and not self._isPausing:
                self._isPausing = True
                self.producer.pauseProducing()
        elif isinstance(result, Failure):
            self._fail(result)

    # Processing -----------------------------------------------------------------------------------

    def _store(self, result: Any, index: int) -> None:
        self._results[index] = result

    def _fail(self, failure: Failure) -> None:
        if self._failure is None:
            self._failure = failure
            self._unclaimed = fail(failure)
            if self.producer is not None:
                self.producer.stopProducing()

    def _processed(self, _: None, index: int) -> None:
        self._outstanding.discard(index)
        if self._isPausing and not self._outstanding:
            self._isPausing = False
            self.producer.resumeProducing()
        self._checkDone()

    def _isDone(self) -> bool:
        return self._hasProducerEnded and not self._outstanding

    def _checkDone(self) -> None:
        while self._waiters and self._isDone():
            d = self._waiters.take()
            if self._failure is None:
                d.callback(list(self._results))
            else:
                d.errback(self._claim(self._failure))

    def _claim(self, failure: Failure) -> Failure:
        """
        Somebody hears of the failure, so it need not be logged.
        """
        if self._unclaimed is not None:
            self._unclaimed.addErrback(lambda _: None)
            self._unclaimed = None
        return failure
