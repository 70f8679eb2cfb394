"""
A test that leaves something behind fails: the fixture that guards all tests, and the snapshots that
it compares.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from asynqueue._reactor import defaultReactor
from tests.support import leaks
from tests.support.processes import PATIENCE, ROOT, startServers

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]

LEAKS = {
    "test_process": ["process ", "time.sleep(600)"],
    "test_grandchild": ["process ", "time.sleep(600)"],
    "test_unjoined": ["process that was not joined: <ForkServerProcess", "file descriptor "],
    "test_group": ["process group ", "that the reaper watches"],
    "test_thread": ["thread <Thread(a thread of mine, started "],
    "test_daemonThread": ["thread <Thread(a thread of mine, started daemon "],
    "test_file": ["file descriptor ", os.devnull],
    "test_call": ["delayed call <DelayedCall ", "print('later')"],
    "SynchronousTests.test_call": ["delayed call <DelayedCall ", "print('later')"],
    "SynchronousTests.test_fileOfTheTest": ["file descriptor ", os.devnull],
    "AsynchronousTests.test_process": ["process ", "time.sleep(600)"],
    "AsynchronousTests.test_daemonThread": ["thread <Thread(a thread of mine, started daemon "],
    "AsynchronousTests.test_file": ["file descriptor ", os.devnull],
    "MachineTests.runTest": ["file descriptor ", os.devnull],
}
"""The message about each test that leaves something behind."""


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """
    Run the tests that leave something behind.

    @return: for each of them, what pytest says of it: nothing where it has passed.
    """
    file = tmp_path_factory.mktemp("leaky") / "report.xml"
    tests = Path(__file__).with_name("leaky.py")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={file}"]
    done = subprocess.run([*command, tests], cwd=ROOT, capture_output=True, timeout=50, check=False)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    found = {}
    for case in ElementTree.parse(file).iter("testcase"):
        room = case.attrib["classname"].rpartition("leaky")[2].lstrip(".")
        name = ".".join(filter(None, [room, case.attrib["name"]]))
        found[name] = "\n".join(text for part in case for text in part.itertext())
    return found


@pytest.mark.parametrize("name", LEAKS)
def test_aTestThatLeavesSomethingHasFailedAndIsToldWhat(
    name: str, verdicts: dict[str, str]
) -> None:
    assert "The test left behind:" in verdicts[name]
    for words in LEAKS[name]:
        assert words in verdicts[name]


def test_oneThatLeavesNothingPassesEvenAfterOthersThatDid(verdicts: dict[str, str]) -> None:
    passed = {name for name, said in verdicts.items() if not said}
    assert passed == {"test_clean", "AsynchronousTests.test_clean"}
    assert verdicts.keys() - passed == LEAKS.keys()


def test_nothingElseIsNamed(verdicts: dict[str, str]) -> None:
    lines = verdicts["test_file"].splitlines()
    assert len([line for line in lines if line.startswith("    ")]) == 1


def test_nothingIsLeftWhereNothingWasDone() -> None:
    left = leaks.leftSince(leaks.takeSnapshot(), 0)
    assert not left
    assert left.describe() == []


def test_whatIsAboutToEndIsWaitedFor(monkeypatch: pytest.MonkeyPatch) -> None:
    before = leaks.takeSnapshot()
    told = threading.Event()
    thread = threading.Thread(target=told.wait)
    thread.start()
    naps: list[float] = []
    nap = time.sleep

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        told.set()
        nap(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    assert not leaks.leftSince(before, PATIENCE)
    assert naps
    thread.join()


def test_whatDoesNotEndIsNotWaitedForWithoutEnd() -> None:
    before = leaks.takeSnapshot()
    with subprocess.Popen(SLEEP) as child:
        left = leaks.leftSince(before, 0.05)
        child.kill()
    assert left.processes == {child.pid}


class Cycle:
    """
    Closes its file when it is garbage and has been collected.
    """

    def __init__(self) -> None:
        self.fd = os.open(os.devnull, os.O_RDONLY)
        self.me = self

    def __del__(self) -> None:
        os.close(self.fd)


def test_whatOnlyGarbageHoldsIsLeft(monkeypatch: pytest.MonkeyPatch) -> None:
    # None is due soon after this.
    gc.collect()
    before = leaks.takeSnapshot()
    fd = Cycle().fd
    areCollecting: list[bool] = []
    monkeypatch.setattr(time, "sleep", lambda _: areCollecting.append(gc.isenabled()))
    left = leaks.leftSince(before, 0.05)
    assert areCollecting
    assert not any(areCollecting)
    assert gc.isenabled()
    assert [number for number, *_ in left.fds] == [fd]
    gc.collect()
    assert not leaks.leftSince(before, 0)


def test_delayedCallsAreNotWaitedFor(monkeypatch: pytest.MonkeyPatch) -> None:
    before = leaks.takeSnapshot()
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waits"))
    call = defaultReactor().callLater(600, print, "later")
    left = leaks.leftSince(before, PATIENCE)
    call.cancel()
    assert left.calls == {call}


def test_anotherFileInAnOldOnesPlaceIsSeen() -> None:
    old = os.open(os.devnull, os.O_RDONLY)
    ends = os.pipe()
    before = leaks.takeSnapshot()
    count = leaks.countFds()
    os.dup2(ends[0], old)
    left = leaks.leftSince(before, 0)
    assert leaks.countFds() == count
    assert [fd for fd, *_ in left.fds] == [old]
    assert "pipe:" in left.describe()[0] or not leaks.FD_FOLDER.startswith("/proc")
    for fd in (old, *ends):
        os.close(fd)


def test_aProcessThatHasEndedIsNotLeftAndTakesNoPlaceAnyMore() -> None:
    before = leaks.takeSnapshot()
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", ""], os.environ)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert leaks.isGone(pid)
    assert pid in leaks.takeSnapshot().processes
    assert not leaks.leftSince(before, 0)
    assert pid not in leaks.takeSnapshot().processes


def test_whatWasThereBeforeIsNotLeft() -> None:
    with subprocess.Popen(SLEEP) as child:
        assert not leaks.leftSince(leaks.takeSnapshot(), 0)
        child.kill()


def test_whatMultiprocessingKeepsForItselfIsNotLeft() -> None:
    startServers()
    assert leaks.ownPids()
    assert leaks.ownPids() <= leaks._descendants()
    assert not leaks.ownPids() & leaks.takeSnapshot().processes
    assert not leaks.ownFds() & {fd for fd, *_ in leaks.takeSnapshot().fds}


def test_aProcessOfTheForkServerIsSeen() -> None:
    before = leaks.takeSnapshot()
    child = multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(600,))
    child.start()
    left = leaks.leftSince(before, 0)
    pid = child.pid
    strangers = leaks.strangers()
    child.kill()
    child.join()
    child.close()
    assert left.processes == {pid}
    assert strangers == [pid]
    assert leaks.strangers() == []


def test_bothWaysOfListingDescendantsFindTheSame(monkeypatch: pytest.MonkeyPatch) -> None:
    startServers()
    with subprocess.Popen(SLEEP) as child:
        listed = leaks._descendants()
        monkeypatch.setattr(leaks, "CHILDREN_ARE_LISTED", False)
        assert leaks._descendants() == listed
        assert child.pid in listed
        child.kill()


def test_clearingEndsProcessesAndCancelsCalls() -> None:
    before = leaks.takeSnapshot()
    call = defaultReactor().callLater(600, print, "later")
    child = subprocess.Popen(SLEEP)
    left = leaks.leftSince(before, 0)
    assert left.calls == {call}
    left.clear()
    assert child.wait(PATIENCE) == -signal.SIGKILL
    assert not call.active()
