from __future__ import annotations

import gc
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from asynqueue.iteration import Deferator, IterationProducer, ListConsumer
from tests.iteration.ledger import Ledger, ended


class Slow(ListConsumer):
    """
    Processes each item when the test says so.
    """

    def __init__(self, **kw: Any) -> None:
        super().__init__(**kw)
        self.waiting: dict[Any, Deferred[Any]] = {}

    def processItem(self, item: Any) -> Any:
        self.waiting[item] = Deferred()
        return self.waiting[item]


class Recorder:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        self.calls.append("resume")

    def stopProducing(self) -> None:
        self.calls.append("stop")


class ListTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.producer = Recorder()

    def register(self, consumer: ListConsumer) -> ListConsumer:
        consumer.registerProducer(self.producer, True)
        return consumer

    def test_isAConsumer(self) -> None:
        verifyObject(IConsumer, ListConsumer())

    def test_theListIsThereWhenTheProducerHasUnregistered(self) -> None:
        consumer = self.register(ListConsumer())
        d = consumer()
        consumer.write(1)
        consumer.write(2)
        self.assertNoResult(d)
        consumer.unregisterProducer()
        assert self.successResultOf(d) == [1, 2]
        assert self.producer.calls == []
        assert consumer.count == 2

    def test_eachCallGivesAListOfItsOwn(self) -> None:
        consumer = self.register(ListConsumer())
        early = [consumer(), consumer()]
        consumer.write(1)
        consumer.unregisterProducer()
        for d in (*early, consumer()):
            result = self.successResultOf(d)
            assert result == [1]
            result.append(2)

    def test_keywordsAreAttributes(self) -> None:
        class Scaled(ListConsumer):
            factor: int

            def processItem(self, item: int) -> int:
                return item * self.factor

        consumer = self.register(Scaled(factor=3))
        consumer.write(2)
        consumer.unregisterProducer()
        assert self.successResultOf(consumer()) == [6]

    def test_theOrderIsThatOfWriting(self) -> None:
        consumer = Slow()
        self.register(consumer)
        for item in "abc":
            consumer.write(item)
        consumer.unregisterProducer()
        d = consumer()
        for item in "cab":
            self.assertNoResult(d)
            consumer.waiting[item].callback(item.upper())
        assert self.successResultOf(d) == ["A", "B", "C"]

    def test_theProducerIsPausedOnlyWhileADeferredIsOutstanding(self) -> None:
        consumer = Slow()
        self.register(consumer)
        consumer.write("a")
        assert self.producer.calls == ["pause"]
        consumer.write("b")
        consumer.waiting["a"].callback(None)
        assert self.producer.calls == ["pause"]
        consumer.waiting["b"].callback(None)
        assert self.producer.calls == ["pause", "resume"]

    def test_aDeferredThatHasFiredPausesNothing(self) -> None:
        class Quick(ListConsumer):
            def processItem(self, item: Any) -> Any:
                return succeed(item)

        consumer = self.register(Quick())
        consumer.write(1)
        assert self.producer.calls == []
        consumer.unregisterProducer()
        assert self.successResultOf(consumer()) == [1]

    def test_processingMayBeACoroutine(self) -> None:
        class Coroutine(ListConsumer):
            async def processItem(self, item: Any) -> Any:
                return await answer

        answer: Deferred[int] = Deferred()
        consumer = self.register(Coroutine())
        consumer.write(1)
        assert self.producer.calls == ["pause"]
        answer.callback(5)
        consumer.unregisterProducer()
        assert self.successResultOf(consumer()) == [5]

    def test_aProducerThatEndsDuringProcessingIsNotResumed(self) -> None:
        consumer = Slow()
        self.register(consumer)
        consumer.write("a")
        consumer.unregisterProducer()
        consumer.waiting["a"].callback(1)
        assert self.producer.calls == ["pause"]
        assert self.successResultOf(consumer()) == [1]

    def test_thereIsOneProducerAtATime(self) -> None:
        consumer = self.register(ListConsumer())
        with self.assertRaises(RuntimeError):
            self.register(consumer)
        consumer.write(1)
        consumer.unregisterProducer()
        self.register(consumer)
        d = consumer()
        consumer.write(2)
        self.assertNoResult(d)
        consumer.unregisterProducer()
        assert self.successResultOf(d) == [1, 2]

    def test_aPullProducerIsATypeError(self) -> None:
        with self.assertRaises(TypeError):
            ListConsumer().registerProducer(self.producer, False)

    def test_aCallCanBeCancelled(self) -> None:
        consumer = self.register(ListConsumer())
        d = consumer()
        d.cancel()
        self.failureResultOf(d, CancelledError)
        consumer.unregisterProducer()
        assert self.successResultOf(consumer()) == []


class FailureTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.producer = Recorder()
        self.consumer = Slow()
        self.consumer.registerProducer(self.producer, True)

    def test_firstFailureIsTheOutcomeAndStopsTheProducer(self) -> None:
        d = self.consumer()
        self.consumer.write("a")
        self.consumer.write("b")
        self.consumer.waiting["b"].errback(ValueError())
        assert self.producer.calls == ["pause", "stop"]
        self.consumer.unregisterProducer()
        self.assertNoResult(d)
        self.consumer.waiting["a"].errback(KeyError())
        self.failureResultOf(d, ValueError)
        self.failureResultOf(self.consumer(), ValueError)
        self.consumer.unregisterProducer()

    def test_raisingIsAFailureToo(self) -> None:
        class Raising(ListConsumer):
            def processItem(self, item: Any) -> Any:
                return 1 // item

        consumer = Raising()
        producer = IterationProducer(Deferator(ended(1, 0, 1)), consumer, Clock())
        assert self.successResultOf(producer.run()) is consumer
        self.failureResultOf(consumer(), ZeroDivisionError)
        assert consumer.count == 2

    def test_failureThatNobodyAsksForIsLogged(self) -> None:
        self.consumer.write("a")
        self.consumer.waiting["a"].errback(ValueError())
        self.consumer.unregisterProducer()
        self.consumer = self.producer = None  # type: ignore[assignment]
        gc.collect()
        assert len(self.flushLoggedErrors(ValueError)) == 1

    def test_failureThatSomebodyAsksForIsNotLogged(self) -> None:
        d = self.consumer()
        self.consumer.write("a")
        self.consumer.waiting["a"].errback(ValueError())
        self.consumer.unregisterProducer()
        self.failureResultOf(d, ValueError)
        self.consumer = self.producer = None  # type: ignore[assignment]
        gc.collect()
        assert self.flushLoggedErrors() == []


class WithTheProducerTests(SynchronousTestCase):
    def test_itemsAreProcessedOneAtATime(self) -> None:
        source, consumer = Ledger(*range(3)), Slow()
        source.end()
        d = IterationProducer(Deferator(source), consumer, Clock()).run()
        for item in range(3):
            assert list(consumer.waiting) == list(range(item + 1))
            consumer.waiting[item].callback(item * 10)
        assert self.successResultOf(d) is consumer
        assert self.successResultOf(consumer()) == [0, 10, 20]

    def test_aFailureStopsTheIteration(self) -> None:
        source, consumer = Ledger(*range(3)), Slow()
        d = IterationProducer(Deferator(source), consumer, Clock()).run()
        consumer.waiting[0].errback(ValueError())
        assert self.successResultOf(d) is consumer
        assert source.stops == 1
        assert list(consumer.waiting) == [0]
        self.failureResultOf(consumer(), ValueError)
