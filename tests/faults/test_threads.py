"""
Faults of threads. A test's number is its row's in the list of faults.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import CancelledError
from twisted.internet.protocol import Factory
from twisted.internet.threads import blockingCallFromThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from asynqueue import Delay, ThreadQueue
from asynqueue._reactor import defaultReactor
from asynqueue.errors import ReactorTouched, TaskTimeout
from asynqueue.tasks import CANCELLED, FAILED
from tests.support.processes import PATIENCE, startProgram

EXIT_WITHIN = 20.0
"""How many seconds a program may take in all: far fewer than its threads hang for, and far more
than it needs."""


class ProgramCase(SynchronousTestCase):
    """
    Tests that run small programs.
    """

    def run1(self, name: str) -> list[str]:
        """
        Run one of the programs to its end.

        @return: the lines that it wrote.
        """
        program = startProgram("tests.faults.threadprograms", name)
        try:
            out, err = program.communicate(timeout=EXIT_WITHIN)
        except subprocess.TimeoutExpired:
            program.kill()
            program.communicate()
            self.fail(f"{name}: a thread that hangs keeps the program from ending")
        self.assertEqual((program.returncode, err.decode()), (0, ""))
        return out.decode().splitlines()


class CancelTests(TestCase):
    """
    Calls that are given up while they are running in a thread.
    """

    timeout = 45.0

    async def giveUp(self, **options: Any) -> None:
        """
        Give one up, and see what becomes of it, of the one behind it, and of its result.

        @param options: how it is called; with a timeout it is not cancelled.
        """
        queue = ThreadQueue(1)
        self.addCleanup(queue.shutdown)
        begun, go = threading.Event(), threading.Event()
        self.addCleanup(go.set)
        returned = []

        def work() -> str:
            begun.set()
            go.wait(PATIENCE)
            returned.append(True)
            return "late"

        task = queue.submit(work, **options)
        behind = queue.call(threading.get_ident)
        self.assertTrue(await Delay(timeout=PATIENCE).untilEvent(begun.is_set))
        if not options:
            task.cancel()
        await self.assertFailure(task.d, CancelledError, TaskTimeout)
        await Delay()(0.01)
        self.assertEqual((behind.called, returned), (False, []), "the thread is busy")
        go.set()
        await behind
        self.assertEqual(returned, [True])
        self.assertEqual((task.state, task.result), (FAILED if options else CANCELLED, None))

    async def test_30_cancelWhileRunning(self) -> None:
        await self.giveUp()

    async def test_30_timeoutWhileRunning(self) -> None:
        await self.giveUp(timeout=0.01)


class HungThreadTests(ProgramCase):
    def test_36_aThreadThatHangsAtShutdownIsReportedAndLeftBehind(self) -> None:
        lines = self.run1("shutdown")
        self.assertTrue(any("is left behind, because it still runs call" in line for line in lines))
        self.assertTrue(any("was crashed with" in line for line in lines), lines)
        self.assertIn("shut down", lines)

    def test_36_soIsAnIterationThatHangs(self) -> None:
        self.assertEqual(self.run1("iteration")[-1], "shut down")

    def test_36_aReactorThatStopsWaitsForNoThread(self) -> None:
        lines = self.run1("stop")
        self.assertEqual(lines[0], "stops")
        self.assertEqual(lines[1:], ["WorkerError"] * 3)

    def test_36_anIdleThreadKeepsNoProgramFromEnding(self) -> None:
        self.assertEqual(self.run1("never"), ["stops"])


class DebugTests(TestCase):
    timeout = 45.0

    def setUp(self) -> None:
        self.reactor: Any = defaultReactor()
        self.queue = ThreadQueue(debug=True)
        self.addCleanup(self.queue.shutdown)

    async def check(self, method: str, function: Callable[..., Any], *args: Any) -> None:
        """
        Check that a task is kept from something, and that the queue goes on.
        """
        with self.assertRaises(ReactorTouched) as caught:
            await self.queue.call(function, *args)
        self.assertEqual(caught.exception.method, method)
        self.assertEqual(len(self.flushLoggedErrors(ReactorTouched)), 1)
        self.assertEqual(await self.queue.call(len, "the queue goes on"), 17)

    async def test_37_aTaskThatTouchesTheReactorIsStoppedThere(self) -> None:
        ran: list[object] = []
        reactor, add = self.reactor, ran.append
        for name, args in {
            "callLater": (0, add, 1),
            "callWhenRunning": (add, 2),
            "addSystemEventTrigger": ("during", "shutdown", add, 3),
            "listenTCP": (0, Factory()),
            "spawnProcess": (None, sys.executable, [sys.executable, "--version"]),
            "addReader": (object(),),
        }.items():
            await self.check(f"reactor.{name}", getattr(reactor, name), *args)
        self.assertEqual(ran, [])

    async def test_37_soIsOneThatTouchesADelayedCallOrATransport(self) -> None:
        delayed = self.reactor.callLater(60, list)
        transport = FileDescriptor(self.reactor)
        transport.connected = 1
        await self.check("DelayedCall.cancel", delayed.cancel)
        await self.check("FileDescriptor.write", transport.write, b"bytes")
        self.assertNotIn(transport, self.reactor.getWriters())
        delayed.cancel()

    async def test_37_soAreAnIteratorAndACoroutine(self) -> None:
        def some() -> Iterator[int]:
            yield 1
            self.reactor.callLater(0, list)

        async def work() -> None:
            self.reactor.callLater(0, list)

        await self.check("reactor.callLater", work)
        taken = []
        with self.assertRaises(ReactorTouched):
            async for item in await self.queue.call(some):
                taken.append(item)
        self.assertEqual(taken, [1])
        self.assertEqual(len(self.flushLoggedErrors(ReactorTouched)), 1)

    async def test_37_whatIsMadeForThreadsIsAllowed(self) -> None:
        reactor, done = self.reactor, threading.Event()

        def work() -> threading.Thread:
            reactor.callInThread(list)
            reactor.suggestThreadPoolSize(reactor.getThreadPool().max)
            reactor.callFromThread(reactor.callLater, 0, done.set)
            assert done.wait(EXIT_WITHIN)
            reactor.wakeUp()
            assert reactor.seconds()
            return blockingCallFromThread(reactor, threading.current_thread)

        self.assertIs(await self.queue.call(work), threading.current_thread())

    async def test_37_otherThreadsAreNotWatched(self) -> None:
        await self.queue.call(len, "the thread is there")
        self.reactor.callLater(60, list).cancel()
        async with ThreadQueue(debug=False) as other:
            delayed = await other.call(self.reactor.callLater, 60, list)
        delayed.cancel()


class DebugProgramTests(ProgramCase):
    def test_37_aTaskStopsNoReactor(self) -> None:
        self.assertEqual(self.run1("end"), ["reactor.stop", "the queue goes on"])

    def test_37_pythonsDevelopmentModeTurnsItOn(self) -> None:
        with mock.patch.dict(os.environ, PYTHONDEVMODE="1"):
            self.assertEqual(self.run1("touch"), ["reactor.callLater"])

    def test_37_otherwiseItIsOff(self) -> None:
        with mock.patch.dict(os.environ, PYTHONDEVMODE=""):
            self.assertEqual(self.run1("touch"), ["not detected"])
