"""
Remote workers in a queue: their companions, series, refusals and ends.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from twisted.internet import defer
from twisted.trial.unittest import TestCase

from asynqueue import RemoteQueue, TaskQueue
from asynqueue.errors import CallNotPicklable, CallNotRebuilt, PayloadTooLarge, WorkerDied
from asynqueue.testing import FileHold, far
from asynqueue.tools import deferToDelay
from asynqueue.wire import RemoteWorker
from tests.faults import wiretasks
from tests.support.remote import KEY, RemoteMixin


class RemoteWorkersInAQueue(RemoteMixin, TestCase):
    timeout = 30.0

    def queueOf(self, *workers: RemoteWorker) -> TaskQueue:
        queue = TaskQueue(*workers, timeout=2.0)
        self.addCleanup(queue.shutdown)
        return queue

    async def until(self, condition: Any) -> None:
        while not condition():
            await deferToDelay(0.01)

    async def test_aServerWithSeveralProcessesRunsAsManyTasksAtOnce(self) -> None:
        await self.serve(processes=3)
        queue = self.queueOf(self.remote())
        await self.until(lambda: len(queue.workers()) == 3)
        holds = []
        for _ in range(3):
            folder = os.path.abspath(self.mktemp())
            os.mkdir(folder)
            holds.append(FileHold(folder))
        tasks = [queue.submit(hold.function, *hold.args) for hold in holds]
        for hold, task in zip(holds, tasks, strict=True):
            await hold.begun(task)
        for hold in holds:
            hold.release()
        await defer.gatherResults([task.d for task in tasks])

    async def test_anUpdateReachesEachProcessAndEachLaterOne(self) -> None:
        await self.serve(processes=2)
        queue = self.queueOf(self.remote())
        await self.until(lambda: len(queue.workers()) == 2)
        pids = await queue.update(os.getpid)
        self.assertEqual(len(set(pids)), 2)
        path = os.path.abspath(self.mktemp())
        await queue.update(wiretasks.note, path, 1)
        await self.assertFailure(queue.call(os._exit, 1), WorkerDied)
        await self.until(lambda: len(Path(path).read_text().splitlines()) == 3)

    async def test_theCompanionsLeaveWithTheirWorker(self) -> None:
        service = await self.serve(processes=2)
        worker = self.remote()
        queue = self.queueOf(worker)
        await self.until(lambda: len(queue.workers()) == 2)
        self.assertEqual(await queue.detachWorker(worker), [])
        self.assertEqual(queue.workers(), [])
        await self.until(lambda: not service.sessions)

    async def test_theServersSeriesAreServed(self) -> None:
        await self.serve(processes=2, series=["gpu"])
        queue = self.queueOf(self.remote())
        calls = [queue.call(far.add, n, 1, series="gpu") for n in range(5)]
        self.assertEqual(await defer.gatherResults(calls), [1, 2, 3, 4, 5])

    async def test_aRemoteQueueUsesAllServers(self) -> None:
        addresses = []
        for _ in range(2):
            await self.serve()
            addresses.append(f"tcp:127.0.0.1:{self.port}")
        async with RemoteQueue(addresses, KEY) as queue:
            await self.until(lambda: len(queue.workers()) == 2)
            self.assertEqual(len(set(await queue.update(os.getpid))), 2)

    async def test_onlyTheNamedModulesAreRun(self) -> None:
        await self.serve(only=["asynqueue.testing.far"])
        queue = self.queueOf(self.remote())
        self.assertEqual(await queue.call(far.add, 1, second=2), 3)
        self.assertEqual(
            await queue.call(far.append, [{"a": (1.5, b"x")}], {4}), [{"a": (1.5, b"x")}, {4}]
        )
        for _ in range(2):
            error = await self.assertFailure(queue.call(os.getpid), CallNotRebuilt)
            self.assertIn("the server", str(error))
        for argument in (far.Bomb(), os.getpid, [time.sleep]):
            await self.assertFailure(queue.call(far.echo, argument), CallNotRebuilt)
        self.assertEqual(await queue.call(far.add, 1, 2), 3)

    async def test_aClientTooManyWaits(self) -> None:
        await self.serve(maxClients=1)
        first = self.queueOf(self.remote())
        self.assertEqual(await first.call(far.add, 1, 2), 3)
        second = self.queueOf(self.remote())
        result = second.call(far.add, 3, 4)
        await deferToDelay(0.2)
        self.assertFalse(result.called)
        await first.shutdown()
        self.assertEqual(await result, 7)

    async def test_whatIsTooLargeFailsThatCallAlone(self) -> None:
        await self.serve(largest=1 << 17)
        queue = self.queueOf(self.remote(largest=1 << 18))
        await queue.call(far.add, 1, 2)
        await self.assertFailure(queue.call(len, bytes(1 << 18)), PayloadTooLarge)
        await self.assertFailure(queue.call(wiretasks.big, 1 << 19), PayloadTooLarge)
        self.assertEqual(len(await queue.call(wiretasks.big, 1 << 17)), 1 << 17)

    async def test_aFunctionThatTheServerCannotImportFailsThatCall(self) -> None:
        await self.serve()
        queue = self.queueOf(self.remote())
        _elsewhere.__module__ = "no_such_module"
        error = await self.assertFailure(queue.call(_elsewhere), CallNotRebuilt, CallNotPicklable)
        self.assertIn("no_such_module", str(error))

    async def test_aServerThatDrainsGivesBackWhatHasNotBegun(self) -> None:
        service = await self.serve()
        queue = self.queueOf(self.remote())
        folder = os.path.abspath(self.mktemp())
        os.mkdir(folder)
        hold = FileHold(folder)
        self.addCleanup(hold.release)
        task = queue.submit(hold.function, *hold.args)
        await hold.begun(task)
        later = queue.call(far.add, 1, 2)
        drained = service.stopService()
        await deferToDelay(0.1)
        self.assertFalse(task.isDone or drained.called)
        hold.release()
        await task.d
        await drained
        self.assertFalse(later.called)
        await self.serve(address=f"tcp:{self.port}:interface=127.0.0.1")
        self.assertEqual(await later, 3)

    async def test_otherHostsAreRefused(self) -> None:
        for address in ("tcp:example.com:7411", "tcp:192.0.2.1:7411", "ssl:127.0.0.1:7411", ""):
            self.assertRaises(ValueError, RemoteWorker, address, KEY)


def _elsewhere() -> None:
    pass
