"""
Tools for tests with real child processes.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore, IReactorFDSet, IReactorTime
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from asynqueue import ProcessQueue, TaskQueue
from asynqueue._reactor import defaultReactor
from asynqueue._workers.launch import startContext
from asynqueue._workers.preload import preloadServer
from asynqueue.tools.delay import Delay
from tests.support.leaks import countFds, isGone, strangers

__all__ = [
    "PATIENCE",
    "REACTOR",
    "ROOT",
    "BrokenStart",
    "PollingReactor",
    "ProcessTestCase",
    "areGone",
    "countFds",
    "isGone",
    "preloaded",
    "startMainModule",
    "startProgram",
    "startServers",
    "strangers",
]

ROOT = Path(__file__).parents[2]

PATIENCE = 20.0
"""How many seconds to wait for a result that should come at once, before the test fails."""


class ProcessTestCase(TestCase):
    """
    A test case that begins when the reactor runs, and when C{multiprocessing} has started the
    processes that it keeps for itself. So a test that counts descendants or file descriptors counts
    its own.

    @cvar timeout: how long a test may take, in seconds.
    """

    timeout = 45.0

    def setUp(self) -> Deferred[None]:  # type: ignore[override] # Trial waits for it
        startServers()
        return Delay()(0)

    def manage(self, queue: TaskQueue) -> TaskQueue:
        """
        Shut a queue down after the test, even if a call in it hangs.
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
        Wait until a condition is true, by asking again and again.
        """
        delay = Delay(timeout=PATIENCE)
        self.assertTrue(await delay.untilEvent(happened, *args), f"{happened} {args} never came")

    async def happens(self, seconds: float, check: Callable[..., object], *args: Any) -> bool:
        """
        @return: whether a condition becomes true within so many seconds.
        """
        return await Delay(timeout=seconds).untilEvent(check, *args)

    async def errorOf(self, d: Deferred[Any], *kinds: type[BaseException]) -> Any:
        """
        @return: the exception, of one of these kinds, that the Deferred fails with.
        """
        return await self.assertFailure(d, *kinds)


def startServers() -> None:
    """
    Start the processes that C{multiprocessing} keeps for itself.
    """
    startContext()
    forkserver.ensure_running()
    resource_tracker.ensure_running()


REACTOR = ["asynqueue._runner.reactormain", "twisted.internet.posixbase"]
"""Modules that a worker process with a reactor needs, and that make none. Loading them takes longer
than all else that such a process does for a test."""


@contextmanager
def preloaded(modules: list[str]) -> Iterator[None]:
    """
    Have a fork server that has loaded some modules, for queues that are to preload them.
    """
    server = preloadServer(modules)
    server.hold()
    try:
        deadline = time.monotonic() + PATIENCE
        while server.context(runsReactor=True) is None:
            assert time.monotonic() < deadline, "the modules do not load"
            time.sleep(0.005)
        yield
    finally:
        server.letGo()


def areGone(pids: Iterable[int]) -> bool:
    """
    @return: whether all of these processes have ended.
    """
    return all(isGone(pid) for pid in pids)


def startProgram(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    """
    Run one of the tests' programs in a session of its own. Its output is not buffered here, so a
    test can read one line and leave the rest.

    @param module: the name of a module whose C{main} takes the arguments. It is not the program's
        main module, so worker processes do not import it.
    """
    return startMainModule("tests.support.mainmodule", module, *arguments)


def startMainModule(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    """
    Run a module as a program, in the same way. Worker processes import it.
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
    The reactor without C{IReactorFDSet}, so that it watches no file descriptors.
    """

    def __init__(self) -> None:
        self._reactor = defaultReactor()

    def __getattr__(self, name: str) -> Any:
        # zope writes the interfaces that it provides into a special name.
        if name in IReactorFDSet or name.startswith("__"):
            raise AttributeError(f"this reactor has no {name}")
        return getattr(self._reactor, name)


class BrokenStart:
    """
    A C{multiprocessing} context that sometimes cannot start a process.

    @ivar refusals: how many more times it refuses to start a process.
    @ivar error: the number of the system's error. By default the interpreter cannot be run, which
        another try does not mend.
    """

    def __init__(self) -> None:
        self.refusals = 0
        self.error = errno.ENOEXEC
        self._context: Any = startContext()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def Process(self, *args: Any, **kw: Any) -> Any:
        """
        Make a process, or refuse to.
        """
        if self.refusals:
            self.refusals -= 1
            raise OSError(self.error, os.strerror(self.error))
        return self._context.Process(*args, **kw)
