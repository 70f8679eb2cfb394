"""
The synchronous queue, whose calls are done when C{call} returns, with all pickling.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.errors import (
    CallNotPicklable,
    IterationStopped,
    QueueStopped,
    RemoteError,
    ResultNotPicklable,
    ResultNotRebuilt,
    TaskTimeout,
    WorkerDetached,
)
from asynqueue.iteration import Deferator, ListConsumer
from asynqueue.testing import SynchronousQueue, far
from asynqueue.testing.iterating import MANY, PausingConsumer
from tests.support.processes import ROOT

DEEP = 3_000
"""Three times Python's limit for the depth of recursion."""


async def later(value: Any) -> Any:
    return value


class SynchronousCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.queue = SynchronousQueue()
        self.addCleanup(self._leaveNothing, self.queue)

    def _leaveNothing(self, queue: SynchronousQueue) -> None:
        self.assertIsNone(self.successResultOf(queue.shutdown()))
        self.assertEqual(queue.clock.getDelayedCalls(), [])

    def errorOf(self, d: Deferred[Any], kind: type[BaseException]) -> Any:
        return self.failureResultOf(d, kind).value


class CallTests(SynchronousCase):
    def test_theDeferredHasFiredWhenCallReturns(self) -> None:
        self.assertEqual(self.successResultOf(self.queue.call(far.add, 1, 2)), 3)

    def test_soItIsWithOptionsAndSubmit(self) -> None:
        urgent = self.queue.options(niceness=-5, series="process")
        self.assertEqual(self.successResultOf(urgent.call(far.add, 1, second=2)), 3)
        task = self.queue.submit(far.echo, 4, doLast=True)
        self.assertEqual((task.state, task.result), ("FINISHED", 4))

    def test_whatAFunctionRaisesComesBackWithItsType(self) -> None:
        error = self.errorOf(self.queue.call(far.refuse, "not this"), ValueError)
        self.assertEqual(str(error), "not this")
        self.assertIn("in refuse", str(error.__cause__))

    def test_aCoroutineIsRun(self) -> None:
        self.assertEqual(self.successResultOf(self.queue.call(later, 5)), 5)

    def test_aCallForNobodyWaitsUntilSomebodyIsQualified(self) -> None:
        d = self.queue.call(far.echo, 1, series="rare")
        self.assertNoResult(d)
        self.queue.qualifyWorker(self.queue.workers(1), "rare")
        self.assertEqual(self.successResultOf(d), 1)

    def test_aCallCanBeCancelledBeforeSomebodyIsQualified(self) -> None:
        d = self.queue.call(far.echo, 1, series="rare")
        d.cancel()
        self.errorOf(d, CancelledError)

    def test_callStatsAreKept(self) -> None:
        queue = SynchronousQueue(callStats=True)
        self.addCleanup(self._leaveNothing, queue)
        queue.call(far.echo)
        self.assertEqual(self.successResultOf(queue.workers(1).stats()), [(0.0, 0.0)])

    def test_aTaskCanBeAwaited(self) -> None:
        async def main() -> list[Any]:
            async with SynchronousQueue() as queue:
                return [await queue.submit(far.square, 3), await queue.call(far.square, 4)]

        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(main())), [9, 16])


class PickleTests(SynchronousCase):
    """
    A call that would fail with a child process fails here with the same error.
    """

    def test_argumentsAndResultsAreCopies(self) -> None:
        items = [1]
        result = self.successResultOf(self.queue.call(far.append, items, 2))
        self.assertEqual((items, result), ([1], [1, 2]))
        echoed = self.successResultOf(self.queue.call(far.echo, items))
        self.assertIsNot(echoed, items)

    def test_aFunctionMustBePicklable(self) -> None:
        self.errorOf(self.queue.call(lambda: None), CallNotPicklable)

    def test_anArgumentMustBePicklable(self) -> None:
        error = self.errorOf(self.queue.call(far.echo, lambda: None), CallNotPicklable)
        self.assertIn("argument 1 of echo", str(error))

    def test_aResultMustBePicklable(self) -> None:
        self.errorOf(self.queue.call(far.makeLambda), ResultNotPicklable)

    def test_aResultMustLetItselfBeRebuilt(self) -> None:
        self.errorOf(self.queue.call(far.makeBomb), ResultNotRebuilt)

    def test_anExceptionThatCannotTravelArrivesAsText(self) -> None:
        error = self.errorOf(self.queue.call(far.raiseUnpicklable), RemoteError)
        self.assertEqual(error.text, "stays here")

    def test_anItemMustBePicklable(self) -> None:
        consumer = ListConsumer()
        self.errorOf(self.queue.call(far.lambdas, 2, consumer=consumer), ResultNotPicklable)
        self.assertEqual(self.successResultOf(consumer()), [0, 1])


