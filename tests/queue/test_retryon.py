"""
Tasks that are run again after an exception of their function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from asynqueue import AsyncWorker, Event, Retry, TaskQueue, backoff
from asynqueue.errors import QueueStopped, RemoteError, TaskTimeout, WorkerDied
from asynqueue.tasks import FAILED, FINISHED, PENDING, UNDERWAY
from asynqueue.testing.memory import MemoryWorker, act
from asynqueue.testing.stepworker import StepWorker
from tests.support.cases import QueueCase

AT_ONCE = backoff(0.0, 0.0)


class Busy(Exception):
    pass


def attempt(kind: str = "busy") -> int:
    """
    Do what the test has prepared for this attempt.
    """
    number: int = act("attempt", kind)
    return number


class RetryCase(QueueCase):
    def setUp(self) -> None:
        super().setUp()
        self.attempts = 0
        self.failures = 2
        self.error: Callable[[], BaseException] = Busy

    def attempt(self, _: object) -> int:
        self.attempts += 1
        if self.attempts <= self.failures:
            raise self.error()
        return self.attempts

    def start(self, **keywords: Any) -> TaskQueue:
        worker = self.makeWorker()
        worker.actions["attempt"] = self.attempt
        return self.makeQueue(worker, **keywords)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.settle()


class RetryOnTests(RetryCase):
    def test_aTaskIsRunAgainAfterOneOfTheseExceptions(self) -> None:
        for kinds in (Busy, (OSError, Busy), [Busy], Exception, Retry(3, AT_ONCE, Busy)):
            self.attempts = 0
            task = self.start().options(retryOn=kinds).submit(attempt)
            self.settle()
            for _ in range(4):
                self.advance(2.0)
            self.assertEqual((self.resultOf(task.d), task.state), (3, FINISHED))
            self.assertEqual((task.attempts, task.failure), (3, None))

    def test_notAfterAnother(self) -> None:
        self.error = KeyError
        d = self.start().options(retryOn=(Busy, OSError)).call(attempt)
        self.errorOf(d, KeyError)
        self.assertEqual(self.attempts, 1)

    def test_typesAloneAllowThreeRuns(self) -> None:
        self.failures = 9
        task = self.start().options(retryOn=Busy).submit(attempt)
        for _ in range(9):
            self.advance(60.0)
        self.errorOf(task.d, Busy)
        self.assertEqual((self.attempts, task.attempts, task.state), (3, 3, FAILED))

    def test_retriesSayHowMany(self) -> None:
        self.failures = 9
        d = self.start().options(retryOn=Busy, retries=4).call(attempt)
        for _ in range(9):
            self.advance(60.0)
        self.errorOf(d, Busy)
        self.assertEqual(self.attempts, 5)

    def test_aRetrySaysHowManyAndWhen(self) -> None:
        retry = Retry(3, delays=lambda failures: 10.0 * failures, errors=Busy)
        task = self.start().options(retryOn=retry).submit(attempt)
        self.settle()
        self.assertEqual((self.attempts, task.state), (1, PENDING))
        self.assertIsInstance(task.failure.value, Busy)
        self.advance(9.0)
        self.assertEqual(self.attempts, 1)
        self.advance(1.0)
        self.assertEqual(self.attempts, 2)
        self.advance(19.0)
        self.assertEqual(self.attempts, 2)
        self.advance(1.0)
        self.assertEqual(self.resultOf(task.d), 3)

    def test_theWorkerRunsOtherTasksMeanwhile(self) -> None:
        queue = self.start()
        task = queue.options(retryOn=Busy).submit(attempt)
        self.settle()
        self.assertEqual(self.resultOf(queue.call(len, "abc")), 3)
        self.assertEqual((task.state, queue.load), (PENDING, 1))

    def test_itComesBackToItsOldPlace(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        careful = queue.options(retryOn=Retry(3, AT_ONCE))
        tasks = [careful.submit(attempt, str(number)) for number in range(3)]
        worker.fail(Busy())
        self.assertIs(worker.task, tasks[1])
        self.settle()
        worker.finish()
        self.assertIs(worker.task, tasks[0])
        worker.finish()
        worker.finish()

    def test_itIsToldToObservers(self) -> None:
        queue = self.start()
        heard: list[Event] = []
        queue.addObserver(heard.append)
        queue.options(retryOn=Retry(3, AT_ONCE)).call(attempt)
        for _ in range(4):
            self.settle()
        self.assertEqual(
            [event.kind for event in heard],
            ["QUEUED", "HIRED", *["STARTED", "RETRYING"] * 2, "STARTED", "FINISHED"],
        )
        self.assertEqual([type(event.reason) for event in heard][3], Busy)

    def test_aWorkerInTheMainLoopIsNoDifferent(self) -> None:
        queue = self.makeQueue(AsyncWorker(reactor=self.clock))
        heard: list[str] = []
        queue.addObserver(lambda event: heard.append(event.kind))
        task = queue.options(retryOn=Retry(3, AT_ONCE)).submit(self.attempt, "")
        for _ in range(9):
            self.settle()
        self.assertEqual((self.resultOf(task.d), task.attempts), (3, 3))
        self.assertEqual(heard.count("RETRYING"), 2)

    def test_anIterationIsRunAgainOnlyBeforeItsFirstItem(self) -> None:
        queue = self.makeQueue(AsyncWorker(reactor=self.clock))

        def generate() -> Any:
            self.attempts += 1
            yield 1
            raise Busy

        d: Deferred[Any] = queue.options(retryOn=Retry(3, AT_ONCE)).call(generate)
        deferator = self.resultOf(d)

        async def take() -> list[int]:
            return [item async for item in deferator]

        self.errorOf(Deferred.fromCoroutine(take()), Busy)
        self.assertEqual(self.attempts, 1)

    def test_whatIsNoExceptionIsRefused(self) -> None:
        queue = self.makeQueue()
        for wrong in (3, "Busy", Busy(), [Busy, 3]):
            self.assertRaises(TypeError, queue.options, retryOn=wrong)

    def test_anUnknownTypeComesAsARemoteErrorWhichCounts(self) -> None:
        class Local(Exception):
            pass

        self.error = Local
        d = self.start().options(retryOn=Retry(3, AT_ONCE, RemoteError)).call(attempt)
        for _ in range(4):
            self.settle()
        self.assertEqual(self.resultOf(d), 3)


class NotRetriedTests(RetryCase):
    """
    The errors of the queue itself are no exceptions of the function.
    """

    def test_aDeathCountsByRetriesAlone(self) -> None:
        queue = self.start()
        self.workers[0].actions["attempt"] = lambda _: self.workers[0].die()
        self.errorOf(queue.options(retryOn=Exception).call(attempt), WorkerDied)

    def test_aTimeoutEndsIt(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        d = queue.options(retryOn=OSError, timeout=5).call(attempt)
        self.advance(5)
        self.errorOf(d, TaskTimeout)
        worker.finish()

    def test_aTimeoutCountsFromEachStart(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        task = queue.options(retryOn=Retry(3, lambda _: 10.0), timeout=5).submit(attempt)
        self.advance(4)
        worker.fail(Busy())
        self.advance(10)
        self.assertEqual(task.state, UNDERWAY)
        self.advance(4)
        self.assertEqual(task.state, UNDERWAY)
        worker.finish("done")
        self.assertEqual(self.resultOf(task.d), "done")

    def test_aPolicyThatFailsIsHeardOf(self) -> None:
        def broken(failures: int) -> float:
            raise ZeroDivisionError("no delay")

        for delays in (broken, lambda _: -1.0, lambda _: float("nan")):
            self.attempts = 0
            d = self.start().options(retryOn=Retry(3, delays)).call(attempt)
            error = self.errorOf(d, ZeroDivisionError, ValueError)
            self.assertIsInstance(error.__cause__, Busy)


class WaitingTests(RetryCase):
    """
    A task that waits for another run is pending like any other.
    """

    def startWaiting(self) -> tuple[TaskQueue, Any]:
        queue = self.start()
        task = queue.options(retryOn=Retry(3, lambda _: 10.0), series=None).submit(attempt)
        self.settle()
        self.assertEqual(self.attempts, 1)
        return queue, task

    def test_itCanBeCancelled(self) -> None:
        queue, task = self.startWaiting()
        self.assertTrue(task.cancel())
        self.errorOf(task.d, CancelledError)
        self.assertEqual((queue.load, self.clock.getDelayedCalls()), (0, []))

    def test_cancelAllAndCancelSeriesFindIt(self) -> None:
        for cancel in (TaskQueue.cancelAll, lambda queue: queue.cancelSeries(None)):
            self.attempts = 0
            queue, task = self.startWaiting()
            self.assertEqual(cancel(queue), 1)
            self.errorOf(task.d, CancelledError)

    def test_itIsAmongTheTasks(self) -> None:
        queue, task = self.startWaiting()
        self.assertEqual(queue.tasks(), [task])

    def test_aShutdownWaitsForIt(self) -> None:
        queue, task = self.startWaiting()
        done = queue.shutdown()
        self.advance(10)
        self.assertNoResult(done)
        self.advance(10)
        self.assertEqual(self.resultOf(task.d), 3)
        self.resultOf(done)

    def test_aShutdownThatIsOutOfTimeDoesNot(self) -> None:
        queue, task = self.startWaiting()
        queue.timeout = 5
        done = queue.shutdown()
        self.advance(5)
        self.errorOf(task.d, QueueStopped)
        self.resultOf(done)

    def test_aDrainDoesNotEither(self) -> None:
        queue, task = self.startWaiting()
        done = queue._engine.drain("the test says so")
        self.errorOf(task.d, QueueStopped)
        self.resultOf(done)

    def test_aDrainLetsTheLastFailureBe(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        d = queue.options(retryOn=Exception).call(attempt)
        queue._engine.drain("the test says so")
        worker.fail(Busy())
        self.errorOf(d, Busy)

    def test_aWorkerThatIsCrashedMeanwhileDoesNotHaveIt(self) -> None:
        queue, task = self.startWaiting()
        self.workers[0].actions["attempt"] = self.attempt
        left = queue.detachWorker(self.workers[0], crash=True)
        self.assertEqual(self.resultOf(left), [])
        worker = self.makeWorker()
        worker.actions["attempt"] = self.attempt
        queue.attachWorker(worker)
        self.advance(10)
        self.advance(10)
        self.assertEqual(self.resultOf(task.d), 3)


class MapTests(RetryCase):
    def takeAll(self, deferator: Any) -> list[Any]:
        taken: list[Any] = []
        for _ in range(40):
            self.advance(10.0)
            taken += [deferator.source.take() for _ in list(deferator.source.items)]
        self.assertTrue(deferator.source.isOver)
        return taken

    def start(self, **keywords: Any) -> TaskQueue:
        queue = super().start(**keywords)
        self.left = {1: 1, 3: 9, 4: 2}
        self.calls: list[int] = []
        self.workers[-1].actions["attempt"] = self.attemptOne
        return queue

    def attemptOne(self, number: Any) -> int:
        self.calls.append(number)
        left = self.left.get(number, 0)
        self.left[number] = left - 1
        if left > 0:
            raise Busy(number)
        return int(number)

    def test_onlyTheItemThatFailedIsCalledAgain(self) -> None:
        for chunksize in (1, 2, 5, None):
            for ordered in (True, False):
                queue = self.start()
                retry = Retry(3, lambda _: 10.0, Busy)
                going = queue.map(
                    attempt,
                    range(6),
                    chunksize=chunksize,
                    ordered=ordered,
                    retryOn=retry,
                    returnExceptions=True,
                )
                results = self.takeAll(going)
                self.assertIsNone(going.source.failure)
                places = [r.args[0] if isinstance(r, Busy) else r for r in results]
                self.assertEqual(places if ordered else sorted(places), [0, 1, 2, 3, 4, 5])
                self.assertEqual([r.args[0] for r in results if isinstance(r, Busy)], [3])
                self.assertEqual(sorted(self.calls), [0, 1, 1, 2, 3, 3, 3, 4, 4, 4, 5])

    def test_afterTheLastAttemptItFails(self) -> None:
        deferator = self.start().map(attempt, range(6), retryOn=Retry(3, AT_ONCE, Busy))
        self.assertEqual(self.takeAll(deferator), [0, 1, 2])
        self.assertEqual(str(deferator.source.failure and deferator.source.failure.value), "3")
        self.assertEqual(self.calls.count(3), 3)

    def test_stoppingItEndsTheWait(self) -> None:
        deferator = self.start().map(attempt, [1], retryOn=Retry(3, lambda _: 10.0))
        self.settle()
        deferator.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class StormTests(SynchronousTestCase):
    @given(
        st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=12),
        st.integers(1, 3),
    )
    def test_eachTaskRunsAsOftenAsItMayAndEndsOnce(
        self, plans: list[tuple[int, bool]], workers: int
    ) -> None:
        clock = Clock()
        left = [failures for failures, _ in plans]
        runs = [0] * len(plans)

        def run(number: int) -> int:
            runs[number] += 1
            left[number] -= 1
            if left[number] >= 0:
                raise Busy
            return number

        ofMemory = [MemoryWorker(reactor=clock, stepSeconds=0.0) for _ in range(workers)]
        for worker in ofMemory:
            worker.actions["attempt"] = run
        queue = TaskQueue(*ofMemory, reactor=clock)
        careful = queue.options(retryOn=Retry(4, lambda failures: 0.5 * failures))
        ends: list[Any] = []
        tasks = []
        for number, (_, isCancelled) in enumerate(plans):
            task: Any = careful.submit(attempt, number)  # type: ignore[call-overload]
            task.d.addBoth(lambda end, number=number: ends.append(number))
            tasks.append((task, isCancelled))
        clock.pump([0.1] * 8)
        for task, isCancelled in tasks:
            if isCancelled:
                task.cancel()
        clock.pump([0.5] * 20)
        self.assertEqual(sorted(ends), list(range(len(plans))))
        for number, ((failures, isCancelled), (task, _)) in enumerate(
            zip(plans, tasks, strict=True)
        ):
            self.assertLessEqual(runs[number], min(failures + 1, 4))
            if not isCancelled:
                self.assertEqual(runs[number], min(failures + 1, 4))
                self.assertEqual(task.state, FAILED if failures >= 4 else FINISHED)
        self.assertEqual((queue.load, queue.tasks()), (0, []))
        queue.shutdown()
        clock.pump([0.1] * 5)
        self.assertEqual(clock.getDelayedCalls(), [])
