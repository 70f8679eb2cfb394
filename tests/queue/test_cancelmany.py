"""
Many calls are cancelled at once.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from asynqueue._core.states import CANCELLED, FINISHED, PENDING, UNDERWAY
from asynqueue.testing import far
from asynqueue.testing.stepworker import StepWorker
from tests.support.cases import QueueCase


class CancellingWorker(StepWorker):
    """
    Can stop a run.
    """

    def cancel(self, task: Any) -> None:
        """
        Be free.
        """
        assert task is self.task
        self.task = None
        self._isFree()


class CancelManyTests(QueueCase):
    def assertCancelled(self, *ds: Deferred[Any]) -> None:
        for d in ds:
            self.errorOf(d, CancelledError)

    def test_whatWaitsInTheSeriesFails(self) -> None:
        queue = self.makeQueue(StepWorker())
        running = queue.submit(far.echo)
        mine = [queue.call(far.echo, series="mine") for _ in range(3)]
        others = [queue.submit(far.echo, series=series) for series in (None, "other")]
        self.assertEqual(queue.cancelSeries("mine"), 3)
        self.assertCancelled(*mine)
        self.assertEqual([task.state for task in (running, *others)], [UNDERWAY, PENDING, PENDING])
        self.assertEqual(queue.load, 3)
        others[1].d.addErrback(lambda _: None)

    def test_callsThatNameNoSeriesAreASeries(self) -> None:
        queue = self.makeQueue()
        d = queue.call(far.echo)
        other = queue.submit(far.echo, series="other")
        self.assertEqual(queue.cancelSeries(None), 1)
        self.assertCancelled(d)
        self.assertEqual(other.state, PENDING)
        other.d.addErrback(lambda _: None)

    def test_whatRunsGoesOnUnlessAsked(self) -> None:
        worker = CancellingWorker()
        queue = self.makeQueue(worker)
        running, waiting = queue.submit(far.echo), queue.submit(far.echo)
        self.assertEqual(queue.cancelAll(), 1)
        self.assertCancelled(waiting.d)
        self.assertEqual(running.state, UNDERWAY)
        self.assertEqual(queue.cancelAll(underway=True), 1)
        self.assertCancelled(running.d)
        self.assertIsNone(worker.task)

    def test_aWorkerThatCannotStopARunGoesOn(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        d = queue.call(far.echo)
        self.assertEqual(queue.cancelSeries(None, underway=True), 1)
        self.assertCancelled(d)
        self.assertIsNotNone(worker.task)
        later = queue.submit(far.echo, 1)
        self.assertEqual(later.state, PENDING)
        worker.step()
        worker.step()
        self.assertEqual(later.result, 1)

    def test_whatWasSentAheadIsUnderway(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        worker.stepAll()
        queue.call(far.echo)
        worker.stepAll()
        tasks = [queue.submit(far.echo) for _ in range(3)]
        self.settle()
        self.assertEqual({task.state for task in tasks}, {UNDERWAY})
        self.assertEqual(queue.cancelAll(), 0)
        self.assertEqual(queue.cancelAll(underway=True), 3)
        self.assertCancelled(*[task.d for task in tasks])
        worker.stepAll()

    def test_withNothingThereNothingIsDone(self) -> None:
        queue = self.makeQueue(StepWorker())
        self.assertEqual((queue.cancelAll(underway=True), queue.cancelSeries("none")), (0, 0))

    def test_whatCallbacksPutOnHearingOfItIsNotTouched(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        queue.call(far.echo)
        again: list[Any] = []
        for _ in range(3):
            d = queue.call(far.echo, series="mine")
            d.addErrback(lambda _: again.append(queue.submit(far.echo, series="mine")))
        self.assertEqual(queue.cancelSeries("mine"), 3)
        self.assertEqual([task.state for task in again], [PENDING] * 3)
        worker.iQualified.append("mine")
        queue.qualifyWorker(worker, "mine")
        while worker.step():
            pass
        self.assertEqual([task.state for task in again], [FINISHED] * 3)

    def test_whatCallbacksCancelIsNotCounted(self) -> None:
        queue = self.makeQueue()
        first, second = queue.submit(far.echo), queue.submit(far.echo)
        first.d.addErrback(lambda _: second.cancel())
        self.assertEqual(queue.cancelAll(), 1)
        self.assertCancelled(second.d)

    def test_aCallbackMayShutDown(self) -> None:
        queue = self.makeQueue()
        first, second = queue.submit(far.echo), queue.submit(far.echo)
        first.d.addErrback(lambda _: queue.shutdown())
        self.assertEqual(queue.cancelAll(), 2)
        self.assertCancelled(second.d)
        self.assertFalse(queue.isRunning())

    def test_whatIsOnItsWayToAWorkerStillWaits(self) -> None:
        class Asking(StepWorker):
            def run(self, task: Any) -> Deferred[None]:
                if task.args == ("go",):
                    counts.append(queue.cancelAll())
                return super().run(task)

        counts: list[int] = []
        workers = [Asking(), Asking()]
        queue = self.makeQueue(*workers)
        with self.together(queue):
            tasks = [queue.submit(far.echo, "go"), queue.submit(far.echo, "wait")]
        self.assertEqual(counts, [1])
        self.assertEqual([task.state for task in tasks], [UNDERWAY, CANCELLED])
        self.assertCancelled(tasks[1].d)
        for worker in workers:
            worker.step()

    def test_nothingOfThemIsKept(self) -> None:
        queue = self.makeQueue()
        things = [far.Thing() for _ in range(200)]
        for number, thing in enumerate(things):
            queue.call(far.echo, thing, series=number % 3).addErrback(lambda _: None)
        references = [weakref.ref(thing) for thing in things]
        del things, thing
        self.assertEqual(queue.cancelAll(), 200)
        gc.collect()
        self.assertEqual({reference() for reference in references}, {None})
