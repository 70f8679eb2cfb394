"""
A consumer that gets the load of the queue.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementer
from zope.interface.verify import verifyObject

from asynqueue import Event
from asynqueue.errors import ImplementationError
from asynqueue.tasks import FINISHED
from asynqueue.testing import far
from asynqueue.testing.stepworker import InlineWorker, StepWorker
from tests.support.cases import QueueCase


@implementer(IConsumer)
class LoadConsumer:
    """
    Keeps the figures.
    """

    def __init__(self) -> None:
        self.figures: list[int] = []
        self.producer: Any = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Take a producer, and one only.
        """
        if self.producer is not None:
            raise RuntimeError("there is one already")
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        """
        No more figures.
        """
        self.producer = None

    def write(self, data: Any) -> None:
        """
        Keep one.
        """
        self.figures.append(data)


class SubscribeTests(QueueCase):
    def test_everyChangeIsWritten(self) -> None:
        worker, consumer = StepWorker(), LoadConsumer()
        queue = self.makeQueue(worker)
        queue.subscribe(consumer)
        self.assertEqual(consumer.figures, [])
        tasks = [queue.submit(far.echo) for _ in range(3)]
        self.assertEqual(consumer.figures, [1, 2, 3])
        tasks[2].d.addErrback(lambda _: None)
        tasks[2].cancel()
        while worker.step():
            pass
        self.assertEqual(consumer.figures, [1, 2, 3, 2, 1, 0])

    def test_whatIsThereAlreadyCounts(self) -> None:
        worker, consumer = StepWorker(), LoadConsumer()
        queue = self.makeQueue(worker)
        queue.call(far.echo)
        queue.call(far.echo)
        self.assertEqual(queue.load, 2)
        queue.subscribe(consumer)
        worker.step()
        worker.step()
        self.assertEqual(consumer.figures, [1, 0])
        self.assertEqual(queue.load, 0)

    def test_callsThatAreOverAtOnceCount(self) -> None:
        consumer = LoadConsumer()
        queue = self.makeQueue(InlineWorker())
        queue.subscribe(consumer)
        queue.call(far.echo)
        queue.call(far.echo)
        self.assertEqual(consumer.figures, [1, 0, 1, 0])

    def test_updatesDoNotCount(self) -> None:
        consumer = LoadConsumer()
        queue = self.makeQueue(InlineWorker())
        queue.subscribe(consumer)
        self.resultOf(queue.update(far.echo))
        self.assertEqual(consumer.figures, [])

    def test_subscribingWithinATellingMissesAndDoublesNothing(self) -> None:
        consumer = LoadConsumer()
        queue = self.makeQueue(InlineWorker())

        def observe(event: Event) -> None:
            if event.kind == FINISHED:
                queue.subscribe(consumer)

        queue.addObserver(observe)
        queue.call(far.echo).addCallback(lambda _: queue.call(far.echo))
        self.assertEqual(consumer.figures, [1, 0])

    def test_afterAPauseOnlyTheLatestFigureIsWritten(self) -> None:
        consumer = LoadConsumer()
        worker = StepWorker()
        queue = self.makeQueue(worker)
        queue.subscribe(consumer)
        consumer.producer.pauseProducing()
        for _ in range(3):
            queue.call(far.echo)
        worker.step()
        self.assertEqual(consumer.figures, [])
        consumer.producer.resumeProducing()
        self.assertEqual(consumer.figures, [2])
        worker.step()
        worker.step()
        self.assertEqual(consumer.figures, [2, 1, 0])

    def test_afterAPauseWithoutAChangeNothingIsWritten(self) -> None:
        consumer = LoadConsumer()
        queue = self.makeQueue(InlineWorker())
        queue.subscribe(consumer)
        consumer.producer.pauseProducing()
        queue.call(far.echo)
        consumer.producer.resumeProducing()
        self.assertEqual(consumer.figures, [])

    def test_afterAStopNothingIsWritten(self) -> None:
        consumer = LoadConsumer()
        queue = self.makeQueue(InlineWorker())
        queue.subscribe(consumer)
        producer = consumer.producer
        producer.stopProducing()
        producer.stopProducing()
        self.assertIsNone(consumer.producer)
        queue.call(far.echo)
        self.assertEqual(consumer.figures, [])
        queue.subscribe(consumer)
        queue.call(far.echo)
        self.assertEqual(consumer.figures, [1, 0])

    def test_theShutdownUnregistersOnceAllIsWritten(self) -> None:
        worker, consumer = StepWorker(), LoadConsumer()
        queue = self.makeQueue(worker)
        queue.subscribe(consumer)
        queue.call(far.echo)
        queue.shutdown()
        self.assertIsNotNone(consumer.producer)
        worker.step()
        self.assertEqual(consumer.figures, [1, 0])
        self.assertIsNone(consumer.producer)

    def test_severalMaySubscribe(self) -> None:
        consumers = [LoadConsumer(), LoadConsumer()]
        queue = self.makeQueue(InlineWorker())
        for consumer in consumers:
            queue.subscribe(consumer)
        queue.call(far.echo)
        self.assertEqual([consumer.figures for consumer in consumers], [[1, 0]] * 2)

    def test_subscribingTwiceIsOnce(self) -> None:
        consumer = LoadConsumer()
        queue = self.makeQueue(InlineWorker())
        queue.subscribe(consumer)
        queue.subscribe(consumer)
        queue.call(far.echo)
        self.assertEqual(consumer.figures, [1, 0])

    def test_oneThatHasAnotherProducerIsRefused(self) -> None:
        consumer = LoadConsumer()
        consumer.producer = object()
        queue = self.makeQueue(InlineWorker())
        self.assertRaises(RuntimeError, queue.subscribe, consumer)
        queue.call(far.echo)
        self.assertEqual(consumer.figures, [])

    def test_whatIsNoConsumerIsRefused(self) -> None:
        self.assertRaises(ImplementationError, self.makeQueue().subscribe, [])

    def test_itsProducerIsAPushProducer(self) -> None:
        consumer = LoadConsumer()
        self.makeQueue().subscribe(consumer)
        verifyObject(IPushProducer, consumer.producer)

    def test_oneThatStopsItsProducerOnRegisteringHearsNothing(self) -> None:
        class Unwilling(LoadConsumer):
            def registerProducer(self, producer: Any, streaming: bool) -> None:
                producer.stopProducing()

        consumer = Unwilling()
        queue = self.makeQueue(InlineWorker())
        queue.subscribe(consumer)
        queue.call(far.echo)
        self.assertEqual(consumer.figures, [])
