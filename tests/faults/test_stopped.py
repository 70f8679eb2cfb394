"""
Faults of processes that are stopped, replaced, not waited for or silent. A test's number is its
row's in the list of faults.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing import forkserver
from typing import Any, ClassVar

from twisted.internet.defer import Deferred, gatherResults

from asynqueue import ProcessQueue
from asynqueue._workers.launch import ChildProcess, startContext
from asynqueue.errors import CallNotPicklable, ProtocolError, TaskTimeout, WorkerDied
from asynqueue.testing import far
from tests.faults import forktasks
from tests.faults.test_process import FaultCase
from tests.integration import tasks
from tests.support.processes import isGone

STOPS: list[tuple[Any, ...]] = [
    (forktasks.stopSelf,),
    (forktasks.stopGroup,),
    (forktasks.stopInAThread,),
    (forktasks.becomeAnotherProgram,),
    (forktasks.claim, 5 << 30, 0),
    (forktasks.claim, 5 << 30, 1),
    (forktasks.claim, 5 << 30, 2),
    (forktasks.claim, 1 << 50, 1),
]


def serverPid() -> int:
    """
    @return: the fork server's process ID.
    """
    pid: int = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    return pid


class ForkServerStopTests(FaultCase):
    """
    @cvar stops: the calls that stop their processes.
    """

    stops: ClassVar[Sequence[tuple[Any, ...]]] = STOPS

    async def startMany(self) -> ProcessQueue:
        """
        A queue with a process for each of the stops, which serves the series of that stop's number,
        and a bystander.
        """
        queue = self.makeQueue(len(self.stops) + 1, context=startContext(self.method))
        self.workers = queue.workers()
        for series, worker in enumerate(self.workers):
            queue.qualifyWorker(worker, series)
        # No timeout is to pass while a process imports what it is to run.
        await queue.update(forktasks.ready, ephemeral=True)
        self.pids = await queue.update(os.getpid, ephemeral=True)
        return queue

    async def test_25k_underATimeoutTheTaskFailsAndItsProcessIsReplaced(self) -> None:
        queue = await self.startMany()

        async def check(series: int, stop: tuple[Any, ...]) -> None:
            d = queue.call(*stop, series=series, timeout=0.3)
            # One that hangs up is found before.
            await self.errorOf(d, TaskTimeout, WorkerDied)
            self.assertEqual(await queue.call(far.echo, 1, series=series), 1, stop)
            self.assertNotEqual(self.workers[series].process.pid, self.pids[series])
            await self.until(isGone, self.pids[series])

        checks = [Deferred.fromCoroutine(check(*each)) for each in enumerate(self.stops)]
        await gatherResults(checks, consumeErrors=True)
        self.assertEqual(self.workers[-1].process.pid, self.pids[-1])
        self.assertEqual(len(self.flushLoggedErrors(ProtocolError)), 1)

    async def test_25k_aShutdownEndsInItsTime(self) -> None:
        queue = await self.startMany()
        calls = [queue.call(*stop, series=series) for series, stop in enumerate(self.stops)]
        for d in calls:
            d.addErrback(lambda _: None)
        # They are about to be stopped, or are.
        await self.happens(0.3, lambda: False)
        begun = time.monotonic()
        queue.timeout = 0.3
        await queue.shutdown()
        self.assertLess(time.monotonic() - begun, 4.0)
        for stop, d in zip(self.stops, calls, strict=True):
            self.assertTrue(d.called, stop)
        for pid in self.pids:
            await self.until(isGone, pid)
        self.assertEqual(len(self.flushLoggedErrors(ProtocolError)), 1)

    async def whileReaped(self, reap: Callable[[], object]) -> None:
        """
        Have a process die, another start, and all end, while the program takes the ends of its
        children or has told the system to forget them.
        """
        queue = await self.start()
        reap()
        error = await self.errorOf(queue.call(tasks.killSelf, series="victim"), WorkerDied)
        self.assertEqual(error.pid, self.pids[0])
        self.assertEqual(await queue.call(far.echo, 1, series="victim"), 1)
        d = queue.call(tasks.sleepAwhile, series="victim", timeout=0.2)
        await self.errorOf(d, TaskTimeout)
        self.assertEqual(await queue.call(far.echo, 1, series="victim"), 1)
        begun = time.monotonic()
        await queue.shutdown()
        self.assertLess(time.monotonic() - begun, 4.0)

    async def test_25l_theProgramIgnoresSigchld(self) -> None:
        before = signal.getsignal(signal.SIGCHLD)

        def ignore() -> None:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)

        try:
            await self.whileReaped(ignore)
        finally:
            signal.signal(signal.SIGCHLD, before)

    async def test_25l_theProgramReapsItsChildren(self) -> None:
        before = signal.getsignal(signal.SIGCHLD)

        def reap(*_: object) -> None:
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass

        try:
            await self.whileReaped(lambda: signal.signal(signal.SIGCHLD, reap))
        finally:
            signal.signal(signal.SIGCHLD, before)

    async def test_25m_aResultThatCannotBeReadIsNeverSent(self) -> None:
        queue = await self.start()
        path = str(self.makeFolder() / "array")
        await self.errorOf(queue.call(forktasks.cutArray, path, series="victim"), WorkerDied)
        self.assertEqual(await queue.call(far.echo, 1, series="victim"), 1)
        await self.assertReplaced(queue)

    async def test_25m_anArgumentThatCannotBeReadIsNeverSent(self) -> None:
        queue = await self.start()
        array = forktasks.cutArray(str(self.makeFolder() / "array"))
        innocent = queue.call(far.echo, 1, series="victim")
        d = queue.call(far.echo, array, series="victim")
        error = await self.errorOf(d, CallNotPicklable)
        self.assertIn("Bad address", str(error))
        self.assertEqual(await innocent, 1)
        self.assertEqual(await queue.call(far.echo, 2, series="victim"), 2)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        await self.assertReplaced(queue)


class SpawnStopTests(ForkServerStopTests):
    """
    A stop does not depend on the start method, so one of each kind is enough.
    """

    method = "spawn"
    stops = (STOPS[1], STOPS[3], STOPS[-1])


class ServerStopTests(FaultCase):
    """
    Faults of the fork server.
    """

    async def test_25d_aServerThatIsKilledHarmsNoRunningTask(self) -> None:
        queue = await self.start()
        go = self.makeFolder() / "go"
        runs = self.makeFolder() / "runs"
        running: Deferred[Any] = queue.call(
            tasks.touchAnd, str(runs), tasks.waitFor, str(go), series="victim"
        )
        await self.until(runs.exists)
        server = serverPid()
        looks: list[bool] = []
        hasEnded: Any = ChildProcess.hasEnded

        def look(child: ChildProcess) -> bool:
            looks.append(hasEnded.fget(child))
            return looks[-1]

        patch = self.patch(ChildProcess, "hasEnded", property(look))
        os.kill(server, signal.SIGKILL)
        self.assertFalse(await self.happens(1.5, lambda: running.called))
        patch.restore()
        # Nothing says when a process ends now, and it is not asked for all the time.
        self.assertLess(len(looks), 100)
        go.touch()
        await running
        await self.assertLives(queue)
        # A process that dies is replaced, by another server.
        error = await self.errorOf(queue.call(tasks.killSelf, series="victim"), WorkerDied)
        self.assertEqual((error.pid, error.exitCode), (self.pids[0], None))
        self.assertEqual(await queue.call(far.echo, 1, series="victim"), 1)
        self.assertNotEqual(serverPid(), server)

    async def test_25k_aServerThatIsStopped(self) -> None:
        queue = await self.start()
        server = serverPid()
        os.kill(server, signal.SIGSTOP)
        await self.errorOf(queue.call(tasks.killSelf, series="victim"), WorkerDied)
        self.assertEqual(await queue.call(far.echo, 1, series="victim"), 1)
        self.assertNotEqual(serverPid(), server)

    async def test_25k_aShutdownWithAServerThatIsStopped(self) -> None:
        queue = await self.start()
        server = serverPid()
        os.kill(server, signal.SIGSTOP)
        begun = time.monotonic()
        await queue.shutdown()
        self.assertLess(time.monotonic() - begun, 4.0)
        os.kill(server, signal.SIGKILL)

    async def test_25d_aServerThatDiedAndWasReaped(self) -> None:
        queue = await self.start()
        server = serverPid()
        os.kill(server, signal.SIGKILL)
        await self.until(isGone, server)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(server, 0)
        await self.errorOf(queue.call(tasks.killSelf, series="victim"), WorkerDied)
        self.assertEqual(await queue.call(far.echo, 1, series="victim"), 1)
