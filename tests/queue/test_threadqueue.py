"""
Queues with threads of their own, ThreadLooper and deferToThread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.trial.unittest import TestCase

from asynqueue import (
    Delay,
    ListConsumer,
    QueuedTask,
    ThreadLooper,
    ThreadQueue,
    ThreadWorker,
    deferToThread,
    report,
)
from asynqueue._workers import restart
from asynqueue._workers.threads import ThreadChannel
from asynqueue.errors import QueueStopped, ResultNotPicklable, TaskTimeout, WorkerStartError
from asynqueue.tasks import CANCELLED
from asynqueue.testing import far

PATIENCE = 20.0


class ThreadCase(TestCase):
    """
    A test case that checks after each test that no worker thread is left.
    """

    timeout = 45.0

    def setUp(self) -> None:
        self._before = set(threading.enumerate())
        self.addCleanup(self._leaveNothing)
        # Calls that a test has blocked go on after it.
        self.go = threading.Event()
        self.addCleanup(self.go.set)

    async def _leaveNothing(self) -> None:
        await self.until(lambda: not [t for t in self.ours() if t not in self._before])

    def ours(self) -> list[threading.Thread]:
        return [t for t in threading.enumerate() if t.name.startswith("asynqueue worker")]

    def makeQueue(self, N: int = 1, **options: Any) -> ThreadQueue:
        queue = ThreadQueue(N, **options)

        def shutdown() -> Deferred[None]:
            self.go.set()
            return queue.shutdown()

        self.addCleanup(shutdown)
        return queue

    async def until(self, happened: Callable[[], object]) -> None:
        delay = Delay(timeout=PATIENCE)
        self.assertTrue(await delay.untilEvent(happened), f"{happened} never came")

    async def errorOf(self, d: Deferred[Any], *kinds: type[BaseException]) -> Any:
        return await self.assertFailure(d, *kinds)

    async def block(self, queue: ThreadQueue, **options: Any) -> Deferred[Any]:
        """
        Have a thread busy until C{self.go} is set.
        """
        return (await self.submitBlock(queue, **options)).d

    async def submitBlock(self, queue: ThreadQueue, **options: Any) -> QueuedTask:
        begun = threading.Event()

        def work() -> str:
            begun.set()
            self.go.wait(PATIENCE)
            return "late"

        task = queue.submit(work, **options)
        await self.until(begun.is_set)
        return task


@contextmanager
def brokenStart(test: TestCase) -> Iterator[None]:
    """
    Make every start of a thread fail, as if the system had no threads left.
    """

    def refuse(target: Any) -> None:
        raise RuntimeError("can't start new thread")

    def makeBroken(worker: Any) -> Any:
        return ThreadChannel(worker._reactor, start=refuse)

    with (
        mock.patch.object(ThreadWorker, "makeChannel", makeBroken),
        mock.patch.object(restart, "START_TRIES", 2),
    ):
        yield
    test.flushLoggedErrors()


class ThreadQueueTests(ThreadCase):
    async def test_callsRunInAnotherThread(self) -> None:
        queue = self.makeQueue()
        thread = await queue.call(threading.current_thread)
        self.assertIsNot(thread, threading.current_thread())
        self.assertIs(thread, queue.workers(1).thread)
        self.assertIn("asynqueue", thread.name)
        self.assertTrue(thread.daemon)

    async def test_nothingIsCopied(self) -> None:
        queue = self.makeQueue()
        things = [object(), lambda: None]
        self.assertIs(await queue.call(far.echo, things), things)

    async def test_oneThreadRunsOneCallAtATime(self) -> None:
        queue = self.makeQueue()
        lock = threading.Lock()

        def work(number: int) -> int:
            self.assertTrue(lock.acquire(blocking=False))
            time.sleep(0)
            lock.release()
            return number

        calls = [queue.call(work, number) for number in range(200)]
        self.assertEqual(await gatherResults(calls), list(range(200)))

    async def test_nThreadsRunNCallsAtOnce(self) -> None:
        queue = self.makeQueue(3)
        barrier = threading.Barrier(3)
        calls = [queue.call(barrier.wait, PATIENCE) for _ in range(3)]
        self.assertEqual(sorted(await gatherResults(calls)), [0, 1, 2])

    async def test_theNumberOfThreadsIsAPositiveInteger(self) -> None:
        for wrong in (0, -1, 1.5, "1", True):
            with self.assertRaises(ValueError):
                ThreadQueue(wrong)  # type: ignore[arg-type]

    async def test_anExceptionKeepsItsTraceback(self) -> None:
        queue = self.makeQueue()
        error = await self.errorOf(queue.call(far.refuse), ValueError)
        self.assertEqual(type(error), ValueError)
        self.assertIsNone(error.__cause__)

    async def test_aFailuresTracebackIsThatOfTheThread(self) -> None:
        queue = self.makeQueue()
        texts: list[str] = []
        d = queue.call(far.refuse)
        d.addErrback(lambda failure: texts.append(failure.getTraceback()))
        await d
        self.assertIn("in refuse", texts[0])

    async def test_aDeferredIsRefusedClearly(self) -> None:
        queue = self.makeQueue()
        error = await self.errorOf(queue.call(succeed, 1), ResultNotPicklable)
        self.assertIn("useReactor=True", str(error))

    async def test_exitingIsTheTasksFailure(self) -> None:
        queue = self.makeQueue()
        await self.errorOf(queue.call(far.exit, 3), SystemExit)
        self.assertEqual(await queue.call(far.echo, 1), 1)

    async def test_aCoroutineRunsInTheThread(self) -> None:
        queue = self.makeQueue()

        async def where() -> threading.Thread:
            return threading.current_thread()

        self.assertIs(await queue.call(where), queue.workers(1).thread)

    async def test_progressReachesTheTask(self) -> None:
        queue = self.makeQueue()

        def work() -> None:
            for number in range(11):
                report(number, 10)

        task = queue.submit(work)
        await task
        self.assertEqual((task.progress.done, task.progress.total), (10, 10))

    async def test_deferToThreadGoesFirst(self) -> None:
        queue = self.makeQueue()
        blocked = await self.block(queue)
        order: list[int] = []
        later = [queue.call(order.append, number, series="other") for number in (1, 2)]
        queue.qualifyWorker(queue.workers(1), "other")
        first = queue.deferToThread(order.append, 0)
        self.go.set()
        await gatherResults([blocked, first, *later])
        self.assertEqual(order[0], 0)

    async def test_whatWasSentAheadBehindASlowCallRunsElsewhere(self) -> None:
        queue = self.makeQueue(2)
        # Their run times are measured to be short, so they are sent ahead.
        await gatherResults([queue.call(far.echo, number) for number in range(500)])
        slow = queue.call(self.go.wait, PATIENCE)
        calls = [queue.call(far.echo, number) for number in range(200)]
        self.assertEqual(await gatherResults(calls), list(range(200)))
        self.assertFalse(slow.called)
        self.go.set()
        self.assertTrue(await slow)

    async def test_callsFromCallbacksDoNotRecurse(self) -> None:
        queue = self.makeQueue()
        done: Deferred[None] = Deferred()

        def again(number: int) -> None:
            if number == 5_000:
                done.callback(None)
            else:
                queue.call(far.add, number, 1).addCallback(again)

        again(0)
        await done

    async def test_statsAreKeptIfWanted(self) -> None:
        queue = self.makeQueue(callStats=True)
        await queue.call(far.echo)
        [(whole, run)] = await queue.workers(1).stats()
        self.assertGreaterEqual(whole, run)


class EndOfCallTests(ThreadCase):
    async def test_aCancelledCallsResultIsDroppedAndItsThreadCountsAsBusy(self) -> None:
        queue = self.makeQueue()
        task = await self.submitBlock(queue)
        blocked = task.d
        waiting = queue.call(far.echo, 1)
        blocked.cancel()
        await self.errorOf(blocked, CancelledError)
        await Delay()(0.05)
        self.assertFalse(waiting.called)
        self.go.set()
        self.assertEqual(await waiting, 1)
        self.assertEqual(task.state, CANCELLED)
        self.assertIsNone(task.result)

    async def test_aTimeoutIsTheSame(self) -> None:
        queue = self.makeQueue()
        blocked = await self.block(queue, timeout=0.02)
        waiting = queue.call(far.echo, 1)
        await self.errorOf(blocked, TaskTimeout)
        self.assertFalse(waiting.called)
        self.go.set()
        self.assertEqual(await waiting, 1)
        self.assertEqual(len(queue), 1)

    async def test_theOtherThreadGoesOn(self) -> None:
        queue = self.makeQueue(2)
        blocked = await self.block(queue)
        blocked.cancel()
        await self.errorOf(blocked, CancelledError)
        calls = [queue.call(far.echo, number) for number in range(20)]
        self.assertEqual(await gatherResults(calls), list(range(20)))

    async def test_whatWaitsBehindABusyThreadCanBeCancelled(self) -> None:
        queue = self.makeQueue()
        blocked = await self.block(queue)
        ran: list[int] = []
        waiting = queue.call(ran.append, 1)
        waiting.cancel()
        await self.errorOf(waiting, CancelledError)
        self.go.set()
        await blocked
        await queue.call(far.echo)
        self.assertEqual(ran, [])


class IterationTests(ThreadCase):
    async def test_anIteratorIsAdvancedAndClosedInTheThreadThatMadeIt(self) -> None:
        queue = self.makeQueue(2)
        where: list[threading.Thread] = []

        def some() -> Iterator[threading.Thread]:
            try:
                while True:
                    yield threading.current_thread()
            finally:
                where.append(threading.current_thread())

        for _ in range(4):
            taken = []
            async with await queue.call(some) as deferator:
                async for thread in deferator:
                    taken.append(thread)
                    if len(taken) == 5000:
                        break
            self.assertEqual(len(set(taken)), 1)
            await self.until(lambda: where)
            self.assertEqual(where, taken[:1])
            where.clear()

    async def test_manyStreamsAndCallsShareAThread(self) -> None:
        queue = self.makeQueue()
        deferators = [await queue.call(far.numbers, 300) for _ in range(3)]
        self.assertEqual(await queue.call(far.echo, 1), 1)
        for deferator in deferators:
            self.assertEqual([item async for item in deferator], list(range(300)))

    async def test_aConsumerGetsTheItems(self) -> None:
        queue = self.makeQueue()
        consumer = ListConsumer()
        await queue.call(far.numbers, 1000, consumer=consumer)
        self.assertEqual(await consumer(), list(range(1000)))

    async def test_anIteratorComesBackAsItIsIfWanted(self) -> None:
        queue = self.makeQueue(raw=True)
        items = iter([1])
        self.assertIs(await queue.call(far.echo, items), items)
        deferator = await queue.call(far.echo, items, raw=False)
        self.assertEqual([item async for item in deferator], [1])

    async def test_shutdownClosesWhatIsOpen(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        queue = ThreadQueue()
        await queue.call(far.endlessUntilClosed, str(folder / "closed"))
        await queue.shutdown()
        self.assertTrue((folder / "closed").exists())


class ShutdownTests(ThreadCase):
    async def test_theWorkerIsTheFirstOneAndNobodyAfterwards(self) -> None:
        queue = self.makeQueue(2)
        self.assertIs(queue.worker, queue.workers()[0])
        await queue.shutdown()
        self.assertIsNone(queue.worker)

    async def test_whatIsThereIsRunFirst(self) -> None:
        queue = ThreadQueue(2)
        calls = [queue.call(far.echo, number) for number in range(50)]
        await queue.shutdown()
        self.assertEqual(await gatherResults(calls), list(range(50)))

    async def test_aBusyThreadIsLeftBehindAfterItsTime(self) -> None:
        queue = ThreadQueue(timeout=0.05)
        blocked = await self.block(queue)
        self.assertFailure(blocked, Exception)
        [left] = [t for t in self.ours() if t not in self._before]
        await queue.shutdown()
        self.assertTrue(blocked.called)
        self.assertTrue(left.is_alive())
        self.go.set()

    async def test_theBlockEndsWithTheThreads(self) -> None:
        async with ThreadQueue() as queue:
            self.assertEqual(await queue.call(far.echo, 1), 1)
        self.assertRaises(QueueStopped, queue.call, far.echo)


class LooperTests(ThreadCase):
    def setUp(self) -> None:
        super().setUp()
        self.looper = ThreadLooper()

        def stop() -> Deferred[None]:
            self.go.set()
            return self.looper.stop() if self.looper.threadRunning else succeed(None)

        self.addCleanup(stop)

    async def test_callsRunInOrderInOneThread(self) -> None:
        order: list[int] = []
        calls = [self.looper.call(order.append, number) for number in range(100)]
        calls += [self.looper.deferToThread(threading.current_thread) for _ in range(5)]
        results = await gatherResults(calls)
        self.assertEqual(order, list(range(100)))
        self.assertEqual(len(set(results[100:])), 1)

    async def test_doNextGoesBeforeThoseThatWait(self) -> None:
        order: list[int] = []
        first = self.looper.call(self.go.wait, PATIENCE)
        calls = [self.looper.call(order.append, number) for number in (1, 2)]
        calls.append(self.looper.call(order.append, 0, doNext=True))
        self.go.set()
        await gatherResults([first, *calls])
        self.assertEqual(order, [0, 1, 2])

    async def test_keywordsAreTheFunctions(self) -> None:
        self.assertEqual(await self.looper.call(far.keywords, 1, two=2), ((1,), {"two": 2}))

    async def test_anIteratorBecomesADeferator(self) -> None:
        deferator = await self.looper.call(far.numbers, 10)
        self.assertEqual([item async for item in deferator], list(range(10)))

    async def test_aThreadThatCouldNotBeStartedIsTriedAgainWithTheNextCall(self) -> None:
        await self.looper.stop()
        with brokenStart(self):
            self.looper = ThreadLooper()
            await self.errorOf(self.looper.call(far.echo), WorkerStartError)
            self.assertFalse(self.looper.threadRunning)
        self.assertEqual(await self.looper.call(far.echo, 4), 4)
        self.assertTrue(self.looper.threadRunning)

    async def test_stoppingRunsWhatWaits(self) -> None:
        self.assertTrue(self.looper.threadRunning)
        calls = [self.looper.call(far.echo, number) for number in range(10)]
        await self.looper.stop()
        self.assertEqual(await gatherResults(calls), list(range(10)))
        self.assertFalse(self.looper.threadRunning)
        self.assertRaises(QueueStopped, self.looper.call, far.echo)


class DeferToThreadTests(ThreadCase):
    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(deferToThread)

    async def test_allCallsShareOneThread(self) -> None:
        found = await gatherResults([deferToThread(threading.current_thread) for _ in range(5)])
        self.assertEqual(len(set(found)), 1)
        self.assertIsNot(found[0], threading.current_thread())

    async def test_withoutAFunctionTheThreadIsEnded(self) -> None:
        call = deferToThread(threading.current_thread)
        self.assertIsNone(await deferToThread())
        thread = await call
        thread.join(PATIENCE)
        self.assertFalse(thread.is_alive())
        self.assertIsNone(await deferToThread())

    async def test_theNextCallStartsAnother(self) -> None:
        await deferToThread(far.echo)
        await deferToThread()
        self.assertEqual(await deferToThread(far.echo, 3), 3)

    async def test_argumentsAndFailuresAreTheFunctions(self) -> None:
        self.assertEqual(await deferToThread(far.add, 1, second=2), 3)
        await self.errorOf(deferToThread(far.refuse), ValueError)

    async def test_afterAThreadCouldNotBeStartedTheNextCallTriesAgain(self) -> None:
        with brokenStart(self):
            await self.errorOf(deferToThread(far.echo), WorkerStartError)
        self.assertEqual(await deferToThread(far.echo, 4), 4)
