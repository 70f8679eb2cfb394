"""
The worker in a child process keeps the contract of all workers, however its processes are started
and its pipe is waited for.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from asynqueue import ProcessWorker
from asynqueue._workers.launch import startContext
from asynqueue.testing import MortalRunnerContract, PicklingWorkerContract
from tests.support.processes import PollingReactor, ProcessTestCase


class ForkServerTests(MortalRunnerContract, PicklingWorkerContract, ProcessTestCase):
    timeout = ProcessTestCase.timeout

    def setUp(self) -> Deferred[None]:  # type: ignore[override] # Trial waits for it
        MortalRunnerContract.setUp(self)
        return ProcessTestCase.setUp(self)

    def makeWorker(self) -> ProcessWorker:
        return ProcessWorker()

    def killRunner(self, worker: Any) -> None:
        os.kill(worker.process.pid, signal.SIGKILL)


@pytest.mark.slow
class SpawnTests(ForkServerTests):
    """
    Once they have been started, all processes are alike.
    """

    def makeWorker(self) -> ProcessWorker:
        return ProcessWorker(context=startContext("spawn"))


class PollingTests(ForkServerTests):
    """
    With a reactor that watches no file descriptors.
    """

    def makeWorker(self) -> ProcessWorker:
        return ProcessWorker(reactor=PollingReactor())
