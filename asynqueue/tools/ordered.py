"""
Items handed on in the order of the calls that produce them.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IConsumer, IPushProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue._reactor import SerialThread, callFromAnyThread, defaultReactor
from asynqueue._waiters import OneShotObserverList
from asynqueue.errors import ImplementationError, StateError
from asynqueue.tools.blocking import Consumerator


class ReorderBuffer:
    """
    Gives out numbers, and hands back what arrives under them in the order of the numbers.
    """

    def __init__(self) -> None:
        self._announced = 0
        self._next = 0
        self._arrived: dict[int, Any] = {}

    def __len__(self) -> int:
        """
        How many numbers were given out whose things were not taken.
        """
        return self._announced - self._next

    @property
    def isReady(self) -> bool:
        """
        Whether the next thing has arrived.
        """
        return self._next in self._arrived

    def announce(self) -> int:
        """
        @return: the next number.
        """
        self._announced += 1
        return self._announced - 1

    def arrive(self, number: int, thing: Any) -> None:
        """
        Put the thing of a number.

        @raise ValueError: if the number was not given out, or something has arrived under it.
        """
        if not self._next <= number < self._announced or number in self._arrived:
            raise ValueError(f"nothing is expected under the number {number!r}")
        self._arrived[number] = thing

    def take(self) -> Any:
        """
        Take the next thing.

        @raise LookupError: if it has not arrived. Look at L{isReady} first.
        """
        thing = self._arrived.pop(self._next)
        self._next += 1
        return thing


class ProducerState(Enum):
    """
    The states of an L{OrderedItemProducer}. Each leads to a later one only::

        NEW --- start() ---> OPEN --- stop() ---> STOPPING --- the last item ---> OVER
          |                   +--------------------- a failure, shutdown() --------^
          +------------------------------------------ any end --------------------^

    With a consumer, the producer is OPEN from the beginning.
    """

    NEW = "not started"
    OPEN = "started"
    STOPPING = "stopping"
    OVER = "stopped"


@implementer(IPushProducer)
class OrderedItemProducer:
    """
    Gets items from calls that take their time, and hands them on in the order of the calls.

    The items go to a blocking function in a thread of its own, as an iterator::

        producer = OrderedItemProducer()
        yield producer.start(writeRows, path)
        for row in rows:
            producer.produceItem(queue.call, render, row)
        written = yield producer.stop()

    Or they go to C{consumer}, without any thread.

    The Deferred of L{produceItem} fires when the item was handed on. Limit how many of them you
    have outstanding, in order to limit the memory that waiting items take.

    The first failure ends everything. A failure of a C{produceItem} does so when its turn has come,
    one of the function or the consumer at once. Calls that are underway are then cancelled, their
    Deferreds fire with C{None}, and no further calls are begun. L{stop} gives the failure, and so
    does the blocking iterator if the failure was not the function's own. If nobody calls C{stop},
    the failure is logged, and a function that goes on iterating waits until the reactor stops.

    The thread is a daemon: a function that hangs does not hold up the end of the process. When the
    reactor stops, a function that waits for an item gets
    L{IterationStopped<asynqueue.errors.IterationStopped>}, but nobody waits until it has cleaned up
    after itself. So wait for C{stop}'s Deferred before you stop the reactor. If you give the
    reactor's own pool as C{threadPool}, the reactor waits for it, for as long as it takes.

    Use this in the reactor's thread only.

    @ivar i: the L{Consumerator} that the function iterates over; C{None} with a consumer.
    """

    def __init__(
        self,
        maxThreads: int | None = None,
        *,
        consumer: Any = None,
        window: int = 16,
        threadPool: Any = None,
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        @param maxThreads: has no effect. Programs for AsynQueue 0.9 may give it.
        @param consumer: what gets the items if there is no blocking function: an C{IConsumer},
            which may pause and resume; or a callable, which gets each item. If the callable returns
            a Deferred or a coroutine, it gets the next item when that is through.
        @param window: how many items may wait in L{i} to be iterated over.
        @param threadPool: runs the function: anything with the C{callInThreadWithCallback} of
            Twisted's C{ThreadPool}. Default: a new thread.
        @param reactor: the reactor. Default: the global one.
        @raise ImplementationError: if C{consumer} is neither.
        """
        self._reactor = defaultReactor() if reactor is None else reactor
        self._threadPool = threadPool
        self._items = ReorderBuffer()
        self._calls: dict[Deferred[Any], Deferred[Any]] = {}
        self._outcome: OneShotObserverList[Any] = OneShotObserverList()
        self._isPaused = False
        self._isHandling = False
        self._handling: Deferred[Any] | None = None
        self._failure: Failure | None = None
        self.i: Consumerator | None = None
        if consumer is None:
            consumer = self.i = Consumerator(window=window, reactor=reactor)
        elif not IConsumer.providedBy(consumer) and not callable(consumer):
            raise ImplementationError(
                f"a consumer must provide IConsumer or be callable, unlike {consumer!r}"
            )
        self._state = ProducerState.NEW if self.i is not None else ProducerState.OPEN
        self._consumer = consumer
        self._write: Callable[[Any], Any] = consumer
        if IConsumer.providedBy(consumer):
            self._write = consumer.write
            consumer.registerProducer(self, True)

    @property
    def isProducing(self) -> bool:
        """
        Whether L{produceItem} still calls anything.
        """
        isOpen = self._state in (ProducerState.NEW, ProducerState.OPEN)
        return isOpen and self._failure is None

    def start(self, fb: Callable[..., Any], /, *args: Any, **kw: Any) -> Deferred[None]:
        """
        Run a blocking function, C{fb(i, *args, **kw)}, with the blocking iterator L{i}.

        @return: a Deferred that fires with C{None} when the function has started in its thread. It
            fails with L{StateError<asynqueue.errors.StateError>} if the producer was started or
            stopped before, or has a consumer.
        """
        if self._state is not ProducerState.NEW or self._failure is not None:
            isNew = self._state is ProducerState.NEW
            state = ProducerState.OVER if isNew else self._state
            return fail(StateError(self, state.value, "start"))
        self._state = ProducerState.OPEN
        started: Deferred[None] = Deferred()

        def run() -> Any:
            callFromAnyThread(self._reactor, begun)
            return fb(self.i, *args, **kw)

        def begun() -> None:
            if not started.called:
                started.callback(None)
            self._advance()

        def returned(isSuccess: bool, result: Any) -> None:
            callFromAnyThread(self._reactor, partial(self._functionEnded, result))

        try:
            if self._threadPool is None:
                thread = SerialThread(self._reactor, "asynqueue iteration")
                thread.call(self._functionEnded, run)
                thread.close()
            else:
                self._threadPool.callInThreadWithCallback(returned, run)
        except Exception:
            failure = Failure()
            self._functionEnded(failure)
            started.errback(failure)
        return started

    def produceItem(self, fp: Callable[..., Any], /, *args: Any, **kw: Any) -> Deferred[Any]:
        """
        Call a function for an item, which is handed on after the items of earlier calls.

        @param fp: the function. It must not block. It may return a Deferred or a coroutine.
        @param args: positional arguments for it.
        @param kw: keyword arguments for it.
        @return: a Deferred that fires with the item when that was handed on. It fires with C{None}
            if the item is not handed on, because of a failure, which L{stop} gives, or because of
            L{stop}. Cancelling it cancels C{fp}'s Deferred, which counts as a failure. An item that
            is there already is handed on all the same.
        """
        if not self.isProducing:
            return succeed(None)
        number = self._items.announce()
        call = maybeDeferred(fp, *args, **kw)
        d: Deferred[Any] = Deferred(lambda _: call.cancel())
        self._calls[d] = call
        call.addBoth(self._arrived, number, d)
        return d

    def stop(self) -> Deferred[Any]:
        """
        Say that these were all items. After them the iterator ends, or the producer unregisters
        from the consumer.

        @return: a Deferred that fires when all is through: with what the blocking function
            returned, or C{None} if it was never started; with the consumer if there is one; or with
            the first failure. A later call gives the same. Cancelling it ends only this wait.
        """
        if self._state is ProducerState.NEW:
            # Nobody will ever take the items that are there.
            self._finish()
        elif self._state is ProducerState.OPEN:
            self._state = ProducerState.STOPPING
            self._advance()
        return self._outcome.whenFired()

    def shutdown(self) -> Deferred[Any]:
        """
        End at once: hand on nothing more, and cancel the calls that are underway.

        @return: what L{stop} returns. A blocking function that runs is waited for.
        """
        self.stopProducing()
        return self.stop()

    # IPushProducer --------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """
        Hand on no items until L{resumeProducing}. Calls for items go on.
        """
        self._isPaused = True

    def resumeProducing(self) -> None:
        """
        Go on handing on items.
        """
        self._isPaused = False
        self._advance()

    def stopProducing(self) -> None:
        """
        Hand on nothing more, and cancel the calls that are underway.
        """
        self._finish()

    # Handing on -----------------------------------------------------------------------------------

    def _arrived(self, result: Any, number: int, d: Deferred[Any]) -> None:
        if self._state is ProducerState.OVER:
            return
        if isinstance(result, Failure) and self._failure is None:
            self._failure = result
        # A failure has its turn like an item.
        self._items.arrive(number, (result, d))
        self._advance()

    def _advance(self) -> None:
        """
        Hand on the items whose turn has come.
        """
        if self._isHandling:
            return
        self._isHandling = True
        try:
            while self._mayHand() and self._items.isReady:
                self._hand(*self._items.take())
        finally:
            self._isHandling = False
        isStopping = self._state is ProducerState.STOPPING
        if isStopping and not self._items and self._handling is None:
            self._finish()

    def _mayHand(self) -> bool:
        isStarted = self._state in (ProducerState.OPEN, ProducerState.STOPPING)
        return isStarted and not self._isPaused and self._handling is None

    def _hand(self, item: Any, d: Deferred[Any]) -> None:
        if isinstance(item, Failure):
            self._finish(item)
            return
        handling = self._handling = maybeDeferred(self._write, item)
        handling.addCallbacks(self._handed, self._finish, callbackArgs=(item, d))

    def _handed(self, _: Any, item: Any, d: Deferred[Any]) -> None:
        self._handling = None
        if self._state is ProducerState.OVER:
            return
        del self._calls[d]
        if not d.called:
            d.callback(item)
        self._advance()

    # The end --------------------------------------------------------------------------------------

    def _functionEnded(self, result: Any) -> None:
        """
        The blocking function has returned or raised, perhaps before the last item.
        """
        self._finish()
        if self.i is not None:
            self.i.drop()
        # If it raised the iterator's own failure, that failure is the outcome.
        self._outcome.fire(self._failure or result)

    def _finish(self, failure: Failure | None = None) -> None:
        """
        Hand on nothing more.
        """
        if self._state is ProducerState.OVER:
            return
        wasNew = self._state is ProducerState.NEW
        self._state = ProducerState.OVER
        self._failure = failure
        try:
            self._leaveConsumer()
        except Exception:
            self._failure = self._failure or Failure()
        self._cancelCalls()
        if self.i is None:
            self._outcome.fire(self._failure or self._consumer)
        elif wasNew:
            self._outcome.fire(self._failure)

    def _leaveConsumer(self) -> None:
        consumerator = self.i
        if consumerator is not None and self._failure is not None:
            consumerator.fail(self._failure)
        elif consumerator is not None:
            consumerator.unregisterProducer()
        elif IConsumer.providedBy(self._consumer):
            self._consumer.unregisterProducer()

    def _cancelCalls(self) -> None:
        handling, self._handling = self._handling, None
        if handling is not None:
            handling.cancel()
        for d, call in list(self._calls.items()):
            call.cancel()
            if not d.called:
                d.callback(None)
        self._calls.clear()
