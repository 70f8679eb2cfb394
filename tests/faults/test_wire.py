"""
What remote workers promise when the network or a server breaks, over real sockets.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import defer, threads
from twisted.trial.unittest import TestCase

from asynqueue import TaskQueue
from asynqueue._runner.framing import SCRATCH
from asynqueue._workers.processchannel import PipeChannel
from asynqueue._workers.wire import conversation
from asynqueue._workers.wire.conversation import Conversation
from asynqueue._workers.wire.handshake import VERSION, Handshake, Hello
from asynqueue._workers.wire.records import (
    HANDSHAKE_LIMIT,
    HELLO,
    PROOF,
    RecordReader,
    RecordWriter,
)
from asynqueue.errors import ConnectionLost, ConnectionRefused, WorkerDied
from asynqueue.testing import FileHold, far
from asynqueue.tools import deferToDelay
from asynqueue.wire import RemoteWorker, newKey
from tests.faults import wiretasks
from tests.support.remote import KEY, RemoteMixin, serveCommand


class WireFaults(RemoteMixin, TestCase):
    timeout = 30.0

    def queueOf(self, worker: RemoteWorker) -> TaskQueue:
        queue = TaskQueue(worker, timeout=1.0)
        self.addCleanup(queue.shutdown)
        return queue

    async def until(self, condition: Any) -> None:
        while not condition():
            await deferToDelay(0.01)

    def path(self) -> str:
        path: str = self.mktemp()
        return os.path.abspath(path)

    def hold(self) -> FileHold:
        folder = self.path()
        os.mkdir(folder)
        hold = FileHold(folder)
        self.addCleanup(hold.release)
        return hold

    async def begin(self, queue: TaskQueue, hold: FileHold, **options: Any) -> Any:
        """
        Begin a held task, and wait until this side knows that it has begun.
        """
        task = queue.options(**options).submit(hold.function, *hold.args)
        await hold.begun(task)
        await deferToDelay(0.1)
        return task

    async def talk(self, data: bytes, pause: float = 0.0) -> bytes:
        """
        Send a server some bytes, one by one if there is to be a pause after each.

        @return: what it answers before it closes the connection.
        """

        def run() -> bytes:
            with socket.create_connection(("127.0.0.1", self.port), timeout=10) as peer:
                answer = b""
                try:
                    for start in range(0, len(data), 1 if pause else len(data)):
                        peer.sendall(data[start:][: 1 if pause else None])
                        time.sleep(pause)
                    while received := peer.recv(4096):
                        answer += received
                except ConnectionError:
                    return answer
                return answer

        answer: bytes = await threads.deferToThread(run)
        return answer

    def lines(self, path: str) -> list[int]:
        return [int(line) for line in Path(path).read_text().split()]

    # Lost connections -----------------------------------------------------------------------------

    async def test_38_aTaskWhoseConnectionIsLostFailsAndSaysWhatIsKnown(self) -> None:
        await self.serve(keep=0.1)
        proxy = await self.proxy()
        queue = self.queueOf(self.remote())
        task = await self.begin(queue, self.hold())
        proxy.isClosed = True
        proxy.cut()
        error = await self.assertFailure(task.d, ConnectionLost)
        self.assertEqual((error.accepted, error.begun), ("yes", "yes"))
        proxy.isClosed = False
        self.assertEqual(await queue.call(far.add, 1, 2), 3)

    async def test_38_anIdempotentTaskRunsAgain(self) -> None:
        await self.serve(keep=0.1)
        proxy = await self.proxy()
        queue = self.queueOf(self.remote())
        hold = self.hold()
        task = await self.begin(queue, hold, idempotent=True)
        proxy.isClosed = True
        proxy.cut()
        await deferToDelay(0.2)
        hold.release()
        proxy.isClosed = False
        self.assertIsNone(await task.d)
        self.assertEqual(task.attempts, 2)

    async def test_39_aHalfOpenConnectionIsNoticedWithinThreeIntervals(self) -> None:
        self.patch(conversation, "HANDSHAKE_SECONDS", 0.3)
        await self.serve(heartbeat=0.1)
        proxy = await self.proxy()
        queue = self.queueOf(self.remote(heartbeat=0.1))
        self.assertEqual(await queue.call(far.add, 1, 2), 3)
        passages = set(proxy.passages)
        proxy.fault = "swallow"
        began = time.monotonic()
        result = queue.call(far.add, 3, 4)
        await self.until(lambda: not passages & proxy.passages)
        self.assertLess(time.monotonic() - began, 0.6)
        proxy.fault = "pass"
        self.assertEqual(await result, 7)

    async def test_39_neitherALongTaskNorALargeTransferStarvesTheHeartbeat(self) -> None:
        await self.serve(heartbeat=0.1)
        proxy = await self.proxy()
        queue = self.queueOf(self.remote(heartbeat=0.1))
        passages: set[Any] = set()
        large = await queue.call(wiretasks.big, 8 << 20)
        passages |= proxy.passages
        self.assertEqual(await queue.call(len, large), 8 << 20)
        await queue.call(time.sleep, 0.7)
        self.assertEqual(passages, proxy.passages)

    async def test_44_aWorkerFindsAServerThatWasRestarted(self) -> None:
        service = await self.serve()
        worker = self.remote()
        queue = self.queueOf(worker)
        self.assertEqual(await queue.call(far.add, 1, 2), 3)
        channel: Any = worker._channel
        service.abort()
        await service.stopService()
        # A call that was sent to the old server might have begun there.
        await self.until(lambda: channel.state != "LIVE")
        result = queue.call(far.add, 3, 4)
        await deferToDelay(0.1)
        await self.serve(address=f"tcp:{self.port}:interface=127.0.0.1")
        self.assertEqual(await result, 7)

    # What strangers send --------------------------------------------------------------------------

    async def test_40_aHandshakeThatTricklesIsClosed(self) -> None:
        self.patch(conversation, "HANDSHAKE_SECONDS", 0.2)
        await self.serve()
        hello = b"".join(RecordWriter().write(*Handshake(b"", Hello(), isServer=False).start()[0]))
        began = time.monotonic()
        self.assertEqual(await self.talk(hello, pause=0.05), b"")
        self.assertLess(time.monotonic() - began, 2.0)

    async def test_41_anOversizedFrameIsClosedAtTheCap(self) -> None:
        await self.serve()
        head = (HANDSHAKE_LIMIT + 1).to_bytes(4, "little") + bytes([HELLO])
        self.assertEqual(await self.talk(head + bytes(100_000)), b"")

    async def test_42_aClientWithAnotherKeyIsToldSo(self) -> None:
        await self.serve()
        queue = TaskQueue()
        self.addCleanup(queue.shutdown)
        worker = self.remote(key=newKey())
        error = await self.assertFailure(queue.attachWorker(worker), ConnectionRefused)
        self.assertIn("key", str(error))
        self.assertIn(str(self.port), str(error))
        self.flushLoggedErrors()

    async def test_42_nothingOfAClientWithoutTheKeyIsUnpickled(self) -> None:
        self.patch(conversation, "_decode", lambda frame: self.fail("something was unpickled"))
        service = await self.serve()
        writer = RecordWriter()
        hello = writer.write(*Handshake(b"", Hello(), isServer=False).start()[0])
        answer = await self.talk(b"".join([*hello, *writer.write(PROOF, bytes(32)), bytes(5000)]))
        self.assertIn(b"the client's key is not the server's", answer)
        self.assertEqual(service.sessions, [])

    async def test_43_anotherVersionIsRefusedAndBothAreNamed(self) -> None:
        await self.serve()
        fields = {"product": "asynqueue", "version": "9.9", "python": "5.0"}
        hello = RecordWriter().write(HELLO, json.dumps(fields).encode())
        answer = await self.talk(b"".join(hello))
        reader = RecordReader()
        reader.add(answer)
        record = reader.next()
        assert record is not None
        body = bytes(record.body)
        self.assertIn(b"9.9", body)
        self.assertIn(VERSION.encode(), body)

    # Bytes that do not arrive as they were sent ---------------------------------------------------

    async def _callsSurvive(self, fault: str) -> None:
        await self.serve()
        proxy = await self.proxy()
        queue = self.queueOf(self.remote())
        path = self.path()
        self.assertEqual(await queue.call(wiretasks.note, path, 0), 0)
        passages = set(proxy.passages)
        for number in range(1, 9):
            proxy.fault = fault
            results = [queue.call(wiretasks.note, path, 10 * number + n) for n in range(10)]
            outcomes = await defer.gatherResults(results)
            self.assertEqual(outcomes, [10 * number + n for n in range(10)])
        self.assertEqual(self.lines(path), [0, *range(10, 90)], "each ran once, and in order")
        self.assertFalse(passages & proxy.passages, "the connection was given up")

    async def test_45_whatIsDeliveredTwiceRunsOnce(self) -> None:
        await self._callsSurvive("duplicate")

    async def test_46_whatIsReplayedIsRefused(self) -> None:
        await self._callsSurvive("replay")

    async def test_46_whatIsReorderedIsRefused(self) -> None:
        # What is held back leaves with what follows: a heartbeat.
        self.patch(conversation, "ACK_SECONDS", 0.01)
        await self.serve(heartbeat=0.1)
        proxy = await self.proxy()
        queue = self.queueOf(self.remote(heartbeat=0.1))
        path = self.path()
        await queue.call(wiretasks.note, path, 0)
        passages = set(proxy.passages)
        proxy.fault = "swap"
        self.assertEqual(await queue.call(wiretasks.note, path, 1), 1)
        self.assertEqual(self.lines(path), [0, 1])
        self.assertFalse(passages & proxy.passages, "the connection was given up")

    # Sessions -------------------------------------------------------------------------------------

    async def test_46a_aCutLosesNothingAndRepeatsNothing(self) -> None:
        chance = random.Random(20261129)
        await self.serve(processes=2)
        proxy = await self.proxy()
        queue = self.queueOf(self.remote())
        calls, items = self.path(), self.path()
        deferator = await queue.call(wiretasks.noted, items, 3000)
        results = defer.gatherResults(queue.call(wiretasks.note, calls, n) for n in range(600))
        taken = defer.ensureDeferred(self._take(deferator))
        cuts = 0
        while not (taken.called and results.called):
            if proxy.cutAfter is None:
                cuts += 1
                proxy.cutAfter = proxy.passed + chance.randrange(1, 6000)
            await deferToDelay(0.001)
        self.assertEqual(await taken, list(range(3000)))
        self.assertEqual(await results, list(range(600)))
        self.assertEqual(sorted(self.lines(calls)), list(range(600)))
        self.assertEqual(self.lines(items), list(range(3000)))
        self.assertGreater(cuts, 3)

    async def test_46a_aLargeCallReachesItsRunnerWholeAcrossCuts(self) -> None:
        passed: list[int] = []
        begin = PipeChannel.beginFrame

        def beginFrame(channel: PipeChannel, pieces: Any, left: int) -> bool:
            passed.append(left)
            return begin(channel, pieces, left)

        self.patch(PipeChannel, "beginFrame", beginFrame)
        await self.serve()
        proxy = await self.proxy()
        queue = self.queueOf(self.remote())
        await queue.call(wiretasks.digest, b"")
        value = os.urandom(3 << 20)
        for after in (1000, 1 << 20, 2 << 20):
            proxy.cutAfter = proxy.passed + after
            before = queue.call(wiretasks.digest, b"before")
            result = queue.call(wiretasks.digest, value)
            behind = queue.call(wiretasks.digest, b"behind")
            self.assertEqual(
                await defer.gatherResults([before, result, behind]),
                [wiretasks.digest(each) for each in (b"before", value, b"behind")],
            )
            self.assertIsNone(proxy.cutAfter, "there was no cut")
        self.assertEqual(passed, [len(value)] * 3)

    async def test_46a_aLargeResultReachesTheClientWholeAcrossCuts(self) -> None:
        passed = self._passedBack(lambda count: None)
        await self.serve()
        proxy = await self.proxy()
        queue = self.queueOf(self.remote())
        await queue.call(far.add, 1, 2)
        for seed, after in enumerate((1000, 1 << 20, 2 << 20)):
            proxy.cutAfter = proxy.passed + after
            calls = [queue.call(wiretasks.noise, seed, size) for size in (10, 3 << 20, 20)]
            results = await defer.gatherResults(calls)
            self.assertTrue(results == [wiretasks.noise(seed, size) for size in (10, 3 << 20, 20)])
            self.assertIsNone(proxy.cutAfter, "there was no cut")
        self.assertEqual(sum(passed), 3 * (3 << 20))
        self.assertLessEqual(max(passed), SCRATCH, "the server had no more at once")

    async def test_46d_aLargeTextIsNeverWholeInTheServer(self) -> None:
        passed = self._passedBack(lambda count: None)
        sent: list[int] = []
        go = PipeChannel.beginFrame

        def beginFrame(channel: PipeChannel, pieces: Any, left: int) -> bool:
            sent.append(left)
            return go(channel, pieces, left)

        self.patch(PipeChannel, "beginFrame", beginFrame)
        await self.serve()
        queue = self.queueOf(self.remote())
        size = 1_000_000
        self.assertTrue(await queue.call(wiretasks.text, size) == wiretasks.text(size))
        items = [item async for item in await queue.call(wiretasks.texts, 2, size)]
        self.assertTrue(items == [wiretasks.text(size)] * 2)
        self.assertGreater(sum(passed), 3 * size)
        self.assertLessEqual(max(passed), SCRATCH)
        self.assertEqual(
            await queue.call(far.add, wiretasks.text(size), "a"), "0123456789" * 100_000 + "a"
        )
        self.assertGreater(sum(sent), size)

    async def test_46a_largeItemsReachTheClientWholeAcrossCuts(self) -> None:
        await self.serve()
        proxy = await self.proxy()
        queue = self.queueOf(self.remote())
        deferator = await queue.call(wiretasks.noises, 8, 1 << 20)
        taken = defer.ensureDeferred(self._take(deferator))
        cuts = 0
        while not taken.called:
            if proxy.cutAfter is None:
                cuts += 1
                proxy.cutAfter = proxy.passed + 500_000
            await deferToDelay(0.001)
        self.assertTrue(await taken == list(wiretasks.noises(8, 1 << 20)))
        self.assertGreater(cuts, 3)

    def _passedBack(self, passed: Callable[[int], object]) -> list[int]:
        """
        @param passed: is called after each piece of a large result that a server passes on, with
            the number of pieces so far.
        @return: gets the sizes of the pieces.
        """
        sizes: list[int] = []
        go = Conversation.continueFrame

        def continueFrame(conversation: Conversation, piece: memoryview) -> None:
            go(conversation, piece)
            sizes.append(len(piece))
            passed(len(sizes))

        self.patch(Conversation, "continueFrame", continueFrame)
        return sizes

    async def test_46e_aProcessThatDiesInTheMiddleOfAResultIsNoticed(self) -> None:
        service = await self.serve()
        proxy = await self.proxy()
        large, whatHappens = 8 << 20, ""

        def passed(count: int) -> None:
            nonlocal whatHappens
            happens, whatHappens = whatHappens, ""
            if happens:
                pid = service.sessions[0].pid
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
            if happens == "death and cut":
                # The client hears over the next connection that the rest does not come.
                proxy.cut()

        pieces = self._passedBack(passed)
        queue = self.queueOf(self.remote())
        for happening in ("death", "death and cut"):
            pieces.clear()
            whatHappens = happening
            died = await self.outcomeOf(queue.call(wiretasks.noise, 1, large))
            self.assertIs(type(died), WorkerDied)
            self.assertLess(sum(pieces), large)
            self.assertEqual(await queue.call(far.add, 1, 2), 3)
        whatHappens = "death"
        task = queue.options(idempotent=True).submit(wiretasks.noise, 2, large)
        self.assertTrue(await self.outcomeOf(task.d) == wiretasks.noise(2, large))
        self.assertEqual(task.attempts, 2)

    @staticmethod
    async def outcomeOf(result: defer.Deferred[Any]) -> Any:
        """
        @return: the result or the error. An assertion would show all of a large one.
        """
        try:
            return await result
        except WorkerDied as error:
            return error

    async def test_46e_aStreamWhoseProcessDiesInTheMiddleOfAnItemFailsAfterTheOthers(self) -> None:
        service = await self.serve()

        def passed(count: int) -> None:
            if count == 3 * 16 + 1:
                pid = service.sessions[0].pid
                assert pid is not None
                os.kill(pid, signal.SIGKILL)

        self._passedBack(passed)
        queue = self.queueOf(self.remote())
        items: list[bytes] = []
        deferator = await queue.call(wiretasks.noises, 10, 1 << 20)
        taking = defer.ensureDeferred(self._takeInto(items, deferator))
        await self.assertFailure(taking, WorkerDied)
        self.assertLess(len(items), 10)
        self.assertTrue(items == list(wiretasks.noises(len(items), 1 << 20)))

    @staticmethod
    async def _takeInto(items: list[Any], deferator: Any) -> None:
        async for item in deferator:
            items.append(item)

    @staticmethod
    async def _take(deferator: Any) -> list[Any]:
        return [item async for item in deferator]

    async def test_46b_theDeathOfAServerSaysWhatHadBegun(self) -> None:
        folder = self.path()
        os.mkdir(folder)
        key = os.path.join(folder, "key")
        with open(os.open(key, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(KEY)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        server = self._startServer(key)
        queue = self.queueOf(self.remote())
        task = await self.begin(queue, self.hold())
        later = queue.call(far.add, 1, 2)
        server.send_signal(signal.SIGKILL)
        error = await self.assertFailure(task.d, ConnectionLost)
        self.assertEqual((error.accepted, error.begun), ("yes", "yes"))
        server.wait()
        again = self._startServer(key)
        self.assertEqual(await later, 3, "what had not begun runs at the next server")
        again.send_signal(signal.SIGTERM)
        await threads.deferToThread(again.wait, 10)

    def _startServer(self, key: str) -> Any:
        address = f"tcp:{self.port}:interface=127.0.0.1"
        command = serveCommand(key, address, "--keep", "0.3")
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL)

        def end() -> None:
            server.kill()
            server.wait()

        self.addCleanup(end)
        return server

    async def test_46c_theSessionOfAClientThatIsGoneIsDropped(self) -> None:
        service = await self.serve(keep=0.1)
        proxy = await self.proxy()
        queue = self.queueOf(self.remote())
        task = await self.begin(queue, self.hold())
        pid = service.sessions[0].pid
        self.assertIsNotNone(pid)
        proxy.isClosed = True
        proxy.cut()
        await self.until(lambda: not service.sessions)
        self.assertRaises(ProcessLookupError, os.kill, pid, 0)
        await self.assertFailure(task.d, ConnectionLost)

    async def test_46d_aPeerThatNeverAcknowledgesDoesNotGrowTheServer(self) -> None:
        budget = 1 << 20
        service = await self.serve(keepBytes=budget)
        worker = self.remote()
        queue = self.queueOf(worker)
        self.assertEqual(await queue.call(far.add, 1, 2), 3)
        channel: Any = worker._supervisor.link.channel
        channel._conversation.holdAcknowledgements(True)
        results = [queue.call(wiretasks.big, 1 << 19) for _ in range(60)]
        await deferToDelay(0.5)
        session = service.sessions[0].conversation.session
        # What was read when it became too much is kept as well.
        self.assertLess(session.keptBytes, budget + (4 << 20))
        self.assertFalse(all(result.called for result in results))
        channel._conversation.holdAcknowledgements(False)
        for result in results:
            self.assertEqual(len(await result), 1 << 19)

    async def test_46d_aLargeResultStaysWithinTheBudgetOfTheServer(self) -> None:
        budget, size = 1 << 20, 12 << 20
        service = await self.serve(keepBytes=budget)
        kept: list[int] = []
        self._passedBack(
            lambda count: kept.append(service.sessions[0].conversation.session.keptBytes)
        )
        queue = self.queueOf(self.remote())
        self.assertTrue(await queue.call(wiretasks.noise, 1, size) == wiretasks.noise(1, size))
        # What was read when it became too much is kept as well.
        self.assertLess(max(kept), budget + (4 << 20))
