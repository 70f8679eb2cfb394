"""
What a queue's calls find on a Dask cluster.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from twisted.internet.defer import DeferredList, gatherResults
from twisted.trial.unittest import TestCase

from asynqueue import DaskWorker, TaskQueue
from asynqueue.errors import DaskWorkerDied, PoisonTask
from asynqueue.testing import far
from asynqueue.tools import Delay
from tests.dask import cluster, tasks


class DaskCase(TestCase):
    timeout = 30.0

    def setUp(self) -> None:
        cluster.untilComplete()
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.begun = os.path.join(folder.name, "begun")
        self.ended = os.path.join(folder.name, "ended")

    def queue(self, **options: Any) -> tuple[TaskQueue, DaskWorker]:
        worker = cluster.worker(**options)
        queue = TaskQueue(worker, timeout=5)
        self.addCleanup(queue.shutdown)
        return queue, worker

    def drop(self, task: Any) -> None:
        task.d.addErrback(lambda _: None)
        task.cancel()

    async def until(self, isSo: Callable[[], bool], what: str) -> None:
        await Delay(timeout=15.0).untilEvent(isSo)
        self.assertTrue(isSo(), what)

    def read(self, path: str) -> list[str]:
        if not os.path.exists(path):
            return []
        with open(path) as file:
            return file.read().split()


class CancelTests(DaskCase):
    async def _cancelled(self, function: Any, expected: str) -> None:
        queue, _ = self.queue()
        task = queue.submit(function, self.begun, self.ended)
        await self.until(lambda: bool(self.read(self.begun)), "the call begins")
        self.drop(task)
        await self.until(lambda: bool(self.read(self.ended)), "the call ends")
        self.assertEqual(self.read(self.ended), [expected])
        self.assertEqual(await queue.call(far.add, 1, 2), 3)

    async def test_aCallThatIsCancelledIsInterrupted(self) -> None:
        await self._cancelled(tasks.spin, "TaskInterrupted")

    async def test_aCoroutineThatIsCancelledIsCancelledThere(self) -> None:
        await self._cancelled(tasks.doze, "CancelledError")

    async def test_aCallThatIsOutOfTimeIsInterrupted(self) -> None:
        queue, _ = self.queue()
        task = queue.submit(tasks.spin, self.begun, self.ended)
        await self.until(lambda: bool(self.read(self.begun)), "the call begins")
        self.drop(task)
        with self.assertRaises(TimeoutError):
            await queue.options(timeout=0.5).call(tasks.spin, self.begun, self.ended)
        await self.until(lambda: len(self.read(self.ended)) == 2, "both calls end")

    async def test_aStreamThatIsStoppedIsInterruptedBetweenItems(self) -> None:
        queue, _ = self.queue()
        deferator = await queue.call(tasks.spinItems, self.begun, self.ended)
        async for item in deferator:
            self.assertEqual(item, 1)
            break
        await self.until(lambda: bool(self.read(self.begun)), "the generator is busy")
        deferator.stop()
        await self.until(lambda: bool(self.read(self.ended)), "the generator ends")
        self.assertEqual(self.read(self.ended), ["TaskInterrupted"])

    async def test_aDaskWorkerIsRestartedIfACallCannotBeInterrupted(self) -> None:
        queue, _ = self.queue(restartWorkers=True)
        before = cluster.addresses()
        task = queue.submit(tasks.sleepLong, self.begun)
        await self.until(lambda: bool(self.read(self.begun)), "the call begins")
        self.drop(task)
        await self.until(
            lambda: len(before - cluster.addresses()) == 1, "the Dask worker is replaced"
        )


class DeathTests(DaskCase):
    async def test_aCallWhoseDaskWorkerDiesFailsAndIsNotRunAgain(self) -> None:
        queue, worker = self.queue()
        with self.assertRaises(DaskWorkerDied) as caught:
            await queue.call(tasks.dieOnce, self.begun)
        self.assertEqual(caught.exception.begun, "yes")
        self.assertEqual(worker.repeated, 1, "Dask has tried to run it again")
        self.assertEqual(await queue.call(far.add, 1, 2), 3)
        self.assertEqual(self.read(self.begun), ["run"])

    async def test_aDeathCostsOnlyTheCallThatRanOfThoseThatTravelledTogether(self) -> None:
        queue, worker = self.queue()
        # When they were measured to be short, they travel together.
        for _ in range(3):
            await queue.call(tasks.stepOrDie, os.devnull, 0, -1)
        outcomes: list[Any] = await DeferredList(
            [queue.call(tasks.stepOrDie, self.begun, number, 17) for number in range(40)],
            consumeErrors=True,
        )
        failed = [number for number, (isSound, _) in enumerate(outcomes) if not isSound]
        self.assertEqual(failed, [17])
        self.assertEqual(outcomes[17][1].value.begun, "yes")
        self.assertEqual(
            [value for isSound, value in outcomes if isSound], [*range(17), *range(18, 40)]
        )
        self.assertEqual(sorted(map(int, self.read(self.begun))), list(range(40)), "each ran once")
        self.assertEqual(worker.repeated, 1)

    async def test_anIdempotentCallRunsAgain(self) -> None:
        queue, _ = self.queue()
        self.assertEqual(await queue.options(idempotent=True).call(tasks.dieOnce, self.begun), 2)

    async def test_anIdempotentCallThatKillsEachTimeIsPoison(self) -> None:
        queue, _ = self.queue()
        with self.assertRaises(PoisonTask):
            await queue.options(idempotent=True).call(os._exit, 3)


class CallTests(DaskCase):
    async def test_manySmallCallsShareTasksOfDasks(self) -> None:
        queue, _ = self.queue()
        await queue.call(abs, -1)
        numbers = range(2000)
        results = await gatherResults([queue.call(abs, -number) for number in numbers])
        self.assertEqual(results, list(numbers))

    async def test_aSlowCallDoesNotHoldUpThoseThatCameWithIt(self) -> None:
        queue, _ = self.queue()
        await queue.call(far.echo)
        await gatherResults([queue.call(tasks.tenth, number) for number in range(10)])

    async def test_contextVariablesTravel(self) -> None:
        worker = cluster.worker()
        queue = TaskQueue(worker, contextvars=["tests.dask.tasks.asked"])
        self.addCleanup(queue.shutdown)
        tasks.asked.set("me")
        self.assertEqual(await queue.call(tasks.whoAsked), "me")

    async def test_progressTravels(self) -> None:
        queue, _ = self.queue()
        task = queue.submit(tasks.reportSteps, 10)
        await self.until(lambda: task.progress is not None, "progress is told underway")
        assert task.progress is not None
        self.assertEqual(task.progress.total, 10)
        self.assertEqual(await task.whenDone(), 10)
        self.assertEqual(task.progress.done, 10)

    async def test_whatIsLoggedThereIsLoggedHere(self) -> None:
        queue, _ = self.queue()
        records: list[logging.LogRecord] = []
        handler = logging.Handler()
        handler.addFilter(lambda record: bool(records.append(record)))  # type: ignore[func-returns-value]
        logger = logging.getLogger("tests.dask.tasks")
        logger.addHandler(handler)
        self.addCleanup(logger.removeHandler, handler)
        await queue.call(tasks.logSomething, "mind the gap")
        self.assertEqual([record.getMessage() for record in records], ["mind the gap"])


class ClusterTests(DaskCase):
    async def test_anUpdateReachesPresentAndLaterDaskWorkers(self) -> None:
        queue, _ = self.queue()
        (pids,) = await queue.update(tasks.prepare, "now")
        self.assertEqual(sorted(pids), sorted(cluster.pids()))
        cluster.kill(*cluster.addresses())
        cluster.untilComplete()
        self.assertEqual(await queue.call(tasks.prepared), ["now"])

    async def test_twoWorkersMayShareAClient(self) -> None:
        (first, _), (second, _) = self.queue(), self.queue()
        results = await gatherResults(
            [queue.call(far.add, 1, n) for n, queue in enumerate((first, second))]
        )
        self.assertEqual(results, [1, 2])

    async def test_capacityFollowsTheCluster(self) -> None:
        queue, worker = self.queue()
        await self.until(lambda: worker.capacity.slots == 2, "the threads are counted")
        cluster.scale(3)
        await self.until(lambda: worker.capacity.slots == 3, "there are more threads")
        place = worker.facts().place
        self.assertEqual((place["threads"], place["missing"], place["repeated"]), (3, [], 0))
        self.assertGreater(place["workers"], 1)
        cluster.scale(2)
        await self.until(lambda: worker.capacity.slots == 2, "there are fewer threads")
        self.assertEqual(len(queue), 1, "it is one worker all the time")

    async def test_aSeriesNeedsItsResource(self) -> None:
        queue, worker = self.queue(resources={"gpu": {"GPU": 1}})
        task = queue.submit(far.add, 1, 2, series="gpu")
        self.assertEqual(await queue.call(far.add, 3, 4), 7, "other series are not held up")
        self.assertEqual(worker.missing, {"GPU"})
        self.assertFalse(task.isDone)
        self.drop(task)

    async def test_aSeriesRunsWhereItsResourceIs(self) -> None:
        address = min(cluster.addresses())
        (pid,) = cluster.client().run(tasks.offer, FPGA=1, workers=[address]).values()
        self.addCleanup(cluster.client().run, tasks.offer, FPGA=0, workers=[address])
        queue, worker = self.queue(resources={"fpga": {"FPGA": 1}})
        calls = [queue.call(os.getpid, series="fpga") for _ in range(8)]
        self.assertEqual(set(await gatherResults(calls)), {pid})
        await self.until(lambda: not worker.missing, "the resource is seen")

    async def test_aLowerNicenessIsAHigherPriorityForDask(self) -> None:
        queue, _ = self.queue()
        priorities: list[int] = []
        submit = cluster.client().submit

        def submitNoting(*args: Any, **options: Any) -> Any:
            priorities.append(options["priority"])
            return submit(*args, **options)

        self.patch(cluster.client(), "submit", submitNoting)
        for niceness in (-5, 0, 20):
            await queue.call(far.add, 1, 2, niceness=niceness)
        self.assertEqual(priorities, [5, 0, -20])


class Old:
    """
    A task of AsynQueue 0.9's shape.
    """

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.callTuple: tuple[Any, list[Any], dict[str, Any]] = (function, list(args), {})
        self.told: list[Any] = []

    def callback(self, result: Any) -> None:
        self.told.append(result)


class OldTaskTests(DaskCase):
    async def test_aTaskOfAsynQueue09IsToldItsResult(self) -> None:
        worker, old = cluster.worker(), Old(far.add, 1, 2)
        self.addCleanup(worker.stop)
        await worker.run(old)
        self.assertEqual(old.told, [(b"r", 3)])

    def test_aCrashReturnsTheTasksThemselves(self) -> None:
        worker, olds = cluster.worker(), [Old(far.echo, number) for number in range(3)]
        self.addCleanup(worker.stop)
        for old in olds:
            worker.run(old)
        self.assertEqual(worker.crash(), olds)
        self.assertEqual([old.told for old in olds], [[]] * 3)


def test_withoutTheExtraItSaysWhichCommandBringsIt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"pip install 'asynqueue2\[dask\]'"):
        DaskWorker()
