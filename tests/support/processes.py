"""
Tests with real child processes: what they wait with, and that they leave nothing behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore, IReactorFDSet, IReactorTime
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from asynqueue.deferreds import Delay, defaultReactor
from asynqueue.queue.processqueue import ProcessQueue
from asynqueue.queue.taskqueue import TaskQueue
from asynqueue.workers.process.launch import startContext

ROOT = Path(__file__).parents[2]

PATIENCE = 20.0
"""How many seconds to wait for what should come at once, before the test fails."""


def _processes() -> Any:
    return multiprocessing.process


class ProcessTestCase(TestCase):
    """
    After each test, no child process but those of C{multiprocessing} itself may be alive, and no
    file descriptor or thread more than before.

    @cvar timeout: how long a test may take, in seconds.
    """

    timeout = 45.0

    def setUp(self) -> Deferred[None]:  # type: ignore[override] # Trial waits for it
        startServers()
        # From here on the reactor runs, and has opened what it needs for that.
        return Delay()(0).addCallback(self._begin)

    def _begin(self, _: object) -> None:
        self._fds = countFds()
        self._threads = set(threading.enumerate())
        # What another test has left is that one's failure.
        self._children = set(_processes()._children)
        self.addCleanup(self._leaveNothing)

    def _leaveNothing(self) -> None:
        left = _processes()._children - self._children
        self.assertEqual(left, set(), "every process has been asked for its end")
        self.assertEqual([describe(process) for process in strangers()], [])
        threads = {thread for thread in threading.enumerate() if not thread.daemon}
        self.assertEqual(threads - self._threads, set())
        self.assertLessEqual(countFds(), self._fds, describeFds())

    def manage(self, queue: TaskQueue) -> TaskQueue:
        """
        See to it that a queue is shut down after the test, even if something in it hangs.
        """

        def shutdown() -> Deferred[None]:
            queue.timeout = PATIENCE
            return queue.shutdown()

        self.addCleanup(shutdown)
        return queue

    def makeQueue(self, N: int = 1, **options: Any) -> ProcessQueue:
        """
        Make a queue with processes, which is shut down after the test.

        @param options: its other arguments.
        """
        queue = ProcessQueue(N, **options)
        self.manage(queue)
        return queue

    def makeFolder(self) -> Path:
        """
        @return: a folder for this test.
        """
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return Path(folder.name)

    async def until(self, happened: Callable[..., object], *args: Any) -> None:
        """
        Wait for what can only be asked about.
        """
        delay = Delay(timeout=PATIENCE)
        self.assertTrue(await delay.untilEvent(happened, *args), f"{happened} {args} never came")

    async def happens(self, seconds: float, check: Callable[..., object], *args: Any) -> bool:
        """
        @return: whether something comes true within so many seconds.
        """
        return await Delay(timeout=seconds).untilEvent(check, *args)

    async def errorOf(self, d: Deferred[Any], *kinds: type[BaseException]) -> Any:
        """
        @return: the exception, of one of these kinds, that the Deferred fails with.
        """
        return await self.assertFailure(d, *kinds)


def startServers() -> None:
    """
    Start the processes that C{multiprocessing} keeps for itself, which are not to be counted. On
    Linux, see to it that orphans of theirs become children of this process and are counted.
    """
    if sys.platform == "linux":
        setChildSubreaper = 36
        ctypes.CDLL(None).prctl(setChildSubreaper, 1)
    startContext()
    forkserver.ensure_running()
    resource_tracker.ensure_running()


def strangers() -> list[psutil.Process]:
    """
    @return: the living descendants of this process, without those that C{multiprocessing} keeps for
        itself.
    """
    server: Any = forkserver
    tracker: Any = resource_tracker
    own = {server._forkserver._forkserver_pid, tracker._resource_tracker._pid}
    children = psutil.Process().children(recursive=True)
    return [child for child in children if child.pid not in own and not isGone(child.pid)]


def describe(process: psutil.Process) -> str:
    """
    @return: what a process is, for people.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        return f"{process.pid}, {process.status()}: {' '.join(process.cmdline())}"
    return f"{process.pid}, which is gone by now"


def countFds() -> int:
    """
    @return: how many file descriptors are open, without waiting for garbage to be collected.
    """
    return psutil.Process().num_fds()


def describeFds() -> str:
    """
    @return: what the file descriptors are, for people.
    """
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        return ""
    return "\n".join(_describeFd(fd) for fd in sorted(folder.iterdir()))


def _describeFd(fd: Path) -> str:
    try:
        return f"{fd.name}: {os.readlink(fd)}"
    except OSError as error:
        return f"{fd.name}: {error}"


def isGone(pid: int) -> bool:
    """
    @return: whether a process has ended. A zombie that nobody has asked after has.
    """
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return True


def areGone(pids: Iterable[int]) -> bool:
    """
    @return: whether all of these have ended.
    """
    return all(isGone(pid) for pid in pids)


def startProgram(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    """
    Run one of the tests' programs in a session of its own. A line read from its output takes
    nothing of what follows.

    @param module: its name.
    """
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    )


@implementer(IReactorTime, IReactorCore)
class PollingReactor:
    """
    The reactor, but without C{IReactorFDSet}: it watches no file descriptor for anybody.
    """

    def __init__(self) -> None:
        self._reactor = defaultReactor()

    def __getattr__(self, name: str) -> Any:
        # What it provides is written in a special name.
        if name in IReactorFDSet or name.startswith("__"):
            raise AttributeError(f"this reactor has no {name}")
        return getattr(self._reactor, name)


class BrokenStart:
    """
    A C{multiprocessing} context that sometimes cannot start a process, as when the system has no
    more of them to give.

    @ivar refusals: how often it is still to refuse.
    """

    def __init__(self) -> None:
        self.refusals = 0
        self._context: Any = startContext()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def Process(self, *args: Any, **kw: Any) -> Any:
        """
        Make a process, or not.
        """
        if self.refusals:
            self.refusals -= 1
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return self._context.Process(*args, **kw)