class DepthTests(SynchronousCase):
    """
    Calls that lead to calls are no deep recursion.
    """

    def setUp(self) -> None:
        super().setUp()
        self.count = 0

    def test_aCallbackMakesTheNextCall(self) -> None:
        def next(_: object) -> None:
            self.count += 1
            if self.count < DEEP:
                self.queue.call(far.echo).addCallback(next)

        self.queue.call(far.echo).addCallback(next)
        self.assertEqual(self.count, DEEP)

    def test_anErrbackMakesTheNextCall(self) -> None:
        def next(_: object) -> None:
            self.count += 1
            if self.count < DEEP:
                self.queue.call(far.refuse).addErrback(next)

        self.queue.call(far.refuse).addErrback(next)
        self.assertEqual(self.count, DEEP)

    def test_aCoroutineAwaitsCalls(self) -> None:
        async def main() -> int:
            for _ in range(DEEP):
                self.count += await self.queue.call(far.echo, 1)
            return self.count

        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(main())), DEEP)

    def test_aCoroutineThatACallbackStartedAwaitsCalls(self) -> None:
        @inlineCallbacks
        def main(_: object) -> Any:
            for _ in range(DEEP):
                self.count += yield self.queue.call(far.echo, 1)

        d = self.queue.call(far.echo).addCallback(main)
        self.assertIsNone(self.successResultOf(d))
        self.assertEqual(self.count, DEEP)

    def test_aCallFromACallbackRunsWhenThatHasReturned(self) -> None:
        events: list[Any] = []

        def first(_: object) -> None:
            self.queue.call(far.echo, "second").addCallback(events.append)
            events.append("first")

        self.queue.call(far.echo).addCallback(first)
        self.assertEqual(events, ["first", "second"])

    def test_aCallbackThatRaisesLeavesTheQueueAsItWas(self) -> None:
        d = self.queue.call(far.echo).addCallback(lambda _: 1 / 0)
        self.errorOf(d, ZeroDivisionError)
        self.assertEqual(self.successResultOf(self.queue.call(far.echo, 1)), 1)


