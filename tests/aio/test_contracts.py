"""
Workers keep their contracts on the reactor of a loop of asyncio.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from asynqueue import AsyncWorker, ProcessWorker, ThreadWorker
from asynqueue.aio import Stream, TaskQueue, asFuture, getReactor
from asynqueue.interfaces import IWorker
from asynqueue.testing import (
    DeferredHold,
    FarWorkerContract,
    FileHold,
    Hold,
    IteratingWorkerContract,
    MortalRunnerContract,
    PicklingWorkerContract,
)

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase
else:
    # A class that derives from this derives from a test case as well.
    TestCase = object


class LoopCase(TestCase):
    """
    Runs each test, which awaits Deferreds, in a loop of its own, with its cleanups.
    """

    def __init__(self, methodName: str = "runTest") -> None:
        super().__init__(methodName)
        self._cleanUps: list[Callable[[], Any]] = []

    def addCleanup(  # type: ignore[override] # the base is unittest's, without Deferreds
        self, function: Callable[..., Any], *args: Any, **kw: Any
    ) -> None:
        self._cleanUps.append(partial(function, *args, **kw))

    def run(self, result: Any = None) -> Any:
        name = self.id().rpartition(".")[2]
        setattr(self, name, partial(asyncio.run, self._inLoop(getattr(self, name))))
        return super().run(result)

    async def _inLoop(self, test: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await asFuture(Deferred.fromCoroutine(test()))
        finally:
            for cleanUp in reversed(self._cleanUps):
                if isinstance(done := cleanUp(), Deferred):
                    await asFuture(done)

    def makeHold(self: Any) -> Hold:
        return FileHold(self.scratchFolder(), getReactor())


@implementer(IWorker)
class ThroughQueue:
    """
    A worker that has a queue of asyncio run its tasks.
    """

    cQualified: ClassVar[list[Any]] = []

    def __init__(self, worker: Any) -> None:
        self.iQualified: list[Any] = []
        self._queue = TaskQueue(worker)
        self._underway: dict[Any, asyncio.Future[Any]] = {}

    def setResignator(self, callableObject: Callable[[], Any]) -> None:
        """
        It never resigns.
        """

    def run(self, task: Any) -> Deferred[None]:
        function, args, kw = task.callTuple
        options = self._queue.options(consumer=task.options.consumer, raw=task.options.raw)
        future = self._underway[task] = options.call(function, *args, **kw)
        future.add_done_callback(partial(self._ended, task))
        # A queue always takes another one.
        return succeed(None)

    def _ended(self, task: Any, future: asyncio.Future[Any]) -> None:
        if self._underway.pop(task, None) is not None:
            error = None if future.cancelled() else future.exception()
            if error is not None:
                task.errback(Failure(error))
            elif not future.cancelled():
                task.callback(future.result())

    def cancel(self, task: Any) -> None:
        self._underway[task].cancel()

    def stop(self) -> Deferred[None]:
        return Deferred.fromFuture(self._queue.shutdown())

    def crash(self) -> list[Any]:
        # A call with a consumer is told by the queue that it was stopped, as its worker tells it.
        underway = [task for task in self._underway if task.options.consumer is None]
        for task in underway:
            self._underway.pop(task).cancel()
        for worker in self._queue.workers():
            self._queue.detachWorker(worker, crash=True)
        self._queue.shutdown()
        return underway


class ThroughQueueCase(LoopCase):
    """
    What a contract promises of a worker is seen through a queue of asyncio.
    """

    async def iterate(
        self: Any, worker: Any, function: Callable[..., Any], *args: Any
    ) -> tuple[Any, Deferred[None]]:
        task, ready = self.give(worker, function, *args)
        stream = await self.ending(task)
        self.assertIsInstance(stream, Stream)
        return stream, ready

    async def items(self: Any, deferator: Any, count: int) -> list[Any]:
        async def take() -> list[Any]:
            return [await anext(deferator) for _ in range(count)]

        taken: list[Any] = await Deferred.fromFuture(asyncio.ensure_future(take()))
        return taken


class ThreadQueueTests(ThroughQueueCase, IteratingWorkerContract, SynchronousTestCase):
    def makeWorker(self) -> ThroughQueue:
        return ThroughQueue(ThreadWorker(reactor=getReactor()))


class ProcessQueueTests(ThroughQueueCase, PicklingWorkerContract, SynchronousTestCase):
    def makeWorker(self) -> ThroughQueue:
        return ThroughQueue(ProcessWorker(reactor=getReactor()))


class AsyncTests(LoopCase, IteratingWorkerContract, SynchronousTestCase):
    def makeWorker(self) -> AsyncWorker:
        return AsyncWorker(reactor=getReactor())

    def makeHold(self) -> DeferredHold:
        return DeferredHold()


class ThreadTests(LoopCase, FarWorkerContract, IteratingWorkerContract, SynchronousTestCase):
    def makeWorker(self) -> ThreadWorker:
        return ThreadWorker(reactor=getReactor())


class ProcessTests(LoopCase, MortalRunnerContract, PicklingWorkerContract, SynchronousTestCase):
    def makeWorker(self) -> ProcessWorker:
        return ProcessWorker(reactor=getReactor())

    def killRunner(self, worker: Any) -> None:
        os.kill(worker.process.pid, signal.SIGKILL)
