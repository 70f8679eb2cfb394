"""
A queue is dropped, without a shutdown.
"""

from __future__ import annotations

import gc
import warnings
from typing import Any
from unittest import mock
from weakref import ref

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from asynqueue import NullQueue, TaskQueue, ThreadQueue
from asynqueue.errors import QueueStopped
from asynqueue.iteration import Deferator
from asynqueue.tasks import STOPPED
from asynqueue.testing import far
from asynqueue.testing.memory import MemoryWorker
from asynqueue.testing.stepworker import StepWorker
from asynqueue.testing.synchronous import SynchronousQueue
from tests.queue.test_subscribe import LoadConsumer


class DroppedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def drop(self, queues: list[Any], times: int = 1) -> list[str]:
        """
        Drop the last reference to a queue.

        @return: what is warned of.
        """
        kind = type(queues[0]).__name__
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            queues.clear()
            gc.collect()
            texts = [str(each.message) for each in caught]
            categories = [each.category for each in caught]
            del caught[:]
        self.assertEqual(categories, [ResourceWarning] * times)
        for text in texts:
            self.assertIn(f"<{kind}: RUNNING, ", text)
            self.assertIn("was dropped without shutdown()", text)
        return texts

    def make(self, *workers: Any, **keywords: Any) -> list[TaskQueue]:
        return [TaskQueue(*workers, reactor=self.clock, **keywords)]

    def settle(self) -> None:
        for _ in range(5):
            self.clock.advance(0)

    def assertStopped(self, *workers: Any) -> None:
        self.settle()
        self.assertEqual({worker.state for worker in workers}, {STOPPED})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def makeMemoryWorker(self) -> MemoryWorker:
        return MemoryWorker((), reactor=self.clock, stepSeconds=0.0)

    def test_anIdleOneIsNamedAndEnded(self) -> None:
        workers = self.makeMemoryWorker(), StepWorker()
        self.drop(self.make(*workers))
        self.assertStopped(*workers)

    def test_itsCallsRunFirst(self) -> None:
        worker = StepWorker()
        queues = self.make(worker)
        ds = [queues[0].call(far.echo, number) for number in range(3)]
        self.drop(queues)
        self.settle()
        for number, d in enumerate(ds):
            self.assertNoResult(d)
            worker.step()
            self.assertEqual(self.successResultOf(d), number)
        self.assertStopped(worker)

    def test_aCallOfATemporaryQueueGivesItsResult(self) -> None:
        worker = self.makeMemoryWorker()
        with pytest.warns(ResourceWarning):
            d = TaskQueue(worker, reactor=self.clock).call(far.echo, 1)
        self.settle()
        self.assertEqual(self.successResultOf(d), 1)
        self.assertStopped(worker)

    def test_itsTimeoutCountsFromWhenTheCallsAreDone(self) -> None:
        worker = StepWorker()
        queues = self.make(worker, timeout=1.0)
        d = queues[0].call(far.echo, 1)
        self.drop(queues)
        self.clock.pump([1.0] * 10)
        self.assertNoResult(d)
        worker.step()
        self.assertEqual(self.successResultOf(d), 1)
        self.assertStopped(worker)

    def test_whatNobodyCanRunFails(self) -> None:
        worker = StepWorker()
        queues = self.make(worker)
        d = queues[0].call(far.echo, 1, series="nobody's")
        self.drop(queues)
        self.settle()
        self.assertIn("was dropped", str(self.failureResultOf(d, QueueStopped).value))
        self.assertStopped(worker)

    def test_anIterationThatSomebodyHasGoesOn(self) -> None:
        worker = self.makeMemoryWorker()
        queues = self.make(worker)
        d = queues[0].call(far.numbers, 3)
        self.settle()
        deferator = self.successResultOf(d)
        self.drop(queues)
        self.clock.pump([1.0] * 10)
        del d
        items = []
        for item in deferator:
            self.settle()
            items.append(self.successResultOf(item))
        self.assertEqual(items, [0, 1, 2])
        self.assertStopped(worker)

    def test_anIterationThatIsDroppedTooEnds(self) -> None:
        worker = self.makeMemoryWorker()
        queues = self.make(worker)
        d = queues[0].call(far.endless)
        self.settle()
        self.drop(queues)
        self.settle()
        self.assertNotEqual(worker.state, STOPPED)
        del d
        gc.collect()
        self.assertStopped(worker)

    def test_anUpdateRunsFirst(self) -> None:
        for sequential in (False, True):
            workers = [self.makeMemoryWorker() for _ in range(2)]
            queues = self.make(*workers)
            d = queues[0].update(far.echo, 1, sequential=sequential)
            self.drop(queues)
            self.settle()
            self.assertEqual(self.successResultOf(d), [1, 1])
            self.assertStopped(*workers)

    def test_aMapKeepsIt(self) -> None:
        worker = self.makeMemoryWorker()
        queues = self.make(worker)
        results = queues[0].map(far.square, range(5), chunksize=1)
        kept = ref(queues[0])
        queues.clear()
        gc.collect()
        self.assertIsNotNone(kept())
        items: list[int] = []

        async def take(results: Deferator) -> None:
            async for item in results:
                items.append(item)

        d = Deferred.fromCoroutine(take(results))
        self.settle()
        self.successResultOf(d)
        self.assertEqual(items, [0, 1, 4, 9, 16])
        with pytest.warns(ResourceWarning):
            del results, d
            gc.collect()
        self.assertIsNone(kept())
        self.assertStopped(worker)

    def test_namedOptionsKeepIt(self) -> None:
        worker = self.makeMemoryWorker()
        urgent = TaskQueue(worker, reactor=self.clock).options(niceness=-5)
        gc.collect()
        d = urgent.call(far.echo, 1)
        self.settle()
        self.assertEqual(self.successResultOf(d), 1)
        results = urgent.map(far.square, range(3))
        with pytest.warns(ResourceWarning):
            del urgent, results
            gc.collect()
        self.assertStopped(worker)

    def test_aSubscriberAndAnObserverDoNotKeepIt(self) -> None:
        worker, consumer = self.makeMemoryWorker(), LoadConsumer()
        queues = self.make(worker)
        queues[0].subscribe(consumer)
        queues[0].addObserver(lambda event: None)
        queues[0].call(far.echo, 1)
        self.drop(queues)
        self.assertStopped(worker)
        self.assertEqual(consumer.figures, [1, 0])
        self.assertIsNone(consumer.producer)

    def test_oneThatIsShutDownIsNotWarnedOf(self) -> None:
        worker = StepWorker()
        queues = self.make(worker)
        d, done = queues[0].call(far.echo, 1), queues[0].shutdown()
        self.drop(queues, 0)
        worker.step()
        self.assertEqual(self.successResultOf(d), 1)
        self.assertIsNone(self.successResultOf(done))
        self.assertStopped(worker)

    def test_oneWithoutWorkersAndCallsLeavesNothing(self) -> None:
        self.drop(self.make(), 0)
        queues = self.make()
        d = queues[0].call(far.echo, 1)
        self.drop(queues)
        self.settle()
        self.failureResultOf(d, QueueStopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aConstructorThatRaisesLeavesNothing(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.assertRaises(ValueError, ThreadQueue, 0, reactor=self.clock)
            self.assertRaises(ValueError, TaskQueue, drainTimeout=-1, reactor=self.clock)
            gc.collect()

    def test_anIdleOneThatRunsInTheMainLoopLeavesNothing(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            queue = NullQueue(reactor=self.clock)
            d = queue.call(far.echo, 1)
            self.settle()
            self.assertEqual(self.successResultOf(d), 1)
            del queue
            gc.collect()

    def test_aSynchronousOneLeavesNothing(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            queue = SynchronousQueue()
            self.assertEqual(self.successResultOf(queue.call(far.echo, 1)), 1)
            del queue
            gc.collect()

    def test_warningsThatAreErrorsEndItAllTheSame(self) -> None:
        worker = self.makeMemoryWorker()
        queues = self.make(worker)
        raised: list[Any] = []

        with warnings.catch_warnings(), mock.patch("sys.unraisablehook", raised.append):
            warnings.simplefilter("error")
            queues.clear()
            gc.collect()
        self.assertEqual([type(each.exc_value) for each in raised], [ResourceWarning])
        raised.clear()
        self.assertStopped(worker)
