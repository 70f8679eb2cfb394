"""
Shutting a queue down.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure

from asynqueue.errors import IterationStopped, QueueStopped, WorkerDetached, WorkerDied
from asynqueue.tasks import FAILED, STOPPED
from asynqueue.testing import far
from asynqueue.testing.memory import MemoryChannel, act
from asynqueue.testing.stepworker import StepWorker
from tests.iteration.ledger import outcomesOf
from tests.support.cases import QueueCase


class ShutdownTests(QueueCase):
    def test_withoutWorkersItIsDoneAtOnce(self) -> None:
        queue = self.makeQueue()
        self.assertIsNone(self.successResultOf(queue.shutdown()))

    def test_itStopsTheWorkers(self) -> None:
        worker, other = self.makeWorker(), StepWorker()
        queue = self.makeQueue(worker, other)
        done = queue.shutdown()
        self.assertNoResult(done)
        self.assertIsNone(self.resultOf(done))
        self.assertEqual((worker.state, other.state), (STOPPED, STOPPED))
        self.assertEqual(queue.workers(), [])

    def test_whatIsPendingStillRuns(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        ds = [queue.call(far.echo, number) for number in range(5)]
        done = queue.shutdown()
        for _ in range(4):
            worker.step()
            self.assertNoResult(done)
        worker.step()
        self.assertEqual([self.resultOf(d) for d in ds], [0, 1, 2, 3, 4])
        self.assertIsNone(self.resultOf(done))

    def test_evenIfNoWorkerIsReadyYet(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        d = queue.call(far.echo, 1)
        done = queue.shutdown()
        self.assertEqual(self.resultOf(d), 1)
        self.assertIsNone(self.resultOf(done))

    def test_evenIfTheRunnerDiesMeanwhile(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        worker.stepAll()
        d = queue.call(far.echo, 1)
        done = queue.shutdown()
        worker.die()
        worker.step()
        self.settle()
        worker.stepAll()
        self.assertEqual(self.resultOf(d), 1)
        self.assertIsNone(self.resultOf(done))

    def test_evenIfTheLastOneTakesTheRunnerWithIt(self) -> None:
        worker = self.makeWorker()
        worker.actions["die"] = worker.die
        queue = self.makeQueue(worker)
        fatal, other = queue.call(act, "die"), queue.call(far.echo, 1)
        done = queue.shutdown()
        self.errorOf(fatal, WorkerDied)
        self.assertEqual(self.resultOf(other), 1)
        self.assertIsNone(self.resultOf(done))

    def test_whatNobodyCanRunFails(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        running = queue.call(far.echo, 1)
        lost = [queue.call(far.echo, series="nobody's") for _ in range(3)]
        done = queue.shutdown()
        for d in lost:
            error = self.errorOf(d, QueueStopped)
            self.assertIn("no worker is qualified for its series", str(error))
        worker.step()
        self.assertEqual(self.resultOf(running), 1)
        self.assertIsNone(self.resultOf(done))

    def test_aSecondShutdownIsTheFirst(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        queue.call(far.echo)
        shutdowns = [queue.shutdown(), queue.shutdown()]
        worker.step()
        for done in [*shutdowns, queue.shutdown()]:
            self.assertIsNone(self.resultOf(done))

    def test_cancellingOneShutdownCancelsNoOther(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        queue.call(far.echo)
        first, second = queue.shutdown(), queue.shutdown()
        first.addErrback(lambda _: None)
        first.cancel()
        worker.step()
        self.assertIsNone(self.resultOf(second))

    def test_cancellingTheLastTaskEndsTheWait(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        queue.call(far.echo)
        pending = queue.call(far.echo)
        done = queue.shutdown()
        worker.step()
        pending.addErrback(lambda _: None)
        pending.cancel()
        worker.finish()
        self.assertIsNone(self.resultOf(done))

    def test_iterationsAreNotWaitedFor(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        deferator = self.resultOf(queue.call(far.endless))
        self.assertIsNone(self.resultOf(queue.shutdown()))
        self.assertIsInstance(deferator.source.failure.value, IterationStopped)

    def test_updatesAreWaitedFor(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        self.settle()
        d = queue.update(far.echo, 1)
        done = queue.shutdown()
        self.assertEqual(self.resultOf(d), [1])
        self.assertIsNone(self.resultOf(done))

    def test_aWorkerThatIsDetachedAlreadyIsWaitedFor(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        queue.call(far.echo)
        queue.detachWorker(worker)
        done = queue.shutdown()
        self.settle()
        self.assertNoResult(done)
        worker.step()
        self.assertIsNone(self.resultOf(done))

    def test_aWorkerThatGivesUpIsNotWaitedFor(self) -> None:
        refuses = False

        def prepare(channel: MemoryChannel) -> None:
            channel.refuses = refuses

        worker = self.makeWorker(prepare=prepare, stepSeconds=None)
        queue = self.makeQueue(worker)
        worker.stepAll()
        d = queue.call(far.echo)
        done = queue.shutdown()
        refuses = True
        worker.die()
        worker.step()
        self.clock.pump([0.1] * 50)
        error = self.errorOf(d)
        self.assertEqual(type(error).__name__, "WorkerStartError")
        self.assertIsNone(self.resultOf(done))


class DeadlineTests(QueueCase):
    def test_afterTheTimeoutAllIsEnded(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker, timeout=3)
        worker.stepAll()
        running, pending = queue.call(far.echo), queue.call(far.echo)
        done = queue.shutdown()
        self.clock.advance(2.99)
        self.assertNoResult(running)
        self.assertNoResult(pending)
        self.clock.advance(0.01)
        error = self.errorOf(pending, QueueStopped)
        self.assertIn("it was still pending 3 seconds after that began", str(error))
        self.errorOf(running, WorkerDetached)
        worker.step()
        self.assertIsNone(self.resultOf(done))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aWorkerOfSixMembersIsCrashedToo(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker, timeout=3)
        task = queue.submit(far.echo)
        done = queue.shutdown()
        self.clock.advance(3)
        self.assertEqual((worker.state, task.state), (STOPPED, FAILED))
        self.errorOf(task.d, WorkerDetached)
        self.assertIsNone(self.resultOf(done))

    def test_anUpdateThatWaitsForARunnerFails(self) -> None:
        def prepare(channel: MemoryChannel) -> None:
            channel.isMute = True

        queue = self.makeQueue(self.makeWorker(prepare=prepare), timeout=3)
        d = queue.update(far.echo)
        done = queue.shutdown()
        self.errorOf(d, WorkerDetached)
        self.clock.advance(5)
        self.assertIsNone(self.resultOf(done))

    def test_inTimeNothingIsCrashed(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker, timeout=3)
        d = queue.call(far.echo, 1)
        done = queue.shutdown()
        self.clock.advance(2.9)
        worker.step()
        self.assertEqual(self.resultOf(d), 1)
        self.assertIsNone(self.resultOf(done))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_whatHearsOfTheDeadlineMayDoAnything(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker, timeout=3)
        running, first, second = (queue.submit(far.echo) for _ in range(3))
        outcomes: list[Any] = []

        def cancelTheOther(failure: Failure) -> None:
            outcomes.append(failure.type)
            outcomes.append(second.cancel())

        def shutDownAgain(failure: Failure) -> None:
            outcomes.append(failure.type)
            queue.shutdown()

        first.d.addErrback(cancelTheOther)
        running.d.addErrback(shutDownAgain)
        done = queue.shutdown()
        self.clock.advance(3)
        self.assertIsNone(self.resultOf(done))
        self.errorOf(second.d, CancelledError)
        self.assertEqual(outcomes, [QueueStopped, True, WorkerDetached])

    def test_aStreamToAConsumerThatPausesForEverIsEnded(self) -> None:
        worker = self.makeWorker()
        queue = self.makeQueue(worker, timeout=3)
        deferator = self.resultOf(queue.call(far.endless))
        outcomes = outcomesOf(deferator.d)
        self.assertIsNone(self.resultOf(queue.shutdown()))
        self.assertEqual(outcomes, [])
        deferator.stop()
        self.assertEqual(outcomes, [False])


class SlowStop(StepWorker):
    """
    Stopping takes a millisecond, and is over in a later turn of the reactor.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def stop(self) -> Deferred[None]:
        self.clock.rightNow += 0.001
        return deferLater(self.clock, 0).addCallback(lambda _: StepWorker.stop(self))


