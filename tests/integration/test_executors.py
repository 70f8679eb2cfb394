"""
The worker over real executors.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest
from twisted.internet.defer import Deferred, DeferredList
from twisted.trial.unittest import TestCase

from asynqueue import ExecutorWorker, TaskQueue
from asynqueue.errors import (
    CallNotPicklable,
    CallNotRebuilt,
    RemoteError,
    ResultNotPicklable,
    ResultNotRebuilt,
    WorkerDied,
    WorkerError,
)
from asynqueue.iteration import Deferator, ListConsumer
from asynqueue.testing import FileHold, WorkerContract, far
from tests.integration import tasks

pytestmark = pytest.mark.timeout(60)


def makeProcessPool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("forkserver"))


KINDS: dict[str, Callable[[], Any]] = {
    "threads": lambda: ThreadPoolExecutor(2),
    "processes": makeProcessPool,
}
# Python 3.14 has it.
InterpreterPool: Any = getattr(concurrent.futures, "InterpreterPoolExecutor", None)
if InterpreterPool is not None:
    KINDS["interpreters"] = lambda: InterpreterPool(2)


class EveryKind:
    """
    Promises with every executor of the standard library.
    """

    kind: str

    def makeQueue(self: Any) -> TaskQueue:
        self.executor = KINDS[self.kind]()
        queue = TaskQueue(ExecutorWorker(self.executor, shutdownExecutor=True), timeout=20)
        self.addCleanup(queue.shutdown)
        return queue

    async def errorOf(self, d: Deferred[Any]) -> Any:
        try:
            result = await d
        except BaseException as error:
            return error
        raise AssertionError(f"it was to fail, but came to {result!r}")

    async def test_manyCallsComeBackInTheirOrder(self: Any) -> None:
        queue = self.makeQueue()
        results = await DeferredList([queue.call(far.square, n) for n in range(200)])
        self.assertEqual([result for _, result in results], [n * n for n in range(200)])

    async def test_aCoroutineIsRunToItsEnd(self: Any) -> None:
        self.assertEqual(await self.makeQueue().call(tasks.doubled, 4), 8)

    async def test_anExceptionComesBackWithItsType(self: Any) -> None:
        error = await self.errorOf(self.makeQueue().call(far.refuse, "no"))
        self.assertIs(type(error), ValueError)

    async def test_exitingIsTheTasksFailure(self: Any) -> None:
        queue = self.makeQueue()
        self.assertIsInstance(await self.errorOf(queue.call(far.exit, 3)), SystemExit)
        self.assertEqual(await queue.call(far.echo, 1), 1)

    async def test_reportingHarmsNobody(self: Any) -> None:
        self.assertEqual(await self.makeQueue().call(tasks.reporting), "done")

    async def test_anExecutorThatWasShutDownMakesTheWorkerResign(self: Any) -> None:
        queue = self.makeQueue()
        await queue.call(far.echo)
        self.executor.shutdown()
        error = await self.errorOf(queue.call(far.echo))
        self.assertIsInstance(error, WorkerError)
        self.assertIn("cannot schedule new futures", str(error))
        self.assertEqual(len(queue), 0)


class InterpretersTests:
    """
    Further promises with executors whose calls run in other interpreters.
    """

    async def test_whatCannotTravelFailsAlone(self: Any) -> None:
        queue = self.makeQueue()
        for kind, function, *args in (
            (CallNotPicklable, far.echo, lambda: None),
            (CallNotRebuilt, far.echo, far.Bomb()),
            (CallNotRebuilt, far.echo, far.Bomb(exits=True)),
            (ResultNotPicklable, far.makeLambda),
            (ResultNotRebuilt, far.makeBomb, True),
            (ResultNotPicklable, far.numbers, 3),
            (RemoteError, far.raiseUnpicklable),
            (RemoteError, far.raiseUnrebuildable),
        ):
            error = await self.errorOf(queue.call(function, *args))
            self.assertIsInstance(error, kind)
        self.assertEqual(await queue.call(far.echo, 1), 1)


class ThreadPoolTests(EveryKind, TestCase):
    kind = "threads"

    async def test_callsRunInItsThreads(self) -> None:
        ident = await self.makeQueue().call(threading.get_ident)
        self.assertNotEqual(ident, threading.get_ident())

    async def test_iteratorsAreAdvancedInItsThreads(self) -> None:
        idents = await self.makeQueue().call(lambda: (threading.get_ident() for _ in range(5_000)))
        self.assertIsInstance(idents, Deferator)
        self.assertNotIn(threading.get_ident(), [ident async for ident in idents])

    async def test_aConsumerGetsTheItems(self) -> None:
        consumer = ListConsumer()
        await self.makeQueue().call(far.numbers, 100_000, consumer=consumer)
        self.assertEqual(await consumer(), list(range(100_000)))

    async def test_reportsReachTheTask(self) -> None:
        task = self.makeQueue().submit(tasks.reporting)
        await task
        self.assertEqual((task.progress.done, task.progress.total), (1, 2))

    async def test_aWorkerThatCrashesDoesNotWaitForItsThreads(self) -> None:
        executor = ThreadPoolExecutor(1)
        hold = FileHold(self.mktemp())
        os.mkdir(os.path.dirname(hold.args[0]))
        worker = ExecutorWorker(executor)
        queue = TaskQueue(worker)
        self.addCleanup(executor.shutdown)
        self.addCleanup(hold.release)
        task = queue.submit(hold.function, *hold.args)
        await hold.begun(task)
        began = time.monotonic()
        [left] = await queue.detachWorker(worker, crash=True)
        self.assertIs(left, task)
        self.assertLess(time.monotonic() - began, 10)
        await self.errorOf(task.d)
        await queue.shutdown()


class ProcessPoolTests(EveryKind, InterpretersTests, TestCase):
    kind = "processes"

    async def test_callsRunInItsProcesses(self) -> None:
        self.assertNotEqual(await self.makeQueue().call(os.getpid), os.getpid())

    async def test_theFarTracebackIsTheCause(self) -> None:
        error = await self.errorOf(self.makeQueue().call(far.refuse, "no"))
        self.assertIn("in refuse", str(error.__cause__))

    async def test_aProcessThatDiesBreaksTheExecutorAndTheWorkerLeaves(self) -> None:
        queue = self.makeQueue()
        died = queue.submit(tasks.endProcess, 3)
        waiting = [queue.submit(far.echo, number, series="executor") for number in range(20)]
        other = ExecutorWorker(ThreadPoolExecutor(1), series=[], shutdownExecutor=True)
        queue.attachWorker(other)
        error = await self.errorOf(died.d)
        self.assertIsInstance(error, WorkerDied)
        self.assertIn("ProcessPoolExecutor", str(error))
        outcomes = await DeferredList([task.d for task in waiting], consumeErrors=True)
        for (succeeded, result), number in zip(outcomes, range(20), strict=True):
            if succeeded:
                self.assertEqual(result, number)
            else:
                # It may have been underway in the pool.
                self.assertIsInstance(result.value, WorkerDied)
        self.assertEqual(await queue.call(far.echo, 1), 1)
        self.assertEqual(queue.workers(), [other])


class ProcessPoolContractTests(WorkerContract, TestCase):
    def makeWorker(self) -> ExecutorWorker:
        executor = makeProcessPool()
        self.addCleanup(executor.shutdown)
        return ExecutorWorker(executor)


if "interpreters" in KINDS:

    class InterpreterPoolTests(EveryKind, InterpretersTests, TestCase):
        kind = "interpreters"
