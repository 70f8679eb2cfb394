"""
Calls whose functions yield: what counts until the last item has arrived.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from asynqueue import AsyncWorker, Event, QueuedTask, TaskQueue, report
from asynqueue._iteration.patience import IDLE_SECONDS
from asynqueue._runner.messages import CREDIT_ITEMS
from asynqueue.errors import IterationStopped, TaskStalled, TaskTimeout, WorkerDied
from asynqueue.tasks import CANCELLED, FAILED, FINISHED, PENDING, UNDERWAY
from asynqueue.testing import far
from asynqueue.testing.iterating import PausingConsumer
from asynqueue.testing.memory import MemoryWorker, act
from tests.iteration.ledger import takeAll
from tests.support.cases import QueueCase


def reportingNumbers(count: int) -> Iterator[int]:
    """
    Yield numbers, and report each before.
    """
    for number in range(count):
        report(number, count)
        yield number


def hangAfter(count: int) -> Iterator[int]:
    """
    Yield numbers, then act.
    """
    yield from range(count)
    act("hang")


class StreamCase(QueueCase):
    def stream(self, queue: TaskQueue, function: Any, *args: Any, **options: Any) -> Any:
        """
        @return: the task of a call that yields, and its Deferator.
        """
        task = queue.options(**options).submit(function, *args)
        self.settle()
        return task, task.d.result

    def advance(self, seconds: float, steps: int = 40) -> None:
        for _ in range(steps):
            self.clock.advance(seconds / steps)


class LifeTests(StreamCase):
    def test_itIsUnderwayUntilItsLastItemHasArrived(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        task, deferator = self.stream(queue, far.numbers, 3 * CREDIT_ITEMS)
        self.assertEqual((task.state, queue.load), (UNDERWAY, 1))
        self.assertIsNone(task.failure)
        self.assertIsNone(task.stopTime)
        taken = []
        while queue.load:
            taken += takeAll(deferator)
            self.settle()
        taken += takeAll(deferator)
        self.assertEqual(taken, list(range(3 * CREDIT_ITEMS)))
        self.assertEqual(task.state, FINISHED)
        self.assertIs(task.result, deferator)
        self.assertIsNotNone(task.stopTime)

    def test_itsWorkerIsFreeForOtherCalls(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        _, deferator = self.stream(queue, far.endless)
        d = queue.call(far.echo, 1)
        self.settle()
        self.assertEqual(self.resultOf(d), 1)
        self.assertEqual(queue.load, 1)
        deferator.stop()

    def test_awaitingItGivesTheDeferator(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        task, deferator = self.stream(queue, far.endless)
        self.assertIs(self.successResultOf(task.whenDone()), deferator)
        deferator.stop()
        self.assertEqual(task.state, FINISHED)

    def test_observersHearOfItsEndWhenTheStreamEnds(self) -> None:
        events: list[Event] = []
        queue = self.makeQueue(self.makeWorker())
        self.settle()
        queue.addObserver(events.append)
        task, deferator = self.stream(queue, far.endless)
        self.assertEqual([event.kind for event in events], ["QUEUED", "STARTED"])
        deferator.stop()
        self.assertEqual([event.kind for event in events], ["QUEUED", "STARTED", "FINISHED"])
        self.assertTrue(all(event.task is task for event in events))

    def test_theFailureOfItsIteratorIsItsOwn(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        task, deferator = self.stream(queue, far.numbersUntilRefused, CREDIT_ITEMS + 1)
        self.assertEqual(task.state, UNDERWAY)
        takeAll(deferator)
        self.settle()
        self.assertEqual(task.state, FAILED)
        self.assertIsInstance(task.failure.value, ValueError)
        self.assertIsInstance(takeAll(deferator)[-1], ValueError)

    def test_theDeathOfItsWorkerFailsIt(self) -> None:
        worker = self.makeWorker()
        queue = self.makeQueue(worker)
        task, deferator = self.stream(queue, far.endless)
        worker.die()
        self.settle()
        self.assertEqual((task.state, queue.load), (FAILED, 0))
        self.assertIsInstance(takeAll(deferator)[-1], WorkerDied)

    def test_itsProgressGoesOn(self) -> None:
        for worker in (self.makeWorker(), AsyncWorker(reactor=self.clock)):
            queue = self.makeQueue(worker)
            task, deferator = self.stream(queue, reportingNumbers, 3 * CREDIT_ITEMS)
            first = task.progress
            taken = []
            while task.state == UNDERWAY:
                taken += takeAll(deferator)
                self.clock.advance(1)
            self.assertLess(first.done, task.progress.done, worker)
            self.assertEqual(task.progress.done, 3 * CREDIT_ITEMS - 1)

    def test_droppingTheDeferatorEndsIt(self) -> None:
        for worker in (self.makeWorker(), AsyncWorker(reactor=self.clock)):
            queue = self.makeQueue(worker)
            self.settle()
            d = queue.call(far.endless)
            self.settle()
            self.assertEqual(queue.load, 1)
            del d
            gc.collect()
            self.settle()
            self.assertEqual(queue.load, 0, worker)


class TimeoutTests(StreamCase):
    def endless(self, **options: Any) -> Any:
        return self.stream(self.makeQueue(self.makeWorker()), far.endless, **options)

    def test_itsTimeoutCountsForTheWholeStream(self) -> None:
        task, deferator = self.endless(timeout=2)
        self.advance(1.9)
        self.assertEqual(task.state, UNDERWAY)
        self.advance(0.2)
        self.assertEqual(task.state, FAILED)
        self.assertIsInstance(task.failure.value, TaskTimeout)
        *items, error = takeAll(deferator)
        self.assertEqual(items, list(range(CREDIT_ITEMS)))
        self.assertIsInstance(error, TaskTimeout)

    def test_theTimeBeforeTheFirstItemCounts(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        worker.stepAll()
        task = queue.options(timeout=2).submit(far.endless)
        self.clock.advance(1)
        worker.stepAll()
        # It is looked at before it fails, and this runner is stuck.
        self.clock.pump([1, 0.1, 0.05])
        self.assertEqual(task.state, FAILED)
        worker.stepAll()

    def test_itStallsIfNoItemComes(self) -> None:
        task, deferator = self.endless(stallTimeout=1)
        takeAll(deferator)
        while task.state == UNDERWAY:
            self.clock.advance(0.5)
            if self.clock.seconds() < 3:
                takeAll(deferator)
            else:
                deferator.source.items.clear()
                deferator.source.consumed = lambda count, cost: None
            if self.clock.seconds() > 20:
                break
        self.assertIsInstance(task.failure.value, TaskStalled)

    def test_itDoesNotStallWhileItsItemsAreNotTaken(self) -> None:
        task, _ = self.endless(stallTimeout=1)
        self.advance(10)
        self.assertEqual(task.state, UNDERWAY)

    def test_aTimeoutLetsGoOfAPausedConsumer(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        for function in (far.endless, far.numbers):
            consumer = PausingConsumer()
            args = () if function is far.endless else (5,)
            task = queue.options(timeout=2, consumer=consumer).submit(function, *args)
            task.d.addErrback(lambda _: None)
            self.advance(2.5)
            self.assertIsInstance(task.failure.value, TaskTimeout)
            self.assertIsNone(consumer.producer)
            self.assertEqual(consumer.items, [0])


class CancelTests(StreamCase):
    def test_itCanBeCancelled(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        task, deferator = self.stream(queue, far.endless)
        self.assertTrue(task.cancel())
        self.assertEqual((task.state, queue.load), (CANCELLED, 0))
        self.assertIsInstance(takeAll(deferator)[-1], CancelledError)
        self.assertFalse(task.cancel())

    def test_itIsCancelledWithItsSeries(self) -> None:
        queue = self.makeQueue(self.makeWorker("fast"))
        task, _ = self.stream(queue, far.endless, series="fast")
        self.assertEqual(queue.cancelSeries("fast"), 0)
        self.assertEqual(queue.cancelSeries("fast", underway=True), 1)
        self.assertEqual(task.state, CANCELLED)

    def test_cancelAllCancelsItIfWhatIsUnderwayIsMeant(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        _, deferator = self.stream(queue, far.endless)
        self.assertEqual(queue.cancelAll(), 0)
        self.assertEqual(queue.cancelAll(underway=True), 1)
        self.assertIsInstance(takeAll(deferator)[-1], CancelledError)


class ShutdownTests(StreamCase):
    def test_itWaitsForAnIterationThatSomebodyTakesFrom(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        _, deferator = self.stream(queue, far.numbers, 3 * CREDIT_ITEMS)
        taken = takeAll(deferator)
        done = queue.shutdown()
        while len(taken) < 3 * CREDIT_ITEMS:
            self.settle()
            self.assertNoResult(done)
            taken += takeAll(deferator)
        self.settle()
        takeAll(deferator)
        self.assertEqual(taken, list(range(3 * CREDIT_ITEMS)))
        self.assertIsNone(self.resultOf(done))

    def test_itWaitsForACallThatIsYetToYield(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        taken: list[int] = []

        async def consume() -> None:
            async for item in await queue.call(far.numbers, 3 * CREDIT_ITEMS):
                taken.append(item)

        d = Deferred.fromCoroutine(consume())
        done = queue.shutdown()
        self.advance(1)
        self.assertIsNone(self.resultOf(d))
        self.assertEqual(taken, list(range(3 * CREDIT_ITEMS)))
        self.assertIsNone(self.resultOf(done))

    def test_itWaitsUntilTheItemsThatAreHereAreTaken(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        _, deferator = self.stream(queue, far.numbers, 3)
        first = Deferred.fromCoroutine(deferator.__anext__())
        self.assertEqual(self.successResultOf(first), 0)
        done = queue.shutdown()
        self.settle()
        self.assertNoResult(done)
        self.assertEqual(takeAll(deferator), [1, 2])
        self.assertIsNone(self.resultOf(done))

    def test_oneWhoseTakerIsAwayForTooLongFails(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        _, deferator = self.stream(queue, far.endless)
        takeAll(deferator)
        self.settle()
        done = queue.shutdown()
        self.advance(0.8 * IDLE_SECONDS)
        takeAll(deferator)
        self.advance(0.8 * IDLE_SECONDS)
        self.assertNoResult(done)
        self.advance(0.5 * IDLE_SECONDS)
        self.assertIsNone(self.resultOf(done))
        self.assertIsInstance(takeAll(deferator)[-1], IterationStopped)

    def test_aPausedConsumerIsLetGo(self) -> None:
        for function, args in ((far.endless, ()), (far.numbers, (5,))):
            queue = self.makeQueue(self.makeWorker())
            consumer = PausingConsumer()
            task = queue.options(consumer=consumer).submit(function, *args)
            self.settle()
            done = queue.shutdown()
            self.advance(1.5 * IDLE_SECONDS)
            self.errorOf(task.d, IterationStopped)
            self.assertIsNone(consumer.producer)
            self.assertIsNone(self.resultOf(done))

    def test_soItIsAfterTheTimeout(self) -> None:
        for function, args in ((far.endless, ()), (far.numbers, (5,))):
            queue = self.makeQueue(self.makeWorker(), timeout=1)
            consumer = PausingConsumer()
            task = queue.options(consumer=consumer).submit(function, *args)
            self.settle()
            done = queue.shutdown()
            self.advance(1.1)
            self.errorOf(task.d, IterationStopped)
            self.assertIsNone(consumer.producer)
            self.assertIsNone(self.resultOf(done))

    def test_aStreamThatIsTakenFailsBecauseTheTimeIsOver(self) -> None:
        queue = self.makeQueue(self.makeWorker(), timeout=1)
        task, deferator = self.stream(queue, far.endless)
        takeAll(deferator)
        done = queue.shutdown()
        for _ in range(11):
            takeAll(deferator)
            self.advance(0.1)
        text = str(task.failure.value)
        self.assertIn("the time for that is over", text)
        self.assertNotIn("nobody takes", text)
        self.advance(5)
        self.assertIsNone(self.resultOf(done))

    def test_theDeathOfTheWorkerLetsGoOfAPausedConsumer(self) -> None:
        worker = self.makeWorker()
        queue = self.makeQueue(worker)
        consumer = PausingConsumer()
        task = queue.options(consumer=consumer).submit(far.endless)
        self.settle()
        worker.die()
        self.settle()
        self.errorOf(task.d, WorkerDied)
        self.assertIsNone(consumer.producer)


class BlockedTests(StreamCase):
    def block(self, then: Any) -> tuple[TaskQueue, MemoryWorker, list[QueuedTask]]:
        """
        Have a stream hang while a call waits behind it.

        @param then: is called in the middle of the generator's code, when the call was recalled.
        @return: the queue, its worker, and a list with the call's task.
        """
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        calls: list[QueuedTask] = []

        def hang() -> None:
            calls.append(queue.options(timeout=1).submit(far.echo, 1))
            self.assertEqual(calls[0].state, UNDERWAY)
            self.clock.advance(0.06)
            worker.channel.deliver()
            then(calls[0])

        worker.actions["hang"] = hang
        worker.stepAll()
        queue.submit(hangAfter, 2)
        worker.step()
        return queue, worker, calls

    def test_aCallBehindAStreamThatHangsGoesElsewhere(self) -> None:
        def attach(task: QueuedTask) -> None:
            other = self.makeWorker()
            self.queues[0].attachWorker(other)
            self.settle()
            self.settle()
            self.assertEqual((task.state, task.worker), (FINISHED, other))

        _, worker, calls = self.block(attach)
        worker.stepAll()
        self.assertEqual(self.successResultOf(calls[0].d), 1)

    def test_itsTimeoutDoesNotCountWhileItWaitsForAnotherWorker(self) -> None:
        def wait(task: QueuedTask) -> None:
            self.clock.advance(5)
            self.assertEqual(task.state, PENDING)

        _, worker, calls = self.block(wait)
        worker.stepAll()
        self.assertEqual(self.successResultOf(calls[0].d), 1)
