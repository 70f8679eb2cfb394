"""
The queue for the main loop.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

import asynqueue
import asynqueue.null
import asynqueue.workers
from asynqueue import AsyncWorker, ExecutorWorker, NullQueue
from asynqueue.errors import TaskTimeout
from asynqueue.iteration import Deferator
from asynqueue.testing import far


class NullQueueTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.queue = NullQueue(reactor=self.clock)

    def resultOf(self, d: Deferred[Any]) -> Any:
        self.clock.advance(0)
        return self.successResultOf(d)

    def test_itHasOneWorkerInTheMainLoop(self) -> None:
        [worker] = self.queue.workers()
        self.assertIsInstance(worker, AsyncWorker)
        self.assertEqual(worker.capacity.slots, 1)

    def test_itRunsCalls(self) -> None:
        self.assertEqual(self.resultOf(self.queue.call(far.add, 1, second=2)), 3)

    def test_itRunsThemInTheOrderOfTheirPriority(self) -> None:
        first: Deferred[None] = Deferred()
        calls: list[int] = []
        self.queue.call(lambda: first)
        for niceness in (10, 0, -10):
            self.queue.call(calls.append, niceness, niceness=niceness)
        self.clock.advance(0)
        first.callback(None)
        self.clock.advance(0)
        self.assertEqual(calls, [-10, 0, 10])

    def test_itsKeywordsReachTheWorkerAndTheQueue(self) -> None:
        queue = NullQueue(slots=3, raw=True, series=["mine"], timeout=7, reactor=self.clock)
        self.assertEqual(queue.timeout, 7)
        [worker] = queue.workers()
        self.assertEqual(worker.capacity.slots, 3)
        self.assertEqual(list(self.resultOf(queue.call(iter, [1], series="mine"))), [1])
        self.successResultOf(queue.shutdown())

    def test_anIteratorBecomesADeferator(self) -> None:
        self.assertIsInstance(self.resultOf(self.queue.call(iter, [1])), Deferator)

    def test_aTimeoutFreesTheSlot(self) -> None:
        d = self.queue.call(Deferred, timeout=3)
        self.clock.advance(0)
        self.clock.advance(3)
        self.failureResultOf(d, TaskTimeout)
        self.assertEqual(self.resultOf(self.queue.call(far.echo, 1)), 1)

    def test_aShutdownWaitsForWhatIsUnderway(self) -> None:
        wait: Deferred[int] = Deferred()
        d = self.queue.call(lambda: wait)
        self.clock.advance(0)
        done = self.queue.shutdown()
        self.assertNoResult(done)
        wait.callback(5)
        self.assertEqual(self.successResultOf(d), 5)
        self.assertIsNone(self.resultOf(done))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aShutdownThatTakesTooLongCancelsWhatIsUnderway(self) -> None:
        queue = NullQueue(timeout=5, reactor=self.clock)
        cancelled: list[Any] = []
        d = queue.call(lambda: Deferred(cancelled.append))
        self.clock.advance(0)
        done = queue.shutdown()
        self.clock.advance(5)
        self.failureResultOf(d)
        self.assertEqual(len(cancelled), 1)
        self.assertIsNone(self.successResultOf(done))

    def test_itsNamesAreWhereUsersLookForThem(self) -> None:
        self.assertIs(asynqueue.null.NullQueue, NullQueue)
        self.assertIs(asynqueue.NullQueue, NullQueue)
        self.assertIs(asynqueue.AsyncWorker, AsyncWorker)
        self.assertIs(asynqueue.ExecutorWorker, ExecutorWorker)
        for name in ("AsyncWorker", "ExecutorWorker", "IWorker", "ProcessWorker", "ThreadWorker"):
            self.assertEqual(getattr(asynqueue.workers, name).__name__, name)
