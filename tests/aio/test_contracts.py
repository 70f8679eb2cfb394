"""
Workers keep their contracts on the reactor of a loop of asyncio.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from asynqueue import AsyncWorker, ProcessWorker, ThreadWorker
from asynqueue.aio import asFuture, getReactor
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
