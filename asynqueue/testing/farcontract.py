"""
What every worker with a universe promises besides, as tests.
"""

from __future__ import annotations

import os
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyClass, verifyObject

from asynqueue.errors import (
    CallNotPicklable,
    IterationStopped,
    RemoteError,
    ResultNotPicklable,
    ResultNotRebuilt,
    WorkerDied,
)
from asynqueue.interfaces import IUniverseWorker
from asynqueue.iteration import Deferator, ListConsumer
from asynqueue.tasks.states import CANCELLED
from asynqueue.testing import far
from asynqueue.testing.contract import WorkerContract


class FarWorkerContract(WorkerContract):
    """
    What every provider of C{IUniverseWorker} promises.
    """

    def killUniverse(self, worker: Any) -> None:
        """
        Kill the worker's present universe, from outside.
        """
        raise NotImplementedError

    def scratchFolder(self) -> str:
        """
        @return: the path of a folder for this test.
        """
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return folder.name

    async def items(self, deferator: Deferator, count: int) -> list[Any]:
        """
        Take some items.
        """
        taken: list[Any] = []
        while len(taken) < count:
            taken.append(await self.wait(Deferred.fromCoroutine(deferator.__anext__())))
        return taken

    async def test_itProvidesIUniverseWorker(self) -> None:
        worker = await self.start()
        verifyObject(IUniverseWorker, worker)
        verifyClass(IUniverseWorker, type(worker))

    # Order
    # --------------------------------------------------------------------------------------------

    async def test_tasksThatAreSentAheadRunInOrder(self) -> None:
        worker = await self.start()
        ended: list[Any] = []
        tasks = [self.keeper.make(far.echo, number) for number in range(20)]
        for task in tasks:
            task.start(worker, 0.0)
            task.d.addCallback(ended.append)
        worker.runMany(tasks)
        await self.ending(tasks[-1])
        assert ended == list(range(20))

    async def test_aCrashGivesBackEverythingInItsOrder(self) -> None:
        worker = await self.start()
        tasks = [self.keeper.make(far.echo, number) for number in range(5)]
        for task in tasks:
            task.start(worker, 0.0)
        worker.runMany(tasks)
        assert worker.crash() == tasks

    # What cannot travel
    # -----------------------------------------------------------------------------------

    async def test_aCallThatCannotBePickledFailsAlone(self) -> None:
        worker = await self.start()
        bad, ready = self.give(worker, far.echo, lambda: None)
        assert isinstance(await self.ending(bad), CallNotPicklable)
        await self.wait(ready)
        good, _ = self.give(worker, far.echo, 1)
        assert await self.ending(good) == 1

    async def test_aFunctionThatCannotBePickledFailsAlone(self) -> None:
        worker = await self.start()
        bad, _ = self.give(worker, lambda: None)
        assert isinstance(await self.ending(bad), CallNotPicklable)
        good, _ = self.give(worker, far.echo, 1)
        assert await self.ending(good) == 1

    async def test_aResultThatCannotBePickledFailsAlone(self) -> None:
        worker = await self.start()
        bad, _ = self.give(worker, far.makeLambda)
        good, _ = self.give(worker, far.echo, 1)
        assert isinstance(await self.ending(bad), ResultNotPicklable)
        assert await self.ending(good) == 1

    async def test_aResultThatCannotBeRebuiltFailsAlone(self) -> None:
        worker = await self.start()
        for exits in (False, True):
            bad, _ = self.give(worker, far.makeBomb, exits)
            good, _ = self.give(worker, far.echo, 1)
            assert isinstance(await self.ending(bad), ResultNotRebuilt)
            assert await self.ending(good) == 1

    async def test_anExceptionThatCannotTravelArrivesAsText(self) -> None:
        worker = await self.start()
        for function, text in (
            (far.raiseUnpicklable, "stays here"),
            (far.raiseUnrebuildable, "arrives as text"),
        ):
            task, _ = self.give(worker, function)
            error = await self.ending(task)
            assert isinstance(error, RemoteError)
            assert error.text == text
            assert error.traceback in str(error.__cause__)

    async def test_exitingATaskIsItsFailure(self) -> None:
        worker = await self.start()
        task, _ = self.give(worker, far.exit, 3)
        assert isinstance(await self.ending(task), SystemExit)
        good, _ = self.give(worker, far.echo, 1)
        assert await self.ending(good) == 1

    # Iteration
    # --------------------------------------------------------------------------------------------

    async def test_anIteratorBecomesADeferator(self) -> None:
        worker = await self.start()
        task, _ = self.give(worker, far.numbers, 5)
        deferator = await self.ending(task)
        assert isinstance(deferator, Deferator)
        assert await self.items(deferator, 5) == [0, 1, 2, 3, 4]
        with self.assertRaises(StopAsyncIteration):
            await self.items(deferator, 1)

    async def test_moreItemsThanAnyCreditArriveInOrder(self) -> None:
        worker = await self.start()
        consumer = ListConsumer()
        task, _ = self.give(worker, far.numbers, 50_000, consumer=consumer)
        assert await self.ending(task) is consumer
        assert await self.wait(consumer()) == list(range(50_000))

    async def test_anEmptyIteratorIsStillOne(self) -> None:
        worker = await self.start()
        task, _ = self.give(worker, far.numbers, 0)
        deferator = await self.ending(task)
        with self.assertRaises(StopAsyncIteration):
            await self.items(deferator, 1)

    async def test_anIterationsFailureComesAfterItsItems(self) -> None:
        worker = await self.start()
        task, _ = self.give(worker, far.numbersUntilRefused, 3)
        deferator = await self.ending(task)
        assert await self.items(deferator, 3) == [0, 1, 2]
        with self.assertRaises(ValueError):
            await self.items(deferator, 1)

    async def test_aRawIteratorComesBackAsItIs(self) -> None:
        worker = await self.start()
        task, _ = self.give(worker, far.echo, iter([1, 2]), raw=True)
        result = await self.ending(task)
        assert not isinstance(result, Deferator)
        assert list(result) == [1, 2]

    async def test_stoppingEarlyClosesTheGenerator(self) -> None:
        worker = await self.start()
        path = os.path.join(self.scratchFolder(), "closed")
        task, _ = self.give(worker, far.endlessUntilClosed, path)
        deferator = await self.ending(task)
        assert await self.items(deferator, 1) == [0]
        deferator.stop()
        await self.wait(worker.stop())
        assert os.path.exists(path)

    async def test_severalStreamsAndCallsShareAWorker(self) -> None:
        worker = await self.start()
        first, _ = self.give(worker, far.endless)
        second, _ = self.give(worker, far.endless)
        deferators = [await self.ending(task) for task in (first, second)]
        call, _ = self.give(worker, far.echo, "between")
        assert await self.ending(call) == "between"
        for deferator in deferators:
            assert await self.items(deferator, 3) == [0, 1, 2]
            deferator.stop()

    async def test_stopEndsAnIteration(self) -> None:
        worker = await self.start()
        task, _ = self.give(worker, far.endless)
        deferator = await self.ending(task)
        stopped = worker.stop()
        with self.assertRaises(IterationStopped):
            while True:
                await self.items(deferator, 1)
        await self.wait(stopped)

    # Death
    # --------------------------------------------------------------------------------------------

    async def test_theUniverseIsReplacedWhenItDies(self) -> None:
        worker = await self.start()
        self.killUniverse(worker)
        self.pump()
        task, _ = self.give(worker, far.echo, "still here")
        # The message may have gone to the universe that was dying, but then it was not begun.
        assert await self.ending(task) == "still here"

    async def test_aDeathInMidStreamComesAfterTheItems(self) -> None:
        worker = await self.start()
        task, _ = self.give(worker, far.endless)
        deferator = await self.ending(task)
        assert await self.items(deferator, 1) == [0]
        self.killUniverse(worker)
        taken = [0]
        with self.assertRaises(WorkerDied):
            while True:
                taken += await self.items(deferator, 1)
        assert taken == list(range(len(taken)))

    async def test_aCancelledTaskIsNotHeardOfAgain(self) -> None:
        worker = await self.start()
        first, _ = self.give(worker, far.echo, 1)
        second, _ = self.give(worker, far.echo, 2)
        third, _ = self.give(worker, far.echo, 3)
        assert second.cancel()
        worker.cancel(second)
        assert await self.ending(third) == 3
        assert await self.ending(first) == 1
        assert second.state == CANCELLED
