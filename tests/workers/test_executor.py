"""
The worker over an executor, with one that is stepped by hand.
"""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from asynqueue import ExecutorWorker, QueuedTask, TaskQueue, report
from asynqueue.errors import (
    CallNotPicklable,
    ExecutorDied,
    IterationStopped,
    RemoteError,
    ResultNotPicklable,
    ResultNotRebuilt,
    StateError,
    WorkerDied,
    WorkerError,
)
from asynqueue.iteration import Deferator, ListConsumer
from asynqueue.tasks import CANCELLED, LOST, PENDING, STOPPED, UNDERWAY
from asynqueue.testing import IteratingWorkerContract, far
from asynqueue.testing.owner import TaskOwner
from tests.support.executors import StepExecutor

letter: ContextVar[str] = ContextVar("letter", default="none")


class ThreadPoolContractTests(IteratingWorkerContract, TestCase):
    def makeWorker(self) -> ExecutorWorker:
        return ExecutorWorker(ThreadPoolExecutor(2), shutdownExecutor=True)


class ExecutorCase(SynchronousTestCase):
    pickles = False

    def setUp(self) -> None:
        self.clock = Clock()
        self.owner = TaskOwner(self.clock)
        self.executor = StepExecutor(self.pickles)
        self.worker = ExecutorWorker(self.executor, slots=2, reactor=self.clock)

    def give(
        self, function: Callable[..., Any], *args: Any, **options: Any
    ) -> tuple[QueuedTask, Deferred[None]]:
        """
        Give the worker a task.
        """
        task = self.owner.make(function, *args, **options)
        task.start(self.worker, 0.0)
        return task, self.worker.run(task)

    def run1(self, function: Callable[..., Any], *args: Any, **options: Any) -> QueuedTask:
        """
        Give the worker a task, and have everything done.
        """
        task, _ = self.give(function, *args, **options)
        self.settle()
        return task

    def settle(self) -> None:
        self.executor.stepAll()
        self.clock.advance(0)

    def drop(self, task: QueuedTask) -> None:
        task.cancel()
        self.worker.cancel(task)

    def nextOf(self, deferator: Deferator) -> Any:
        d = Deferred.fromCoroutine(deferator.__anext__())
        self.settle()
        return self.successResultOf(d)

    def itemsOf(self, deferator: Deferator) -> list[Any]:
        async def gather() -> list[Any]:
            return [item async for item in deferator]

        d = Deferred.fromCoroutine(gather())
        for _ in range(100):
            self.settle()
        items: list[Any] = self.successResultOf(d)
        return items


class MakingTests(SynchronousTestCase):
    def test_anExecutorIsWhatSubmits(self) -> None:
        executor: Any = object()
        error = self.assertRaises(TypeError, ExecutorWorker, executor, reactor=Clock())
        self.assertIn("submit()", str(error))

    def test_whatIsToBeShutDownCanBe(self) -> None:
        class Bare:
            submit = StepExecutor().submit

        ExecutorWorker(Bare(), reactor=Clock())
        self.assertRaises(TypeError, ExecutorWorker, Bare(), shutdownExecutor=True, reactor=Clock())

    def test_slotsAreAPositiveInteger(self) -> None:
        for wrong in (0, -1, 1.5, True, "2"):
            slots: Any = wrong
            error = self.assertRaises(
                ValueError, ExecutorWorker, StepExecutor(), slots=slots, reactor=Clock()
            )
            self.assertIn("must be a positive integer", str(error))

    def test_thereAreAsManySlotsAsTheExecutorHasWorkers(self) -> None:
        worker = ExecutorWorker(StepExecutor(workers=5), reactor=Clock())
        self.assertEqual(worker.capacity.slots, 5)

    def test_orAsManyAsThereAreCores(self) -> None:
        worker = ExecutorWorker(StepExecutor(), reactor=Clock())
        self.assertGreaterEqual(worker.capacity.slots, 1)

    def test_itIsQualifiedForExecutor(self) -> None:
        self.assertEqual(ExecutorWorker.cQualified, ["executor"])
        worker = ExecutorWorker(StepExecutor(), series=["mine"], reactor=Clock())
        self.assertEqual(worker.iQualified, ["mine"])