class IterationTests(SynchronousCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = self.mktemp()
        os.makedirs(os.path.dirname(self.path), exist_ok=True)

    def tally(self) -> int:
        return os.path.getsize(self.path)

    def test_itemsAreThereAsTheyAreAskedFor(self) -> None:
        deferator = self.successResultOf(self.queue.call(far.endless))
        self.assertIsInstance(deferator, Deferator)
        taken = [self.successResultOf(next(deferator)) for _ in range(MANY)]
        self.assertEqual(taken, list(range(MANY)))
        deferator.stop()

    def test_itemsCanBeIteratedOverAsynchronously(self) -> None:
        async def main() -> list[Any]:
            return [item async for item in await self.queue.call(far.numbers, 5)]

        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(main())), [0, 1, 2, 3, 4])

    def test_theGeneratorRunsAheadByItsCreditOnly(self) -> None:
        deferator = self.successResultOf(self.queue.call(far.tallied, self.path, MANY))
        self.assertLess(self.tally(), MANY)
        before = self.tally()
        for _ in range(before):
            self.successResultOf(next(deferator))
        self.assertGreater(self.tally(), before)
        deferator.stop()

    def test_stoppingClosesTheGenerator(self) -> None:
        deferator = self.successResultOf(self.queue.call(far.endlessUntilClosed, self.path))
        self.assertFalse(os.path.exists(self.path))
        deferator.stop()
        self.assertTrue(os.path.exists(self.path))

    def test_aConsumerHasAllItems(self) -> None:
        consumer = ListConsumer()
        d = self.queue.call(far.numbers, MANY, consumer=consumer)
        self.assertIs(self.successResultOf(d), consumer)
        self.assertEqual(self.successResultOf(consumer()), list(range(MANY)))

    def test_aConsumerThatPausesGetsTheRestWhenItResumes(self) -> None:
        consumer = PausingConsumer()
        d = self.queue.call(far.tallied, self.path, MANY, consumer=consumer)
        self.assertNoResult(d)
        self.assertLess(self.tally(), MANY)
        self.assertEqual(self.successResultOf(self.queue.call(far.echo, "between")), "between")
        consumer.producer.resumeProducing()
        self.assertIs(self.successResultOf(d), consumer)
        self.assertEqual(consumer.items, list(range(MANY)))

    def test_cancellingACallWhoseConsumerPausesClosesTheGenerator(self) -> None:
        d = self.queue.call(far.endlessUntilClosed, self.path, consumer=PausingConsumer())
        d.cancel()
        self.errorOf(d, CancelledError)
        self.assertTrue(os.path.exists(self.path))

    def test_aCallWhoseConsumerPausesForTooLongTimesOut(self) -> None:
        d = self.queue.call(
            far.endlessUntilClosed, self.path, consumer=PausingConsumer(), timeout=5
        )
        self.queue.clock.advance(4.9)
        self.assertNoResult(d)
        self.queue.clock.advance(0.1)
        self.errorOf(d, TaskTimeout)
        self.assertTrue(os.path.exists(self.path))

    def test_mapGivesResultsInOrder(self) -> None:
        results = self.queue.map(far.square, range(2 * DEEP))
        taken = [self.successResultOf(d) for d in results]
        self.assertEqual(taken, [number * number for number in range(2 * DEEP)])

    def test_mapAdvancesItsIterableOnlyAsResultsAreTaken(self) -> None:
        advanced: list[int] = []

        def numbers() -> Any:
            for number in range(100):
                advanced.append(number)
                yield number

        results = self.queue.map(far.square, numbers(), window=4, chunksize=1)
        self.assertEqual(len(advanced), 4)
        self.successResultOf(next(results))
        self.assertEqual(len(advanced), 5)
        results.stop()

    def test_mapEndsWithTheFirstFailure(self) -> None:
        results = self.queue.map(far.reciprocal, [1, 2, 0, 4])
        self.assertEqual([self.successResultOf(next(results)) for _ in range(2)], [1.0, 0.5])
        self.errorOf(next(results), ZeroDivisionError)

    def test_shutdownEndsIterations(self) -> None:
        deferator = self.successResultOf(self.queue.call(far.endlessUntilClosed, self.path))
        self.successResultOf(self.queue.shutdown())
        self.assertTrue(os.path.exists(self.path))

        async def drain() -> None:
            async for _ in deferator:
                pass

        self.errorOf(Deferred.fromCoroutine(drain()), IterationStopped)


class WorkerTests(SynchronousCase):
    def test_anUpdateRunsOnEveryWorker(self) -> None:
        queue = SynchronousQueue(3)
        self.addCleanup(self._leaveNothing, queue)
        self.assertEqual(len(queue), 3)
        self.assertEqual(self.successResultOf(queue.update(far.echo, 7)), [7, 7, 7])
        d = queue.update(far.echo, 8, sequential=True)
        self.assertEqual(self.successResultOf(d), [8, 8, 8])

    def test_aWorkerCanBeDetached(self) -> None:
        self.assertEqual(self.successResultOf(self.queue.detachWorker(1)), [])
        self.assertEqual(len(self.queue), 0)

    def test_aWorkerCanBeCrashedWithItsCalls(self) -> None:
        self.queue.hold()
        task = self.queue.submit(far.echo)
        unfinished = self.queue.detachWorker(1, crash=True)
        self.queue.release()
        self.assertEqual(self.successResultOf(unfinished), [task])
        self.errorOf(task.d, WorkerDetached)

    def test_seriesAreThoseOfAProcessQueueAndMore(self) -> None:
        queue = SynchronousQueue(series=("rare",))
        self.addCleanup(self._leaveNothing, queue)
        for series in (None, "process", "local", "rare"):
            self.assertEqual(self.successResultOf(queue.call(far.echo, 1, series=series)), 1)

    def test_theNumberOfWorkersIsPositive(self) -> None:
        for number in (0, -1, 1.5, True):
            with self.assertRaises(ValueError):
                SynchronousQueue(number)  # type: ignore[arg-type]

    def test_itHasNoOtherReactor(self) -> None:
        with self.assertRaises(TypeError):
            SynchronousQueue(reactor=Clock())  # type: ignore[call-arg]


