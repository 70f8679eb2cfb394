"""
The promises of workers with a runner, as test cases: of all of them, of those that pickle their
calls, and of those whose runners can be killed.
"""

# Trial's assertions carry no annotations.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zope.interface.verify import verifyObject

from asynqueue._core.states import CANCELLED, UNDERWAY
from asynqueue._queue.queuedtask import QueuedTask
from asynqueue.errors import (
    CallNotPicklable,
    RemoteError,
    ResultNotPicklable,
    ResultNotRebuilt,
    StateError,
    WorkerDied,
)
from asynqueue.interfaces import IPoolWorker, IWorker
from asynqueue.testing import far
from asynqueue.testing.contract import WorkerContract
from asynqueue.testing.iterating import IteratingWorkerContract
from asynqueue.tools.consumers import ListConsumer


class FarWorkerContract(WorkerContract):
    """
    Tests L{WorkerContract<asynqueue.testing.WorkerContract>}, and what every provider of
    L{IPoolWorker<asynqueue.interfaces.IPoolWorker>} promises beyond it. Use this for a backend of
    your own, that is, for a subclass of
    L{ChannelWorker<asynqueue._workers.channelworker.ChannelWorker>}. Add
    L{IteratingWorkerContract<asynqueue.testing.IteratingWorkerContract>}, add
    L{PicklingWorkerContract<asynqueue.testing.PicklingWorkerContract>} unless the runner shares
    this process's memory, and add
    L{MortalRunnerContract<asynqueue.testing.MortalRunnerContract>} if a runner can be killed::

        class MyWorkerTests(FarWorkerContract, IteratingWorkerContract, TestCase):
            def makeWorker(self):
                return MyWorker()
    """

    def giveMany(self, worker: IPoolWorker, count: int) -> list[QueuedTask]:
        """
        Send a worker several tasks, each with its number as its result.
        """
        tasks = [self.owner.make(far.echo, number) for number in range(count)]
        for task in tasks:
            task.start(worker, 0.0)
        self.assertEqual(list(worker.runMany(tasks)), [], "all of them can be sent")
        return tasks

    async def test_itProvidesIPoolWorker(self) -> None:
        worker = await self.start()
        self.assertTrue(IPoolWorker.providedBy(worker))
        verifyObject(IPoolWorker, worker)

    async def test_tasksThatAreSentAheadRunInOrder(self) -> None:
        worker = await self.start()
        ended: list[object] = []
        tasks = self.giveMany(worker, 20)
        for task in tasks:
            task.d.addCallback(ended.append)
        await self.ending(tasks[-1])
        self.assertEqual(ended, list(range(20)), "tasks run in the order in which they were given")

    async def test_aCrashGivesBackEverythingInItsOrder(self) -> None:
        worker = await self.start()
        tasks = self.giveMany(worker, 5)
        self.assertEqual(worker.crash(), tasks)

    async def test_runIsOverWithACrash(self) -> None:
        worker = await self.start()
        task, ready = self.give(worker, far.echo)
        worker.crash()
        await self.wait(ready)
        self.assertEqual(task.state, UNDERWAY)

    async def test_aCancelledTaskIsNotHeardOfAgain(self) -> None:
        worker = await self.start()
        first, second, third = self.giveMany(worker, 3)
        self.dropTask(worker, second)
        self.assertEqual(await self.ending(third), 2, "what comes after a cancelled task runs")
        self.assertEqual(await self.ending(first), 0)
        self.assertEqual(second.state, CANCELLED)

    async def test_exitingATaskIsItsFailure(self) -> None:
        worker = await self.start()
        task, _ = self.give(worker, far.exit, 3)
        self.assertIsInstance(await self.ending(task), SystemExit)
        await self.assertWorks(worker, "a task that called sys.exit()")

    async def test_itSaysThatItHasStopped(self) -> None:
        worker = await self.start()
        await self.wait(worker.stop())
        await self._assertSaysSo(worker)

    async def test_itSaysThatItHasCrashed(self) -> None:
        worker = await self.start()
        worker.crash()
        await self._assertSaysSo(worker)

    async def _assertSaysSo(self, worker: IWorker) -> None:
        task, ready = self.give(worker, far.echo)
        with self.assertRaises(StateError):
            await self.wait(ready)
        self.assertEqual(task.state, UNDERWAY, "the worker does not end a task that it refuses")