class HereTests(ExecutorCase):
    """
    Calls that run in this interpreter.
    """

    def test_theCallRunsInTheExecutor(self) -> None:
        task, ready = self.give(far.add, 3, 4)
        self.assertNoResult(ready)
        self.executor.step()
        self.assertEqual(task.result, 7)
        self.assertIsNone(self.successResultOf(ready))

    def test_anExceptionKeepsItsTracebackFromTheFunctionOn(self) -> None:
        queue = TaskQueue(self.worker, reactor=self.clock)
        frames: list[str] = []

        def look(failure: Any) -> None:
            trace = failure.value.__traceback__
            while trace is not None:
                frames.append(trace.tb_frame.f_code.co_name)
                trace = trace.tb_next

        queue.call(far.refuse, "no").addErrback(look)
        self.settle()
        self.assertEqual(frames, ["refuse"])
        self.successResultOf(queue.shutdown())

    def test_aResultIsTheVeryObject(self) -> None:
        thing = far.Thing()
        self.assertIs(self.run1(far.echo, thing).result, thing)

    def test_whatCannotBePickledNeedNotBe(self) -> None:
        self.assertEqual(self.run1(lambda function: function(), lambda: 5).result, 5)

    def test_exitingIsTheTasksFailure(self) -> None:
        self.assertIsInstance(self.run1(far.exit, 3).failure.value, SystemExit)

    def test_aCoroutineIsRunToItsEnd(self) -> None:
        async def double(number: int) -> int:
            return 2 * number

        self.assertEqual(self.run1(double, 4).result, 8)

    def test_tasksDoNotShareTheirVariables(self) -> None:
        self.run1(letter.set, "a")
        self.assertEqual(self.run1(letter.get).result, "none")

    def test_theTasksOwnVariablesAreSet(self) -> None:
        task, _ = self.give(letter.get)
        self.assertEqual(task.result, None)
        other = self.owner.make(letter.get)
        other.context = ((f"{__name__}.letter", "b"),)
        other.start(self.worker, 0.0)
        self.worker.run(other)
        self.settle()
        self.assertEqual([task.result, other.result], ["none", "b"])

    def test_reportsReachTheTask(self) -> None:
        task = self.run1(report, 1, 2)
        self.assertEqual((task.progress.done, task.progress.total), (1, 2))

    def test_itTakesAsManyAsItHasSlots(self) -> None:
        queue = TaskQueue(self.worker, reactor=self.clock)
        tasks = [queue.submit(far.echo, number) for number in range(4)]
        self.clock.advance(0)
        self.assertEqual([task.state for task in tasks], [UNDERWAY] * 2 + [PENDING] * 2)
        self.assertEqual(len(self.executor.jobs), 2)
        self.executor.step()
        self.assertEqual([task.state for task in tasks[1:]], [UNDERWAY] * 2 + [PENDING])
        queue.shutdown()

    def test_rawIsTheWorkersChoiceIfTheCallMakesNone(self) -> None:
        self.worker = ExecutorWorker(self.executor, raw=True, reactor=self.clock)
        self.assertEqual(list(self.run1(iter, [1]).result), [1])
        self.assertIsInstance(self.run1(iter, [1], raw=False).result, Deferator)

    def test_whatTheExecutorCannotRunFails(self) -> None:
        task, ready = self.give(far.echo)
        future, _, _ = self.executor.jobs.popleft()
        future.set_exception(OSError("no disk"))
        error = task.failure.value
        self.assertIsInstance(error, WorkerError)
        self.assertIn("OSError: no disk", str(error))
        self.assertIn("StepExecutor", str(error))
        self.assertIsInstance(error.__cause__, OSError)
        self.assertIsNone(self.successResultOf(ready))

    def test_whatIsCancelledByOthersIsGivenToTheExecutorAgain(self) -> None:
        task, _ = self.give(far.echo, 1)
        self.executor.jobs.popleft()[0].cancel()
        self.assertEqual(len(self.executor.jobs), 1)
        self.settle()
        self.assertEqual(task.result, 1)


class CancelTests(ExecutorCase):
    def test_whatHasNotBegunNeverDoes(self) -> None:
        calls: list[int] = []
        task, ready = self.give(calls.append, 1)
        self.drop(task)
        self.assertIsNone(self.successResultOf(ready))
        self.settle()
        self.assertEqual(calls, [])

    def test_whatHasBegunKeepsItsSlot(self) -> None:
        task, ready = self.give(far.echo, 1)
        self.executor.begin()
        self.drop(task)
        self.assertNoResult(ready)
        self.executor.finish()
        self.assertIsNone(self.successResultOf(ready))
        self.assertEqual(task.state, CANCELLED)

    def test_anExecutorThatCannotCancelKeepsTheSlotAsIfItHadBegun(self) -> None:
        task, done = self.give(far.echo, 1)
        future = self.executor.jobs[0][0]

        def cancel() -> bool:
            raise NotImplementedError("as of Parsl")

        with patch.object(future, "cancel", cancel):
            self.drop(task)
        self.assertNoResult(done)
        self.settle()
        self.successResultOf(done)

    def test_anIteratorThatComesTooLateIsClosed(self) -> None:
        events: list[str] = []
        task, ready = self.give(self.items, events)
        self.executor.begin()
        self.drop(task)
        self.executor.finish()
        self.assertIsNone(self.successResultOf(ready))
        self.settle()
        self.assertEqual(events, ["closed"])

    def test_anIterationIntoAConsumerIsStopped(self) -> None:
        events: list[str] = []
        task, _ = self.give(self.items, events, consumer=ListConsumer())
        self.executor.step()
        self.assertEqual(task.state, UNDERWAY)
        self.drop(task)
        self.settle()
        self.assertEqual(events, ["closed"])

    def items(self, events: list[str]) -> Iterator[int]:
        try:
            yield from range(10_000)
        finally:
            events.append("closed")


