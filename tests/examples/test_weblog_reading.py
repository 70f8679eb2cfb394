"""
Reading logs on a queue: order, bounds, failures, and what the workers are told.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from threading import Event
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from asynqueue.errors import WorkerDied
from asynqueue.testing import SynchronousQueue
from examples.weblog.broadcast import Broadcast
from examples.weblog.inputs import readBlocks
from examples.weblog.known import forgetAll, learn
from examples.weblog.run import Reading
from examples.weblog.settings import Settings
from examples.weblog.summary import Summary
from tests.examples.weblogs import makeLine

BLOCK = 1000

LINES = [makeLine(request=f"GET /{number:03} HTTP/1.1") for number in range(100)]


class NotingWatcher:
    """
    Notes what it is told.
    """

    def __init__(self) -> None:
        self.total: int | None = -1
        self.done = 0

    def begin(self, total: int | None) -> None:
        self.total = total

    def advance(self, count: int) -> None:
        self.done += count


@implementer(IConsumer)
class Sink:
    """
    Keeps records, and pauses its producer when told to.
    """

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.producer: Any = None
        self.isPausing = False

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self.producer is None
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        assert self.producer is not None
        self.records += map(json.loads, data.splitlines())
        if self.isPausing:
            self.producer.pauseProducing()

    @property
    def paths(self) -> list[str]:
        return [record["request"].split()[1] for record in self.records]


class InlineThreads:
    """
    Has an iterator run wherever its items are taken.
    """

    def call(self, function: Callable[..., Iterator[Any]], *args: Any) -> Deferred[Any]:
        async def items() -> AsyncGenerator[Any, None]:
            for item in function(*args):
                yield item

        return succeed(aclosing(items()))


class HeldQueue:
    """
    Runs each call when it is told to.

    @ivar waiting: the calls that were not run.
    """

    def __init__(self) -> None:
        self.waiting: list[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]] = []
        self.updates: list[Any] = []
        self.cancelled = 0

    def call(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        d: Deferred[Any] = Deferred(self._cancel)
        self.waiting.append((d, function, args))
        return d

    def update(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        self.updates.append((function, *args))
        return succeed([])

    def step(self, index: int = 0) -> None:
        d, function, args = self.waiting.pop(index)
        d.callback(function(*args))

    def _cancel(self, d: Deferred[Any]) -> None:
        self.cancelled += 1


class ReadingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.summary = Summary()
        self.watcher = NotingWatcher()
        self.threads = InlineThreads()
        self.addCleanup(forgetAll)

    def write(self, name: str, data: bytes) -> str:
        path = self.folder / name
        path.write_bytes(data)
        return str(path)

    def read(
        self, *names: str, queue: Any = None, sink: Any = None, selection: str = "all"
    ) -> Deferred[None]:
        if queue is None:
            queue = SynchronousQueue()
            self.addCleanup(queue.shutdown)
        settings = Settings(2, flood=50, selection=selection)
        reading = Reading(
            queue, self.threads, settings, self.watcher, self.summary, sink, blockSize=BLOCK
        )
        return Deferred.fromCoroutine(reading.read(names))

    def test_plainAndCompressedFilesAreSummedUp(self) -> None:
        plain = self.write("a", b"".join(LINES))
        compressed = self.write("b.gz", gzip.compress(b"".join(LINES) + b"broken"))
        self.successResultOf(self.read(plain, compressed))
        aggregate = self.summary.aggregate
        self.assertEqual((aggregate.requests, aggregate.malformed), (200, 1))
        self.assertEqual(aggregate.pages[b"/007"], 2)
        self.assertEqual(self.summary.inputs, [plain, compressed])
        self.assertEqual(self.summary.failures, {})
        self.assertFalse(self.summary.isPartial)
        size = os.path.getsize(plain) + os.path.getsize(compressed)
        self.assertEqual((self.watcher.total, self.watcher.done), (size, size))

    def test_recordsComeInOrder(self) -> None:
        names = [self.write("a", b"".join(LINES[:60])), self.write("b", b"".join(LINES[60:]))]
        sink = Sink()
        self.successResultOf(self.read(*names, sink=sink))
        self.assertEqual(sink.paths, [f"/{number:03}" for number in range(100)])
        self.assertEqual(self.summary.aggregate.requests, 100)

    def test_recordsComeInOrderHoweverTheBlocksArrive(self) -> None:
        self.write("a", b"".join(LINES))
        queue = HeldQueue()
        d = self.read(str(self.folder / "*"), queue=queue)
        while queue.waiting:
            queue.step(-1)
        self.successResultOf(d)
        self.assertEqual(self.summary.aggregate.requests, 100)

    def test_recordsAreThoseSelected(self) -> None:
        lines = [
            makeLine(status=500),
            makeLine(),
            makeLine(request="GET /.env HTTP/1.1", status=404),
        ]
        name = self.write("a", b"".join(lines))
        for selection, statuses in (("errors", [500]), ("missing", [404]), ("bad", [404])):
            sink = Sink()
            self.successResultOf(self.read(name, sink=sink, selection=selection))
            self.assertEqual([record["status"] for record in sink.records], statuses)

    def test_pausedConsumerHoldsUpTheReading(self) -> None:
        name = self.write("a", b"".join(LINES))
        sink = Sink()
        sink.isPausing = True
        d = self.read(name, sink=sink)
        read = len(sink.records)
        self.assertNoResult(d)
        self.assertLess(read, 20)
        self.assertLess(self.watcher.done, 5 * BLOCK)
        sink.isPausing = False
        sink.producer.resumeProducing()
        self.successResultOf(d)
        self.assertEqual(len(sink.records), 100)

    def test_onlySoManyBlocksAreUnderway(self) -> None:
        name = self.write("a", b"".join(LINES))
        queue = HeldQueue()
        d = self.read(name, queue=queue)
        self.assertEqual(len(queue.waiting), 4)
        queue.step(1)
        self.assertEqual(len(queue.waiting), 3)
        queue.step(0)
        self.assertEqual(len(queue.waiting), 4)
        d.cancel()
        self.failureResultOf(d, CancelledError)

    def test_whatIsUnderwayAtACancellationIsCounted(self) -> None:
        name = self.write("a", b"".join(LINES))
        queue = HeldQueue()
        reading = Reading(
            queue, self.threads, Settings(2), self.watcher, self.summary, blockSize=BLOCK
        )
        d = Deferred.fromCoroutine(reading.readUntilCancelled([name, name]))
        queue.step()
        d.cancel()
        self.assertNoResult(d)
        begun = 1 + len(queue.waiting)
        while queue.waiting:
            queue.step()
        self.failureResultOf(d, CancelledError)
        self.assertEqual((queue.cancelled, self.summary.isPartial), (0, True))
        self.assertEqual(begun, 5, "nothing was begun after the cancellation")
        self.assertIn(self.summary.aggregate.requests, range(begun * BLOCK // 100, 100))
        self.assertEqual(self.summary.inputs, [name])

    def test_onlyWholeLinesCountOfAPipeThatIsNotReadToItsEnd(self) -> None:
        reading, writing = os.pipe()
        with open(reading, "rb") as file, open(writing, "wb", buffering=0) as pipe:
            pipe.write(LINES[0] * 3 + LINES[0][:20])
            isEnough = Event()
            blocks = readBlocks(f"/dev/fd/{file.fileno()}", BLOCK * 100, isEnough)
            isEnough.set()
            self.assertEqual([block.data for block in blocks], [])
            isEnough.clear()
            blocks = readBlocks(f"/dev/fd/{file.fileno()}", BLOCK * 100, isEnough)
            self.assertEqual(next(blocks).data, LINES[0] * 3)
            isEnough.set()
            self.assertEqual(list(blocks), [])

    def test_badInputsAreNamedAndTheRestGoesOn(self) -> None:
        compressed = gzip.compress(b"".join(LINES), compresslevel=0)
        truncated = self.write("t.gz", compressed[:5000])
        binary = self.write("b", b"\0" * 100)
        good = self.write("g", b"".join(LINES))
        missing = str(self.folder / "missing")
        self.successResultOf(self.read(missing, truncated, binary, str(self.folder), good))
        failures = self.summary.failures
        self.assertEqual(list(failures), [missing, binary, str(self.folder), truncated])
        self.assertIn("No such file", failures[missing])
        self.assertIn("truncated", failures[truncated])
        self.assertIn("binary", failures[binary])
        self.assertIn("directory", failures[str(self.folder)])
        self.assertGreater(self.summary.aggregate.requests, 120)
        self.assertEqual(self.summary.inputs, [truncated, good])
        self.assertFalse(self.summary.isPartial)

    def test_fileThatVanishesIsNamedAndTheRestGoesOn(self) -> None:
        name, other = self.write("a", b"".join(LINES)), self.write("b", b"".join(LINES[:3]))
        queue = HeldQueue()
        d = self.read(name, other, queue=queue)
        queue.step()
        os.unlink(name)
        while queue.waiting:
            call, function, args = queue.waiting.pop(0)
            try:
                call.callback(function(*args))
            except OSError as error:
                call.errback(error)
        self.successResultOf(d)
        self.assertEqual(list(self.summary.failures), [name])
        self.assertIn("No such file", self.summary.failures[name])
        self.assertEqual(self.summary.aggregate.pages[b"/002"], 2)

    def test_blockWhoseProcessDiedIsTriedOnceMore(self) -> None:
        name = self.write("a", b"".join(LINES[:3]))
        queue = HeldQueue()
        d = self.read(name, queue=queue)
        queue.waiting.pop()[0].errback(WorkerDied(9))
        queue.step()
        self.successResultOf(d)
        self.assertEqual((self.summary.aggregate.requests, self.summary.failures), (3, {}))

    def test_blockThatKillsItsProcessesIsTold(self) -> None:
        name = self.write("a", b"".join(LINES[:3]))
        queue = HeldQueue()
        d = self.read(name, queue=queue)
        queue.waiting.pop()[0].errback(WorkerDied(9))
        queue.waiting.pop()[0].errback(WorkerDied(9))
        self.successResultOf(d)
        self.assertIn("WorkerDied", self.summary.failures[name])

    def test_faultInTheProgramIsNoFaultOfALog(self) -> None:
        name = self.write("a", b"".join(LINES))
        queue = HeldQueue()
        d = self.read(name, queue=queue)
        queue.waiting.pop(0)[0].errback(ZeroDivisionError())
        self.failureResultOf(d, ZeroDivisionError)
        self.assertTrue(self.summary.isPartial)

    def test_workersAreToldOfEachFindingOnce(self) -> None:
        lines = [
            makeLine(f"10.0.0.{number % 3}", request="GET /.env HTTP/1.1", status=404)
            for number in range(100)
        ]
        queue = HeldQueue()
        d = self.read(self.write("a", b"".join(lines)), queue=queue)
        while queue.waiting:
            queue.step()
        self.successResultOf(d)
        self.assertEqual({function for function, _ in queue.updates}, {learn})
        told = [finding for _, batch in queue.updates for finding in batch]
        secrets = "looks for secrets"
        expected = [(b"10.0.0.%d" % number, secrets) for number in range(3)]
        self.assertEqual(sorted(told), expected)
        self.assertEqual(self.summary.bad, {address: {secrets} for address, _ in expected})

    def test_floodAcrossBlocksIsFound(self) -> None:
        self.successResultOf(self.read(self.write("a", makeLine("flooder") * 51)))
        self.assertEqual(self.summary.bad, {b"flooder": {"flood"}})

    def test_sameRequestsInTwoLogsAreNoFlood(self) -> None:
        names = [self.write(name, makeLine() * 40) for name in "ab"]
        self.successResultOf(self.read(*names))
        self.assertEqual(self.summary.bad, {})


class BroadcastTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.batches: list[Any] = []
        self.underway: list[Deferred[Any]] = []
        self.broadcast = Broadcast(self)

    def update(self, function: Any, batch: Any) -> Deferred[Any]:
        """
        Stand in for the queue's.
        """
        self.batches.append(batch)
        self.underway.append(Deferred())
        return self.underway[-1]

    def test_whatComesMeanwhileGoesInOneBatch(self) -> None:
        for address in (b"a", b"b", b"c"):
            self.broadcast.add([(address, "rule")])
        self.assertEqual(self.batches, [[(b"a", "rule")]])
        self.underway[0].callback([])
        self.assertEqual(self.batches[1:], [[(b"b", "rule"), (b"c", "rule")]])

    def test_nothingIsSentIfNothingIsNew(self) -> None:
        self.broadcast.add([])
        self.assertEqual(self.batches, [])
        self.successResultOf(self.broadcast.finish())

    def test_endWaitsForWhatIsUnderwayOnly(self) -> None:
        self.broadcast.add([(b"a", "rule")])
        self.broadcast.add([(b"b", "rule")])
        d = self.broadcast.finish()
        self.assertNoResult(d)
        self.underway[0].callback([])
        self.successResultOf(d)
        self.assertEqual(len(self.batches), 1)

    def test_deadWorkerIsNoFault(self) -> None:
        self.broadcast.add([(b"a", "rule")])
        self.underway[0].errback(WorkerDied(9))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_faultIsLogged(self) -> None:
        self.broadcast.add([(b"a", "rule")])
        self.underway[0].errback(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.successResultOf(self.broadcast.finish())
