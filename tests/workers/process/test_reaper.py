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


class ReaperCase(SynchronousTestCase):
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


class ReaperTests(ReaperCase):
    """
    When it runs.
    """

    def setUp(self) -> None:
        self.reaper = Reaper()
        self.addCleanup(self.reaper._end)

    def test_thereIsNoneWithoutAGroup(self) -> None:
        self.reaper.hold()
        self.assertIsNone(self.reaper.pid)
        self.reaper.letGo()
        self.assertIsNone(self.reaper.pid)

    def test_itEndsWithTheLastGroup(self) -> None:
        one, other = self.makeGroup(), self.makeGroup()
        self.reaper.watch(one.pid)
        pid = self.reaper.pid
        assert pid is not None
        self.reaper.watch(other.pid)
        self.reaper.forget(one.pid)
        self.assertEqual(self.reaper.pid, pid)
        self.reaper.forget(other.pid)
        self.assertIsNone(self.reaper.pid)
        self.assertTrue(isGone(pid), "before forget() has returned")
        self.assertIsNone(one.poll())

    def test_whoHoldsItKeepsItForTheNextGroup(self) -> None:
        group = self.makeGroup()
        self.reaper.hold()
        self.reaper.watch(group.pid)
        pid = self.reaper.pid
        self.reaper.forget(group.pid)
        self.assertEqual(self.reaper.pid, pid)
        self.reaper.watch(group.pid)
        self.assertEqual(self.reaper.pid, pid)
        self.reaper.letGo()
        self.assertEqual(self.reaper.pid, pid)
        self.reaper.forget(group.pid)
        self.assertIsNone(self.reaper.pid)

    def test_whatIsNotWatchedCanBeForgotten(self) -> None:
        self.reaper.forget(1)
        self.assertIsNone(self.reaper.pid)

    def test_oneThatWasKilledIsReplacedAndKnowsAllGroups(self) -> None:
        early, late, gone = self.makeGroup(), self.makeGroup(), self.makeGroup()
        self.reaper.watch(early.pid)
        self.reaper.watch(gone.pid)
        pid = self.reaper.pid
        assert pid is not None
        self.killReaper()
        self.reaper.forget(gone.pid)
        self.reaper.watch(late.pid)
        self.assertNotEqual(self.reaper.pid, pid)
        self.hangUp()
        self.assertKilled(early)
        self.assertKilled(late)
        self.assertIsNone(gone.poll())

    def test_whereItCannotBeStartedNothingIsWatched(self) -> None:
        def refuse(*args: Any, **kw: Any) -> Any:
            raise BlockingIOError(11, "Resource temporarily unavailable")

        group = self.makeGroup()
        self.patch(subprocess, "Popen", refuse)
        self.assertRaises(BlockingIOError, self.reaper.watch, group.pid)
        self.reaper.forget(group.pid)
        self.assertIsNone(self.reaper.pid)

    def test_whereItCannotBeReplacedTheGroupsAreToldToTheNext(self) -> None:
        def refuse(*args: Any, **kw: Any) -> Any:
            raise BlockingIOError(11, "Resource temporarily unavailable")

        early, refused, late = [self.makeGroup() for _ in range(3)]
        self.reaper.watch(early.pid)
        self.killReaper()
        patch = self.patch(subprocess, "Popen", refuse)
        self.assertRaises(BlockingIOError, self.reaper.watch, refused.pid)
        patch.restore()
        self.reaper.watch(late.pid)
        self.hangUp()
        self.assertKilled(early)
        self.assertKilled(late)
        self.assertIsNone(refused.poll())

    def test_aFrozenProgramHasNone(self) -> None:
        sys.frozen = True  # type: ignore[attr-defined] # What freezes programs sets it.
        self.addCleanup(delattr, sys, "frozen")
        self.reaper.watch(self.makeGroup().pid)
        self.assertIsNone(self.reaper.pid)

    def test_aProgramHasOne(self) -> None:
        self.assertIs(programReaper(), programReaper())

    def killReaper(self) -> None:
        assert self.reaper._process is not None
        self.reaper._process.kill()
        self.reaper._process.wait()

    def hangUp(self) -> None:
        """
        End the pipe to the reaper as the end of the program does.
        """
        process = self.reaper._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        self.assertEqual(process.wait(PATIENCE), 0)


