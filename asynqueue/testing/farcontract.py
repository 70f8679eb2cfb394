"""
What workers with a runner promise besides, as tests.
"""

# Trial's assertions carry no annotations.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from zope.interface.verify import verifyObject

from asynqueue._core.states import CANCELLED, UNDERWAY
from asynqueue._queue.queuedtask import QueuedTask
from asynqueue.errors import StateError
from asynqueue.interfaces import IPoolWorker
from asynqueue.testing import far
from asynqueue.testing.contract import WorkerContract


class FarWorkerContract(WorkerContract):
    """
    L{WorkerContract<asynqueue.testing.WorkerContract>}, and what every provider of
    L{IPoolWorker<asynqueue.interfaces.IPoolWorker>} promises besides. Take this one to test
    a backend of your own, that is, a subclass of
    L{ChannelWorker<asynqueue._workers.channelworker.ChannelWorker>}; with
    L{IteratingWorkerContract<asynqueue.testing.IteratingWorkerContract>}, with
    L{PicklingWorkerContract<asynqueue.testing.PicklingWorkerContract>} unless the runner shares
    this process's memory, and with
    L{MortalRunnerContract<asynqueue.testing.MortalRunnerContract>} if it can be killed::

        class MyWorkerTests(FarWorkerContract, IteratingWorkerContract, TestCase):
            def makeWorker(self):
                return MyWorker()
    """

    def giveMany(self, worker: Any, count: int) -> list[QueuedTask]:
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
        ended: list[Any] = []
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

    async def _assertSaysSo(self, worker: Any) -> None:
        task, ready = self.give(worker, far.echo)
        with self.assertRaises(StateError):
            await self.wait(ready)
        self.assertEqual(task.state, UNDERWAY, "a task that is refused is left to who gave it")
