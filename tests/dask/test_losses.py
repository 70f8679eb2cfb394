"""
What becomes of calls when the network between the program and the scheduler fails, when Dask ends a
Dask worker, and when versions differ.
"""

from __future__ import annotations

import warnings
from typing import Any
from urllib.parse import urlsplit

from distributed import Event, versions
from twisted.internet.defer import DeferredList, gatherResults
from twisted.internet.threads import deferToThread

from asynqueue import DaskWorker, TaskQueue, __version__
from asynqueue._workers.dask import far as farSide
from asynqueue._workers.dask.far import tokenOf
from asynqueue.errors import DaskWorkerDied, WorkerError
from asynqueue.iteration import Deferator
from asynqueue.testing import FaultProxy, far
from tests.dask import cluster, tasks
from tests.dask.test_daskworker import DaskCase

NAME = "VersionMismatchWarning"


class NetworkTests(DaskCase):
    timeout = 60.0

    async def throughProxy(self) -> tuple[TaskQueue, DaskWorker, FaultProxy]:
        from twisted.internet import reactor

        where = urlsplit(cluster.client().scheduler.address)
        assert where.hostname is not None and where.port is not None
        proxy = FaultProxy(reactor, where.hostname, where.port)
        port = await proxy.start()
        self.addCleanup(proxy.stop)
        worker = DaskWorker(f"tcp://127.0.0.1:{port}")
        queue = TaskQueue(worker, timeout=10)
        self.addCleanup(queue.shutdown)
        self.assertEqual(await queue.call(far.add, 1, 2), 3)
        return queue, worker, proxy

    async def test_callsThatDaskHadWhenTheNetworkIsCutFailAndTheOthersRun(self) -> None:
        queue, _, proxy = await self.throughProxy()
        all_ = DeferredList(
            [queue.call(tasks.tenthNoted, self.begun, number) for number in range(100)],
            consumeErrors=True,
        )
        await self.until(lambda: len(self.read(self.begun)) > 10, "calls run")
        proxy.cut()
        outcomes: list[Any] = await all_
        lost = [failure.value for isSound, failure in outcomes if not isSound]
        self.assertEqual({type(error) for error in lost}, {DaskWorkerDied})
        self.assertLess(len(lost), 50)
        for number, (isSound, value) in enumerate(outcomes):
            self.assertTrue(not isSound or value == number)
        noted = self.read(self.begun)
        self.assertEqual(len(noted), len(set(noted)), "none ran twice")
        self.assertEqual(await queue.call(far.add, 3, 4), 7)

    async def test_callsThatAreMadeWhileTheNetworkIsCutRunWhenItIsBack(self) -> None:
        queue, worker, proxy = await self.throughProxy()
        proxy.isClosed = True
        proxy.cut()
        await self.until(lambda: worker.client.status != "running", "Dask's client sees it")
        calls = gatherResults(
            [queue.call(tasks.tenthNoted, self.begun, number) for number in range(10)]
        )
        await self.until(lambda: worker.state == "LOST", "the worker sees it")
        proxy.isClosed = False
        self.assertEqual(await calls, list(range(10)))
        self.assertEqual(len(self.read(self.begun)), 10, "each ran once")

    async def test_idempotentCallsSurviveACutNetwork(self) -> None:
        queue, _, proxy = await self.throughProxy()
        calls = gatherResults(
            [
                queue.options(idempotent=True).call(tasks.tenthNoted, self.begun, number)
                for number in range(60)
            ]
        )
        await self.until(lambda: len(self.read(self.begun)) > 10, "calls run")
        proxy.cut()
        self.assertEqual(await calls, list(range(60)))

    async def test_streamsGoOnAfterTheNetworkWasCut(self) -> None:
        queue, _, proxy = await self.throughProxy()
        proxy.cut()
        deferator: Deferator = await queue.options(idempotent=True).call(range(200).__iter__)
        self.assertEqual([item async for item in deferator], list(range(200)))


class TokenTests(DaskCase):
    async def test_aTokenIsKeptUntilDaskHasReleasedItsBatch(self) -> None:
        queue, _ = self.queue()
        keys: list[str] = []
        submit = cluster.client().submit

        def submitNoting(*args: Any, **options: Any) -> Any:
            keys.append(options["key"])
            return submit(*args, **options)

        def isSet(key: str) -> bool:
            return bool(Event(tokenOf(key), client=cluster.client()).is_set())

        self.patch(cluster.client(), "submit", submitNoting)
        await queue.call(far.add, 1, 2)
        self.assertTrue(await deferToThread(isSet, keys[0]), "Dask may have the batch yet")
        for number in range(3):
            await queue.call(far.add, number, 2)
        self.assertFalse(await deferToThread(isSet, keys[0]))
        self.assertTrue(await deferToThread(isSet, keys[-1]))


class RestartTests(DaskCase):
    async def test_aCallIsLostWithADaskWorkerThatIsRestartedAndHasNotFailedItself(self) -> None:
        queue, _ = self.queue()
        call = queue.call(tasks.spin, self.begun, self.ended)
        await self.until(lambda: bool(self.read(self.begun)), "the call begins")
        restarting = deferToThread(cluster.restartBusy)
        with self.assertRaises(DaskWorkerDied) as caught:
            await call
        self.assertEqual(caught.exception.begun, "yes")
        self.assertEqual(self.read(self.ended), ["TaskInterrupted"])
        await restarting

    async def test_streamsGoOnWhereDaskGivesADaskWorkerTheSamePluginTwice(self) -> None:
        queue, worker = self.queue()
        deferator: Deferator = await queue.call(tasks.countSlowly, 40)
        items = [await anext(deferator) for _ in range(5)]
        name = worker._cluster._session.name
        await deferToThread(cluster.client().run, tasks.addPluginAgain, name=name)
        items += [item async for item in deferator]
        self.assertEqual(items, list(range(40)))


class VersionTests(DaskCase):
    async def test_anotherVersionOfAsynqueueThereIsNamedAndTheWorkerGivesUp(self) -> None:
        self.patch(farSide, "__version__", "0.0.1")
        queue, _ = self.queue()
        with self.assertRaises(WorkerError) as caught:
            await queue.call(far.add, 1, 2)
        self.assertIn("has asynqueue " + __version__, str(caught.exception))
        self.assertIn("this program has 0.0.1: install the same version", str(caught.exception))
        self.assertEqual(len(queue), 0)
        self.flushLoggedErrors()

    async def test_otherVersionsOfDaskAndPythonAreNamedByDasksWarning(self) -> None:
        real = versions.get_versions

        def older() -> Any:
            found = real()
            found["packages"] = {**found["packages"], "distributed": "2001.1.1"}
            return found

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.patch(versions, "get_versions", older)
            worker = DaskWorker(cluster.client().scheduler.address)
            queue = TaskQueue(worker, timeout=10)
            self.addCleanup(queue.shutdown)
            self.assertEqual(await queue.call(far.add, 1, 2), 3, "calls run all the same")
        told = [str(each.message) for each in caught if each.category.__name__ == NAME]
        self.assertIn("2001.1.1", "".join(told))
