"""
Processes that run a reactor.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, gatherResults

from asynqueue import ListConsumer, ProcessQueue
from asynqueue._workers.termination import Termination
from asynqueue.errors import ResultNotPicklable, TaskTimeout, WorkerDied
from asynqueue.testing import far
from tests.integration import reacting, tasks, within
from tests.support.processes import (
    PATIENCE,
    REACTOR,
    PollingReactor,
    ProcessTestCase,
    areGone,
    isGone,
    startMainModule,
    strangers,
)

GONE_WITHIN = 2.0

LINUX = sys.platform == "linux"


@pytest.mark.usefixtures("preloadedReactor")
class ReactorCase(ProcessTestCase):
    def start(self, N: int = 1, **options: Any) -> ProcessQueue:
        return self.makeQueue(N, useReactor=True, preload=REACTOR, **options)


class CallTests(ReactorCase):
    async def test_deferredsAreWaitedFor(self) -> None:
        queue = self.start()
        self.assertEqual(await queue.call(reacting.later, 0.001, [5]), [5])
        self.assertEqual(await queue.call(reacting.fired, 6), 6)
        self.assertEqual(await queue.call(reacting.addInSteps, 1, 2), 3)

    async def test_coroutinesAwaitDeferreds(self) -> None:
        queue = self.start()
        task = queue.submit(reacting.addLater, 3, 4)
        self.assertEqual(await task, 7)
        self.assertEqual((task.progress.done, task.progress.total), (2, 2))

    async def test_plainFunctionsRunAsEver(self) -> None:
        queue = self.start()
        calls = [queue.call(far.echo, number) for number in range(300)]
        self.assertEqual(await gatherResults(calls), list(range(300)))
        error = await self.errorOf(queue.call(tasks.raiseOwn, "no", 7), tasks.OwnError)
        self.assertIn("in _raiseDeeper", str(error.__cause__))

    async def test_oneCallAfterTheOther(self) -> None:
        queue = self.start()
        ended: list[int] = []
        calls = [queue.call(reacting.later, 0.01 / number, number) for number in (1, 2, 3)]
        for call in calls:
            call.addCallback(ended.append)
        await gatherResults(calls)
        self.assertEqual(ended, [1, 2, 3])

    async def test_failuresComeWithTheirTraceback(self) -> None:
        queue = self.start()
        for function, args, text in (
            (reacting.refuseLater, (0.001,), "in refuse"),
            (reacting.refuseInSteps, (), "in refuseInSteps"),
            (reacting.cleaned, (), "in cleaned"),
            (reacting.failed, (), "ValueError: bare"),
        ):
            error = await self.errorOf(queue.call(function, *args), ValueError)
            self.assertIn(text, str(error.__cause__))

    async def test_aResultThatCannotTravelFailsAlone(self) -> None:
        queue = self.start()
        d = queue.call(reacting.fired, tasks.Unpicklable)
        self.assertIs(await d, tasks.Unpicklable)
        await self.errorOf(queue.call(tasks.makeUnpicklable, TypeError), ResultNotPicklable)
        self.assertEqual(await queue.call(far.echo, 1), 1)

    async def test_iteratorsStream(self) -> None:
        queue = self.start()
        deferator = await queue.call(reacting.some, 5000)
        other = await queue.call(far.numbers, 100)
        waiting = queue.call(reacting.later, 0.05, "there")
        self.assertEqual([item async for item in deferator], list(range(5000)))
        self.assertEqual([item async for item in other], list(range(100)))
        self.assertEqual(await waiting, "there")
        consumer = ListConsumer()
        await queue.call(reacting.some, 50, consumer=consumer)
        self.assertEqual(await consumer(), list(range(50)))

    async def test_leavingAnIterationClosesIt(self) -> None:
        queue = self.start()
        path = self.makeFolder() / "closed"
        async with await queue.call(far.endlessUntilClosed, str(path)) as deferator:
            async for number in deferator:
                if number == 10:
                    break
        await self.until(path.exists)

    async def test_theReactorRunsPrograms(self) -> None:
        queue = self.start()
        self.assertEqual(await queue.call(reacting.runProgram, timeout=20), b"")

    async def test_whatItLogsArrives(self) -> None:
        queue = self.start()
        await queue.call(within.failWithTwisted, "tests.reactor")
        self.assertEqual(await queue.call(far.echo, 1), 1)

    async def test_underAReactorThatWatchesNothing(self) -> None:
        queue = self.start(reactor=PollingReactor())
        self.assertEqual(await queue.call(reacting.addLater, 3, 4), 7)


class EndTests(ReactorCase):
    async def test_cancellingCallsTheCancellerAndCostsNoProcess(self) -> None:
        self.patch(Termination, "askSeconds", PATIENCE)
        queue = self.start()
        folder = self.makeFolder()
        pid, _ = await queue.call(reacting.where)
        for number in range(3):
            begun, path = folder / f"begun{number}", folder / f"cancelled{number}"
            d = queue.call(reacting.waitUntilCancelled, str(begun), str(path))
            await self.until(begun.exists)
            d.cancel()
            await self.errorOf(d, CancelledError)
            await self.until(path.exists)
        self.assertEqual((await queue.call(reacting.where))[0], pid)

    async def test_aTimeoutDoesTheSame(self) -> None:
        self.patch(Termination, "askSeconds", PATIENCE)
        queue = self.start()
        folder = self.makeFolder()
        pid, _ = await queue.call(reacting.where)
        d = queue.call(
            reacting.waitUntilCancelled, str(folder / "begun"), str(folder / "end"), timeout=0.05
        )
        await self.errorOf(d, TaskTimeout)
        await self.until((folder / "end").exists)
        self.assertEqual((await queue.call(reacting.where))[0], pid)

    async def test_oneThatWillNotEndCostsTheProcess(self) -> None:
        queue = self.start()
        folder = self.makeFolder()
        pid, _ = await queue.call(reacting.where)
        d = queue.call(reacting.resist, str(folder / "begun"))
        await self.until((folder / "begun").exists)
        waiting = queue.call(far.echo, 1)
        d.cancel()
        await self.errorOf(d, CancelledError)
        self.assertEqual(await waiting, 1)
        await self.until(lambda: isGone(pid))

    async def test_blockingCodeIsInterrupted(self) -> None:
        self.patch(Termination, "askSeconds", PATIENCE)
        queue = self.start()
        folder = self.makeFolder()
        pid, _ = await queue.call(reacting.where)
        d = queue.call(reacting.block, str(folder / "begun"), str(folder / "end"))
        await self.until((folder / "begun").exists)
        d.cancel()
        await self.errorOf(d, CancelledError)
        self.assertEqual((await queue.call(reacting.where))[0], pid)
        self.assertTrue((folder / "end").exists())

    async def test_sigtermEndsIt(self) -> None:
        queue = self.start()
        folder = self.makeFolder()
        pid, _ = await queue.call(reacting.where)
        d = queue.call(reacting.waitUntilCancelled, str(folder / "begun"), str(folder / "end"))
        await self.until((folder / "begun").exists)
        os.kill(pid, signal.SIGTERM)
        error = await self.errorOf(d, WorkerDied)
        self.assertEqual((error.pid, error.signal), (pid, signal.SIGTERM))
        self.assertTrue((folder / "end").exists())
        self.assertNotEqual((await queue.call(reacting.where))[0], pid)
        await self.until(isGone, pid)

    async def test_sigtermEndsAnIdleOne(self) -> None:
        queue = self.start()
        pid, _ = await queue.call(reacting.where)
        os.kill(pid, signal.SIGTERM)
        await self.until(isGone, pid)
        self.assertNotEqual((await queue.call(reacting.where))[0], pid)

    async def test_aDeathIsTheCallsFailure(self) -> None:
        queue = self.start()
        pid, _ = await queue.call(reacting.where)
        d = queue.call(reacting.later, tasks.AWHILE)
        await self.until(lambda: queue.workers()[0]._channel.lastBegun >= 2)
        os.kill(pid, signal.SIGKILL)
        await self.errorOf(d, WorkerDied)

    async def test_aTaskThatStopsTheReactorEndsItsProcess(self) -> None:
        queue = self.start()
        error = await self.errorOf(queue.call(reacting.stopReactor), WorkerDied)
        self.assertEqual(error.exitCode, 0)
        self.assertEqual(await queue.call(far.echo, 1), 1)

    async def test_shutdownWaitsForWhatIsUnderway(self) -> None:
        queue = self.start()
        pid, _ = await queue.call(reacting.where)
        calls = [queue.call(reacting.later, 0.02, number) for number in range(3)]
        await queue.shutdown()
        self.assertEqual(await gatherResults(calls), [0, 1, 2])
        self.assertTrue(isGone(pid))

    async def test_aShutdownThatTakesTooLongKillsIt(self) -> None:
        queue = self.start(timeout=0.1)
        folder = self.makeFolder()
        pid, _ = await queue.call(reacting.where)
        d = queue.call(reacting.resist, str(folder / "begun"))
        await self.until((folder / "begun").exists)
        await queue.shutdown()
        await self.errorOf(d, Exception)
        self.assertTrue(isGone(pid))

    async def test_itDiesWithItsParent(self) -> None:
        before = set(strangers())
        program = startMainModule("tests.integration.reactorprogram", "hang")
        assert program.stdout is not None
        pids = [int(program.stdout.readline()) for _ in range(2)]
        program.kill()
        program.communicate()
        self.assertTrue(await self.happens(GONE_WITHIN, areGone, pids))
        await self.until(lambda: before.issuperset(strangers()))


class ReactorsTests(ProcessTestCase):
    """
    Programs whose main module installs a reactor. Nothing is preloaded.
    """

    async def test_underTheReactorsThatDifferMost(self) -> None:
        await self.check("select", "asyncio")

    @pytest.mark.slow
    async def test_underEveryReactor(self) -> None:
        await self.check("select", "poll", "asyncio", *(["epoll"] if LINUX else []))

    async def check(self, *kinds: str) -> None:
        for kind in kinds:
            program = startMainModule("tests.integration.reactorprogram", kind)
            out, err = program.communicate(timeout=30)
            self.assertEqual((program.returncode, err), (0, b""), kind)
            self.assertEqual(out.split(), [b"7", b"[0,", b"1,", b"2]", b"cancelled"], kind)
        await self.until(lambda: not strangers())
