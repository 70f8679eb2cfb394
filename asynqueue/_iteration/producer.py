"""
Producers: an iteration's items written to an C{IConsumer}.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Final

from twisted.internet.defer import (
    CancelledError,
    Deferred,
    fail,
    inlineCallbacks,
    maybeDeferred,
    succeed,
)
from twisted.internet.interfaces import IConsumer, IDelayedCall, IPushProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue._core.states import Table, nextState
from asynqueue._iteration.deferator import Deferator
from asynqueue._iteration.prefetcherator import Prefetcherator
from asynqueue._iteration.sources import SourceState
from asynqueue._reactor import defaultReactor
from asynqueue._runner.streams import isIterator
from asynqueue._waiters import OneShotObserverList
from asynqueue.errors import ImplementationError, StateError

NEW: Final = "NEW"
HELD: Final = "HELD"
RUNNING: Final = "RUNNING"
PAUSED: Final = "PAUSED"
DONE: Final = "DONE"

PRODUCER: Final[Table] = {
    # Not run yet.
    NEW: {"run": RUNNING, "pause": HELD, "resume": NEW},
    # Paused before it was run.
    HELD: {"run": PAUSED, "pause": HELD, "resume": NEW},
    RUNNING: {"pause": PAUSED, "resume": RUNNING, "finish": DONE},
    # The end of the source is noticed while paused, unless items are left that come before it. If
    # the source is lost, the items are dropped, because the consumer may never resume.
    PAUSED: {"pause": PAUSED, "resume": RUNNING, "finish": DONE},
    # A consumer may not know yet.
    DONE: {"pause": DONE, "resume": DONE},
}


@implementer(IPushProducer)
class IterationProducer:
    """
    Writes the items of a L{Deferator} to a consumer as soon as they arrive, while the consumer does
    not pause it. From L{run} on, nobody else may take items from the Deferator.

    @cvar turn: for how long it writes before the reactor gets a turn, in seconds.
    @cvar stride: how many items it writes between two looks at the clock. A slow consumer makes the
        turn longer.
    @ivar dr: the Deferator.
    @ivar consumer: the consumer, or C{None} before one was registered.
    """

    turn: float = 0.01
    stride: int = 16

    def __init__(
        self,
        dr: Deferator,
        consumer: Any = None,
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        @param dr: where the items come from.
        @param consumer: an C{IConsumer} to register with now.
        @param reactor: the reactor. Default: the global reactor.
        @raise TypeError: if C{dr} is not a L{Deferator}.
        @raise ImplementationError: if C{consumer} does not provide C{IConsumer}.
        """
        if not isinstance(dr, Deferator):
            raise TypeError(f"an IterationProducer needs a Deferator, not {dr!r}")
        self.dr = dr
        self.consumer: Any = None
        self._source = dr.source
        self._reactor = defaultReactor() if reactor is None else reactor
        self._state: str = NEW
        self._isAdvancing = False
        self._nextTurn: IDelayedCall | None = None
        self._failure: Failure | None = None
        self._run: Deferred[Any] = Deferred(self._cancelled)
        self._done: OneShotObserverList[Any] = OneShotObserverList()
        if consumer is not None:
            self.registerConsumer(consumer)

    def __repr__(self) -> str:
        return f"<IterationProducer, {self._state}, of {self.dr!r}>"

    def registerConsumer(self, consumer: Any) -> None:
        """
        Set the consumer, and register there, unless this producer is registered there already.

        @param consumer: an C{IConsumer}.
        @raise ImplementationError: if it does not provide C{IConsumer}.
        @raise RuntimeError: if it has another producer.
        """
        if not IConsumer.providedBy(consumer):
            raise ImplementationError(f"{consumer!r} does not provide IConsumer")
        try:
            consumer.registerProducer(self, True)
        except RuntimeError:
            # The interface does not tell which producer a consumer has, but Twisted's transports
            # and our own consumers do.
            if getattr(consumer, "producer", self) is not self:
                raise
        self.consumer = consumer

    def run(self) -> Deferred[Any]:
        """
        Start writing. This can be called once.

        @return: a Deferred that fires after C{unregisterProducer} of the consumer was called. It
            fires with the consumer when all items were written or the iteration was stopped. It
            fails with the failure of the iteration, or of the consumer's C{write}, which stops the
            iteration. Cancelling it stops the iteration too. It fails with L{StateError} if there
            is no consumer or this was called before, and with
            L{NotReadyError<asynqueue.errors.NotReadyError>} if somebody waits for the Deferator's
            next item.
        """
        try:
            if self.consumer is None:
                raise StateError(self, "without a consumer", "run")
            following = nextState(PRODUCER, self._state, "run", self)
            self._source.listen(self._advance)
        except Exception:
            return fail()
        self._state = following
        self._advance()
        return self._run

    def deferUntilDone(self) -> Deferred[Any]:
        """
        Wait until everything is written.

        @return: a Deferred that fires with the consumer, even if the iteration failed: L{run} gives
            the failure. Cancelling it ends only this wait.
        """
        return self._done.whenFired()

    # IPushProducer --------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """
        Write nothing until L{resumeProducing}.
        """
        self._move("pause")
        self._source.isPaused = True

    def resumeProducing(self) -> None:
        """
        Go on writing, from within this call.
        """
        self._move("resume")
        self._source.isPaused = False
        self._advance()

    def stopProducing(self) -> None:
        """
        Stop the iteration. Nothing more is written; L{run}'s Deferred fires with the consumer.
        """
        self._stopSource()
        self._advance()

    # Writing --------------------------------------------------------------------------------------

    def _move(self, event: str) -> None:
        self._state = nextState(PRODUCER, self._state, event, self)

    def _advance(self) -> None:
        """
        Do what can be done now. The source calls this at each change.
        """
        if self._isAdvancing or self._state not in (RUNNING, PAUSED):
            return
        self._isAdvancing = True
        try:
            if self._nextTurn is None:
                self._write()
        finally:
            self._isAdvancing = False
        source = self._source
        if self._state == PAUSED and source.state is SourceState.LOST and source.items:
            self._failure = self._failure or source.failure
            # The source tells of its stop, which leads back to here.
            self._stopSource()
        elif source.isOver and not source.items:
            self._finish()

    def _write(self) -> None:
        source, seconds = self._source, self._reactor.seconds
        deadline = seconds() + self.turn
        while self._state == RUNNING:
            if not source.items and not source.isOver:
                source.want()
            if not source.items:
                return
            try:
                self._writeSome()
            except BaseException:
                # Whatever was raised is the outcome, as with a callback of a Deferred.
                self._failure = Failure()
                self._stopSource()
                return
            if seconds() >= deadline:
                self._nextTurn = self._reactor.callLater(0, self._takeTurn)
                return

    def _writeSome(self) -> None:
        """
        Write up to L{stride} items, straight from the source's buffer, which is not empty.
        """
        items = self._source.items
        take, write = items.popleft, self.consumer.write
        count = 0
        try:
            for count in range(1, min(self.stride, len(items)) + 1):  # noqa: B007
                write(take())
                # The consumer may have paused or stopped this producer, or the Deferator.
                if self._state != RUNNING or not items:
                    break
        finally:
            self._source.taken(count)

    def _takeTurn(self) -> None:
        self._nextTurn = None
        self._advance()

    # The end --------------------------------------------------------------------------------------

    def _cancelled(self, d: Deferred[Any]) -> None:
        self._failure = Failure(CancelledError())
        self.stopProducing()

    def _stopSource(self) -> None:
        try:
            self.dr.stop()
        except BaseException:
            # A generator may raise when it is closed. That is the iteration's failure.
            self._failure = Failure()

    def _finish(self) -> None:
        self._move("finish")
        failure = self._failure or self._source.failure
        self._source.listen(None)
        if self._nextTurn is not None:
            self._nextTurn.cancel()
            self._nextTurn = None
        self.dr.finish()
        try:
            self.consumer.unregisterProducer()
        except BaseException:
            failure = failure or Failure()
        self._done.fire(self.consumer)
        # It has fired already if it was cancelled from within a write.
        if not self._run.called:
            self._run.callback(failure or self.consumer)


Wrapper = Callable[[Callable[[], Any]], Any]


def iteratorToProducer(
    iterator: Any,
    consumer: Any = None,
    wrapper: Wrapper | None = None,
    reactor: IReactorTime | None = None,
) -> Deferred[IterationProducer | None]:
    """
    Make an L{IterationProducer} from an iterator, and run it if there is a consumer.

    @param iterator: the iterator. An item that is a Deferred is waited for, but not with a wrapper
        that calls the iterator in a thread.
    @param consumer: an C{IConsumer}. By default you register one with the producer, and run that,
        yourself.
    @param wrapper: how to call code that may block, for example Twisted's C{deferToThread}. It is
        given a callable without arguments, once for each item and once more at first. It returns
        what that returns, perhaps as a Deferred. By default the callable is called directly.
    @param reactor: for the producer. Default: the global reactor.
    @return: a Deferred that fires with the producer, when its first item is there; or with C{None}
        if C{iterator} is not an iterator, or is empty. With a consumer it fires when the producer
        is done. It fails if the producer's L{run<IterationProducer.run>} or the wrapper fails, with
        C{TypeError} if the wrapper is not callable, and with
        L{ImplementationError<asynqueue.errors.ImplementationError>} if the consumer does not
        provide C{IConsumer}.
    """
    if wrapper is not None and not callable(wrapper):
        return fail(TypeError(f"a wrapper must be callable, not {wrapper!r}"))
    if not isIterator(iterator):
        return succeed(None)
    return _produce(iterator, consumer, wrapper or _callDirectly, reactor)


@inlineCallbacks
def _produce(
    iterator: Any, consumer: Any, wrapper: Wrapper, reactor: IReactorTime | None
) -> Generator[Deferred[Any], Any, IterationProducer | None]:
    prefetcherator = Prefetcherator(repr(iterator))
    setup = partial(prefetcherator.setup, iterator)
    hasItems = yield maybeDeferred(wrapper, partial(_bare, setup))
    deferator = Deferator(iterator, wrapper, partial(_bare, prefetcherator.getNext))
    producer = IterationProducer(deferator, consumer, reactor)
    if consumer is not None:
        # The consumer hears of the end even if there are no items.
        yield producer.run()
    return producer if hasItems else None


def _callDirectly(function: Callable[[], Any]) -> Any:
    return function()


def _bare(function: Callable[[], Deferred[Any]]) -> Any:
    """
    Call a function, and unpack its Deferred if that has fired, because a thread cannot return a
    Deferred.
    """
    results: list[Any] = []

    def keep(result: Any) -> Any:
        results.append(result)
        return result

    d = function().addBoth(keep)
    if not results:
        return d
    if isinstance(results[0], Failure):
        d.addErrback(lambda _: None)
        results[0].raiseException()
    return results[0]
