"""
From an iterator straight to a producer.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, fail, inlineCallbacks, maybeDeferred, succeed
from twisted.python.failure import Failure

from asynqueue.deferreds import IReactorTime
from asynqueue.iteration.deferator import Deferator
from asynqueue.iteration.prefetcherator import Prefetcherator
from asynqueue.iteration.producer import IterationProducer
from asynqueue.universe.iterators import isIterator

Wrapper = Callable[[Callable[[], Any]], Any]


def iteratorToProducer(
    iterator: Any,
    consumer: Any = None,
    wrapper: Wrapper | None = None,
    reactor: IReactorTime | None = None,
) -> Deferred[IterationProducer | None]:
    """
    Make an L{IterationProducer} from an iterator, and run it if there is a consumer.

    @param iterator: the iterator. Its items may be Deferreds, which are waited for; but not with a
        wrapper that calls it in a thread.
    @param consumer: an C{IConsumer}. Default: you register
        one with the producer, and run that, yourself.
    @param wrapper: how to call what may block, for example Twisted's C{deferToThread}. It is given
        a callable without arguments, once for each item (and one more at first), and returns what
        that returns, perhaps as a Deferred. Default: it is called directly.
    @param reactor: for the producer. Default: the global reactor.
    @return: a Deferred that fires with the producer, when its first item is there; or with C{None}
        if C{iterator} is no iterator, or is empty. With a consumer it fires when the producer is
        done. It fails if the producer's L{run<IterationProducer.run>} or the wrapper does; with
        C{TypeError} if the wrapper is not callable; and with
        L{ImplementationError<asynqueue.errors.ImplementationError>} if the consumer is none.
    """
    if wrapper is not None and not callable(wrapper):
        return fail(TypeError(f"A wrapper must be callable, but {wrapper!r} is not"))
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
        # Even without items, so that the consumer hears of the end.
        yield producer.run()
    return producer if hasItems else None


def _callDirectly(function: Callable[[], Any]) -> Any:
    return function()


def _bare(function: Callable[[], Deferred[Any]]) -> Any:
    """
    Call a function and unpack its Deferred if that has fired: a thread cannot return a Deferred.
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
