"""
How C{asynqueue serve} ends, and what it says of itself.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from tempfile import mkdtemp
from typing import Any

from twisted.internet import threads
from twisted.trial.unittest import TestCase

from asynqueue import TaskQueue
from asynqueue.errors import ConnectionLost, WorkerDied
from asynqueue.testing import FileHold
from asynqueue.wire import RemoteWorker, writeKey
from tests.support.remote import RemoteMixin, serveCommand, twistCommand


class EndOfServeTests(RemoteMixin, TestCase):
    timeout = 20.0

    async def start(self, *options: str, makeCommand: Callable[..., Any] = serveCommand) -> None:
        """
        Start a server, and have it run a task that ends when the hold is released.
        """
        # The path of a socket has to be short.
        folder = mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        self.hold = FileHold(folder)
        self.addCleanup(self.hold.release)
        key = os.path.join(folder, "key")
        writeKey(key)
        address = f"unix:{folder}/socket"
        command = makeCommand(key, address, *options)
        self.server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.addCleanup(self.reap)
        await self.logged("serving at")
        queue = TaskQueue(RemoteWorker(address, key), timeout=1.0)
        self.addCleanup(queue.shutdown)
        self.task = queue.submit(self.hold.function, *self.hold.args)
        await self.hold.begun(self.task)

    async def logged(self, words: str) -> None:
        """
        Wait until the server logs something.
        """
        line = ""
        while words not in line:
            line = await threads.deferToThread(self.server.stderr.readline)  # type: ignore[union-attr]
            self.assertTrue(line, f"it has ended without saying {words!r}")

    def reap(self) -> None:
        self.server.kill()
        self.server.communicate()

    async def end(self, code: int = 0) -> str:
        """
        @return: what the server has logged, when it has ended well.
        """
        _, text = await threads.deferToThread(self.server.communicate, None, 10)
        self.assertEqual(self.server.returncode, code)
        return str(text)

    async def test_aSignalLetsTheTaskEnd(self) -> None:
        await self.start()
        self.server.send_signal(signal.SIGTERM)
        ended = threads.deferToThread(self.server.wait, 0.3)
        await self.assertFailure(ended, subprocess.TimeoutExpired)
        self.assertFalse(self.task.isDone)
        self.hold.release()
        self.assertIsNone(await self.task.d)
        text = await self.end()
        for words in ("has a session, 1 of 1", "shutting down: 1 sessions", "is over"):
            self.assertIn(words, text)

    async def test_theSecondSignalEndsTheTaskAtOnce(self) -> None:
        await self.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            self.server.send_signal(number)
        await self.assertFailure(self.task.d, WorkerDied, ConnectionLost)
        self.assertIn("ends 1 sessions at once", await self.end())

    async def test_theTaskHasTheTimeThatGraceGives(self) -> None:
        await self.start("--grace", "0.1")
        self.server.send_signal(signal.SIGTERM)
        await self.assertFailure(self.task.d, WorkerDied, ConnectionLost)
        self.assertIn("ends 1 sessions at once", await self.end())

    async def test_underTwistASignalLetsTheTaskEnd(self) -> None:
        await self.start(makeCommand=twistCommand)
        self.server.send_signal(signal.SIGTERM)
        await self.logged("shutting down: 1 sessions")
        self.assertFalse(self.task.isDone)
        self.hold.release()
        self.assertIsNone(await self.task.d)
        self.assertIn("is over", await self.end(-signal.SIGTERM))

    async def test_underTwistTheSecondSignalEndsTheTaskAtOnce(self) -> None:
        await self.start(makeCommand=twistCommand)
        self.server.send_signal(signal.SIGTERM)
        await self.logged("shutting down: 1 sessions")
        self.server.send_signal(signal.SIGTERM)
        await self.assertFailure(self.task.d, WorkerDied, ConnectionLost)
        self.assertIn("ends 1 sessions at once", await self.end(-signal.SIGTERM))

    async def test_underTwistTheTaskHasTheTimeThatGraceGives(self) -> None:
        await self.start("--grace", "0.1", makeCommand=twistCommand)
        self.server.send_signal(signal.SIGTERM)
        await self.assertFailure(self.task.d, WorkerDied, ConnectionLost)
        self.assertIn("ends 1 sessions at once", await self.end(-signal.SIGTERM))