class SlowCrash(StepWorker):
    """
    Crashing takes a millisecond.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def crash(self) -> list[Any]:
        self.clock.rightNow += 0.001
        return super().crash()


class CrowdTests(QueueCase):
    """
    A queue with very many workers is shut down, and the reactor gets its turns.
    """

    def setUp(self) -> None:
        super().setUp()
        self.crowd = [SlowStop(self.clock) for _ in range(95)]
        self.queue = self.makeQueue(*self.crowd)

    def stopped(self) -> int:
        return [worker.state for worker in self.crowd].count(STOPPED)

    def holdTurns(self) -> None:
        """
        From now on, what is asked of the clock waits for L{countTurns}.
        """
        self.later: list[Callable[[], object]] = []
        self.patch(
            self.clock,
            "callLater",
            lambda _, function, *args: self.later.append(lambda: function(*args)),
        )

    def countTurns(self) -> int:
        """
        @return: how many turns the reactor takes, none of which is long.
        """
        turns = 0
        while self.later:
            now, self.later = self.later, []
            before = self.clock.seconds()
            for function in now:
                function()
            turns += 1
            self.assertLessEqual(self.clock.seconds() - before, 0.0115)
        return turns

    def test_theyAreLetGoInManyTurns(self) -> None:
        self.holdTurns()
        done = self.queue.shutdown()
        self.assertGreaterEqual(self.countTurns(), 9)
        self.assertEqual(self.stopped(), 95)
        self.successResultOf(done)

    def test_whenTheTimeIsOverTheyAreCrashedInManyTurns(self) -> None:
        crowd = [SlowCrash(self.clock) for _ in range(95)]
        queue = self.makeQueue(*crowd, timeout=1.0)
        ds = [queue.call(far.echo) for _ in crowd]
        done = queue.shutdown()
        self.clock.pump([0.5])
        self.holdTurns()
        self.clock.advance(0.5)
        self.assertLess([worker.state for worker in crowd].count(STOPPED), 15)
        self.assertGreaterEqual(self.countTurns(), 8)
        self.successResultOf(done)
        for d in ds:
            self.failureResultOf(d, WorkerDetached)

    def test_whenTheProgramEndsAllAreCrashedAtOnce(self) -> None:
        done = self.queue.shutdown()
        self.assertLess(self.stopped(), 95)
        self.queue._engine.endNow("the program ends")
        self.assertEqual(self.stopped(), 95)
        self.resultOf(done)

    def test_theTimeoutCrashesThoseThatWereNotLetGoYet(self) -> None:
        queue = self.makeQueue(*[SlowStop(self.clock) for _ in range(30)], timeout=0.005)
        self.resultOf(queue.shutdown())
        self.assertEqual(queue.workers(), [])
