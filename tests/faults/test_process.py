"""
Faults of worker processes. A test's number is its row's in the list of faults.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
from collections.abc import Iterator
from threading import Lock
from typing import Any, ClassVar

import pytest
from twisted.internet.defer import gatherResults

from asynqueue import Delay, ProcessQueue
from asynqueue._runner.messages import Message
from asynqueue._runner.pipes import NearPipe
from asynqueue._workers import processchannel as channel
from asynqueue._workers import restart as healing
from asynqueue._workers.launch import startContext
from asynqueue._workers.procinfo import MemoryWatch
from asynqueue.errors import (
    CallNotPicklable,
    RemoteError,
    ResultNotPicklable,
    ResultNotRebuilt,
    TaskTimeout,
    WorkerDied,
    WorkerError,
    WorkerStartError,
)
from asynqueue.testing import far
from tests.integration import tasks
from tests.support.processes import (
    BrokenStart,
    ProcessTestCase,
    areGone,
    isGone,
)


class FaultCase(ProcessTestCase):
    """
    A queue with two processes: one that is hurt, and a bystander.

    @cvar roles: the series of each process.
    @cvar options: further keywords for the queue.
    """

    method = "forkserver"
    roles: ClassVar[tuple[str, ...]] = ("victim", "bystander")
    options: ClassVar[dict[str, Any]] = {}

    async def start(self) -> ProcessQueue:
        count = len(self.roles)
        queue = self.makeQueue(count, context=startContext(self.method), **self.options)
        self.workers = queue.workers()
        for worker, role in zip(self.workers, self.roles, strict=True):
            queue.qualifyWorker(worker, role)
        self.pids = await queue.update(os.getpid, ephemeral=True)
        return queue

    async def assertDies(self, queue: ProcessQueue, *call: Any, **expected: int | None) -> None:
        """
        A call takes its process with it, and nothing else: neither the call that the other process
        is running, nor those that wait behind it.

        @param expected: attributes of the error.
        """
        folder = self.makeFolder()
        go = folder / "go"
        runs = folder / "runs"
        others = queue.options(series="bystander")
        other = others.call(tasks.touchAnd, str(runs), tasks.waitFor, str(go))
        await self.until(runs.exists)
        dying = queue.call(*call, series="victim")
        waiting = [queue.call(far.echo, number, series="victim") for number in range(20)]
        error = await self.errorOf(dying, WorkerDied)
        self.assertEqual(error.pid, self.pids[0])
        for name, value in expected.items():
            self.assertEqual(getattr(error, name), value, f"{name} of {error}")
        self.assertEqual(await gatherResults(waiting), list(range(20)))
        self.assertFalse(other.called)
        go.touch()
        await other
        await self.assertReplaced(queue)

    async def assertReplaced(self, queue: ProcessQueue) -> None:
        """
        The victim's process is another one now, and the bystander's is the same.
        """
        pids = await queue.update(os.getpid, ephemeral=True)
        self.assertNotEqual(pids[0], self.pids[0])
        self.assertEqual(pids[1], self.pids[1])
        self.assertTrue(isGone(self.pids[0]))

    async def assertLives(self, queue: ProcessQueue) -> None:
        """
        Both processes are those that they were.
        """
        self.assertEqual(await queue.update(os.getpid, ephemeral=True), self.pids)


class ForkServerTests(FaultCase):
    async def test_01_killedWhileIdle(self) -> None:
        queue = await self.start()
        os.kill(self.pids[0], signal.SIGKILL)
        await self.until(lambda: self.workers[0].process.pid != self.pids[0])
        await self.assertReplaced(queue)
        self.assertEqual(await queue.call(far.echo, 1, series="victim"), 1)

    async def test_02_killedWhileRunning(self) -> None:
        queue = await self.start()
        await self.assertDies(queue, tasks.killSelf, signal=9, exitCode=None)

    async def test_02_killedFromOutsideWhileRunning(self) -> None:
        queue = await self.start()
        path = self.makeFolder() / "runs"
        dying = queue.call(tasks.touchAnd, str(path), tasks.sleepAwhile, series="victim")
        await self.until(path.exists)
        os.kill(self.pids[0], signal.SIGKILL)
        error = await self.errorOf(dying, WorkerDied)
        self.assertEqual((error.pid, error.signal), (self.pids[0], 9))
        self.assertGreater(error.residentKilobytes, 1000)
        self.assertIn("SIGKILL", str(error))
        await self.assertReplaced(queue)

    async def test_02_terminatedFromOutsideWhileRunning(self) -> None:
        queue = await self.start()
        path = self.makeFolder() / "runs"
        dying = queue.call(tasks.touchAnd, str(path), tasks.sleepAwhile, series="victim")
        waiting = queue.call(far.echo, 1, series="victim")
        await self.until(path.exists)
        os.kill(self.pids[0], signal.SIGTERM)
        error = await self.errorOf(dying, WorkerDied)
        self.assertEqual((error.pid, error.signal), (self.pids[0], signal.SIGTERM))
        self.assertEqual(await waiting, 1)
        await self.assertReplaced(queue)

    async def test_03_killedWhileSendingALargeResult(self) -> None:
        queue = await self.start()
        await self.assertDies(queue, tasks.killedWhileSending, 32 << 20, signal=9)

    async def test_04_killedWhileRebuildingArguments(self) -> None:
        queue = await self.start()
        await self.assertDies(queue, far.echo, tasks.KillsOnRebuild(), signal=9)

    async def test_05_segfault(self) -> None:
        queue = await self.start()
        await self.assertDies(queue, tasks.segfault, signal=signal.SIGSEGV, exitCode=None)
        error = await self.errorOf(queue.call(tasks.segfault, series="victim"), WorkerDied)
        self.assertIn("Segmentation fault", error.stacks)
        self.assertIn("in segfault", error.stacks)
        self.assertEqual(error.__cause__.args, (error.stacks,), "it is shown with the error")

    async def test_06_endedWithoutAnError(self) -> None:
        queue = await self.start()
        await self.assertDies(queue, tasks.endProcess, 0, signal=None, exitCode=0)

    async def test_06_endedWithAnError(self) -> None:
        queue = await self.start()
        await self.assertDies(queue, tasks.endProcess, 7, signal=None, exitCode=7)

    async def test_06_endedWithAChildLeftThatHoldsEverythingOpen(self) -> None:
        if hasattr(os, "pidfd_open"):
            # It is not left to chance and the polling.
            self.patch(channel, "CHECK_SECONDS", tasks.AWHILE)
        queue = await self.start()
        path = self.makeFolder() / "child"
        path.touch()
        await self.assertDies(queue, tasks.forkAndDie, str(path), exitCode=3)
        child = int(path.read_text())
        await self.until(isGone, child)

    async def test_08_killedForMemory(self) -> None:
        counters = self.makeFolder() / "vmstat"
        counters.write_text("oom_kill 0\n")
        self.patch(MemoryWatch, "counters", counters)
        queue = await self.start()
        # As the system does it, which is not to be driven to that here.
        call = (tasks.countAndKillSelf, str(counters))
        await self.assertDies(queue, *call, signal=9, isLikelyOutOfMemory=True)
        error = await self.errorOf(queue.call(tasks.killSelf, series="victim"), WorkerDied)
        self.assertFalse(error.isLikelyOutOfMemory, "that is no reason to kill this one")

    async def test_08_noMemoryForWhatComesBack(self) -> None:
        queue = await self.start()
        readings = [0]

        def read(pipe: NearPipe) -> list[Message]:
            readings[0] += 1
            if readings[0] == 1:
                raise MemoryError("no memory in the parent")
            return realRead(pipe)

        realRead = NearPipe.read
        await Delay()(0)
        d = queue.call(far.echo, 1, series="victim")
        self.patch(NearPipe, "read", read)
        await self.errorOf(d, WorkerDied)
        self.assertEqual(len(self.flushLoggedErrors(MemoryError)), 1)
        await self.assertReplaced(queue)

    async def test_09_hangThatIgnoresSigtermUnderATimeout(self) -> None:
        queue = await self.start()
        path = self.makeFolder() / "hangs"
        hanging = queue.call(tasks.hangStubbornly, str(path), series="victim", timeout=0.3)
        waiting = queue.call(os.getpid, series="victim")
        await self.until(path.exists)
        await self.errorOf(hanging, TaskTimeout)
        self.assertFalse(isGone(self.pids[0]), "the failure does not wait for the grace to end")
        self.assertNotEqual(await waiting, self.pids[0])
        await self.assertReplaced(queue)

    async def test_17_noFileDescriptorsLeft(self) -> None:
        self.patch(healing, "FIRST_DELAY", 0.001)
        self.patch(healing, "LONGEST_DELAY", 0.01)
        queue = await self.start()
        with noFileDescriptors():
            os.kill(self.pids[0], signal.SIGKILL)
            tries = self.workers[0]._supervisor._backoff
            await self.until(lambda: tries.outages > 2 * healing.START_TRIES)
            waiting = queue.call(far.echo, 1, series="victim")
            self.assertEqual(await queue.call(far.echo, 2, series="bystander"), 2)
            self.assertFalse(waiting.called)
        self.assertEqual(await waiting, 1)
        await self.assertReplaced(queue)

    async def test_18_whatATaskHasLeftIsGoneWithTheWorker(self) -> None:
        path = str(self.makeFolder() / "hangs")
        ends: list[tuple[Any, ...]] = [
            (tasks.killSelf,),
            (tasks.segfault,),
            (tasks.endProcess, 0),
            (tasks.hangStubbornly, path),
            (),
        ]
        queue = await self.start()
        for end in ends:
            pids = await queue.call(tasks.leaveChildren, series="victim")
            self.assertEqual([pid for pid in pids if isGone(pid)], [])
            if end:
                limit = 0.1 if tasks.hangStubbornly in end else None
                d = queue.call(*end, series="victim", timeout=limit)
                await self.errorOf(d, WorkerDied, TaskTimeout)
            else:
                await queue.detachWorker(self.workers[0])
            await self.until(areGone, pids)
            self.assertFalse(isGone(self.pids[1]))

    async def test_24_crashInADestructorAfterTheResultWasSent(self) -> None:
        queue = await self.start()
        result = await queue.call(tasks.makeKilledOnDeletion, series="victim")
        self.assertEqual(result, "it was sent")
        await self.until(lambda: self.workers[0].process.pid != self.pids[0])
        await self.assertReplaced(queue)


class SpawnTests(ForkServerTests):
    method = "spawn"


class ValueTests(FaultCase):
    """
    Faults of what a task raises, gets and returns. How its process was started is no matter.
    """

    async def test_07_baseExceptionsInATask(self) -> None:
        queue = await self.start()
        for kind in (SystemExit, KeyboardInterrupt, GeneratorExit, BaseException):
            d = queue.call(tasks.raiseKind, kind, series="victim")
            self.assertIs(type(await self.errorOf(d, kind)), kind)
        await self.assertLives(queue)

    async def test_08_memoryErrorInATask(self) -> None:
        queue = await self.start()
        await self.errorOf(queue.call(tasks.allocate, 1 << 60, series="victim"), MemoryError)
        await self.assertLives(queue)

    async def test_10_argumentsThatCannotBePickled(self) -> None:
        queue = await self.start()
        await Delay()(0)
        begun = self.workers[0]._channel.lastBegun
        d = queue.call(far.echo, lambda: None, series="victim")
        self.assertTrue(d.called, "it fails at once")
        error = await self.errorOf(d, CallNotPicklable)
        self.assertIn("argument 1 of echo", str(error))
        self.assertEqual(self.workers[0]._channel.lastBegun, begun, "no worker is used")
        await self.assertLives(queue)

    async def test_10_whatCannotBePickledWhileAllWorkersAreBusy(self) -> None:
        queue = await self.start()
        folder = self.makeFolder()
        go = folder / "go"
        runs = [folder / name for name in ("victim", "bystander")]
        busy = [
            queue.call(tasks.touchAnd, str(path), tasks.waitFor, str(go), series=path.name)
            for path in runs
        ]
        await self.until(lambda: all(path.exists() for path in runs))
        before = queue.call(far.echo, "before")
        self.assertRefused(queue)
        behind = queue.call(far.echo, "behind")
        begun = [worker._channel.lastBegun for worker in self.workers]
        self.assertFalse(any(d.called for d in (*busy, before, behind)), "no other task is touched")
        go.touch()
        await gatherResults(busy)
        self.assertEqual(await gatherResults([before, behind]), ["before", "behind"])
        ended = [worker._channel.lastBegun for worker in self.workers]
        self.assertEqual(sum(ended) - sum(begun), 2, "no number was used for what was refused")
        await self.assertLives(queue)

    async def test_10_whatCannotBePickledWhileNoWorkerHasStarted(self) -> None:
        queue = self.makeQueue(2, context=startContext(self.method))
        good = queue.call(far.echo, "good")
        self.assertRefused(queue)
        self.assertEqual(await good, "good")

    def assertRefused(self, queue: ProcessQueue) -> None:
        """
        Calls that cannot be sent have failed by the time that C{call} returns, naming what is
        wrong.
        """
        lock = Lock()
        for named, d in (
            ("argument 1 of echo", queue.call(far.echo, lambda: None)),
            ("argument 2 of keywords", queue.call(far.keywords, 1, [lock], "third")),
            ("argument 'wanted' of keywords", queue.call(far.keywords, 1, wanted=lock)),
            ("the function", queue.call(lambda: None)),
        ):
            self.assertIn(named, str(self.failureResultOf(d, CallNotPicklable).value))

    async def test_11_resultThatCannotBePickled(self) -> None:
        queue = await self.start()
        error = await self.errorOf(queue.call(far.makeLambda, series="victim"), ResultNotPicklable)
        self.assertIn("of type function", str(error))
        await self.assertLives(queue)

    async def test_12_exceptionThatCannotBePickled(self) -> None:
        queue = await self.start()
        error = await self.errorOf(queue.call(far.raiseUnpicklable, series="victim"), RemoteError)
        self.assertEqual(error.typeName, "asynqueue.testing.far.Unpicklable")
        self.assertEqual(error.text, "stays here")
        self.assertIn("in raiseUnpicklable", error.traceback)
        await self.assertLives(queue)

    async def test_13_exceptionThatCannotBeRebuilt(self) -> None:
        queue = await self.start()
        error = await self.errorOf(queue.call(far.raiseUnrebuildable, series="victim"), RemoteError)
        self.assertEqual(error.typeName, "asynqueue.testing.far.Unrebuildable")
        self.assertEqual(error.text, "arrives as text")
        self.assertIn("in raiseUnrebuildable", error.traceback)
        await self.assertLives(queue)

    async def test_14_resultThatRaisesOrExitsWhileBeingRebuilt(self) -> None:
        queue = await self.start()
        for kind in (ValueError, SystemExit, KeyboardInterrupt):
            d = queue.call(tasks.makeRebuiltNowhere, kind, series="victim")
            error = await self.errorOf(d, ResultNotRebuilt)
            self.assertIn(kind.__name__, str(error))
            self.assertIs(type(error.__cause__), kind)
        await self.assertLives(queue)


@pytest.mark.slow
class SpawnValueTests(ValueTests):
    method = "spawn"


@contextlib.contextmanager
def noFileDescriptors() -> Iterator[None]:
    """
    Use up all that this process may have open.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    with contextlib.ExitStack() as opened:
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        with contextlib.suppress(OSError):
            while True:
                opened.enter_context(open(os.devnull))
        yield


