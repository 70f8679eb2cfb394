"""
Calls through a queue to real processes and back.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Generator
from typing import Any

import psutil
import pytest
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks

from asynqueue import Deferator, ListConsumer, ProcessQueue, ProcessWorker, TaskQueue
from asynqueue._workers.launch import startContext
from asynqueue.errors import QueueStopped, RemoteTraceback
from asynqueue.tasks import FINISHED, PENDING, UNDERWAY
from asynqueue.testing import far
from tests.integration import tasks
from tests.support.processes import PollingReactor, ProcessTestCase, areGone, isGone


class CallsCase(ProcessTestCase):
    """
    Promises under every start method and every reactor.
    """

    def options(self) -> dict[str, Any]:
        """
        @return: keywords for each worker.
        """
        return {}

    def start(self, N: int = 1, **options: Any) -> ProcessQueue:
        return self.makeQueue(N, **self.options(), **options)

    async def pidsOf(self, queue: ProcessQueue) -> list[int]:
        """
        Ask each process for its ID.
        """
        return list(await queue.update(os.getpid, ephemeral=True))


class ValueTests(CallsCase):
    """
    Promises about what goes there and comes back.
    """

    # Results
    # ----------------------------------------------------------------------------------------------

    async def test_valuesComeBack(self) -> None:
        queue = self.start()
        values = [
            None,
            True,
            -(1 << 200),
            0.1,
            math.inf,
            "text \N{SNOWMAN}",
            b"\x00\xff",
            (1, [2, {"three": {4}}]),
            tasks.Point(1.5, -2.5),
            range(5),
            ...,
            int,
        ]
        for value in values:
            back = await queue.call(far.echo, value)
            self.assertEqual(back, value)
            self.assertIs(type(back), type(value))

    async def test_argumentsArriveAsTheyWereGiven(self) -> None:
        queue = self.start()
        self.assertEqual(
            await queue.call(far.keywords, 1, (2, 3), four=4, five=[5]),
            ((1, (2, 3)), {"four": 4, "five": [5]}),
        )

    async def test_whateverCanBeCalledIsCalled(self) -> None:
        queue = self.start()
        self.assertEqual(await queue.call(math.hypot, 3.0, 4.0), 5.0)
        self.assertEqual(await queue.call("text".upper), "TEXT")
        self.assertEqual(await queue.call(tasks.Point, 1.0, 2.0), tasks.Point(1.0, 2.0))
        self.assertEqual(await queue.call(tasks.Adder(3).add, 4), 7)

    async def test_callsRunInAnotherProcess(self) -> None:
        queue = self.start()
        [worker] = queue.workers()
        pid = await queue.call(os.getpid)
        self.assertNotEqual(pid, os.getpid())
        self.assertEqual(worker.process.pid, pid)

    async def test_twoProcessesWorkAtTheSameTime(self) -> None:
        queue = self.start(2)
        folder = self.makeFolder()
        # Each waits for the other: this can end only if both run at once.
        one, other = str(folder / "one"), str(folder / "other")
        await gatherResults(
            [
                queue.call(tasks.touchAnd, mine, tasks.waitFor, theirs)
                for mine, theirs in ((one, other), (other, one))
            ]
        )

    async def test_exceptionsComeWithTheirTypeAndFarTraceback(self) -> None:
        queue = self.start()
        error = await self.errorOf(queue.call(tasks.raiseOwn, "no", 7), tasks.OwnError)
        self.assertEqual((error.args, error.code), (("no", 7), 7))
        cause = error.__cause__
        self.assertIsInstance(cause, RemoteTraceback)
        self.assertIn("in _raiseDeeper", str(cause))
        self.assertIn("tasks.py", str(cause))
        self.assertIn("OwnError: ('no', 7)", str(cause))
        self.assertNotIn("runner.py", str(cause))

    async def test_farTracebacksTellOfCausesToo(self) -> None:
        queue = self.start()
        error = await self.errorOf(queue.call(tasks.raiseChained), ValueError)
        self.assertIn("KeyError: 'the first'", str(error.__cause__))
        self.assertIn("direct cause", str(error.__cause__))

    async def test_aFailureIsTheTasksOwn(self) -> None:
        queue = self.start()
        failing = [queue.call(far.reciprocal, 0) for _ in range(3)]
        working = [queue.call(far.reciprocal, 4) for _ in range(3)]
        for d in failing:
            await self.errorOf(d, ZeroDivisionError)
        self.assertEqual(await gatherResults(working), [0.25] * 3)

    # Iteration
    # ----------------------------------------------------------------------------------------------

    async def test_anIteratorIsIteratedOverAsItRuns(self) -> None:
        queue = self.start()
        deferator = await queue.call(tasks.squares, 1000)
        self.assertIsInstance(deferator, Deferator)
        self.assertEqual(
            [item async for item in deferator], [number * number for number in range(1000)]
        )

    @inlineCallbacks
    def test_anIteratorYieldsDeferreds(self) -> Generator[Deferred[Any], Any, None]:
        queue = self.start()
        deferator = yield queue.call(tasks.squares, 100)
        items = []
        for d in deferator:
            item = yield d
            items.append(item)
        self.assertEqual(items, [number * number for number in range(100)])

    async def test_aConsumerGetsTheItems(self) -> None:
        queue = self.start()
        consumer = ListConsumer()
        self.assertIs(await queue.call(tasks.squares, 100, consumer=consumer), consumer)
        self.assertEqual(await consumer(), [number * number for number in range(100)])

    async def test_itemsStreamFromTheProcessThatBeganThem(self) -> None:
        queue = self.start(2)
        deferators = [await queue.call(tasks.pids, 50) for _ in range(4)]
        for deferator in deferators:
            self.assertEqual(len({pid async for pid in deferator}), 1)

    async def test_leavingALoopClosesTheGenerator(self) -> None:
        queue = self.start()
        path = self.makeFolder() / "closed"
        async with await queue.call(far.endlessUntilClosed, str(path)) as deferator:
            async for number in deferator:
                if number == 10:
                    break
        await self.until(path.exists)
        self.assertEqual(await queue.call(far.echo, 1), 1)

    async def test_aRawIteratorComesBackWhole(self) -> None:
        queue = self.start()
        back = await queue.call(far.echo, iter([1, 2, 3]), raw=True)
        self.assertEqual(list(back), [1, 2, 3])
        options = queue.options(raw=True)
        self.assertEqual(list(await options.call(far.echo, iter((4, 5)))), [4, 5])

    async def test_aWorkerMayBringAllIteratorsBackWhole(self) -> None:
        queue = self.start(raw=True)
        self.assertEqual(list(await queue.call(far.echo, iter([1, 2]))), [1, 2])
        deferator = await queue.call(far.echo, iter([3, 4]), raw=False)
        self.assertEqual([item async for item in deferator], [3, 4])

    # Mapping
    # ----------------------------------------------------------------------------------------------

    async def test_mapKeepsTheOrder(self) -> None:
        queue = self.start(2)
        mapped = queue.map(far.square, range(2000))
        self.assertEqual([item async for item in mapped], [n * n for n in range(2000)])

    async def test_mapTakesNoMoreThanItsWindow(self) -> None:
        queue = self.start(2)
        taken: list[int] = []

        def numbers() -> Generator[int, None, None]:
            for number in range(100):
                taken.append(number)
                yield number

        items = []
        async for item in queue.map(far.echo, numbers(), window=8, chunksize=2):
            items.append(item)
            self.assertLessEqual(len(taken) - len(items), 8)
        self.assertEqual(items, list(range(100)))

    async def test_mapFailsAfterTheResultsBefore(self) -> None:
        queue = self.start(2)
        mapped = queue.map(far.reciprocal, [1, 2, 4, 0, 8], chunksize=1)
        items = []
        with self.assertRaises(ZeroDivisionError):
            async for item in mapped:
                items.append(item)
        self.assertEqual(items, [1.0, 0.5, 0.25])
        self.assertEqual(await queue.call(far.echo, 1), 1)


class CoreTests(CallsCase):
    """
    Promises about the processes.
    """

    # Updates
    # ----------------------------------------------------------------------------------------------

    async def test_anUpdateRunsOnAllProcessesPresentAndFuture(self) -> None:
        queue = self.start(2)
        pids = await queue.update(tasks.remember, "kept")
        self.assertEqual(sorted(pids), sorted(await self.pidsOf(queue)))
        await queue.resize(3)
        notes = await queue.update(tasks.remembered, ephemeral=True)
        self.assertEqual([values for _, values in notes], [["kept"]] * 3)
        self.assertEqual(len({pid for pid, _ in notes}), 3)

    async def test_aReplacedProcessIsBroughtUpToDateFirst(self) -> None:
        queue = self.start()
        await queue.update(tasks.remember, "first")
        await queue.update(tasks.remember, "once", ephemeral=True)
        await queue.update(tasks.remember, "second")
        [before] = await self.pidsOf(queue)
        os.kill(before, signal.SIGKILL)
        pid, values = await queue.call(tasks.remembered)
        while pid == before:
            # It was killed after this; the signal is quick, but not part of the call.
            pid, values = await queue.call(tasks.remembered)
        self.assertEqual(values, ["first", "second"])

    # Starting and stopping
    # ----------------------------------------------------------------------------------------------

    async def test_leavingTheBlockShutsTheQueueDown(self) -> None:
        async with ProcessQueue(2, **self.options()) as queue:
            pids = await self.pidsOf(queue)
            self.assertTrue(queue.isRunning())
        self.assertFalse(queue.isRunning())
        self.assertTrue(areGone(pids))
        with self.assertRaises(QueueStopped):
            queue.call(far.echo, 1)

    async def test_shutdownRunsWhatIsThere(self) -> None:
        queue = self.start(2)
        calls = [queue.call(far.echo, number) for number in range(100)]
        await queue.shutdown()
        self.assertTrue(all(d.called for d in calls))
        self.assertEqual(await gatherResults(calls), list(range(100)))

    async def test_growingStartsProcesses(self) -> None:
        queue = self.start(1)
        [first] = await self.pidsOf(queue)
        await queue.resize(3)
        self.assertEqual(len(queue), 3)
        pids = await self.pidsOf(queue)
        self.assertEqual(len(set(pids)), 3)
        self.assertEqual(pids[0], first)

    async def test_shrinkingEndsProcessesAfterTheirCalls(self) -> None:
        queue = self.start(3)
        pids = await self.pidsOf(queue)
        folder = self.makeFolder()
        go = str(folder / "go")
        calls = [
            queue.call(tasks.touchAnd, str(folder / str(number)), tasks.waitFor, go)
            for number in range(3)
        ]
        await self.until(lambda: len(list(folder.iterdir())) == 3)
        resized = queue.resize(1)
        self.assertEqual(len(queue), 1)
        self.assertFalse(resized.called)
        (folder / "go").touch()
        await resized
        self.assertEqual(await gatherResults(calls), [None] * 3)
        self.assertFalse(isGone(pids[0]))
        self.assertTrue(areGone(pids[1:]))
        self.assertEqual(await self.pidsOf(queue), pids[:1])

    async def test_aKilledProcessIsReplaced(self) -> None:
        queue = self.start()
        [worker] = queue.workers()
        pid = await queue.call(os.getpid)
        os.kill(pid, signal.SIGKILL)
        await self.until(lambda: worker.process.pid != pid)
        self.assertNotEqual(await queue.call(os.getpid), pid)
        self.assertTrue(isGone(pid))


class SpawnTests(CoreTests):
    """
    With the start method that every system has.
    """

    def options(self) -> dict[str, Any]:
        return {"context": startContext("spawn")}


class PollingTests(CoreTests):
    """
    With a reactor that watches no file descriptor, so that all is left to the polling.
    """

    def options(self) -> dict[str, Any]:
        return {"reactor": PollingReactor()}


class PollingValueTests(ValueTests):
    """
    The same.
    """

    def options(self) -> dict[str, Any]:
        return {"reactor": PollingReactor()}


@pytest.mark.slow
class SpawnValueTests(ValueTests):
    """
    Once they have been started, all processes are alike.
    """

    def options(self) -> dict[str, Any]:
        return {"context": startContext("spawn")}


class WorkerTests(ProcessTestCase):
    """
    Further methods and attributes of a worker.
    """

    def startWorker(self, worker: ProcessWorker) -> TaskQueue:
        return self.manage(TaskQueue(worker))

    async def test_statsAreTheTimesOfEachCall(self) -> None:
        queue = self.makeQueue(2, callStats=True)
        workers = queue.workers()
        await gatherResults([queue.call(tasks.sleepOr, 0.002) for _ in range(10)])
        await self.errorOf(queue.call(far.refuse), ValueError)
        await queue.shutdown()
        stats = [times for worker in workers for times in await worker.stats()]
        self.assertEqual(len(stats), 11)
        for whole, run in stats:
            self.assertGreaterEqual(whole, run)
            self.assertGreater(run, 0)
        self.assertEqual(sum(run >= 0.002 for _, run in stats), 10)

    async def test_aQueuesStatsAreThoseOfItsProcesses(self) -> None:
        queue = self.makeQueue(2, callStats=True)
        await gatherResults([queue.call(tasks.sleepOr, 0.002) for _ in range(10)])
        await queue.call(far.echo)
        [own, other] = [await worker.stats() for worker in queue.workers()]
        self.assertEqual(await queue.stats(), [*own, *other])
        self.assertGreaterEqual(len(own) + len(other), 10)

    async def test_statsAreKeptOnlyIfWanted(self) -> None:
        queue = self.makeQueue(2)
        await queue.call(far.echo)
        self.assertEqual(await queue.stats(), [])

    async def test_aProcessIsReplacedAfterSoManyTasks(self) -> None:
        queue = self.makeQueue(1, maxTasks=2)
        pids = [await queue.call(os.getpid) for _ in range(6)]
        self.assertEqual([pids.count(pid) for pid in dict.fromkeys(pids)], [2, 2, 2])

    async def test_aProcessIsReplacedThatHasGrown(self) -> None:
        queue = self.makeQueue(1, maxKilobytes=1)
        before = await queue.call(os.getpid)
        await self.until(lambda: queue.workers()[0].process.pid != before)
        self.assertNotEqual(await queue.call(os.getpid), before)

    async def test_memUsageIsTheProcesssOwn(self) -> None:
        worker = ProcessWorker()
        queue = self.startWorker(worker)
        pid = await queue.call(os.getpid)
        resident = psutil.Process(pid).memory_info().rss / 1024
        self.assertAlmostEqual(worker.memUsage(), resident, delta=resident / 10)
        await queue.shutdown()
        self.assertIsNone(worker.memUsage())

    async def test_memUsageFollowsTheProcess(self) -> None:
        worker = ProcessWorker()
        queue = self.startWorker(worker)
        await queue.call(far.echo)
        before = worker.memUsage()
        await queue.call(tasks.remember, b"x" * (50 << 20))
        after = worker.memUsage()
        assert before is not None
        assert after is not None
        self.assertGreaterEqual(after, before + 45 * 1024)

    async def test_whatTheReactorWatchesIsNamedAfterTheProcess(self) -> None:
        from twisted.internet import reactor

        watching: Any = reactor
        before = {*watching.getReaders(), *watching.getWriters()}
        worker = ProcessWorker()
        queue = self.startWorker(worker)
        await queue.call(far.echo)
        watched = {*watching.getReaders(), *watching.getWriters()} - before
        names = [repr(each) for each in watched if "worker process" in repr(each)]
        self.assertEqual(len(names), 2, watched)
        for name in names:
            self.assertIn("asynqueue's ", name)
            self.assertIn(f"the worker process {worker.process.pid}", name)

    async def test_coresAreThoseThatMayBeUsed(self) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        assert cores is not None
        # A container's quota may allow fewer.
        self.assertIn(ProcessWorker.cores(), range(1, cores + 1))
        self.assertEqual(ProcessQueue.cores(), ProcessWorker.cores())

    async def test_theProcessIsNamedEvenWhenItIsOver(self) -> None:
        worker = ProcessWorker()
        queue = self.startWorker(worker)
        pid = await queue.call(os.getpid)
        self.assertTrue(worker.process.is_alive())
        await queue.shutdown()
        self.assertEqual(worker.process.pid, pid)
        self.assertEqual(worker.process.exitcode, 0)
        self.assertFalse(worker.process.is_alive())

    async def test_pollingIsTunable(self) -> None:
        class Tuned(ProcessWorker):
            interval = 0.004
            backoff = 1.25

        reactor = NotingReactor()
        worker = Tuned(reactor=reactor)
        queue = self.manage(TaskQueue(worker))
        self.assertEqual(await queue.call(far.echo, 1), 1)
        await queue.call(time.sleep, 0.05)
        for length in (0.004, 0.004 * 1.25, 0.004 * 1.25**2):
            self.assertTrue(
                any(abs(noted - length) < 1e-6 for noted in reactor.waits), reactor.waits
            )
        self.assertFalse(any(0 < noted < 0.0039 for noted in reactor.waits), reactor.waits)

    async def test_aBackoffOutOfRangeIsRefused(self) -> None:
        class Mistuned(ProcessWorker):
            backoff = 2.0

        self.assertRaises(ValueError, Mistuned)

    async def test_everyProcessIsQualifiedForTheSeriesOfItsKind(self) -> None:
        queue = self.makeQueue()
        for series in (None, "process", "local"):
            self.assertEqual(await queue.call(far.echo, 1, series=series), 1)

    async def test_aSeriesGoesToThoseQualifiedForIt(self) -> None:
        one, other = ProcessWorker(series=["one"]), ProcessWorker(["other", "another"])
        queue = self.manage(TaskQueue(one, other))
        await queue.update(far.echo)
        for worker, series in ((one, "one"), (other, "other"), (other, "another")):
            pids = await gatherResults([queue.call(os.getpid, series=series) for _ in range(5)])
            self.assertEqual(set(pids), {worker.process.pid})

    async def test_aTaskTellsHowFarItIs(self) -> None:
        queue = self.makeQueue()
        path = self.makeFolder() / "runs"
        go = str(self.makeFolder() / "go")
        task = queue.submit(tasks.touchAnd, str(path), tasks.waitFor, go)
        await self.until(path.exists)
        waiting = queue.submit(far.echo, 5)
        self.assertEqual((task.state, waiting.state), (UNDERWAY, PENDING))
        open(go, "w").close()
        self.assertIsNone(await task)
        self.assertEqual(await waiting, 5)
        self.assertEqual(task.state, FINISHED)
        assert waiting.startTime is not None
        assert task.stopTime is not None
        self.assertLessEqual(task.stopTime, waiting.startTime)


class NotingReactor(PollingReactor):
    """
    Notes how long each delayed call is to wait, in seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def callLater(self, seconds: float, *args: Any, **kw: Any) -> Any:
        """
        Note it.
        """
        self.waits.append(seconds)
        return self._reactor.callLater(seconds, *args, **kw)
