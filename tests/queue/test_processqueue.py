"""
A queue with worker processes of its own: their number, their keywords and their times. The
processes here are runners in memory.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from asynqueue import ProcessQueue
from asynqueue.errors import QueueStopped, WorkerDetached, WorkerStartError
from asynqueue.tasks import READY, STOPPED, UNDERWAY
from asynqueue.testing import far
from asynqueue.testing.memory import MemoryChannel, MemoryWorker, act
from asynqueue.testing.stepworker import StepWorker
from tests.support.cases import QueueCase


class ProcessQueueTests(QueueCase):
    def setUp(self) -> None:
        super().setUp()
        self.isStillborn = False
        case = self

        class InMemory(MemoryWorker):
            cores = staticmethod(lambda: 7)

            def __init__(
                self, series: Any, raw: bool, callStats: bool, reactor: Any, **ofProcesses: Any
            ) -> None:
                super().__init__(
                    series, raw, callStats, reactor, prepare=case.prepare, stepSeconds=0.0
                )
                self.actions["dawdle"] = case.clock.advance
                case.workers.append(self)

        self.patch(ProcessQueue, "workerClass", InMemory)

    def prepare(self, channel: MemoryChannel) -> None:
        channel.isStillborn = self.isStillborn

    def make(self, N: int, **keywords: Any) -> ProcessQueue:
        queue = ProcessQueue(N, reactor=self.clock, **keywords)
        self.queues.append(queue)
        return queue

    def test_itHasSoManyWorkersOfItsOwn(self) -> None:
        queue = self.make(3)
        self.assertEqual(len(queue), 3)
        self.assertEqual(queue.workers(), self.workers)
        self.assertEqual(self.resultOf(queue.call(far.echo, 1)), 1)
        self.assertEqual([worker.state for worker in self.workers], [READY] * 3)

    def test_byDefaultItHasAWorkerForEachCore(self) -> None:
        queue = ProcessQueue(reactor=self.clock)
        self.queues.append(queue)
        self.assertEqual(len(queue), 7)
        self.settle()

    def test_itsKeywordsReachTheWorkers(self) -> None:
        queue = self.make(1, series=["mine"], raw=True)
        task = queue.submit(far.echo, iter([1]), series="mine")
        self.assertEqual(list(self.resultOf(task.d)), [1])

    def test_aNumberThatIsNoneIsRefused(self) -> None:
        for wrong in (0, -1, 1.5, True, "2"):
            number: Any = wrong
            error = self.assertRaises(ValueError, ProcessQueue, number, reactor=self.clock)
            self.assertIn("must be a positive integer", str(error))
        queue = self.make(1)
        self.assertRaises(ValueError, queue.resize, 0)
        self.settle()

    def test_itGrows(self) -> None:
        queue = self.make(1)
        self.settle()
        d = queue.resize(3)
        self.assertEqual(len(queue), 3)
        self.assertNoResult(d)
        self.assertIsNone(self.resultOf(d))
        self.assertEqual([worker.state for worker in self.workers], [READY] * 3)

    def test_itShrinks(self) -> None:
        queue = self.make(3)
        self.settle()
        d = queue.resize(1)
        self.assertEqual(queue.workers(), self.workers[:1])
        self.assertIsNone(self.resultOf(d))
        self.assertEqual([worker.state for worker in self.workers], [READY, STOPPED, STOPPED])
        self.assertEqual(self.resultOf(queue.call(far.echo, 1)), 1)

    def test_theQueuesKeywordsReachTheQueue(self) -> None:
        events: list[Any] = []
        queue = self.make(1, observers=[events.append], timeout=7, warn=False, contextvars=[])
        self.assertEqual(queue.timeout, 7)
        self.settle()
        self.assertEqual([event.kind for event in events], ["HIRED"])

    def test_crashingTheWorkersLeavesWhatWaits(self) -> None:
        queue = self.make(2)
        self.settle()
        other = StepWorker(["other"])
        queue.attachWorker(other)
        running = [queue.submit(act, "dawdle", 0) for _ in range(3)]
        waiting = queue.submit(far.echo, 1)
        gone = queue.crashWorkers()
        self.assertEqual(queue.workers(), [other])
        unfinished = self.resultOf(gone)
        self.assertEqual(unfinished, running[:2])
        for task in unfinished:
            self.errorOf(task.d, WorkerDetached)
        self.assertEqual([worker.state for worker in self.workers], [STOPPED] * 2)
        self.assertIs(running[2].worker, other)
        other.finish()
        other.step()
        self.assertEqual(waiting.result, 1)
        self.assertEqual(self.resultOf(queue.crashWorkers()), [])
        self.resultOf(queue.detachWorker(other))
        self.resultOf(queue.resize(1))
        self.assertEqual(self.resultOf(queue.call(far.echo, 2)), 2)

    def test_theSameNumberChangesNothing(self) -> None:
        queue = self.make(2)
        self.settle()
        self.assertIsNone(self.successResultOf(queue.resize(2)))
        self.assertEqual(queue.workers(), self.workers)

    def test_theSuperfluousFinishWhatTheyHave(self) -> None:
        queue = self.make(2)
        self.settle()
        tasks = [queue.submit(far.echo, number) for number in range(2)]
        self.assertEqual([task.state for task in tasks], [UNDERWAY] * 2)
        d = queue.resize(1)
        self.assertIsNone(self.resultOf(d))
        self.assertEqual([task.result for task in tasks], [0, 1])

    def test_workersOfOtherKindsDoNotCount(self) -> None:
        queue = self.make(2)
        other = StepWorker()
        queue.attachWorker(other)
        self.assertIsNone(self.resultOf(queue.resize(1)))
        self.assertEqual(queue.workers(), [self.workers[0], other])
        self.assertEqual(self.resultOf(queue.stats()), [])

    def test_afterItsShutdownItCannotBeResized(self) -> None:
        queue = self.make(1)
        queue.shutdown()
        self.assertRaises(QueueStopped, queue.resize, 2)
        self.assertEqual(len(self.workers), 1)

    def test_aShutdownWhileItGrowsFailsTheResizing(self) -> None:
        queue = self.make(1)
        self.settle()
        d = queue.resize(2)
        done = queue.shutdown()
        self.errorOf(d, WorkerDetached)
        self.assertIsNone(self.resultOf(done))

    def test_aShutdownBeforeItIsReadyIsNoError(self) -> None:
        queue = self.make(2)
        self.assertIsNone(self.resultOf(queue.shutdown()))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_aProcessThatCannotBeStartedFailsTheResizing(self) -> None:
        queue = self.make(1)
        self.settle()
        self.isStillborn = True
        d = queue.resize(2)
        self.clock.pump([0.1] * 60)
        self.errorOf(d, WorkerStartError)
        self.assertEqual(len(queue), 1)

    def test_itsStatsAreThoseOfAll(self) -> None:
        queue = self.make(2, callStats=True)
        self.settle()
        for d in [queue.call(act, "dawdle", 1), queue.call(far.echo)]:
            self.resultOf(d)
        stats: Deferred[list[tuple[float, float]]] = queue.stats()
        self.assertEqual(sorted(run for _, run in self.resultOf(stats)), [0, 1])

    def test_withoutBeingAskedItKeepsNone(self) -> None:
        queue = self.make(1)
        self.resultOf(queue.call(far.echo))
        self.assertEqual(self.resultOf(queue.stats()), [])

    def test_itCountsTheCores(self) -> None:
        self.assertEqual(ProcessQueue.cores(), 7)
