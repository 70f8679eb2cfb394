"""
Queues with real processes and threads are dropped.
"""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import deferLater

from asynqueue import ProcessWorker, ResizableDispatchQueue, TaskQueue, ThreadQueue
from asynqueue._reactor import defaultReactor
from asynqueue.tasks import STOPPED
from tests.support.processes import ProcessTestCase, isGone


class DroppedTests(ProcessTestCase):
    async def test_theCallOfATemporaryQueueRunsAndItsProcessEnds(self) -> None:
        worker = ProcessWorker()
        with pytest.warns(ResourceWarning, match="<TaskQueue: RUNNING, 1 workers"):
            pid = await TaskQueue(worker).call(os.getpid)
        await self.until(lambda: worker.state == STOPPED)
        self.assertTrue(isGone(pid))

    async def test_soDoesItsThread(self) -> None:
        with pytest.warns(ResourceWarning, match="<ThreadQueue: RUNNING, 1 workers"):
            thread = await ThreadQueue(1).call(threading.current_thread)
        await self.until(lambda: not thread.is_alive())

    async def test_aStoreCanBeOpenedAgain(self) -> None:
        path: Path = self.makeFolder() / "jobs"
        queue = ResizableDispatchQueue(abs, store=path, storedAs="abs")
        job: Any = queue.put(-1).job
        await job.saved
        del job
        # What has told of that is over by then.
        await deferLater(defaultReactor(), 0.01)
        with pytest.warns(ResourceWarning, match="kept in its store"):
            del queue
            gc.collect()
        await deferLater(defaultReactor(), 0.05)
        again = ResizableDispatchQueue(abs, store=path, storedAs="abs")
        self.assertEqual([job.jobarg for job in again.pending()], [-1])
        await again.stop()
