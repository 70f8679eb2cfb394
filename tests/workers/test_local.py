"""
The worker in the main loop.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar, copy_context
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from asynqueue import AsyncWorker, QueuedTask, TaskQueue, report
from asynqueue._iteration.patience import IDLE_SECONDS
from asynqueue._workers import local as module
from asynqueue.errors import IterationStopped
from asynqueue.iteration import Deferator, ListConsumer
from asynqueue.tasks import DRAINING, READY, STOPPED
from asynqueue.testing import DeferredHold, IteratingWorkerContract, far
from asynqueue.testing.owner import TaskOwner

letter: ContextVar[str] = ContextVar("letter", default="none")


class ContractTests(IteratingWorkerContract, TestCase):
    def makeWorker(self) -> AsyncWorker:
        return AsyncWorker()

    def makeHold(self) -> DeferredHold:
        return DeferredHold()


class SteppedContractTests(ContractTests):
    """
    Nothing happens before the clock moves.
    """

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()

    def makeWorker(self) -> AsyncWorker:
        return AsyncWorker(reactor=self.clock)

    def pump(self) -> None:
        for _ in range(3):
            self.clock.advance(0)


class LocalCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.owner = TaskOwner(self.clock)
        self.worker = AsyncWorker(reactor=self.clock)

    def give(
        self, function: Callable[..., Any], *args: Any, **options: Any
    ) -> tuple[QueuedTask, Deferred[None]]:
        """
        Give the worker a task, which does not begin yet.
        """
        task = self.owner.make(function, *args, **options)
        task.start(self.worker, 0.0)
        return task, self.worker.run(task)

    def run1(self, function: Callable[..., Any], *args: Any, **options: Any) -> QueuedTask:
        """
        Give the worker a task, and have it begin.
        """
        task, _ = self.give(function, *args, **options)
        self.clock.advance(0)
        return task

    def drop(self, task: QueuedTask) -> None:
        task.cancel()
        self.worker.cancel(task)


class RunTests(LocalCase):
    def test_itIsQualifiedForAsyncAndLocal(self) -> None:
        self.assertEqual(AsyncWorker.cQualified, ["async", "local"])
        self.assertEqual(AsyncWorker(["mine"], reactor=self.clock).iQualified, ["mine"])

    def test_slotsAreAPositiveInteger(self) -> None:
        for wrong in (0, -1, 1.5, True, "2", None):
            slots: Any = wrong
            error = self.assertRaises(ValueError, AsyncWorker, slots=slots, reactor=self.clock)
            self.assertIn("must be a positive integer", str(error))

    def test_noFunctionIsCalledFromWithinRun(self) -> None:
        calls: list[int] = []
        _, ready = self.give(calls.append, 1)
        self.assertEqual(calls, [])
        self.assertNoResult(ready)
        self.clock.advance(0)
        self.assertEqual(calls, [1])
        self.assertIsNone(self.successResultOf(ready))

    def test_aDeferredIsWaitedFor(self) -> None:
        wait: Deferred[int] = Deferred()
        task, ready = self.give(lambda: wait)
        self.clock.advance(0)
        self.assertNoResult(ready)
        wait.callback(3)
        self.assertEqual(task.result, 3)
        self.assertIsNone(self.successResultOf(ready))

    def test_aDeferredThatHasFiredIsAResult(self) -> None:
        self.assertEqual(self.run1(succeed, 5).result, 5)
        failed = self.run1(fail, ValueError("no"))
        self.assertEqual(str(failed.failure.value), "no")

    def test_aCoroutineIsRunToItsEnd(self) -> None:
        wait: Deferred[int] = Deferred()

        async def double() -> int:
            return 2 * await wait

        task = self.run1(double)
        self.assertIsNone(task.result)
        wait.callback(4)
        self.assertEqual(task.result, 8)

    def test_aCoroutinesExceptionIsTheFailure(self) -> None:
        async def refuse() -> None:
            raise ValueError("not this")

        self.assertEqual(str(self.run1(refuse).failure.value), "not this")

    def test_exitingIsTheTasksFailure(self) -> None:
        self.assertIsInstance(self.run1(far.exit, 3).failure.value, SystemExit)
        self.assertEqual(self.run1(far.echo, 1).result, 1)

    def test_oneAfterTheOtherByDefault(self) -> None:
        waits: list[Deferred[Any]] = [Deferred(), Deferred()]
        calls: list[int] = []

        def begin(number: int) -> Deferred[Any]:
            calls.append(number)
            return waits[number]

        for number in range(2):
            self.run1(begin, number)
        self.assertEqual(calls, [0])
        waits[0].callback(None)
        self.clock.advance(0)
        self.assertEqual(calls, [0, 1])

    def test_soManyAreUnderwayAtOnce(self) -> None:
        self.worker = AsyncWorker(slots=2, reactor=self.clock)
        self.assertEqual(self.worker.capacity.slots, 2)
        waits: list[Deferred[Any]] = []

        def begin() -> Deferred[Any]:
            waits.append(Deferred())
            return waits[-1]

        tasks = [self.run1(begin) for _ in range(4)]
        self.assertEqual(len(waits), 2)
        waits[1].callback("second")
        self.assertEqual([task.result for task in tasks], [None, "second", None, None])
        self.clock.advance(0)
        self.assertEqual(len(waits), 3)

    def test_theReactorGetsItsTurn(self) -> None:
        calls: list[Any] = []

        def slow(number: int) -> None:
            calls.append(number)
            self.clock.rightNow += module.TURN_SECONDS

        for number in range(3):
            self.give(slow, number)
        self.clock.callLater(0, calls.append, "the reactor's")
        self.clock.advance(0)
        self.assertEqual(calls, [0, "the reactor's", 1, 2])

    def test_tenThousandCallsFromCallbacksDoNotPileUp(self) -> None:
        queue = TaskQueue(self.worker, reactor=self.clock)
        left = [10_000]

        def again(_: Any) -> None:
            left[0] -= 1
            if left[0]:
                queue.call(succeed, None).addCallback(again)

        queue.call(succeed, None).addCallback(again)
        while self.clock.getDelayedCalls():
            self.clock.advance(0)
        self.assertEqual(left, [0])


class CancelTests(LocalCase):
    def test_whatHasNotBegunNeverDoes(self) -> None:
        calls: list[int] = []
        task, ready = self.give(calls.append, 1)
        self.drop(task)
        self.assertIsNone(self.successResultOf(ready))
        self.clock.advance(0)
        self.assertEqual(calls, [])

    def test_theDeferredThatIsWaitedForIsCancelled(self) -> None:
        cancelled: list[Any] = []
        wait: Deferred[Any] = Deferred(cancelled.append)
        task, ready = self.give(lambda: wait)
        self.clock.advance(0)
        self.drop(task)
        self.assertEqual(cancelled, [wait])
        self.assertIsNone(self.successResultOf(ready))

    def test_aCoroutineIsCancelledToo(self) -> None:
        events: list[str] = []

        async def waitForEver() -> None:
            try:
                await Deferred()
            finally:
                events.append("cleaned up")

        task = self.run1(waitForEver)
        self.drop(task)
        self.assertEqual(events, ["cleaned up"])

    def test_whatDoesNotHeedItKeepsItsSlot(self) -> None:
        following: Deferred[Any] = Deferred()

        async def stubborn() -> None:
            try:
                await Deferred()
            finally:
                await following

        task, ready = self.give(stubborn)
        self.clock.advance(0)
        self.drop(task)
        self.assertNoResult(ready)
        following.callback(None)
        self.assertIsNone(self.successResultOf(ready))

    def test_aFunctionMayCancelItsOwnTask(self) -> None:
        cancelled: list[Any] = []
        tasks: list[QueuedTask] = []

        def suicidal() -> Deferred[Any]:
            self.drop(tasks[0])
            return Deferred(cancelled.append)

        task, ready = self.give(suicidal)
        tasks.append(task)
        self.clock.advance(0)
        self.assertEqual(len(cancelled), 1)
        self.assertIsNone(self.successResultOf(ready))

    def test_aCoroutineMayCancelItsOwnTask(self) -> None:
        tasks: list[QueuedTask] = []
        wait: Deferred[Any] = Deferred()

        async def suicidal() -> str:
            await wait
            self.drop(tasks[0])
            return "done anyhow"

        task, ready = self.give(suicidal)
        tasks.append(task)
        self.clock.advance(0)
        wait.callback(None)
        self.assertIsNone(self.successResultOf(ready))
        self.assertEqual(self.run1(far.echo, 1).result, 1)

    def test_aCancellerThatRaisesIsLogged(self) -> None:
        def refuse(_: Any) -> None:
            raise ValueError("no")

        wait: Deferred[Any] = Deferred(refuse)
        task, ready = self.give(lambda: wait)
        self.clock.advance(0)
        self.drop(task)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertNoResult(ready)
        wait.callback(None)
        self.assertIsNone(self.successResultOf(ready))

    def test_aTimeoutCancelsToo(self) -> None:
        queue = TaskQueue(self.worker, reactor=self.clock)
        cancelled: list[Any] = []
        d = queue.call(lambda: Deferred(cancelled.append), timeout=5)
        self.clock.advance(0)
        self.clock.advance(5)
        self.assertEqual(len(cancelled), 1)
        self.failureResultOf(d)
        following = queue.call(far.echo, "next")
        self.clock.advance(0)
        self.assertEqual(self.successResultOf(following), "next")

    def test_anIterationIntoAConsumerIsStopped(self) -> None:
        events: list[str] = []
        wait: Deferred[Any] = Deferred()

        def items() -> Iterator[Any]:
            try:
                yield 1
                yield wait
            finally:
                events.append("closed")

        consumer = ListConsumer()
        task = self.run1(items, consumer=consumer)
        self.drop(task)
        self.assertEqual(events, ["closed"])


class CrashTests(LocalCase):
    def test_whatIsWaitedForIsCancelled(self) -> None:
        cancelled: list[Any] = []
        task, ready = self.give(lambda: Deferred(cancelled.append))
        self.clock.advance(0)
        due, dueReady = self.give(far.echo)
        self.assertEqual(self.worker.crash(), [task, due])
        self.assertEqual(len(cancelled), 1)
        self.assertIsNone(self.successResultOf(ready))
        self.assertIsNone(self.successResultOf(dueReady))
        self.assertFalse(task.isDone)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aFunctionMayCrashItsWorker(self) -> None:
        left: list[Any] = []
        cancelled: list[Any] = []

        def crash() -> Deferred[Any]:
            left.extend(self.worker.crash())
            return Deferred(cancelled.append)

        task, ready = self.give(crash)
        self.clock.advance(0)
        self.assertEqual(left, [task])
        self.assertEqual(len(cancelled), 1)
        self.assertFalse(task.isDone)
        self.assertIsNone(self.successResultOf(ready))

    def test_itsStateIsTold(self) -> None:
        self.assertEqual(self.worker.state, READY)
        self.give(Deferred)
        self.clock.advance(0)
        self.worker.stop()
        self.assertEqual(self.worker.state, DRAINING)
        self.worker.crash()
        self.assertEqual(self.worker.state, STOPPED)
        self.assertIn("STOPPED", repr(self.worker))


class ContextTests(LocalCase):
    def test_tasksDoNotShareTheirVariables(self) -> None:
        self.run1(letter.set, "a")
        self.assertEqual(self.run1(letter.get).result, "none")
        self.assertEqual(letter.get(), "none")

    def test_aTaskSeesWhatWasSetWhenItWasGiven(self) -> None:
        def given() -> QueuedTask:
            letter.set("b")
            return self.give(letter.get)[0]

        task = copy_context().run(given)
        self.clock.advance(0)
        self.assertEqual(task.result, "b")

    def test_theTasksOwnVariablesAreSet(self) -> None:
        task, _ = self.give(letter.get)
        task.context = ((f"{__name__}.letter", "c"),)
        self.clock.advance(0)
        self.assertEqual(task.result, "c")

    def test_aVariableThatIsNoneFailsTheTask(self) -> None:
        task, _ = self.give(letter.get)
        task.context = ((f"{__name__}.nothing", "c"),)
        self.clock.advance(0)
        self.assertIsInstance(task.failure.value, ValueError)

    def test_aCoroutineKeepsItsVariables(self) -> None:
        wait: Deferred[Any] = Deferred()

        async def remember() -> str:
            letter.set("d")
            await wait
            return letter.get()

        task = self.run1(remember)
        wait.callback(None)
        self.assertEqual(task.result, "d")
        self.assertEqual(letter.get(), "none")

    def test_anIteratorKeepsItsVariables(self) -> None:
        def letters() -> Iterator[str]:
            yield letter.get()
            letter.set("f")
            yield letter.get()

        task, _ = self.give(letters)
        task.context = ((f"{__name__}.letter", "e"),)
        self.clock.advance(0)
        self.assertEqual(self.itemsOf(task.result), ["e", "f"])
        self.assertEqual(letter.get(), "none")

    def itemsOf(self, deferator: Deferator) -> list[Any]:
        async def gather() -> list[Any]:
            return [item async for item in deferator]

        items: list[Any] = self.successResultOf(Deferred.fromCoroutine(gather()))
        return items

    def test_reportsReachTheTask(self) -> None:
        def steps() -> None:
            report(1, 2)

        task = self.run1(steps)
        self.assertEqual((task.progress.done, task.progress.total), (1, 2))

    def test_anIteratorsReportsReachItsConsumersTask(self) -> None:
        wait: Deferred[Any] = Deferred()

        def items() -> Iterator[Any]:
            report(1)
            yield 1
            report(2)
            yield wait

        task = self.run1(items, consumer=ListConsumer())
        self.assertEqual(task.progress.done, 2)
        wait.callback(2)
        self.assertTrue(task.isDone)

    def test_reportsOfAThreadThatHasTheContextAreToldInTheReactorsThread(self) -> None:
        posted: list[Callable[[], Any]] = []

        @implementer(IReactorFromThreads)
        class Reactor(Clock):
            def callFromThread(
                self, callable: Callable[..., Any], *args: object, **kwargs: object
            ) -> None:
                posted.append(callable)

        reactor = Reactor()
        self.worker = AsyncWorker(reactor=reactor)
        wait: Deferred[Any] = Deferred()

        def delegate() -> Deferred[Any]:
            thread = threading.Thread(target=copy_context().run, args=(report, 7))
            thread.start()
            thread.join()
            return wait

        task, _ = self.give(delegate)
        reactor.advance(0)
        self.assertIsNone(task.progress)
        posted.pop()()
        self.assertEqual(task.progress.done, 7)
        wait.callback(None)


class IterationTests(LocalCase):
    def itemsOf(self, deferator: Deferator) -> Deferred[list[Any]]:
        async def gather() -> list[Any]:
            return [item async for item in deferator]

        return Deferred.fromCoroutine(gather())

    def test_anAsynchronousGeneratorBecomesADeferator(self) -> None:
        waits: list[Deferred[int]] = [Deferred(), Deferred()]

        async def items() -> AsyncIterator[int]:
            for wait in waits:
                yield await wait

        task = self.run1(items)
        self.assertFalse(task.isDone)
        waits[0].callback(1)
        d = self.itemsOf(task.result)
        self.assertNoResult(d)
        waits[1].callback(2)
        self.assertEqual(self.successResultOf(d), [1, 2])

    def test_anAsynchronousGeneratorIsClosed(self) -> None:
        events: list[str] = []

        async def items() -> AsyncIterator[int]:
            try:
                yield 1
                await Deferred()
            finally:
                events.append("closed")

        deferator = self.run1(items).result
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(deferator.__anext__())), 1)
        deferator.stop()
        self.assertEqual(events, ["closed"])

    def test_aDeferatorIsOneAlready(self) -> None:
        deferator = Deferator(iter([1, 2]))
        task = self.run1(lambda: deferator)
        self.assertIs(task.result, deferator)
        self.assertEqual(self.successResultOf(self.itemsOf(deferator)), [1, 2])

    def test_rawIsTheWorkersChoiceIfTheCallMakesNone(self) -> None:
        self.worker = AsyncWorker(raw=True, reactor=self.clock)
        self.assertEqual(list(self.run1(iter, [1]).result), [1])
        self.assertIsInstance(self.run1(iter, [1], raw=False).result, Deferator)

    def test_anIteratorThatComesWhenTheWorkerStopsIsStopped(self) -> None:
        events: list[str] = []
        wait: Deferred[Any] = Deferred()

        def items() -> Iterator[int]:
            try:
                yield 1
            finally:
                events.append("closed")

        generator = items()
        next(generator)
        task = self.run1(lambda: wait)
        stopped = self.worker.stop()
        wait.callback(generator)
        self.assertIsNone(self.successResultOf(stopped))
        self.assertTrue(task.result.source.isOver)
        self.assertEqual(events, ["closed"])

    def test_aGeneratorThatRaisesWhenItIsClosedIsLogged(self) -> None:
        def items() -> Iterator[int]:
            try:
                yield 1
                yield 2
            finally:
                raise ValueError("no")

        deferator = self.run1(items).result
        self.successResultOf(Deferred.fromCoroutine(deferator.__anext__()))
        stopped = self.worker.stop()
        self.assertNoResult(stopped)
        for _ in range(6):
            self.clock.advance(IDLE_SECONDS / 4)
        self.assertIsNone(self.successResultOf(stopped))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_aConsumerThatRefusesItsProducerFailsTheTask(self) -> None:
        consumer = ListConsumer()
        consumer.registerProducer(object(), True)
        events: list[str] = []

        def items() -> Iterator[int]:
            try:
                yield 1
            finally:
                events.append("closed")

        task = self.run1(items, consumer=consumer)
        self.assertIsInstance(task.failure.value, RuntimeError)

    def test_aTaskCancelledWhileItWaitedForItsIteratorClosesThat(self) -> None:
        events: list[str] = []

        def items() -> Iterator[int]:
            try:
                yield 1
            finally:
                events.append("closed")

        async def stubborn() -> Iterator[int]:
            generator = items()
            next(generator)
            try:
                await Deferred()
            except BaseException:
                return generator
            raise AssertionError("it was to be cancelled")

        task = self.run1(stubborn)
        self.drop(task)
        self.assertEqual(events, ["closed"])

    def test_anAsynchronousGeneratorThatRaisesWhenItIsClosedIsLogged(self) -> None:
        async def items() -> AsyncIterator[int]:
            try:
                yield 1
            finally:
                raise ValueError("no")

        self.run1(items).result.stop()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_anAsynchronousGeneratorIsCancelledWhereItWaits(self) -> None:
        events: list[str] = []

        async def items() -> AsyncIterator[int]:
            yield 1
            try:
                await Deferred()
            finally:
                events.append("cancelled")

        deferator = self.run1(items).result
        d = self.itemsOf(deferator)
        self.assertNoResult(d)
        self.worker.crash()
        self.assertEqual(events, ["cancelled"])
        self.failureResultOf(d, IterationStopped)

    def test_oneThatDoesNotHeedItIsClosedWhenItYields(self) -> None:
        events: list[str] = []
        following: Deferred[Any] = Deferred()

        async def items() -> AsyncIterator[int]:
            try:
                yield 1
                try:
                    await Deferred()
                finally:
                    await following
            finally:
                events.append("closed")

        deferator = self.run1(items).result
        d = self.itemsOf(deferator)
        self.worker.crash()
        self.failureResultOf(d, IterationStopped)
        self.assertEqual(events, [])
        following.callback(None)
        self.assertEqual(events, ["closed"])

    def test_aDeferatorFeedsAConsumer(self) -> None:
        consumer = ListConsumer()
        task = self.run1(lambda: Deferator(iter([1, 2])), consumer=consumer)
        self.assertIs(task.result, consumer)
        self.assertEqual(self.successResultOf(consumer()), [1, 2])
