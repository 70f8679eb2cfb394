"""
Faults of what tasks fork and start. A test's number is its row's in the list of faults.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
from pathlib import Path
from typing import Any, ClassVar

import pytest
from twisted.internet.defer import Deferred, gatherResults

from asynqueue import ProcessQueue, ThreadQueue
from asynqueue.errors import CallNotPicklable, ResultNotPicklable
from asynqueue.testing import far
from tests.faults import forktasks
from tests.faults.test_process import FaultCase
from tests.support.processes import REACTOR, ProcessTestCase

INNOCENTS = 200


class ForkServerForkTests(FaultCase):
    """
    A copy might disturb its own process only.
    """

    roles = ("victim",)

    async def assertInnocent(self, queue: ProcessQueue, *call: Any, expected: object) -> None:
        """
        A call that forks has its own result, and each call around it runs once.
        """
        path = self.makeFolder() / "runs"
        path.touch()
        worker = queue.options(series="victim")
        before = [worker.call(forktasks.noteOnce, str(path), number) for number in range(INNOCENTS)]
        forking: Deferred[Any] = worker.call(*call)
        behind = [
            worker.call(forktasks.noteOnce, str(path), number)
            for number in range(INNOCENTS, 2 * INNOCENTS)
        ]
        self.assertEqual(await forking, expected, call)
        numbers = list(range(2 * INNOCENTS))
        self.assertEqual(await gatherResults([*before, *behind]), numbers)
        self.assertEqual(sorted(map(int, path.read_text().split())), numbers, call)

    async def test_25e_aForkedCopyRunsNothingOfTheWorker(self) -> None:
        queue = await self.start()
        for how, (_, code) in forktasks.ENDS.items():
            await self.assertInnocent(queue, forktasks.forkThat, how, expected=code)
        await self.assertLives(queue)

    async def test_25e_aCopyForkedInACoroutine(self) -> None:
        queue = await self.start()
        for how, (_, code) in forktasks.ENDS.items():
            await self.assertInnocent(queue, forktasks.awaitForkThat, how, expected=code)
        await self.assertLives(queue)

    async def test_25e_aCopyForkedInAStream(self) -> None:
        queue = await self.start()
        for how, (_, code) in forktasks.ENDS.items():
            items = await queue.call(forktasks.yieldForkThat, how, series="victim")
            self.assertEqual([item async for item in items], [code], how)
        await self.assertLives(queue)

    async def test_25e_aCopyForkedWhileAValueIsRebuiltOrPickled(self) -> None:
        queue = await self.start()
        argument = forktasks.ForksWhenRebuilt()
        await self.assertInnocent(queue, far.echo, argument, expected=0)
        await self.assertInnocent(queue, forktasks.makeForksWhenPickled, expected=0)
        await self.assertLives(queue)

    async def test_25e_nothingOfTheWorkerIsLeftInACopy(self) -> None:
        queue = await self.start()
        self.assertEqual(await queue.call(forktasks.describeFork, series="victim"), [])

    async def test_25e_aForkedProcessIsTerminatedBySigterm(self) -> None:
        queue = await self.start()
        code = await queue.call(forktasks.terminateFork, series="victim")
        self.assertEqual(code, -signal.SIGTERM)

    async def test_25e_whatACopyLogsDoesNotArrive(self) -> None:
        queue = await self.start()
        with self.assertNoLogs(forktasks.log.name, logging.WARNING):
            await queue.call(forktasks.forkThat, "logs and reports", series="victim")
            await queue.call(far.echo, 1, series="victim")

    async def test_25f_aProgramIsInterruptedBySigint(self) -> None:
        queue = await self.start()
        self.assertEqual(await queue.call(forktasks.interruptProgram), -signal.SIGINT)

    async def test_25f_aProgramFindsNoSignalIgnored(self) -> None:
        queue = await self.start()
        # A program may itself have been started with some signals ignored, as in the background of
        # a shell. Python ignores SIGPIPE and SIGXFSZ for itself alone.
        inherited = {*forktasks.ignoredByPrograms()} - {signal.SIGPIPE, signal.SIGXFSZ}
        found = await queue.call(forktasks.ignoredByPrograms)
        self.assertLessEqual({*found}, inherited)

    async def test_25f_aProgramHasAnEmptyInput(self) -> None:
        queue = await self.start()
        self.assertEqual(await queue.call(forktasks.readByProgram), b"")

    async def test_25f_aProgramInheritsNothingOfTheWorker(self) -> None:
        queue = await self.start()
        self.assertEqual(await queue.call(forktasks.inheritedByPrograms), [])

    async def test_25f_sigintDoesNothingToAWorker(self) -> None:
        queue = await self.start()
        os.kill(self.pids[0], signal.SIGINT)
        await self.assertLives(queue)


class SpawnForkTests(ForkServerForkTests):
    method = "spawn"


@pytest.mark.usefixtures("preloadedReactor")
class ReactorForkTests(ForkServerForkTests):
    """
    The process runs a reactor. Its modules are preloaded.
    """

    options: ClassVar[dict[str, Any]] = {"useReactor": True, "preload": REACTOR}


# Since 3.12 Python warns of each fork of a process that has several threads.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
class ThreadForkTests(ProcessTestCase):
    async def test_25e_aCopyForkedInAThreadRunsNothingOfTheQueue(self) -> None:
        queue = ThreadQueue(1)
        self.manage(queue)
        path: Path = self.makeFolder() / "runs"
        for how in ("return", "sys.exit(5)"):
            path.write_text("")
            forking = queue.call(forktasks.forkThat, how)
            numbers = list(range(INNOCENTS))
            behind = [queue.call(forktasks.noteOnce, str(path), number) for number in numbers]
            self.assertEqual(await forking, forktasks.ENDS[how][1])
            await gatherResults(behind)
            self.assertEqual(sorted(map(int, path.read_text().split())), numbers)


class ErrorTests(FaultCase):
    async def test_13_anErrorThatComposesItsTextArrivesWithTheSameText(self) -> None:
        queue = await self.start()
        for kind, text in (
            (forktasks.OrderRefused, "order 7 was refused"),
            (forktasks.Tagged, "[order 7 was refused]"),
        ):
            error = await self.errorOf(queue.call(forktasks.refuse, 7, kind), kind)
            self.assertEqual((str(error), error.code, error.args), (text, 7, (text,)))

    async def test_13_aGroupOfErrorsThatComposeTheirTexts(self) -> None:
        queue = await self.start()
        group = await self.errorOf(queue.call(forktasks.refuseMany, 1, 2), ExceptionGroup)
        texts = [str(error) for error in group.exceptions]
        self.assertEqual(texts, ["order 1 was refused", "order 2 was refused"])
        self.assertEqual([error.code for error in group.exceptions], [1, 2])


class DescriptorTests(FaultCase):
    async def test_25g_whatHoldsADescriptorIsRefusedByName(self) -> None:
        queue = await self.start()
        ends = multiprocessing.Pipe()
        near, far_ = socket.socketpair()
        opened = near.makefile()
        self.addCleanup(opened.close)
        held = [*ends, near, far_, opened, multiprocessing.Lock(), multiprocessing.Queue()]
        for thing in held:
            if hasattr(thing, "close"):
                self.addCleanup(thing.close)
            for value in (thing, [thing], {"within": (1, thing)}):
                d = queue.call(far.echo, value, series="victim")
                error = await self.errorOf(d, CallNotPicklable)
                self.assertIn("argument 1 of echo", str(error))
        for arguments in ((bytes(1 << 21), ends[0]), (ends[0], bytes(1 << 17))):
            await self.errorOf(queue.call(far.echo, arguments), CallNotPicklable)
        await self.assertLives(queue)

    async def test_25g_aResultThatHoldsADescriptorIsRefused(self) -> None:
        queue = await self.start()
        error = await self.errorOf(queue.call(forktasks.throughPipe), ResultNotPicklable)
        self.assertIn("Connection", str(error))
        self.assertEqual(await queue.call(far.echo, {"_handle": 1}), {"_handle": 1})
        await self.assertLives(queue)
