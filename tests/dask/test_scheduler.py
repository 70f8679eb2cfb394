"""
A scheduler that dies takes with it what it had, and the queue goes on with the next one.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from asynqueue import DaskWorker, TaskQueue
from asynqueue.errors import DaskWorkerDied
from asynqueue.tools import Delay
from tests.dask import tasks


def hold() -> socket.socket:
    """
    Hold a free port, on which a program that reuses addresses may listen. So nobody else gets it
    while no scheduler runs.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """
    Start a program of Dask's that listens on the loopback interface.
    """
    dask = os.path.join(os.path.dirname(sys.executable), "dask")
    command = [dask, *arguments, "--host", "127.0.0.1", "--no-dashboard"]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


@pytest.mark.slow
class SchedulerTests(TestCase):
    timeout = 120.0

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        process = start(*arguments)
        self.addCleanup(self.end, process)
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        process.wait()

    async def test_callsThatTheSchedulerHadFailAndTheOthersRunOnTheNextOne(self) -> None:
        held = hold()
        self.addCleanup(held.close)
        port = held.getsockname()[1]
        address = f"tcp://127.0.0.1:{port}"
        scheduling = "scheduler", "--port", str(port)
        working = "worker", address, "--nworkers", "2", "--nthreads", "1"
        scheduler, workers = self.start(*scheduling), self.start(*working)
        queue = TaskQueue(DaskWorker(address))
        self.addCleanup(queue.shutdown)
        self.assertEqual(await queue.call(tasks.tenth, 0), 0)
        handed = [queue.submit(tasks.tenth, number) for number in range(300)]
        for task in handed:
            task.d.addErrback(lambda _: None)
        ended: list[Deferred[Any]] = [
            task.whenDone().addErrback(lambda failure: failure.value) for task in handed
        ]
        await Delay(timeout=20).untilEvent(lambda: sum(task.isDone for task in handed) > 20)
        scheduler.kill()
        scheduler.wait()
        self.end(workers)
        self.start(*scheduling)
        self.start(*working)
        outcomes = [await each for each in ended]
        lost = [each for each in outcomes if isinstance(each, DaskWorkerDied)]
        rest = [(n, each) for n, each in enumerate(outcomes) if each not in lost]
        self.assertTrue(all(n == each for n, each in rest), rest)
        self.assertLess(len(lost), 150, "only what the scheduler had is lost")
        self.assertEqual(await queue.call(tasks.tenth, 7), 7)