class ElsewhereTests(ExecutorCase):
    """
    Calls that travel in pickles.
    """

    pickles = True

    def setUp(self) -> None:
        super().setUp()
        # Where an executor has imported it, results travel by value, too.
        modules = patch.dict(sys.modules)
        modules.start()
        self.addCleanup(modules.stop)
        sys.modules.pop("cloudpickle", None)

    def test_theResultComesBack(self) -> None:
        self.assertEqual(self.run1(far.add, 3, 4).result, 7)
        thing = self.run1(far.echo, far.Thing()).result
        self.assertIsInstance(thing, far.Thing)

    def test_anExceptionComesBackWithItsTypeAndTraceback(self) -> None:
        error = self.run1(far.refuse, "no").failure.value
        self.assertIsInstance(error, ValueError)
        self.assertIn("in refuse", str(error.__cause__))
        self.assertNotIn("executed.py", str(error.__cause__))

    def test_anExceptionThatCannotTravelArrivesAsText(self) -> None:
        for function, text in (
            (far.raiseUnpicklable, "stays here"),
            (far.raiseUnrebuildable, "arrives as text"),
        ):
            error = self.run1(function).failure.value
            self.assertIsInstance(error, RemoteError)
            self.assertEqual(error.text, text)
            self.assertIn(error.traceback, str(error.__cause__))

    def test_aCallThatCannotBePickledFails(self) -> None:
        for args in ((lambda: None,), (far.echo, lambda: None)):
            error = self.run1(*args).failure.value
            self.assertIsInstance(error, CallNotPicklable)
            self.assertIn("could not pickle the call", str(error))

    def test_aResultThatCannotBePickledFails(self) -> None:
        error = self.run1(far.makeLambda).failure.value
        self.assertIsInstance(error, ResultNotPicklable)

    def test_aResultThatCannotBeRebuiltFails(self) -> None:
        for exits in (False, True):
            error = self.run1(far.makeBomb, exits).failure.value
            self.assertIsInstance(error, ResultNotRebuilt)

    def test_anIteratorCannotStream(self) -> None:
        error = self.run1(far.numbers, 3).failure.value
        self.assertIsInstance(error, ResultNotPicklable)
        self.assertIn("return a list, or use a ProcessWorker", str(error))

    def test_aRawIteratorComesBackAsItIs(self) -> None:
        self.assertEqual(list(self.run1(far.echo, iter([1, 2]), raw=True).result), [1, 2])

    def test_theTasksOwnVariablesAreSet(self) -> None:
        task = self.owner.make(letter.get)
        task.context = ((f"{__name__}.letter", "b"),)
        task.start(self.worker, 0.0)
        self.worker.run(task)
        self.settle()
        # A method of a context variable cannot be pickled.
        self.assertIsInstance(task.failure.value, CallNotPicklable)
        task = self.owner.make(currentLetter)
        task.context = ((f"{__name__}.letter", "b"),)
        task.start(self.worker, 0.0)
        self.worker.run(task)
        self.settle()
        self.assertEqual(task.result, "b")

    def test_largeExceptionsTravelToo(self) -> None:
        error = self.run1(raiseLarge).failure.value
        self.assertIsInstance(error, ValueError)
        self.assertEqual(error.args, (b"x" * 100_000,))


def currentLetter() -> str:
    return letter.get()


def raiseLarge() -> None:
    raise ValueError(b"x" * 100_000)


