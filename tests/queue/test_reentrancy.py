"""
Callbacks may call any method of the queue.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue import QueuedTask, TaskQueue
from asynqueue._queue.engine import CHANGING
from asynqueue._workers.picklability import EACH
from asynqueue.errors import CallNotPicklable, QueueStopped
from asynqueue.tasks import CANCELLED, PENDING, UNDERWAY
from asynqueue.testing import far
from asynqueue.testing.memory import act
from asynqueue.testing.stepworker import InlineWorker, StepWorker
from tests.iteration.ledger import MANY, depth
from tests.support.cases import QueueCase


def ignore(_: object) -> None:
    """
    A callback for failures that are meant.
    """


class ChainTests(QueueCase):
    def runChain(
        self,
        worker: Any,
        call: Callable[[TaskQueue, int], Deferred[Any]],
    ) -> None:
        """
        Let each call's callback make the next one, and see that this does not go ever deeper.
        """
        queue = self.makeQueue()
        depths: list[int] = []
        self.calls = 0

        def go(_: object = None) -> None:
            if self.calls % 1_000 == 0:
                depths.append(depth())
            if self.calls < MANY:
                self.calls += 1
                call(queue, self.calls).addBoth(go)

        go()
        queue.attachWorker(worker)
        self.settle()
        self.assertEqual(self.calls, MANY)
        self.assertLess(max(depths), min(depths) + 100)

    def test_overAChannel(self) -> None:
        self.runChain(self.makeWorker(), lambda queue, number: queue.call(far.echo, number))

    def test_withAWorkerThatIsDoneAtOnce(self) -> None:
        self.runChain(InlineWorker(), lambda queue, number: queue.call(far.echo, number))

    def test_ofCallsThatCannotBePickled(self) -> None:
        lock = Lock()
        self.runChain(self.makeWorker(), lambda queue, _: queue.call(far.echo, lock))


class CallbackTests(QueueCase):
    def test_aCallInACallbackWaitsItsTurn(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        first = queue.call(far.echo, 1)
        queue.call(far.echo, 2)
        first.addCallback(lambda _: self.assertNoResult(queue.call(far.echo, 3)))
        while worker.step():
            pass
        self.assertEqual([task.args[0] for task in worker.past], [1, 2, 3])

    def test_shutdownInACallback(self) -> None:
        self.checkShutdown(self.makeWorker())

    def test_shutdownInACallbackOfAWorkerThatIsDoneAtOnce(self) -> None:
        self.checkShutdown(InlineWorker())

    def checkShutdown(self, worker: Any) -> None:
        queue = self.makeQueue()
        first = queue.call(far.echo, 1).addCallback(lambda _: queue.shutdown())
        pending = [queue.call(far.echo, number) for number in range(3)]
        queue.attachWorker(worker)
        self.assertIsNone(self.resultOf(first))
        self.assertEqual([self.resultOf(d) for d in pending], [0, 1, 2])

    def test_shutdownInEveryCallback(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        ds = [
            queue.call(far.echo, number).addCallback(lambda _: queue.shutdown())
            for number in range(5)
        ]
        for d in ds:
            self.assertIsNone(self.resultOf(d))

    def test_shutdownOnHearingOfAShutdown(self) -> None:
        queue = self.makeQueue()
        ds = [
            queue.call(far.echo, series=name).addErrback(lambda _: queue.shutdown())
            for name in "abc"
        ]
        self.assertIsNone(self.resultOf(queue.shutdown()))
        for d in ds:
            self.assertIsNone(self.resultOf(d))

    def test_callOnHearingOfAShutdownIsRefused(self) -> None:
        queue = self.makeQueue()
        d = queue.call(far.echo).addErrback(lambda _: queue.call(far.echo))
        queue.shutdown()
        self.errorOf(d, QueueStopped)

    def test_attachOnHearingOfAShutdownIsRefused(self) -> None:
        queue = self.makeQueue()
        d = queue.call(far.echo).addErrback(lambda _: queue.attachWorker(StepWorker()))
        queue.shutdown()
        self.errorOf(d, QueueStopped)

    def test_cancellingAnotherTaskInACallback(self) -> None:
        worker = self.makeWorker()
        queue = self.makeQueue(worker)
        tasks: list[QueuedTask] = []
        tasks += [queue.submit(far.echo, number) for number in range(4)]
        tasks[0].d.addCallback(lambda _: [task.cancel() for task in tasks[1:3]])
        self.settle()
        for task in tasks[1:3]:
            self.errorOf(task.d, CancelledError)
        self.assertEqual(tasks[3].result, 3)


class DecisionTests(QueueCase):
    """
    Some decisions are being carried out while what a callback does makes others of them obsolete.
    """

    def setUp(self) -> None:
        super().setUp()
        self.inline, self.other = InlineWorker(["inline"]), StepWorker(["other"])
        self.queue = self.makeQueue(self.inline, self.other)
        self.first = self.queue.submit(far.echo, series="mine")
        self.second = self.queue.submit(far.echo, series="yours")

    def decide(self) -> None:
        """
        Have one decision give the first task to a worker that runs it at once, and the second to
        the other.
        """
        with self.together(self.queue):
            self.queue.qualifyWorker(self.inline, "mine")
            self.queue.qualifyWorker(self.other, "yours")

    def test_theSecondIsCancelled(self) -> None:
        self.first.d.addCallback(lambda _: self.second.cancel())
        self.decide()
        self.errorOf(self.second.d, CancelledError)
        self.assertEqual(self.second.state, CANCELLED)
        self.assertEqual(self.other.past, [])
        # And the worker is free for others.
        third = self.queue.submit(far.echo, series="other")
        self.assertEqual(third.state, UNDERWAY)

    def test_theSecondIsCancelledByItsDeferred(self) -> None:
        self.first.d.addCallback(lambda _: self.second.d.cancel())
        self.decide()
        self.errorOf(self.second.d, CancelledError)
        self.assertEqual(self.other.past, [])

    def test_theOtherWorkerIsDetached(self) -> None:
        self.first.d.addCallback(lambda _: self.queue.detachWorker(self.other))
        self.decide()
        self.assertEqual(self.second.state, PENDING)
        self.checkThatItRunsLater()

    def test_theOtherWorkerIsDetachedAndDrains(self) -> None:
        other = self.makeWorker(stepSeconds=None)
        self.queue.attachWorker(other)
        other.step()
        self.first.d.addCallback(lambda _: self.queue.detachWorker(other))
        with self.together(self.queue):
            self.queue.qualifyWorker(self.inline, "mine")
            self.queue.qualifyWorker(other, "yours")
        self.assertEqual(self.second.state, PENDING)
        self.checkThatItRunsLater()

    def test_theSecondIsCancelledAndTheOtherWorkerDetached(self) -> None:
        def both(_: object) -> None:
            self.second.cancel()
            self.queue.detachWorker(self.other)

        self.first.d.addCallback(both)
        self.decide()
        self.errorOf(self.second.d, CancelledError)
        self.assertEqual(repr(self.queue), "<TaskQueue: RUNNING, 1 workers, 0 tasks pending>")

    def test_theOtherWorkerIsCrashed(self) -> None:
        self.first.d.addCallback(lambda _: self.queue.detachWorker(self.other, crash=True))
        self.decide()
        self.assertEqual(self.second.state, PENDING)
        self.checkThatItRunsLater()

    def test_theOtherWorkerResigns(self) -> None:
        self.first.d.addCallback(lambda _: self.other.resign())
        last = StepWorker(["yours"])
        self.queue.attachWorker(last)
        self.decide()
        self.checkThatItRunsLater(last)

    def checkThatItRunsLater(self, worker: StepWorker | None = None) -> None:
        if worker is None:
            worker = StepWorker(["yours"])
            self.queue.attachWorker(worker)
        self.assertIs(self.second.worker, worker)
        worker.step()
        self.assertEqual(self.second.state, "FINISHED")
        self.assertEqual(self.second.attempts, 1)

    def test_aTimeoutOfWhatWasTakenBackDoesNotRun(self) -> None:
        self.second.cancel()
        self.second.d.addErrback(ignore)
        self.second = self.queue.submit(far.echo, series="yours", timeout=5)
        self.first.d.addCallback(lambda _: self.queue.detachWorker(self.other))
        self.decide()
        self.clock.advance(6)
        self.assertEqual(self.second.state, PENDING)
        self.checkThatItRunsLater()

    def test_allIsShutDown(self) -> None:
        self.first.d.addCallback(lambda _: self.queue.shutdown())
        self.decide()
        self.assertEqual(self.second.state, UNDERWAY)
        self.other.step()
        self.assertIsNone(self.resultOf(self.first.d))
        self.assertEqual(self.second.state, "FINISHED")


class RefusalTests(QueueCase):
    """
    A call that cannot be pickled, as is found only at its turn, fails while others are being handed
    to the same worker.
    """

    bad = (b"x" * EACH, Lock())

    def test_theWorkerIsDetachedOnHearingOfIt(self) -> None:
        self.checkDetaching()

    def test_theWorkerIsCrashedOnHearingOfIt(self) -> None:
        self.checkDetaching(crash=True, reassign=True)

    def checkDetaching(self, **options: bool) -> None:
        worker = self.makeWorker()
        queue = self.makeQueue(worker)
        self.resultOf(queue.call(far.echo))
        results: list[Deferred[Any]] = []

        def call() -> None:
            bad = queue.call(far.echo, self.bad)
            results.append(bad.addErrback(lambda _: queue.detachWorker(worker, **options)))
            results.append(queue.call(far.echo, 1))

        # While this runs, the worker is not free; then it gets both together.
        worker.actions["call"] = call
        queue.call(act, "call")
        self.settle()
        queue.attachWorker(self.makeWorker())
        self.assertEqual([self.resultOf(d) for d in results], [[], 1])

    def test_theOthersAreCancelledOnHearingOfIt(self) -> None:
        worker = self.makeWorker()
        queue = self.makeQueue(worker)
        bad = queue.call(far.echo, self.bad)
        good = queue.submit(far.echo, 1)

        def cancel(failure: Failure) -> Failure:
            good.cancel()
            return failure

        bad.addErrback(cancel)
        self.errorOf(bad, CallNotPicklable)
        self.errorOf(good.d, CancelledError)


class MiddleTests(QueueCase):
    """
    The garbage collector, or a signal's handler, calls the queue in the middle of a change of its
    books.
    """

    def interrupt(self, queue: TaskQueue, method: str, ask: Callable[[], object]) -> None:
        """
        Have something asked of the queue in the middle of one method of its scheduler, once.
        """
        scheduler = queue._engine.scheduler
        original = getattr(scheduler, method)
        asked: list[None] = []

        def interrupted(*args: Any, **kw: Any) -> Any:
            if not asked:
                asked.append(None)
                ask()
                self.assertIs(queue._engine._phase, CHANGING)
            return original(*args, **kw)

        self.patch(scheduler, method, interrupted)

    def checkCallsIn(self, method: str) -> None:
        queue = self.makeQueue(self.makeWorker())
        self.settle()
        inner: list[Any] = []
        waiting = [queue.call(far.echo, number) for number in range(3)]
        self.interrupt(queue, method, lambda: inner.append(queue.submit(far.echo, "inner")))
        waiting += [queue.call(far.echo, number) for number in range(3, 6)]
        self.clock.pump([0.0] * 20)
        self.assertEqual([self.successResultOf(d) for d in waiting], list(range(6)))
        self.assertEqual(self.successResultOf(inner[0].d), "inner")
        self.assertEqual((queue.load, len(queue._engine.scheduler)), (0, 0))

    def test_aCallInTheMiddleOfASubmissionIsNotLost(self) -> None:
        self.checkCallsIn("submit")

    def test_aCallInTheMiddleOfAnEndIsNotLost(self) -> None:
        self.checkCallsIn("ended")

    def test_aCallInTheMiddleOfADecisionIsNotLost(self) -> None:
        self.checkCallsIn("decide")

    def checkCallsInACancellation(
        self, method: str, cancel: Callable[[TaskQueue, QueuedTask], object]
    ) -> None:
        queue = self.makeQueue(StepWorker(), StepWorker())
        queue.call(far.echo, "keeps a worker")
        asked: list[QueuedTask] = []
        self.interrupt(queue, method, lambda: asked.append(queue.submit(far.echo, "inner")))
        cancelled = queue.submit(far.echo, series="cancelled")
        cancel(queue, cancelled)
        self.errorOf(cancelled.d, CancelledError)
        self.assertIs(asked[0].state, UNDERWAY)

    def test_aCallInTheMiddleOfACancellationIsNotLost(self) -> None:
        self.checkCallsInACancellation("cancel", lambda queue, task: task.cancel())

    def test_aCallInTheMiddleOfACancellationOfManyIsNotLost(self) -> None:
        self.checkCallsInACancellation("clear", lambda queue, task: queue.cancelAll())

    def test_aQueueThatIsResumedInTheMiddleOfASubmissionGoesOn(self) -> None:
        queue = self.makeQueue(StepWorker())
        queue.pause()
        first = queue.submit(far.echo)
        self.interrupt(queue, "submit", queue.resume)
        second = queue.submit(far.echo)
        self.assertEqual([task.state for task in (first, second)], [UNDERWAY, PENDING])

    def test_aCancellationInTheMiddleOfASubmissionIsOne(self) -> None:
        queue = self.makeQueue(StepWorker())
        first, second = queue.submit(far.echo), queue.submit(far.echo)
        self.interrupt(queue, "submit", second.cancel)
        third = queue.submit(far.echo)
        self.errorOf(second.d, CancelledError)
        self.assertEqual([task.state for task in (first, third)], [UNDERWAY, PENDING])
        self.assertEqual((queue.load, len(queue._engine.scheduler)), (2, 1))


class RaisingTests(QueueCase):
    def test_aConsumerThatRaisesKeepsNoOtherFromHearing(self) -> None:
        queue = self.makeQueue(self.makeWorker(), self.makeWorker())
        d = queue.call(far.numbers, 5, consumer=Raising())
        others = [queue.call(far.echo, number) for number in range(10)]
        self.clock.pump([0.0] * 30)
        self.assertEqual([self.successResultOf(each) for each in others], list(range(10)))
        d.addErrback(lambda _: None)
        self.flushLoggedErrors()


@implementer(IConsumer)
class Raising:
    """
    A consumer that fails to consume.
    """

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        producer.resumeProducing()

    def unregisterProducer(self) -> None:
        raise ValueError("unregistered")

    def write(self, item: Any) -> None:
        raise ValueError("written")
