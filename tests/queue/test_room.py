"""
How many calls may wait, who waits for room, and which tasks there are.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from asynqueue import TaskQueue
from asynqueue.errors import QueueFull, QueueStopped
from asynqueue.iteration import Deferator
from asynqueue.testing import far
from asynqueue.testing.stepworker import InlineWorker, StepWorker
from tests.queue.test_map import Input, MapCase
from tests.support.cases import QueueCase


class TasksTests(QueueCase):
    def test_thoseUnderwayComeFirstThenThoseThatWaitByPriority(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        underway = queue.submit(len, "a")
        late, usual = queue.submit(len, "b", niceness=5), queue.submit(len, "c")
        last, first = queue.submit(len, "d", doLast=True), queue.submit(len, "e", doNext=True)
        unserved = queue.submit(len, "f", series="nobody's", niceness=-20)
        tasks = queue.tasks()
        self.assertEqual(tasks[:2], [underway, first])
        self.assertEqual(tasks[-1], last)
        self.assertEqual(set(tasks), {underway, late, usual, last, first, unserved})
        order = [task for task in tasks[1:] if task is not unserved]
        ran = []
        while worker.task is not None:
            worker.finish()
            if worker.task is not None:
                ran.append(worker.task)
        self.assertEqual(ran, order)
        self.assertEqual(queue.tasks(), [unserved])
        unserved.d.addErrback(lambda _: None)

    def test_theListIsACopy(self) -> None:
        queue = self.makeQueue()
        queue.submit(len, "a").d.addErrback(lambda _: None)
        queue.tasks().clear()
        self.assertEqual(len(queue.tasks()), 1)

    def test_aStreamIsListedUntilItsLastItem(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        task = queue.submit(far.endless)
        deferator: Any = self.resultOf(task.d)
        self.assertEqual(queue.tasks(), [task])
        deferator.stop()
        self.settle()
        self.assertEqual(queue.tasks(), [])

    def test_updatesAreNotListed(self) -> None:
        queue = self.makeQueue(StepWorker())
        queue.update(len, "a").addErrback(lambda _: None)
        self.assertEqual(queue.tasks(), [])
        queue.workers()[0].finish()


class MaxPendingTests(QueueCase):
    def start(self, *workers: Any, maxPending: int | None = 2) -> TaskQueue:
        queue = TaskQueue(*workers, maxPending=maxPending, reactor=self.clock)
        self.queues.append(queue)
        return queue

    def fill(self, queue: TaskQueue, count: int) -> list[Deferred[Any]]:
        ds: list[Deferred[Any]] = [queue.call(len, "") for _ in range(count)]
        for d in ds:
            d.addErrback(lambda _: None)
        return ds

    def test_noMoreCallsWait(self) -> None:
        queue = self.start(StepWorker())
        # One of them is underway.
        self.fill(queue, 3)
        for put in (queue.call, queue.submit, queue.options().call):
            error = self.assertRaises(QueueFull, put, len, "")
            self.assertIn("may have no more than 2 calls pending", str(error))
        self.assertEqual(queue.load, 3)
        queue.workers()[0].finish()
        self.fill(queue, 1)
        self.assertRaises(QueueFull, queue.call, len, "")

    def test_withoutALimitThereIsAlwaysRoom(self) -> None:
        queue = self.start(maxPending=None)
        self.fill(queue, 100)
        self.assertIsNone(self.resultOf(queue.whenReady()))

    def test_whenReadyFiresForAsManyAsThereIsRoomFor(self) -> None:
        worker = StepWorker()
        queue = self.start(worker)
        self.fill(queue, 3)
        told: list[int] = []

        def tell(_: object, number: int) -> None:
            told.append(number)

        for number in range(3):
            queue.whenReady().addCallback(tell, number)
        self.assertEqual(told, [])
        worker.finish()
        self.assertEqual(told, [0])
        # The one that was told has not called, so there is room for it still.
        worker.finish()
        self.assertEqual(told, [0, 1, 2])

    def test_whoeverIsToldMayCall(self) -> None:
        worker = StepWorker()
        queue = self.start(worker)
        self.fill(queue, 3)
        for _ in range(20):
            queue.whenReady().addCallback(lambda _: self.fill(queue, 1))
        for _ in range(23):
            self.assertLessEqual(len(queue.tasks()), 3)
            worker.finish()
        self.assertEqual(queue.load, 0)

    def test_cancellingACallMakesRoom(self) -> None:
        queue = self.start()
        ds = self.fill(queue, 2)
        ready = queue.whenReady()
        self.assertNoResult(ready)
        ds[0].cancel()
        self.assertIsNone(self.resultOf(ready))

    def test_cancellingTheWaitEndsIt(self) -> None:
        queue = self.start()
        ds = self.fill(queue, 2)
        gone, ready = queue.whenReady(), queue.whenReady()
        gone.cancel()
        self.errorOf(gone, CancelledError)
        ds[0].cancel()
        self.assertIsNone(self.resultOf(ready))

    def test_aShutdownEndsTheWait(self) -> None:
        queue = self.start(StepWorker())
        self.fill(queue, 3)
        ready = queue.whenReady()
        queue.shutdown()
        self.errorOf(ready, QueueStopped)
        self.assertRaises(QueueStopped, queue.whenReady)
        while queue.workers() and queue.workers()[0].task:
            queue.workers()[0].finish()

    def test_manyThatWaitDoNotGoEverDeeper(self) -> None:
        queue = self.start(maxPending=1)
        self.fill(queue, 1)
        told: list[Any] = []
        for _ in range(3000):
            queue.whenReady().addCallback(lambda _: told.append(queue.call(len, "")))
        queue.attachWorker(InlineWorker())
        self.settle()
        self.assertEqual([self.resultOf(d) for d in told], [0] * 3000)

    def test_numbersThatAreNoneAreRefused(self) -> None:
        for wrong in (0, -1, 2.0, True, "2"):
            number: Any = wrong
            self.assertRaises(ValueError, TaskQueue, maxPending=number, reactor=self.clock)


class MapAndRoomTests(MapCase):
    def test_aMapWaitsForRoom(self) -> None:
        worker = StepWorker()
        queue = TaskQueue(worker, maxPending=2, reactor=self.clock)
        self.queues.append(queue)
        source = Input(50)
        deferator: Deferator[int] = queue.map(far.square, source, window=30, chunksize=1)
        self.assertEqual(source.taken, 3)
        results: list[int] = []
        while worker.step():
            self.assertLessEqual(len(queue.tasks()), 3)
            results += [deferator.source.take() for _ in list(deferator.source.items)]
            self.settle()
        self.assertEqual(results, [number * number for number in range(50)])
        self.assertEqual(self.takeAll(deferator), ([], None))

    def test_aShutdownEndsAMapThatWaitsForRoom(self) -> None:
        worker = StepWorker()
        queue = TaskQueue(worker, maxPending=2, reactor=self.clock)
        self.queues.append(queue)
        deferator = queue.map(far.square, Input(50), window=30, chunksize=1)
        queue.shutdown()
        while worker.step():
            pass
        results, error = self.takeAll(deferator)
        self.assertEqual(results, [0, 1, 4])
        self.assertIsInstance(error, QueueStopped)

    def test_stoppingAMapThatWaitsForRoomEndsTheWait(self) -> None:
        queue = TaskQueue(StepWorker(), maxPending=1, reactor=self.clock)
        self.queues.append(queue)
        source = Input(50)
        queue.map(far.square, source, window=30, chunksize=1).stop()
        self.settle()
        self.assertEqual(source.taken, 2)
        queue.workers()[0].finish()
