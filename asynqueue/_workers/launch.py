"""
Start a child process, and clean up when it has ended.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.context import BaseContext
from multiprocessing.util import Finalize
from typing import Any, Final

from asynqueue._runner import processmain as child
from asynqueue._runner.reaper_main import killGroup
from asynqueue._runner.recorder import Recorder
from asynqueue._workers.procinfo import MemoryWatch, hasEnded, residentKilobytes
from asynqueue._workers.reaper import Reaper, programReaper
from asynqueue._workers.startmethods import (
    UNKNOWN,
    WorkerServerContext,
    WorkerSpawnContext,
    mainModule,
    privateOf,
    serverOfProgram,
    workerContext,
)
from asynqueue.errors import WorkerDied


def startContext(method: str | None = None) -> BaseContext:
    """
    Make the context to start children with.

    @param method: a start method of C{multiprocessing}. Default: C{forkserver}, or C{spawn} where
        there is no C{forkserver}. The default is never C{fork}, because a forked copy of a running
        reactor and of its threads' locks cannot be relied on.
    @return: the context.
    """
    if method is None:
        known = multiprocessing.get_all_start_methods()
        method = "forkserver" if "forkserver" in known else "spawn"
    return multiprocessing.get_context(method)


def _preloadChild() -> None:
    """
    Have the program's fork server load what worker processes need, unless another library has its
    own list for the server.
    """
    server = serverOfProgram()
    if privateOf(server)._preload_modules in ([], ["__main__"]):
        server.set_forkserver_preload([child.__name__])


UNGUARDED: Final = (
    "this main module makes worker processes when it is imported. Each worker process imports the "
    'main module, so what makes them has to stand under `if __name__ == "__main__":`'
)

STATUS_SECONDS: Final = 0.5
"""How long after a process has ended to wait for its parent to tell how. With C{forkserver} the
parent is the server."""

CRASHES: Final = frozenset(
    getattr(signal, name)
    for name in ("SIGSEGV", "SIGFPE", "SIGABRT", "SIGBUS", "SIGILL")
    if hasattr(signal, name)
)
"""The signals at which C{faulthandler} writes the stacks."""


@dataclass(frozen=True, slots=True)
class EndedProcess:
    """
    Stands for a C{multiprocessing} process that has ended, without its file descriptors.
    """

    pid: int
    exitcode: int | None

    def is_alive(self) -> bool:
        """
        @return: C{False}.
        """
        return False


class ChildProcess:
    """
    A child process, with the near end of the pipe to it and its flight recorder.

    The process is killed when this object becomes garbage or the interpreter ends. All processes
    that its tasks have started are killed then too, or when it ends by itself.

    @ivar process: the C{multiprocessing} process, or an L{EndedProcess} after L{ended}.
    @ivar fd: the file descriptor of the pipe's near end.
    @ivar refusal: after L{ended}, the text in which the process has told why it could not start, or
        C{None}.
    @ivar endFd: a file descriptor that becomes readable when the process ends. Where the system has
        no C{pidfd_open}, this may happen late.
    """

    def __init__(self, context: Any, options: child.ChildOptions) -> None:
        """
        Start the process.

        @param context: the C{multiprocessing} context to start it with.
        @param options: how the process works.
        @raise OSError: if it cannot be started.
        @raise EOFError: if the C{forkserver} that should start it is gone.
        """
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            # This is a child that imports the main module. No C{except Exception} there stops this.
            raise SystemExit(UNGUARDED)
        context = workerContext(context)
        if isinstance(context, (WorkerServerContext, WorkerSpawnContext)):
            _preloadChild()
            options = replace(options, main=mainModule())
        self.refusal: str | None = None
        self._recorder = Recorder()
        self._lastBegun = 0
        self._reaper = programReaper()
        self._starter = os.getpid()
        self._pidfd: int | None = None
        self._gone = 0.0
        with ExitStack() as opened:
            opened.callback(self._recorder.close)
            near, far = context.Pipe()
            with far:
                opened.enter_context(near)
                life, nearLife = context.Pipe(duplex=False)
                with life:
                    opened.enter_context(nearLife)
                    self.fd: int = near.fileno()
                    self.process: Any = context.Process(
                        target=child.main,
                        args=(far, life, self._recorder, options),
                        name="asynqueue worker",
                    )
                    self._launch()
                    self.endFd = self._openEnd(opened)
            self._opened = opened.pop_all()
        self._recorder.sent()
        self._finalizer = Finalize(
            self, _abandon, args=(self.process, self._reaper), exitpriority=10
        )

    def _launch(self) -> None:
        with interruptsHeld():
            self.process.start()
            try:
                self._reaper.watch(self.process.pid)
            except BaseException:
                # No task can have started another process yet.
                self.process.kill()
                self.process.join()
                raise

    def _openEnd(self, opened: ExitStack) -> int:
        # The sentinel is the end of a pipe, and a process that a task has forked may hold it open.
        if hasattr(os, "pidfd_open"):
            with suppress(OSError):
                self._pidfd = os.pidfd_open(self.process.pid)
                opened.callback(os.close, self._pidfd)
                return self._pidfd
        sentinel: int = self.process.sentinel
        return sentinel

    @property
    def hasEnded(self) -> bool:
        """
        Whether it has ended, and it is known how, or will not be known. This asks the system.
        """
        if self._isOurs and self.process.exitcode is not None:
            return True
        if not self._hasGone():
            return False
        # The system tells a process how another one ended only if that is its child. The program
        # may have taken the answer, or have told the system to keep none.
        if not self._isOurs:
            return True
        self._gone = self._gone or time.monotonic()
        return time.monotonic() - self._gone >= STATUS_SECONDS

    def _hasGone(self) -> bool:
        if self._pidfd is None:
            return hasEnded(self.process.pid)
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(0))

    @property
    def _isOurs(self) -> bool:
        """
        Whether the present process started the child. It did not if it was forked from the starter,
        as when a program goes into the background.
        """
        return self._starter == os.getpid()

    @property
    def lastBegun(self) -> int:
        """
        The number of the last call that the process began.
        """
        if isinstance(self.process, EndedProcess):
            return self._lastBegun
        return self._recorder.lastBegun

    def _status(self) -> int | None:
        """
        Return the exit code, or C{None} if nobody can tell it.
        """
        if not self._isOurs:
            return None
        status: int | None = self.process.exitcode
        popen = self.process._popen
        if status is None:
            # Nothing is to wait for it.
            popen.returncode = UNKNOWN
        elif getattr(popen, "isUnknown", False):
            return None
        return status

    def signal(self, number: int) -> None:
        """
        Send the process a signal, unless it has ended.
        """
        if self.hasEnded:
            return
        # It may end between the question and the signal. The channel notices that by itself.
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    def kill(self) -> None:
        """
        Kill the process, and all processes that its tasks have started.
        """
        _kill(self.process)

    def residentKilobytes(self) -> int | None:
        """
        @return: the resident memory of the process in kilobytes, or C{None} if it has ended.
        """
        isOver = isinstance(self.process, EndedProcess)
        return None if isOver else residentKilobytes(self.process.pid)

    def ended(self, memory: MemoryWatch) -> WorkerDied:
        """
        Kill the processes that the tasks of the ended process have left, and release everything.

        @param memory: the measurements of its memory.
        @return: an exception that says how the process ended.
        """
        pid: int = self.process.pid
        status = self._status()
        killed = -status if status is not None and status < 0 else None
        killGroup(pid)
        self._reaper.forget(pid)
        self._lastBegun = self._recorder.lastBegun
        died = WorkerDied(
            pid,
            exitCode=None if killed else status,
            signal=killed,
            residentKilobytes=memory.residentKilobytes,
            isLikelyOutOfMemory=killed == signal.SIGKILL and memory.ranOut(),
            stacks=self._recorder.stacks if killed in CRASHES else None,
        )
        self.refusal = None if killed else self._recorder.stacks
        self._opened.close()
        self._finalizer.cancel()
        if self._isOurs:
            self.process.join()
        self.process = EndedProcess(pid, status)
        return died


@contextmanager
def interruptsHeld() -> Iterator[None]:
    """
    Block SIGINT for the length of a C{with} block. Processes that are started in the block do not
    get a Ctrl-C before they have had the time to ignore it. This process gets it after the block.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Starting the tracker lets interrupts through again, so it must not happen in the block.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _kill(process: Any) -> None:
    if process.exitcode is None:
        process.kill()
        killGroup(process.pid)


def _abandon(process: Any, reaper: Reaper) -> None:
    """
    Kill a process, because the interpreter ends or the channel is garbage.
    """
    _kill(process)
    reaper.forget(process.pid)
