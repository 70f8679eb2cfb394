"""
Durable jobs with the real reactor, thread and file.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from asynqueue import Delay, ResizableDispatchQueue
from asynqueue.errors import StoreLocked
from asynqueue.rdq import MemoryJobStore


def storeThreads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "asynqueue store"]


class SlowStore(MemoryJobStore):
    """
    @ivar threads: the threads in which it was used.
    """

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()

    def apply(self, changes: list[Any]) -> None:
        self.threads.add(threading.get_ident())
        time.sleep(0.05)
        super().apply(changes)


class DurableTests(TestCase):
    timeout = 30.0

    def setUp(self) -> None:
        self.path = Path(mkdtemp()) / "jobs.db"

    async def gone(self) -> None:
        while storeThreads():
            await Delay()(0.01)

    async def test_jobsGoThroughARestart(self) -> None:
        queue = ResizableDispatchQueue(str, store=self.path)
        jobs: list[Any] = [queue.put(number).job for number in range(500)]
        await gatherResults([job.saved for job in jobs])
        self.assertEqual(len(await queue.stop()), 500)
        await self.gone()
        queue = ResizableDispatchQueue(str, 50, store=self.path)
        done = await gatherResults([job.watch() for job in queue.pending()])
        self.assertEqual([job.result for job in done], [str(number) for number in range(500)])
        self.assertEqual(await queue.deadLetters(), [])
        self.assertEqual(await queue.stop(), [])
        await self.gone()

    async def test_theReactorWaitsForNoWriting(self) -> None:
        store = SlowStore()
        queue = ResizableDispatchQueue(str, store=store)
        job: Any = queue.put(1).job
        isSaved: list[Any] = []
        job.saved.addCallback(isSaved.append)
        await Delay()(0)
        self.assertEqual(isSaved, [], "the reactor had its turn before that was written")
        await job.saved
        self.assertNotIn(threading.get_ident(), store.threads)
        await queue.stop()
        await self.gone()

    async def test_aStoreThatCannotBeOpenedLeavesNoThread(self) -> None:
        queue = ResizableDispatchQueue(str, store=self.path)
        self.assertRaises(StoreLocked, ResizableDispatchQueue, str, store=self.path)
        await queue.stop()
        await self.gone()
