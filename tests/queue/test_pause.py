"""
A paused queue begins nothing, and loses nothing.
"""

from __future__ import annotations

from asynqueue.errors import QueueStopped
from tests.support.cases import QueueCase


class PauseTests(QueueCase):
    def test_aPausedQueueBeginsNothing(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        self.settle()
        queue.pause()
        task = queue.submit(len, "abc")
        self.settle()
        self.assertTrue(queue.paused)
        self.assertEqual(task.state, "PENDING")

    def test_resumingBeginsWhatWaitsInItsOrder(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        queue.pause()
        order: list[int] = []
        for number in range(3):
            queue.call(abs, number).addCallback(order.append)
        queue.call(abs, 9, doNext=True).addCallback(order.append)
        self.settle()
        self.assertEqual(order, [])
        queue.resume()
        self.settle()
        self.assertFalse(queue.paused)
        self.assertEqual(order, [9, 0, 1, 2])

    def test_callsThatAWorkerHasGoOn(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        self.settle()
        d = queue.call(len, "abc")
        queue.pause()
        self.assertEqual(self.resultOf(d), 3)

    def test_updatesAreRun(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        self.settle()
        queue.pause()
        self.assertEqual(self.resultOf(queue.update(len, "abc")), [3])

    def test_aWorkerThatComesDuringThePauseGetsNothing(self) -> None:
        queue = self.makeQueue()
        queue.pause()
        task = queue.submit(len, "abc")
        queue.attachWorker(self.makeWorker())
        self.settle()
        self.assertEqual(task.state, "PENDING")
        queue.resume()
        self.assertEqual(self.resultOf(task.d), 3)

    def test_aShutdownRunsWhatWaits(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        queue.pause()
        d = queue.call(len, "abc")
        stopped = queue.shutdown()
        self.assertEqual(self.resultOf(d), 3)
        self.resultOf(stopped)
        self.assertRaises(QueueStopped, queue.pause)
        self.assertRaises(QueueStopped, queue.resume)
