"""
A picture on servers ends with one sentence when no server is left.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from asynqueue.tools import deferToDelay
from asynqueue.wire import newKey
from mcmandelbrot import render
from mcmandelbrot.errors import RenderingFailed
from mcmandelbrot.output import openOutput
from mcmandelbrot.progress import Progress
from mcmandelbrot.view import View
from tests.support.remote import KEY, RemoteMixin

VIEW = View(16, -0.63, 0.0, 1.4, 1.2, 50)

begun = threading.Event()
ended = threading.Event()


def prepare(view: View) -> None:
    """
    Prepare nothing.
    """


def hold(stripe: Any) -> None:
    """
    Take the place of rendering a stripe, until the test ends.
    """
    begun.set()
    ended.wait(10)


class RemotePictureTests(RemoteMixin, TestCase):
    timeout = 20.0

    async def begin(self) -> tuple[Any, Deferred[None]]:
        """
        @return: a server in the middle of a picture, and what fires when the command ends.
        """
        self.patch(render, "prepareWorker", prepare)
        self.patch(render, "renderStripe", hold)
        begun.clear()
        ended.clear()
        self.addCleanup(ended.set)
        service = await self.serve(threads=1, keep=0.1)
        address = f"tcp:127.0.0.1:{self.port}"
        self.file = Path(self.mktemp())

        async def run() -> None:
            with openOutput(str(self.file)) as output:
                progress = Progress(VIEW.width, VIEW.height, None)
                await render.renderRemotely(VIEW, [address], KEY, output, progress)

        work = Deferred.fromCoroutine(run())
        while not begun.is_set():
            await deferToDelay(0.01)
        return service, work

    async def fails(self, work: Any) -> str:
        error = await self.assertFailure(work, RenderingFailed)
        self.assertEqual(error.exitStatus, 1)
        self.assertNotIn("\n", str(error))
        self.assertFalse(self.file.exists())
        return str(error)

    async def test_itEndsWhenTheLastServerRefusesIt(self) -> None:
        service, work = await self.begin()
        service.abort()
        await service.stopService()
        await self.serve(address=f"tcp:{self.port}:interface=127.0.0.1", key=newKey())
        text = await self.fails(work)
        for words in ("the last server cannot be used any more", str(self.port), "key"):
            self.assertIn(words, text)
        self.flushLoggedErrors()

    async def test_itEndsWhenNoServerIsReachedForTooLong(self) -> None:
        self.patch(render, "_ABSENCE", 0.2)
        self.patch(render, "_LOOK", 0.05)
        service, work = await self.begin()
        service.abort()
        await service.stopService()
        text = await self.fails(work)
        self.assertIn("no server was reached for 0.2 seconds", text)