class ReaperProcessTests(ReaperCase):
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

    def tell(self, reaper: subprocess.Popen[bytes], data: bytes) -> None:
        assert reaper.stdin is not None
        reaper.stdin.write(data)

    def test_atTheEndOfItsInputTheGroupsAreKilledThatAreNotForgotten(self) -> None:
        one, other, forgotten = [self.makeGroup() for _ in range(3)]
        reaper = self.start(os.getpid())
        self.tell(reaper, b"%d\n%d\n" % (one.pid, forgotten.pid))
        # An order may come in pieces.
        first, second = str(other.pid)[:2], str(other.pid)[2:]
        self.tell(reaper, first.encode())
        self.tell(reaper, second.encode() + b"\n-%d\n" % forgotten.pid)
        reaper.communicate()
        self.assertKilled(one)
        self.assertKilled(other)
        self.assertIsNone(forgotten.poll())
        self.assertEqual(reaper.returncode, 0)

    def test_aProcessThatHasNotFoundedItsGroupYetIsKilled(self) -> None:
        process = subprocess.Popen(SLEEP)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        reaper = self.start(os.getpid())
        self.tell(reaper, b"%d\n" % process.pid)
        reaper.communicate()
        self.assertKilled(process)

    def test_aGroupThatIsGoneIsNoError(self) -> None:
        gone, left = self.makeGroup(), self.makeGroup()
        gone.kill()
        gone.wait()
        reaper = self.start(os.getpid())
        self.tell(reaper, b"%d\n%d\n" % (gone.pid, left.pid))
        reaper.communicate()
        self.assertKilled(left)
        self.assertEqual(reaper.returncode, 0)

    def test_itWaitsForTheProgramItselfWhereThatCanBeDone(self) -> None:
        if not hasattr(os, "pidfd_open"):
            return
        program, group = self.makeGroup(), self.makeGroup()
        reaper = self.start(program.pid)
        self.tell(reaper, b"%d\n" % group.pid)
        program.kill()
        # Its input is open all the time, as it is with a program that has forked something.
        self.assertKilled(group)
        self.assertEqual(reaper.wait(PATIENCE), 0)

    def test_aProgramThatHasEndedBeforeItStartsIsNoOtherCase(self) -> None:
        program, group = self.makeGroup(), self.makeGroup()
        program.kill()
        program.wait()
        reading, writing = os.pipe()
        self.addCleanup(os.close, writing)
        os.write(writing, b"%d\n" % group.pid)
        arguments = [sys.executable, "-S", "-P", reaper_main.__file__, str(program.pid)]
        with os.fdopen(reading) as orders:
            reaper = subprocess.Popen(arguments, stdin=orders)
        self.addCleanup(reaper.kill)
        if not hasattr(os, "pidfd_open"):
            reaper.kill()
            reaper.wait()
            return
        self.assertEqual(reaper.wait(PATIENCE), 0)
        self.assertKilled(group)

    def test_signalsThatReachAWholeTerminalDoNotEndIt(self) -> None:
        group = self.makeGroup()
        reaper = self.start(os.getpid())
        self.tell(reaper, b"%d\n" % group.pid)
        # When it has taken something in, it is ready for them.
        probe = self.makeGroup()
        self.tell(reaper, b"-%d\n" % probe.pid)
        self.untilReading(reaper)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            reaper.send_signal(number)
        reaper.communicate()
        self.assertEqual(reaper.returncode, 0)
        self.assertKilled(group)

    def untilReading(self, reaper: subprocess.Popen[bytes]) -> None:
        """
        Wait until it has read all that was written.
        """
        import array
        import fcntl
        import termios
        import time

        assert reaper.stdin is not None
        left = array.array("i", [1])
        until = time.monotonic() + PATIENCE
        while left[0]:
            self.assertLess(time.monotonic(), until, "it reads nothing")
            fcntl.ioctl(reaper.stdin, termios.FIONREAD, left)
            time.sleep(0.001)
