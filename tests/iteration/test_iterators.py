from __future__ import annotations

import gc
from collections.abc import Callable, Generator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.errors import ImplementationError
from asynqueue.iteration import (
    Delay,
    IterationProducer,
    ListConsumer,
    deferToDelay,
    isIterator,
    iteratorToProducer,
)
from tests.iteration.ledger import Notebook


class IteratorToProducerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.consumer = ListConsumer()

    def test_withoutAConsumerTheProducerIsReadyToRun(self) -> None:
        producer = self.successResultOf(iteratorToProducer(iter("abc"), reactor=self.clock))
        assert isinstance(producer, IterationProducer)
        producer.registerConsumer(self.consumer)
        self.successResultOf(producer.run())
        assert self.successResultOf(self.consumer()) == ["a", "b", "c"]

    def test_withAConsumerItIsRun(self) -> None:
        d = iteratorToProducer(iter("abc"), self.consumer, reactor=self.clock)
        assert isinstance(self.successResultOf(d), IterationProducer)
        assert self.successResultOf(self.consumer()) == ["a", "b", "c"]

    def test_whatIsNoIteratorGivesNone(self) -> None:
        for other in (None, [1, 2], "text", 5):
            assert self.successResultOf(iteratorToProducer(other, self.consumer)) is None

    def test_anEmptyIteratorGivesNoneButTheConsumerHearsOfIt(self) -> None:
        d = iteratorToProducer(iter([]), self.consumer, reactor=self.clock)
        assert self.successResultOf(d) is None
        assert self.successResultOf(self.consumer()) == []

    def test_anErrorOfTheIteratorIsTheOutcomeAfterTheItems(self) -> None:
        for numbers, expected in (([1, 0], [1]), ([0], [])):
            consumer = ListConsumer()
            iterator = (1 // n for n in numbers)
            d = iteratorToProducer(iterator, consumer, reactor=self.clock)
            self.failureResultOf(d, ZeroDivisionError)
            assert self.successResultOf(consumer()) == expected

    def test_anErrorOfTheConsumerIsTheOutcome(self) -> None:
        consumer = Notebook(lambda item: 1 // 0)
        d = iteratorToProducer(iter([1, 2]), consumer, reactor=self.clock)
        self.failureResultOf(d, ZeroDivisionError)
        assert consumer.notes == [("register", True), 1, "unregister"]

    def test_whatIsNoConsumerIsAnError(self) -> None:
        d = iteratorToProducer(iter([1]), [], reactor=self.clock)
        self.failureResultOf(d, ImplementationError)

    def test_itemsThatAreDeferredsAreWaitedFor(self) -> None:
        answers: list[Deferred[int]] = [Deferred(), Deferred()]
        d = iteratorToProducer(iter(answers), self.consumer, reactor=self.clock)
        answers[0].callback(1)
        self.assertNoResult(d)
        answers[1].callback(2)
        self.successResultOf(d)
        assert self.successResultOf(self.consumer()) == [1, 2]

    def test_cancellingStops(self) -> None:
        answers: list[Deferred[int]] = [Deferred(), Deferred()]
        d = iteratorToProducer(iter(answers), self.consumer, reactor=self.clock)
        answers[0].callback(1)
        d.addErrback(lambda failure: None)
        d.cancel()
        assert answers[1].called
        assert self.successResultOf(d) is None
        assert self.successResultOf(self.consumer()) == []


class WrapperTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.consumer = ListConsumer()
        self.calls: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def later(self, function: Callable[[], Any]) -> Deferred[Any]:
        d: Deferred[Any] = Deferred()
        self.calls.append((function, d))
        return d

    def step(self) -> None:
        """
        What a thread pool does with one call: nothing that is a Deferred can come out of it.
        """
        function, d = self.calls.pop()
        try:
            result = function()
        except BaseException as error:
            d.errback(error)
        else:
            assert not isinstance(result, Deferred)
            d.callback(result)

    def test_everyCallOfTheIteratorGoesThroughTheWrapper(self) -> None:
        isInWrapper = False

        def generate() -> Generator[str, None, None]:
            for item in "abc":
                assert isInWrapper
                yield item

        d = iteratorToProducer(generate(), self.consumer, self.later, self.clock)
        while self.calls:
            self.assertNoResult(d)
            isInWrapper = True
            self.step()
            isInWrapper = False
        self.successResultOf(d)
        assert self.successResultOf(self.consumer()) == ["a", "b", "c"]

    def test_anErrorComesThroughTheWrapper(self) -> None:
        d = iteratorToProducer((1 // n for n in (1, 0)), self.consumer, self.later, self.clock)
        while self.calls:
            self.step()
        self.failureResultOf(d, ZeroDivisionError)
        assert self.successResultOf(self.consumer()) == [1]
        del d
        gc.collect()
        assert self.flushLoggedErrors() == []

    def test_itemsThatAreDeferredsPassAWrapperThatStaysHere(self) -> None:
        answer: Deferred[int] = Deferred()
        d = iteratorToProducer(iter([answer]), self.consumer, lambda f: f(), self.clock)
        answer.callback(1)
        self.successResultOf(d)
        assert self.successResultOf(self.consumer()) == [1]

    def test_aWrapperMustBeCallable(self) -> None:
        d = iteratorToProducer(iter([1]), wrapper="thread")  # type: ignore[arg-type]
        self.failureResultOf(d, TypeError)

    def test_aWrapperThatFailsIsTheOutcome(self) -> None:
        def broken(function: Callable[[], Any]) -> Any:
            raise KeyError

        self.failureResultOf(iteratorToProducer(iter([1]), None, broken, self.clock), KeyError)


class DelayTests(SynchronousTestCase):
    def test_firesWhenTheTimeIsOver(self) -> None:
        clock = Clock()
        d = deferToDelay(1.5, clock)
        clock.advance(1.4)
        self.assertNoResult(d)
        clock.advance(0.1)
        assert self.successResultOf(d) is None

    def test_canBeCancelled(self) -> None:
        clock = Clock()
        d = deferToDelay(1.5, clock)
        d.addErrback(lambda failure: None)
        d.cancel()
        assert clock.getDelayedCalls() == []

    def test_negativeTimesAreRefused(self) -> None:
        with self.assertRaises(ValueError):
            deferToDelay(-1, Clock())


class FaceTests(SynchronousTestCase):
    def test_whatOtherRoomsDefineIsThereToo(self) -> None:
        from asynqueue import tools
        from asynqueue._runner import streams

        assert Delay is tools.Delay
        assert isIterator is streams.isIterator
