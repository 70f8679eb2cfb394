"""
A worker behind a server keeps the promises of every worker with a process.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from twisted.trial.unittest import TestCase

from asynqueue.testing import MortalRunnerContract, PicklingWorkerContract
from asynqueue.wire import RemoteWorker
from tests.support.remote import RemoteMixin


class RemoteWorkerTests(RemoteMixin, MortalRunnerContract, PicklingWorkerContract, TestCase):
    async def makeWorker(self) -> RemoteWorker:
        if not hasattr(self, "service"):
            self.service = await self.serve(processes=4)
        return self.remote()

    def killRunner(self, worker: Any) -> None:
        for session in self.service.sessions:
            if session.pid is not None:
                os.kill(session.pid, signal.SIGKILL)


class RemoteThreadTests(RemoteMixin, PicklingWorkerContract, TestCase):
    async def makeWorker(self) -> RemoteWorker:
        if not hasattr(self, "service"):
            self.service = await self.serve(threads=4)
        return self.remote()
