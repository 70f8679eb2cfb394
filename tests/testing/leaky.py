"""
Tests that leave resources behind, and some that do not. They run in a pytest of their own, with
the fixture that guards all tests.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from typing import Any

from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, rule
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from asynqueue._reactor import defaultReactor
from asynqueue._workers.reaper import programReaper
from asynqueue.tools.delay import Delay
from tests.support import leaks

# None of what is left here is about to end.
leaks.GRACE = 0.0

kept: list[Any] = []


def openFile() -> int:
    """
    Open a file, and do not close it.
    """
    return os.open(os.devnull, os.O_RDONLY)


def startThread(daemon: bool = True) -> None:
    """
    Start a thread, and do not end it before the interpreter ends.
    """
    target = threading.Event().wait if daemon else threading.main_thread().join
    threading.Thread(target=target, name="a thread of mine", daemon=daemon).start()


# The system knows the arguments of a process a moment after it was started.
SLEEP = "import time; print(flush=True); time.sleep(600)"


def startProcess() -> None:
    """
    Start a process, and do not end it.
    """
    process = subprocess.Popen([sys.executable, "-c", SLEEP], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
    kept.append(process)


def callLater() -> None:
    """
    Have the reactor do something, and do not wait for it.
    """
    defaultReactor().callLater(600, print, "later")


def test_process() -> None:
    startProcess()


def test_grandchild() -> None:
    program = (
        "import subprocess, sys\n"
        "command = [sys.executable, '-c', sys.argv[1]]\n"
        "subprocess.Popen(command, stdout=subprocess.PIPE).stdout.readline()"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program, SLEEP], check=True)


def test_unjoined() -> None:
    child = multiprocessing.get_context("forkserver").Process(target=os.getpid)
    child.start()
    kept.append(child)


def test_group() -> None:
    programReaper().watch(os.getpid())


def test_thread() -> None:
    startThread(daemon=False)


def test_daemonThread() -> None:
    startThread()


def test_file() -> None:
    openFile()


def test_call() -> None:
    callLater()


def test_clean() -> None:
    thread = threading.Thread(target=len, args=([],))
    thread.start()
    os.close(openFile())
    subprocess.run([sys.executable, "-c", ""], check=True)
    defaultReactor().callLater(600, print, "never").cancel()
    thread.join()


class SynchronousTests(SynchronousTestCase):
    def test_call(self) -> None:
        callLater()

    def test_fileOfTheTest(self) -> None:
        self.file = open(os.devnull)  # noqa: SIM115 # that is the mistake
        kept.append(self.file)


class AsynchronousTests(TestCase):
    def test_process(self) -> Deferred[Any]:
        return Delay()(0).addCallback(lambda _: startProcess())

    def test_daemonThread(self) -> Deferred[Any]:
        return Delay()(0).addCallback(lambda _: startThread())

    def test_file(self) -> Deferred[Any]:
        return Delay()(0).addCallback(lambda _: openFile())

    def test_clean(self) -> Deferred[Any]:
        return Delay()(0)


class Machine(RuleBasedStateMachine):
    @rule()
    def step(self) -> None:
        """
        The first of them leaves a file open.
        """
        if "opened" not in kept:
            kept.append("opened")
            openFile()


MachineTests = Machine.TestCase
MachineTests.settings = settings(max_examples=5, database=None)
