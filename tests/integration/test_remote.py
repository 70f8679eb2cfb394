"""
Remote workers in a queue: their companions, series, refusals and ends.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from twisted.internet import defer
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase

from asynqueue import RemoteQueue, TaskQueue
from asynqueue._workers.wire.handshake import VERSION
from asynqueue._workers.wire.records import HELLO, RecordWriter
from asynqueue.errors import CallNotRebuilt, ConnectionRefused, PayloadTooLarge, WorkerDied
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
        address = f"tcp:127.0.0.1:{self.port}"
        for worker in queue.workers():
            place = {"address": address, "session": "LIVE", "trouble": None}
            self.assertEqual(worker.facts().place, place)

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

    async def test_anArrayThatCannotBeChangedTravelsBothWays(self) -> None:
        numpy = import_module("numpy")
        await self.serve()
        queue = self.queueOf(self.remote())
        for size in (10_000, 1 << 20):
            array = numpy.arange(size, dtype=numpy.float64)
            array.flags.writeable = False
            # The process is not there yet when the first call comes.
            for _ in range(2):
                echo = await queue.call(far.echo, array)
                self.assertTrue((echo == array).all())
                self.assertFalse(echo.flags.writeable)

    async def test_aFunctionThatTheServerCannotImportFailsThatCall(self) -> None:
        await self.serve()
        queue = self.queueOf(self.remote())
        folder = os.path.abspath(self.mktemp())
        os.mkdir(folder)
        Path(folder, "here_only.py").write_text("def add(a, b):\n    return a + b\n")
        self.patch(sys, "path", [folder, *sys.path])
        module: Any = import_module("here_only")
        self.addCleanup(sys.modules.pop, "here_only")
        sys.path.remove(folder)
        for call in ((module.add, 1, 2), (far.echo, module.add)):
            error = await self.assertFailure(queue.call(*call), CallNotRebuilt)
            self.assertIn("No module named 'here_only'", str(error))
            self.assertIn(f"(on the server {platform.node()})", str(error))
            self.assertIn("Traceback", str(error.__cause__))
        self.assertEqual(await queue.call(far.add, 1, 2), 3)

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

    async def test_theThreadsOfAServerRunAsManyTasksAtOnce(self) -> None:
        await self.serve(threads=2)
        queue = self.queueOf(self.remote())
        await self.until(lambda: len(queue.workers()) == 2)
        self.assertEqual(await queue.update(os.getpid), [os.getpid()] * 2)
        with wiretasks.meeting(2):
            calls = [queue.call(wiretasks.meet) for _ in range(2)]
            names = await defer.gatherResults(calls)
        self.assertEqual(len(set(names)), 2)

    async def test_whatATaskLogsInAThreadOfTheServerReachesItsClientAlone(self) -> None:
        await self.serve(threads=1)
        heard: list[logging.LogRecord] = []
        handler: Any = logging.Handler()
        handler.emit = heard.append
        logging.getLogger("tests.wire").addHandler(handler)
        self.addCleanup(logging.getLogger("tests.wire").removeHandler, handler)
        queues = [self.queueOf(self.remote()) for _ in range(2)]
        for queue in queues:
            await queue.call(far.add, 1, 2)
        task = queues[0].submit(wiretasks.logBoth, "tests.wire.task", logging.WARNING)
        await task.d
        await queues[0].call(wiretasks.logBoth, "tests.wire.task", logging.DEBUG)
        # The server is in this process, where each record is logged as well.
        forwarded = [record for record in heard if hasattr(record, "worker")]
        self.assertEqual(
            [(record.getMessage(), record.taskID) for record in forwarded],  # type: ignore[attr-defined]
            [("from logging", task.id), ("from a thread of the task", task.id)],
        )
        self.assertEqual(len(heard), 4)

    async def test_whatATaskLogsWithTwistedInAThreadReachesTheClient(self) -> None:
        await self.serve(threads=1)
        events: list[Any] = []
        observer: Any = events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        queue = self.queueOf(self.remote())
        task = queue.submit(wiretasks.logBoth, "tests.wire.task", logging.ERROR)
        await task.d
        self.assertIn(task.id, [event.get("taskID") for event in events])

    async def test_aThreadMayUseTheMemoryOfAnItemAgain(self) -> None:
        await self.serve(threads=1)
        queue = self.queueOf(self.remote())
        items = [item async for item in await queue.call(wiretasks.sameMemory, 20, 1 << 17)]
        self.assertEqual(
            [(item[0], item[-1], len(item)) for item in items],
            [(number, number, 1 << 17) for number in range(20)],
        )

    async def test_aThreadWaitsForAClientThatAcknowledgesNothing(self) -> None:
        budget = 1 << 20
        service = await self.serve(threads=1, keepBytes=budget)
        worker = self.remote()
        queue = self.queueOf(worker)
        self.assertEqual(await queue.call(far.add, 1, 2), 3)
        channel: Any = worker._supervisor.link.channel
        channel._conversation.holdAcknowledgements(True)
        results = [queue.call(wiretasks.big, 1 << 19) for _ in range(30)]
        await deferToDelay(0.3)
        session = service.sessions[0].conversation.session
        self.assertLess(session.keptBytes, budget + (2 << 20))
        self.assertFalse(all(result.called for result in results))
        channel._conversation.holdAcknowledgements(False)
        for result in results:
            self.assertEqual(len(await result), 1 << 19)

    async def test_aTaskThatCannotBeStoppedIsLeftBehindInItsThread(self) -> None:
        await self.serve(threads=1)
        queue = self.queueOf(self.remote())
        folder = os.path.abspath(self.mktemp())
        os.mkdir(folder)
        hold = FileHold(folder)
        self.addCleanup(hold.release)
        task = queue.submit(hold.function, *hold.args)
        await hold.begun(task)
        task.cancel()
        await self.assertFailure(task.d, defer.CancelledError)
        self.assertEqual(await queue.call(far.add, 1, 2), 3)

    async def test_otherHostsAreRefused(self) -> None:
        for address in ("tcp:example.com:7411", "tcp:192.0.2.1:7411", "ssl:127.0.0.1:7411", ""):
            self.assertRaises(ValueError, RemoteWorker, address, KEY)

    async def _meets(self, answer: bytes) -> RemoteWorker:
        """
        @return: a worker that connects to something that answers in its own way.
        """
        from twisted.internet import reactor
        from twisted.internet.endpoints import TCP4ServerEndpoint

        class Other(Protocol):
            def dataReceived(self, data: bytes) -> None:
                transport: Any = self.transport
                transport.write(answer)
                transport.loseConnection()

        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        port = await endpoint.listen(Factory.forProtocol(Other))
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port
        return self.remote()

    async def test_aPortThatSpeaksHttpIsNamedAndTriedAgain(self) -> None:
        worker = await self._meets(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        queue = self.queueOf(worker)
        await self.until(lambda: worker.trouble)
        self.assertIn("speaks HTTP", str(worker.trouble))
        self.assertIn("speaks HTTP", repr(worker))
        result = queue.call(far.add, 1, 2)
        await queue.detachWorker(worker)
        await self.serve()
        await queue.attachWorker(self.remote())
        self.assertEqual(await result, 3)

    async def test_aServerFromTheFutureMakesTheWorkerGiveUp(self) -> None:
        fields = {"product": "asynqueue", "version": "9.9", "python": "5.0"}
        hello = RecordWriter().write(HELLO, json.dumps(fields).encode())
        worker = await self._meets(b"".join(hello))
        queue = TaskQueue()
        self.addCleanup(queue.shutdown)
        error = await self.assertFailure(queue.attachWorker(worker), ConnectionRefused)
        self.flushLoggedErrors()
        for part in ("9.9", VERSION, str(self.port)):
            self.assertIn(part, str(error))