class HoldTests(SynchronousCase):
    def test_aHeldCallRunsWhenItIsReleased(self) -> None:
        self.queue.hold()
        task = self.queue.submit(far.echo, 1)
        self.assertEqual(task.state, "UNDERWAY")
        self.assertNoResult(task.d)
        self.queue.release()
        self.assertEqual(self.successResultOf(task.d), 1)
        self.assertEqual(self.successResultOf(self.queue.call(far.echo, 2)), 2)

    def test_aHeldCallTimesOut(self) -> None:
        self.queue.hold()
        d = self.queue.call(far.touch, self.mktemp(), timeout=5)
        self.queue.clock.advance(5)
        self.errorOf(d, TaskTimeout)

    def test_aHeldCallThatIsCancelledNeverRuns(self) -> None:
        path = self.mktemp()
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self.queue.hold()
        d = self.queue.call(far.touch, path)
        d.cancel()
        self.errorOf(d, CancelledError)
        self.queue.clock.advance(60)
        self.queue.release()
        self.assertFalse(os.path.exists(path))
        self.assertEqual(self.successResultOf(self.queue.call(far.echo, 1)), 1)

    def test_manyHeldCallsRunInTheirOrder(self) -> None:
        ended: list[int] = []
        self.queue.hold()
        for number in range(DEEP):
            self.queue.call(far.echo, number).addCallback(ended.append)
        self.queue.clock.advance(1)
        self.queue.release()
        self.assertEqual(ended, list(range(DEEP)))

    def test_timePassesWhileCallsAreHeld(self) -> None:
        self.queue.hold()
        tasks = [self.queue.submit(far.echo, number) for number in range(3)]
        self.queue.clock.advance(3600)
        self.queue.release()
        self.assertEqual([self.successResultOf(task.d) for task in tasks], [0, 1, 2])


class EndTests(SynchronousCase):
    def test_shutdownIsOverAtOnce(self) -> None:
        self.assertIsNone(self.successResultOf(self.queue.shutdown()))
        self.assertIsNone(self.successResultOf(self.queue.shutdown()))
        with self.assertRaises(QueueStopped):
            self.queue.call(far.echo)

    def test_shutdownRunsWhatWasHeld(self) -> None:
        self.queue.hold()
        d = self.queue.call(far.echo, 1)
        self.assertIsNone(self.successResultOf(self.queue.shutdown()))
        self.assertEqual(self.successResultOf(d), 1)

    def test_shutdownFailsWhatNobodyCanRun(self) -> None:
        d = self.queue.call(far.echo, 1, series="rare")
        self.successResultOf(self.queue.shutdown())
        self.errorOf(d, QueueStopped)

    def test_aCallbackShutsDown(self) -> None:
        d = self.queue.call(far.echo).addCallback(lambda _: self.queue.shutdown())
        self.assertIsNone(self.successResultOf(d))


class ClockTests(SynchronousCase):
    def test_theClockIsTheOneThatWasGiven(self) -> None:
        clock = Clock()
        queue = SynchronousQueue(clock=clock)
        self.addCleanup(self._leaveNothing, queue)
        self.assertIs(queue.clock, clock)
        clock.advance(7)
        self.assertEqual(queue.submit(far.echo).stopTime, 7.0)

    def test_whatIsDueOnAClockOfOthersIsLeftToThem(self) -> None:
        clock = Clock()
        queue = SynchronousQueue(clock=clock)
        events: list[str] = []
        clock.callLater(0, events.append, "theirs")
        queue.call(far.echo)
        self.assertEqual(events, [])
        queue.shutdown()

    def test_noReactorIsImported(self) -> None:
        script = """
import sys
from asynqueue.testing import SynchronousQueue, far
queue = SynchronousQueue()
print(queue.call(far.add, 1, 2).result, queue.shutdown().called)
print("twisted.internet.reactor" in sys.modules)
"""
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
        )
        self.assertEqual(done.stdout.split(), ["3", "True", "False"])
