"""
The task that submit returns: its attributes and methods.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from asynqueue import TaskQueue
from asynqueue.errors import TaskTimeout
from asynqueue.iteration import Deferator
from asynqueue.tasks import CANCELLED, FAILED, FINISHED, PENDING, UNDERWAY
from asynqueue.testing import far
from asynqueue.testing.memory import act
from asynqueue.testing.stepworker import StepWorker
from tests.support.cases import QueueCase


class TaskTests(QueueCase):
    def test_itTellsHowFarItIs(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue()
        self.clock.advance(1)
        task = queue.submit(far.add, 1, second=2)
        self.assertEqual((task.state, task.isDone), (PENDING, False))
        self.assertEqual((task.queuedTime, task.startTime, task.stopTime), (1, None, None))
        self.assertIsNone(task.worker)
        self.clock.advance(1)
        queue.attachWorker(worker)
        self.assertEqual((task.state, task.isDone), (UNDERWAY, False))
        self.assertEqual((task.queuedTime, task.startTime, task.stopTime), (1, 2, None))
        self.assertIs(task.worker, worker)
        self.clock.advance(1)
        worker.step()
        self.assertEqual((task.state, task.isDone), (FINISHED, True))
        self.assertEqual((task.queuedTime, task.startTime, task.stopTime), (1, 2, 3))
        self.assertEqual((task.result, task.failure, task.attempts), (3, None, 1))

    def test_itKnowsItsCall(self) -> None:
        task = self.makeQueue(StepWorker()).submit(far.add, 1, second=2, niceness=7)
        self.assertEqual(task.callTuple, (far.add, (1,), {"second": 2}))
        self.assertEqual((task.options.niceness, task.series), (7, None))
        self.assertEqual(repr(task), "<task 1 add: UNDERWAY>")

    def test_idsCountUp(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        tasks = [queue.submit(far.echo) for _ in range(3)]
        self.assertEqual([task.id for task in tasks], [1, 2, 3])

    def test_aFailedOneKeepsItsFailure(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        task = queue.submit(far.refuse)
        self.errorOf(task.d, ValueError)
        self.assertEqual((task.state, task.result), (FAILED, None))
        self.assertIsInstance(task.failure.value, ValueError)

    def test_itsDeferredIsThatOfACall(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        self.assertEqual(self.resultOf(queue.submit(far.echo, 1).d), 1)
        deferator = self.resultOf(queue.submit(far.numbers, 3).d)
        self.assertIsInstance(deferator, Deferator)


class WaitingTests(QueueCase):
    def wait(self, task: Any) -> Deferred[Any]:
        """
        Await it in a coroutine.
        """

        async def wait() -> Any:
            return await task

        return Deferred.fromCoroutine(wait())

    def test_itCanBeAwaitedAgainAndAgain(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        task = queue.submit(far.echo, 1)
        before = [self.wait(task), self.wait(task)]
        self.assertEqual([self.resultOf(d) for d in before], [1, 1])
        self.assertEqual(self.resultOf(self.wait(task)), 1)
        self.assertEqual(self.resultOf(task.d), 1)

    def test_aFailureIsRaisedInEveryoneWhoAwaitsIt(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        task = queue.submit(far.refuse)
        before = [self.wait(task), self.wait(task)]
        for d in before:
            self.errorOf(d, ValueError)
        self.errorOf(self.wait(task), ValueError)

    def test_aFailureThatWasAwaitedAfterwardsIsHandled(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        task = queue.submit(far.refuse)
        self.settle()
        self.errorOf(self.wait(task), ValueError)
        del task
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_whenDoneTellsTheOutcomeAndLeavesTheDeferredAlone(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        task = queue.submit(far.echo, 1)
        waiters = [task.whenDone(), task.whenDone()]
        task.d.addCallback(lambda result: result + 1)
        self.settle()
        waiters.append(task.whenDone())
        self.assertEqual([self.resultOf(waiter) for waiter in waiters], [1, 1, 1])
        self.assertEqual(self.resultOf(task.d), 2)

    def test_whenDoneDoesNotWaitForTheDeferredsOtherCallbacks(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        task = queue.submit(far.echo, 1)
        task.d.addCallback(lambda _: Deferred())
        self.settle()
        self.assertEqual(self.resultOf(task.whenDone()), 1)

    def test_whenDoneOfACancelledTaskFails(self) -> None:
        queue = self.makeQueue()
        task = queue.submit(far.echo)
        before = task.whenDone()
        task.cancel()
        self.errorOf(before, CancelledError)
        self.errorOf(task.whenDone(), CancelledError)
        self.assertEqual(task.state, CANCELLED)


class MemoryTests(QueueCase):
    """
    Nothing keeps a task that is done: neither the queue, its worker, nor a cycle of references.
    """

    def setUp(self) -> None:
        super().setUp()
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)

    def check(
        self,
        function: Callable[..., Any],
        *args: Any,
        act: Callable[[Any], object] = lambda task: None,
        **options: Any,
    ) -> None:
        """
        Run a call to its end, and see that its arguments and its Deferred are gone.

        @param act: what to do with the task when it was put.
        """
        worker = self.makeWorker()
        worker.actions["die"] = worker.die
        worker.actions["hang"] = self.clock.advance
        queue = self.makeQueue(worker)
        self.settle()
        thing = far.Thing()
        task: Any = queue.submit(function, *args, thing, **options)
        refs: list[weakref.ref[Any]] = [weakref.ref(thing), weakref.ref(task.d)]
        task.d.addErrback(lambda _: None)
        act(task)
        del thing
        self.settle()
        self.assertTrue(task.isDone)
        self.clock.advance(10)
        del task
        self.assertEqual([ref() for ref in refs], [None, None])

    def test_aFinishedOne(self) -> None:
        self.check(far.keywords)

    def test_aFinishedOneWithATimeout(self) -> None:
        self.check(far.keywords, timeout=1)

    def test_aFailedOne(self) -> None:
        self.check(far.square)

    def test_aCancelledOne(self) -> None:
        self.check(far.keywords, act=lambda task: task.cancel())

    def test_anAwaitedOne(self) -> None:
        self.check(far.keywords, act=lambda task: task.whenDone())

    def test_anAwaitedOneThatFails(self) -> None:
        self.check(far.square, act=lambda task: task.whenDone().addErrback(lambda _: None))

    def test_aTimedOutOne(self) -> None:
        self.check(hang, timeout=1)

    def test_oneWhoseRunnerDied(self) -> None:
        self.check(die)

    def test_oneThatCannotBePickled(self) -> None:
        self.check(far.keywords, lambda: None)

    def test_oneWhoseResultCannotBeRebuilt(self) -> None:
        self.check(makeBomb)

    def test_onesDeferratorThatWasStopped(self) -> None:
        self.check(numbers, act=lambda task: task.d.addCallback(lambda result: result.stop()))

    def test_oneThatWasPendingInAQueueThatShutDown(self) -> None:
        queue = self.makeQueue()
        task: Any = queue.submit(far.echo)
        ref = weakref.ref(task.d)
        task.d.addErrback(lambda _: None)
        self.resultOf(queue.shutdown())
        del task
        self.assertIsNone(ref())

    def test_oneThatTimedOutOnASlowWorker(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        task: Any = queue.submit(far.echo, timeout=1)
        ref = weakref.ref(task.d)
        self.clock.advance(1)
        self.errorOf(task.d, TaskTimeout)
        worker.finish()
        worker.past.clear()
        del task
        self.assertIsNone(ref())

    def test_theQueueKeepsNoBooksOfThePast(self) -> None:
        worker = self.makeWorker()
        queue = self.makeQueue(worker)
        self.makeManyCalls(queue, worker)
        before = self.sizes(queue, worker)
        self.makeManyCalls(queue, worker)
        self.assertEqual(self.sizes(queue, worker), before)

    def makeManyCalls(self, queue: TaskQueue, worker: Any) -> None:
        for options in ({}, {"niceness": 3}, {"timeout": 9}, {"doNext": True}, {"doLast": True}):
            self.resultOf(queue.call(far.echo, **options))
            self.errorOf(queue.call(far.refuse, **options), ValueError)
            d = queue.call(far.echo, **options)
            d.cancel()
            self.errorOf(d, CancelledError)
        for series in range(10):
            queue.qualifyWorker(worker, "x")
            self.resultOf(queue.call(far.echo, series="x"))
            d = queue.call(far.echo, series=series)
            d.cancel()
            self.errorOf(d, CancelledError)
        self.resultOf(queue.update(far.echo, ephemeral=True))
        self.clock.advance(10)

    def sizes(self, *owners: Any) -> dict[str, int]:
        """
        @return: how much is in each of the collections that are reached from some objects of ours.
        """
        sizes: dict[str, int] = {}
        seen: set[int] = set()
        known = ("functions", "sent", "signals", "qualified", "iQualified", "runTimes")
        todo = [(type(owner).__name__, owner) for owner in owners]
        while todo:
            path, owner = todo.pop()
            if id(owner) in seen:
                continue
            seen.add(id(owner))
            names = [*getattr(owner, "__dict__", ()), *getattr(type(owner), "__slots__", ())]
            for name in names:
                value = getattr(owner, name, None)
                if name.strip("_") in known:
                    continue
                if isinstance(value, dict | list | set):
                    sizes[f"{path}.{name}"] = len(value)
                elif type(value).__module__.startswith("asynqueue"):
                    todo.append((f"{path}.{name}", value))
        return sizes


def hang(_: Any) -> None:
    act("hang", 1)


def die(_: Any) -> None:
    act("die")


def makeBomb(_: Any) -> far.Bomb:
    return far.Bomb()


def numbers(_: Any) -> Any:
    return far.numbers(3)
