"""
Many calls are cancelled at once.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer
from zope.interface import implementer

from asynqueue._queue.engine import TOLD_AT_ONCE
from asynqueue.tasks import CANCELLED, FINISHED, PENDING, UNDERWAY
from asynqueue.testing import far
from asynqueue.testing.stepworker import StepWorker
from tests.dispatch.cases import CountingClock
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

    def test_allAreCancelledBeforeTheFirstCallbackHearsOfIt(self) -> None:
        queue = self.makeQueue()
        first, second = queue.submit(far.echo), queue.submit(far.echo)
        found: list[Any] = []
        first.d.addErrback(lambda _: found.append((second.state, second.cancel(), queue.load)))
        self.assertEqual(queue.cancelAll(), 2)
        self.assertEqual(found, [(CANCELLED, False, 0)])
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


class MassTests(QueueCase):
    """
    So many calls are cancelled at once that the reactor gets its turns meanwhile. Hearing of one
    takes a millisecond.
    """

    MORE = 95

    def setUp(self) -> None:
        super().setUp()
        self.clock = self.counting = CountingClock()
        self.queue = self.makeQueue()
        self.tasks = [self.queue.submit(far.echo) for _ in range(TOLD_AT_ONCE + self.MORE)]
        self.heard: list[int] = []
        for number, task in enumerate(self.tasks):
            task.d.addErrback(self.hear, number)

    def hear(self, failure: Any, number: int) -> None:
        failure.trap(CancelledError)
        self.clock.rightNow += 0.001
        self.heard.append(number)

    def test_manyHaveHeardWhenItReturnsAndTheOthersHearInTurns(self) -> None:
        self.assertEqual(self.queue.cancelAll(), len(self.tasks))
        self.assertEqual(self.heard, list(range(TOLD_AT_ONCE)))
        asked = self.counting.asked
        self.settle()
        # Each turn is of 10 milliseconds.
        self.assertIn(self.counting.asked - asked, range(8, 12))
        self.assertEqual(self.heard, list(range(len(self.tasks))))

    def test_allAreCancelledWhenItReturns(self) -> None:
        self.queue.cancelAll()
        self.assertEqual({task.state for task in self.tasks}, {CANCELLED})
        self.assertEqual({type(task.failure.value) for task in self.tasks}, {CancelledError})
        self.assertEqual(self.queue.load, 0)
        self.assertEqual(self.queue.cancelAll(), 0)

    def test_aDeferredThatIsCancelledBeforeItsTurnFiresOnce(self) -> None:
        self.queue.cancelAll()
        last = len(self.tasks) - 1
        self.tasks[-1].d.cancel()
        self.assertEqual(self.heard[-1], last)
        self.resultOf(self.queue.shutdown())
        self.assertEqual(self.heard.count(last), 1)

    def test_aShutdownWaitsUntilAllHaveHeard(self) -> None:
        self.queue.cancelAll()
        done = self.queue.shutdown()
        self.assertNoResult(done)
        done.addCallback(lambda _: self.assertEqual(len(self.heard), len(self.tasks)))
        while not done.called:
            self.settle()
        self.successResultOf(done)

    def test_whenTheProgramEndsAllHear(self) -> None:
        self.queue.cancelAll()
        self.queue._engine.endNow("the program ends")
        self.assertEqual(len(self.heard), len(self.tasks))

    def test_whenTheInterpreterEndsNothingIsLogged(self) -> None:
        self.queues.remove(self.queue)
        unheard = [weakref.ref(self.queue.call(far.echo)) for _ in range(3)]
        self.queue.cancelAll()
        self.queue._engine.abort()
        self.settle()
        self.assertEqual(len(self.heard), len(self.tasks))
        gc.collect()
        self.assertEqual([reference() for reference in unheard], [None] * 3)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_newCallsRunMeanwhile(self) -> None:
        worker = StepWorker()
        self.queue.attachWorker(worker)
        self.queue.cancelAll()
        task = self.queue.submit(far.echo, 5)
        while worker.step():
            pass
        self.assertEqual(task.result, 5)
        self.assertLess(len(self.heard), len(self.tasks))

    def test_anObserverThatComesMeanwhileCountsRight(self) -> None:
        class Consumer:
            def __init__(self) -> None:
                self.written: list[int] = []

            def registerProducer(self, producer: Any, streaming: bool) -> None:
                pass

            def unregisterProducer(self) -> None:
                pass

            def write(self, load: int) -> None:
                self.written.append(load)

        self.queue.cancelAll()
        consumer = implementer(IConsumer)(Consumer)()
        self.queue.subscribe(consumer)
        while len(self.heard) < len(self.tasks):
            self.settle()
        self.assertEqual(consumer.written[-1], 0)
        self.assertEqual(len(consumer.written), self.MORE)