class StreamTests(ExecutorCase):
    def test_itemsAreProducedOnDemand(self) -> None:
        taken: list[int] = []

        def items() -> Iterator[int]:
            for number in range(10_000):
                taken.append(number)
                yield number

        deferator = self.run1(items).result
        self.assertIsInstance(deferator, Deferator)
        ahead = len(taken)
        self.assertLess(ahead, 10_000)
        self.settle()
        self.assertEqual(len(taken), ahead)
        self.assertEqual(self.itemsOf(deferator), list(range(10_000)))

    def test_theFirstItemIsThereWhenTheTaskEnds(self) -> None:
        def refuse() -> Iterator[int]:
            yield from ()
            raise ValueError("none at all")

        self.assertIsInstance(self.run1(refuse).failure.value, ValueError)

    def test_anAsynchronousGeneratorIsRunInTheExecutor(self) -> None:
        async def items() -> AsyncIterator[int]:
            for number in range(5_000):
                yield number

        deferator = self.run1(items).result
        self.assertEqual(self.itemsOf(deferator), list(range(5_000)))

    def test_anAsynchronousGeneratorIsClosedThere(self) -> None:
        events: list[str] = []

        async def items() -> AsyncIterator[int]:
            try:
                while True:
                    yield 0
            finally:
                events.append("closed")

        deferator = self.run1(items).result
        deferator.stop()
        self.assertEqual(events, [])
        self.settle()
        self.assertEqual(events, ["closed"])

    def test_stoppingWhileItIsAdvancedClosesIt(self) -> None:
        events: list[str] = []
        deferator = self.run1(self.closing(events)).result
        while True:
            d = Deferred.fromCoroutine(deferator.__anext__())
            if not d.called:
                break
        self.executor.begin()
        deferator.stop()
        self.failureResultOf(d, StopAsyncIteration)
        self.executor.finish()
        self.assertEqual(events, [])
        self.settle()
        self.assertEqual(events, ["closed"])

    def test_whatIsDroppedIsClosed(self) -> None:
        events: list[str] = []
        task = self.run1(self.closing(events))
        task.outcome = None
        task.d.addCallback(lambda _: None)
        self.settle()
        self.assertEqual(events, ["closed"])

    def test_theWorkersStopWaitsForTheClosing(self) -> None:
        events: list[str] = []
        deferator = self.run1(self.closing(events)).result
        stopped = self.worker.stop()
        self.assertNoResult(stopped)
        self.settle()
        self.assertEqual(events, ["closed"])
        self.assertIsNone(self.successResultOf(stopped))
        self.failureResultOf(Deferred.fromCoroutine(self.rest(deferator)), IterationStopped)

    async def rest(self, deferator: Deferator) -> None:
        async for _ in deferator:
            pass

    def test_whatRaisesWhenItIsClosedIsLogged(self) -> None:
        def items() -> Iterator[int]:
            try:
                while True:
                    yield 0
            finally:
                raise ValueError("no")

        self.run1(items).result.stop()
        self.settle()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertIsNone(self.successResultOf(self.worker.stop()))

    def test_withoutItsExecutorItFails(self) -> None:
        deferator = self.run1(self.closing([])).result
        self.executor.isShutDown = True
        d = Deferred.fromCoroutine(self.rest(deferator))
        error = self.failureResultOf(d, WorkerError).value
        self.assertIn("takes no more jobs", str(error))
        self.assertIsNone(self.successResultOf(self.worker.stop()))

    def closing(self, events: list[str]) -> Callable[[], Iterator[int]]:
        def items() -> Iterator[int]:
            try:
                while True:
                    yield 0
            finally:
                events.append("closed")

        return items


