from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from asynqueue._runner import reaper_main
from asynqueue._workers.reaper import Reaper, programReaper
from tests.support.processes import PATIENCE, isGone

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]


class GuardCase(SynchronousTestCase):
    """
    Groups that can be watched, of a process each.
    """

    def makeGroup(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(SLEEP, start_new_session=True)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def assertKilled(self, process: subprocess.Popen[bytes]) -> None:
        self.assertEqual(process.wait(PATIENCE), -signal.SIGKILL)


class GuardTests(GuardCase):
    """
    When it runs.
    """

    def setUp(self) -> None:
        self.guard = Reaper()
        self.addCleanup(self.guard._end)

    def test_thereIsNoneWithoutAGroup(self) -> None:
        self.guard.hold()
        self.assertIsNone(self.guard.pid)
        self.guard.letGo()
        self.assertIsNone(self.guard.pid)

    def test_itEndsWithTheLastGroup(self) -> None:
        one, other = self.makeGroup(), self.makeGroup()
        self.guard.watch(one.pid)
        pid = self.guard.pid
        assert pid is not None
        self.guard.watch(other.pid)
        self.guard.forget(one.pid)
        self.assertEqual(self.guard.pid, pid)
        self.guard.forget(other.pid)
        self.assertIsNone(self.guard.pid)
        self.assertTrue(isGone(pid), "before forget() has returned")
        self.assertIsNone(one.poll())

    def test_whoHoldsItKeepsItForTheNextGroup(self) -> None:
        group = self.makeGroup()
        self.guard.hold()
        self.guard.watch(group.pid)
        pid = self.guard.pid
        self.guard.forget(group.pid)
        self.assertEqual(self.guard.pid, pid)
        self.guard.watch(group.pid)
        self.assertEqual(self.guard.pid, pid)
        self.guard.letGo()
        self.assertEqual(self.guard.pid, pid)
        self.guard.forget(group.pid)
        self.assertIsNone(self.guard.pid)

    def test_whatIsNotWatchedCanBeForgotten(self) -> None:
        self.guard.forget(1)
        self.assertIsNone(self.guard.pid)

    def test_oneThatWasKilledIsReplacedAndKnowsAllGroups(self) -> None:
        early, late, gone = self.makeGroup(), self.makeGroup(), self.makeGroup()
        self.guard.watch(early.pid)
        self.guard.watch(gone.pid)
        pid = self.guard.pid
        assert pid is not None
        self.killGuard()
        self.guard.forget(gone.pid)
        self.guard.watch(late.pid)
        self.assertNotEqual(self.guard.pid, pid)
        self.hangUp()
        self.assertKilled(early)
        self.assertKilled(late)
        self.assertIsNone(gone.poll())

    def test_whereItCannotBeStartedNothingIsWatched(self) -> None:
        def refuse(*args: Any, **kw: Any) -> Any:
            raise BlockingIOError(11, "Resource temporarily unavailable")

        group = self.makeGroup()
        self.patch(subprocess, "Popen", refuse)
        self.assertRaises(BlockingIOError, self.guard.watch, group.pid)
        self.guard.forget(group.pid)
        self.assertIsNone(self.guard.pid)

    def test_whereItCannotBeReplacedTheGroupsAreToldToTheNext(self) -> None:
        def refuse(*args: Any, **kw: Any) -> Any:
            raise BlockingIOError(11, "Resource temporarily unavailable")

        early, refused, late = [self.makeGroup() for _ in range(3)]
        self.guard.watch(early.pid)
        self.killGuard()
        patch = self.patch(subprocess, "Popen", refuse)
        self.assertRaises(BlockingIOError, self.guard.watch, refused.pid)
        patch.restore()
        self.guard.watch(late.pid)
        self.hangUp()
        self.assertKilled(early)
        self.assertKilled(late)
        self.assertIsNone(refused.poll())

    def test_aFrozenProgramHasNone(self) -> None:
        sys.frozen = True  # type: ignore[attr-defined] # What freezes programs sets it.
        self.addCleanup(delattr, sys, "frozen")
        self.guard.watch(self.makeGroup().pid)
        self.assertIsNone(self.guard.pid)

    def test_aProgramHasOne(self) -> None:
        self.assertIs(programReaper(), programReaper())

    def killGuard(self) -> None:
        assert self.guard._process is not None
        self.guard._process.kill()
        self.guard._process.wait()

    def hangUp(self) -> None:
        """
        End the pipe to the guard as the end of the program does.
        """
        process = self.guard._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        self.assertEqual(process.wait(PATIENCE), 0)


class GuardianTests(GuardCase):
    """
    Its process, by itself.
    """

    def start(self, program: int) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-S", "-P", reaper_main.__file__, str(program)],
            stdin=subprocess.PIPE,
            bufsize=0,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def tell(self, guard: subprocess.Popen[bytes], data: bytes) -> None:
        assert guard.stdin is not None
        guard.stdin.write(data)

    def test_atTheEndOfItsInputTheGroupsAreKilledThatAreNotForgotten(self) -> None:
        one, other, forgotten = [self.makeGroup() for _ in range(3)]
        guard = self.start(os.getpid())
        self.tell(guard, b"%d\n%d\n" % (one.pid, forgotten.pid))
        # An order may come in pieces.
        first, second = str(other.pid)[:2], str(other.pid)[2:]
        self.tell(guard, first.encode())
        self.tell(guard, second.encode() + b"\n-%d\n" % forgotten.pid)
        guard.communicate()
        self.assertKilled(one)
        self.assertKilled(other)
        self.assertIsNone(forgotten.poll())
        self.assertEqual(guard.returncode, 0)

    def test_aProcessThatHasNotFoundedItsGroupYetIsKilled(self) -> None:
        process = subprocess.Popen(SLEEP)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        guard = self.start(os.getpid())
        self.tell(guard, b"%d\n" % process.pid)
        guard.communicate()
        self.assertKilled(process)

    def test_aGroupThatIsGoneIsNoError(self) -> None:
        gone, left = self.makeGroup(), self.makeGroup()
        gone.kill()
        gone.wait()
        guard = self.start(os.getpid())
        self.tell(guard, b"%d\n%d\n" % (gone.pid, left.pid))
        guard.communicate()
        self.assertKilled(left)
        self.assertEqual(guard.returncode, 0)

    def test_itWaitsForTheProgramItselfWhereThatCanBeDone(self) -> None:
        if not hasattr(os, "pidfd_open"):
            return
        program, group = self.makeGroup(), self.makeGroup()
        guard = self.start(program.pid)
        self.tell(guard, b"%d\n" % group.pid)
        program.kill()
        # Its input is open all the time, as it is with a program that has forked something.
        self.assertKilled(group)
        self.assertEqual(guard.wait(PATIENCE), 0)

    def test_aProgramThatHasEndedBeforeItStartsIsNoOtherCase(self) -> None:
        program, group = self.makeGroup(), self.makeGroup()
        program.kill()
        program.wait()
        reading, writing = os.pipe()
        self.addCleanup(os.close, writing)
        os.write(writing, b"%d\n" % group.pid)
        arguments = [sys.executable, "-S", "-P", reaper_main.__file__, str(program.pid)]
        with os.fdopen(reading) as orders:
            guard = subprocess.Popen(arguments, stdin=orders)
        self.addCleanup(guard.kill)
        if not hasattr(os, "pidfd_open"):
            guard.kill()
            guard.wait()
            return
        self.assertEqual(guard.wait(PATIENCE), 0)
        self.assertKilled(group)

    def test_signalsThatReachAWholeTerminalDoNotEndIt(self) -> None:
        group = self.makeGroup()
        guard = self.start(os.getpid())
        self.tell(guard, b"%d\n" % group.pid)
        # When it has taken something in, it is ready for them.
        probe = self.makeGroup()
        self.tell(guard, b"-%d\n" % probe.pid)
        self.untilReading(guard)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            guard.send_signal(number)
        guard.communicate()
        self.assertEqual(guard.returncode, 0)
        self.assertKilled(group)

    def untilReading(self, guard: subprocess.Popen[bytes]) -> None:
        """
        Wait until it has read all that was written.
        """
        import array
        import fcntl
        import termios
        import time

        assert guard.stdin is not None
        left = array.array("i", [1])
        until = time.monotonic() + PATIENCE
        while left[0]:
            self.assertLess(time.monotonic(), until, "it reads nothing")
            fcntl.ioctl(guard.stdin, termios.FIONREAD, left)
            time.sleep(0.001)