class PicklingWorkerContract(WorkerContract):
    """
    Tests L{WorkerContract<asynqueue.testing.WorkerContract>}, and that a value which cannot travel
    fails its own task and no other. Use this together with
    L{FarWorkerContract<asynqueue.testing.FarWorkerContract>} and
    L{IteratingWorkerContract<asynqueue.testing.IteratingWorkerContract>}.
    """

    async def assertFails(
        self,
        worker: IWorker,
        kind: type[BaseException],
        function: Callable[..., object],
        *args: object,
    ) -> Any:
        """
        Check that a task fails, and that a task after it succeeds.

        @return: the exception of the first task.
        """
        bad, _ = self.give(worker, function, *args)
        error = await self.ending(bad)
        self.assertIsInstance(error, kind)
        await self.assertWorks(worker, f"a task that fails with {kind.__name__}")
        return error

    async def test_whatIsSentIsACopy(self) -> None:
        worker = await self.start()
        items = [1, 2]
        task, _ = self.give(worker, far.append, items, 3)
        self.assertEqual(await self.ending(task), [1, 2, 3])
        self.assertEqual(items, [1, 2], "a function gets copies of its arguments")

    async def test_anArgumentThatCannotBePickledFailsAlone(self) -> None:
        worker = await self.start()
        error = await self.assertFails(worker, CallNotPicklable, far.echo, lambda: None)
        self.assertIn("argument 1", str(error), "the error says what cannot be pickled")

    async def test_aFunctionThatCannotBePickledFailsAlone(self) -> None:
        worker = await self.start()
        await self.assertFails(worker, CallNotPicklable, lambda: None)

    async def test_whatWasNotSentLeavesTheWorkerFree(self) -> None:
        worker = await self.start()
        _, ready = self.give(worker, far.echo, lambda: None)
        await self.wait(ready)

    async def test_aResultThatCannotBePickledFailsAlone(self) -> None:
        worker = await self.start()
        await self.assertFails(worker, ResultNotPicklable, far.makeLambda)

    async def test_aResultThatCannotBeRebuiltFailsAlone(self) -> None:
        worker = await self.start()
        for exits in (False, True):
            await self.assertFails(worker, ResultNotRebuilt, far.makeBomb, exits)

    async def test_anExceptionThatCannotTravelArrivesAsText(self) -> None:
        worker = await self.start()
        for function, text in (
            (far.raiseUnpicklable, "stays here"),
            (far.raiseUnrebuildable, "arrives as text"),
        ):
            error = await self.assertFails(worker, RemoteError, function)
            self.assertEqual(error.text, text)
            self.assertIn(error.traceback, str(error.__cause__), "the cause is the far traceback")

    async def test_anItemThatCannotTravelComesAfterThoseBefore(self) -> None:
        worker = await self.start()
        for function, kind in ((far.lambdas, ResultNotPicklable), (far.bombs, ResultNotRebuilt)):
            consumer = ListConsumer()
            task, _ = self.give(worker, function, 3, consumer=consumer)
            self.assertIsInstance(await self.ending(task), kind)
            self.assertEqual(await self.wait(consumer()), [0, 1, 2])
        await self.assertWorks(worker, "items that cannot travel")


class MortalRunnerContract(FarWorkerContract, IteratingWorkerContract):
    """
    Tests L{FarWorkerContract<asynqueue.testing.FarWorkerContract>}, L{IteratingWorkerContract
    <asynqueue.testing.IteratingWorkerContract>}, and what happens when a runner is killed::

        class MyWorkerTests(MortalRunnerContract, PicklingWorkerContract, TestCase):
            def makeWorker(self):
                return MyWorker()

            def killRunner(self, worker):
                os.kill(worker.pid, signal.SIGKILL)
    """

    # It is a worker as makeWorker() makes it, with members of its own.
    def killRunner(self, worker: Any) -> None:
        """
        Kill the worker's present runner, from outside. Override this.
        """
        raise NotImplementedError("override killRunner() so that it kills the worker's runner")

    async def test_theRunnerIsReplacedWhenItDies(self) -> None:
        worker = await self.start()
        self.killRunner(worker)
        self.pump()
        # The dying runner may get the message, but does not begin the call.
        await self.assertWorks(worker, "the death of its runner")

    async def test_aDeathCostsAtMostTheTaskThatWasBegun(self) -> None:
        worker = await self.start()
        held, _, _ = await self.hold(worker)
        others = self.giveMany(worker, 3)
        self.killRunner(worker)
        self.pump()
        error = await self.ending(held)
        self.assertTrue(error is None or isinstance(error, WorkerDied), repr(error))
        for number, task in enumerate(others):
            self.assertEqual(
                await self.ending(task), number, "a task that had not begun runs in the next runner"
            )

    async def test_aDeathInMidStreamComesAfterTheItems(self) -> None:
        worker = await self.start()
        deferator, _ = await self.iterate(worker, far.endless)
        self.assertEqual(await self.items(deferator, 1), [0])
        self.killRunner(worker)
        taken = [0]
        with self.assertRaises(WorkerDied):
            while True:
                taken += await self.items(deferator, 1)
        self.assertTrue(
            taken == list(range(len(taken))), "the items that arrived before it are in order"
        )