class LossTests(ExecutorCase):
    def setUp(self) -> None:
        super().setUp()
        self.resigned = 0
        self.worker.setResignator(self.resign)

    def resign(self) -> None:
        self.resigned += 1
        self.left = self.worker.crash()

    def test_whatHadBegunDiesWithABrokenExecutor(self) -> None:
        running, ready = self.give(far.echo)
        waiting, _ = self.give(far.echo)
        self.executor.begin()
        assert self.executor.running is not None
        call = self.executor.running[2][0]
        call.near.begun()
        self.executor.breakDown()
        self.clock.advance(0)
        error = running.failure.value
        self.assertIsInstance(error, WorkerDied)
        self.assertIn("StepExecutor", str(error))
        self.assertIn("it fell over", str(error))
        self.assertIsNone(self.successResultOf(ready))
        self.assertEqual(self.resigned, 1)
        self.assertEqual(self.left, [waiting])
        self.assertEqual(self.worker.state, STOPPED)
        self.assertIn("it fell over", repr(self.worker))

    def test_aShutdownByOthersMakesItResignOnceWhatItHasIsDone(self) -> None:
        running, _ = self.give(far.echo, 1)
        self.executor.begin()
        self.executor.shutdown()
        refused, ready = self.give(far.echo, 2)
        self.clock.advance(0)
        self.assertEqual((self.resigned, self.worker.state), (0, LOST))
        self.executor.finish()
        self.assertEqual(running.result, 1)
        self.assertEqual(self.resigned, 1)
        self.assertEqual(self.left, [refused])
        self.assertIsNone(self.successResultOf(ready))

    def test_whatAShutdownCancelsIsGivenBack(self) -> None:
        task, _ = self.give(far.echo, 1)
        self.executor.shutdown(cancel_futures=True)
        self.clock.advance(0)
        self.assertEqual(self.left, [task])

    def test_withNobodyToResignToItsTasksFail(self) -> None:
        self.worker = ExecutorWorker(self.executor, slots=2, reactor=self.clock)
        self.executor.shutdown()
        task, ready = self.give(far.echo, 1)
        self.clock.advance(0)
        self.assertIn("cannot schedule new futures", str(task.failure.value))
        self.assertIsNone(self.successResultOf(ready))
        later, ready = self.give(far.echo, 1)
        self.assertFalse(later.isDone)
        self.clock.advance(0)
        self.assertIn("cannot schedule new futures", str(later.failure.value))
        self.assertIsNone(self.successResultOf(ready))
        self.assertIsNone(self.successResultOf(self.worker.stop()))

    def test_aStopEndsWhatALostWorkerStillHas(self) -> None:
        stream = self.run1(iter, range(100_000)).result
        self.give(far.echo, 1)
        self.executor.begin()
        self.executor.shutdown()
        refused, _ = self.give(far.echo, 2)
        self.clock.advance(0)
        stopped = self.worker.stop()
        self.assertNoResult(stopped)
        self.executor.finish()
        self.assertIsInstance(refused.failure.value, WorkerError)
        self.assertIsNone(self.successResultOf(stopped))
        self.assertEqual((self.worker.state, self.resigned), (STOPPED, 0))
        self.assertTrue(stream.source.isOver)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aQueueGivesItsTasksToAnother(self) -> None:
        other = StepExecutor()
        queue = TaskQueue(
            self.worker, ExecutorWorker(other, slots=1, reactor=self.clock), reactor=self.clock
        )
        self.executor.shutdown()
        tasks = [queue.submit(far.echo, number) for number in range(5)]
        for _ in range(5):
            self.clock.advance(0)
            other.stepAll()
        self.clock.advance(0)
        self.assertEqual([task.result for task in tasks], [0, 1, 2, 3, 4])
        self.assertEqual(len(queue), 1)
        queue.shutdown()

    def test_anExecutorDiedCanBePickled(self) -> None:
        error = ExecutorDied("Pool", "why not")
        for copied in (copy.copy(error), pickle.loads(pickle.dumps(error))):
            self.assertEqual(str(copied), str(error))
            self.assertEqual((copied.executor, copied.why, copied.pid), ("Pool", "why not", None))


class EndTests(ExecutorCase):
    def test_aCrashTakesBackWhatHasNotBegun(self) -> None:
        calls: list[int] = []
        running, _ = self.give(calls.append, 1)
        waiting, ready = self.give(calls.append, 2)
        self.executor.begin()
        self.assertEqual(self.worker.crash(), [running, waiting])
        self.assertIsNone(self.successResultOf(ready))
        self.executor.finish()
        self.settle()
        self.assertEqual(calls, [1])
        self.assertFalse(running.isDone)
        self.assertIsNone(self.successResultOf(self.worker.stop()))

    def test_anIteratorThatComesAfterACrashIsClosed(self) -> None:
        events: list[str] = []

        def items() -> Iterator[int]:
            try:
                while True:
                    yield 0
            finally:
                events.append("closed")

        self.give(items)
        self.executor.begin()
        self.worker.crash()
        self.executor.finish()
        self.settle()
        self.assertEqual(events, ["closed"])

    def test_theExecutorIsLeftRunning(self) -> None:
        self.assertIsNone(self.successResultOf(self.worker.stop()))
        self.assertFalse(self.executor.isShutDown)

    def test_orShutDownIfThatIsWanted(self) -> None:
        self.worker = ExecutorWorker(self.executor, shutdownExecutor=True, reactor=self.clock)
        self.worker.crash()
        self.assertTrue(self.executor.isShutDown)
        self.assertIsNone(self.successResultOf(self.worker.stop()))

    def test_whileItStopsItTakesNothing(self) -> None:
        self.give(far.echo)
        self.worker.stop()
        self.assertRaises(StateError, self.give, far.echo)