class ServerTests(FaultCase):
    """
    Faults of what starts the processes.
    """

    async def test_02_theForkServerIsKilled(self) -> None:
        queue = await self.start()
        dying = queue.call(tasks.killSelfAndServer, series="victim")
        error = await self.errorOf(dying, WorkerDied)
        self.assertEqual(error.pid, self.pids[0])
        self.assertEqual(await queue.call(far.echo, 1, series="victim"), 1)

    async def test_25_aProcessThatCannotBeStartedAgain(self) -> None:
        self.patch(healing, "FIRST_DELAY", 0.001)
        context: Any = BrokenStart()
        queue = self.makeQueue(1, context=context)
        pid = await queue.call(os.getpid)
        context.refusals = 100
        os.kill(pid, signal.SIGKILL)
        await self.until(lambda: context.refusals < 100)
        error = await self.errorOf(queue.call(far.echo, 1), WorkerStartError)
        self.assertIn("Exec format error", str(error))
        self.assertEqual(len(queue), 0, "the worker resigns")
        self.assertEqual(context.refusals, 100 - healing.START_TRIES)

    async def test_25a_aSystemThatLacksProcessesIsWaitedFor(self) -> None:
        self.patch(healing, "FIRST_DELAY", 0.001)
        self.patch(healing, "LONGEST_DELAY", 0.01)
        context: Any = BrokenStart()
        context.error = errno.EAGAIN
        queue = self.makeQueue(1, context=context)
        pid = await queue.call(os.getpid)
        context.refusals = 5 * healing.START_TRIES
        os.kill(pid, signal.SIGKILL)
        self.assertEqual(await queue.call(far.echo, 1), 1)
        self.assertEqual((context.refusals, len(queue)), (0, 1))

    async def test_25b_anUpdateKillsEveryProcessThatRunsIt(self) -> None:
        queue = self.makeQueue()
        updated = queue.update(os._exit, 1)
        waiting = queue.call(far.echo, 1)
        self.assertEqual((await self.errorOf(updated, WorkerDied)).exitCode, 1)
        reason = await self.errorOf(waiting, WorkerError)
        self.assertIn("_exit(1)", str(reason))
        self.assertIs(await self.errorOf(queue.call(far.echo, 2), WorkerError), reason)

    async def test_25_aProcessThatCanBeStartedAgainAfterAll(self) -> None:
        context: Any = BrokenStart()
        queue = self.makeQueue(1, context=context)
        pid = await queue.call(os.getpid)
        context.refusals = 3
        os.kill(pid, signal.SIGKILL)
        await self.until(lambda: not context.refusals)
        self.assertEqual(await queue.call(far.echo, 1), 1)

    async def test_25_aFirstProcessThatCannotBeStarted(self) -> None:
        context: Any = BrokenStart()
        context.refusals = 2
        queue = self.makeQueue(1, context=context)
        self.assertEqual(await queue.call(far.echo, 1), 1)
        self.assertEqual(context.refusals, 0)
