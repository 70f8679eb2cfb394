"""
Start a child process, and clean up when it has ended.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.context import BaseContext
from multiprocessing.util import Finalize
from typing import Any, Final
from weakref import ref

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from asynqueue._reactor import perReactor, turnsOf
from asynqueue._runner import processmain as child
from asynqueue._runner import recorder
from asynqueue._runner.reaper_main import killGroup
from asynqueue._runner.recorder import Recorder
from asynqueue._workers.procinfo import MemoryWatch, cores, hasEnded, residentKilobytes
from asynqueue._workers.reaper import Reaper, programReaper
from asynqueue._workers.startmethods import (
    UNKNOWN,
    ServerPopen,
    WorkerServerContext,
    WorkerSpawnContext,
    harmlessImports,
    mainModule,
    privateOf,
    refuseUnguarded,
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


FREEZING: Final = "asynqueue._runner.freezing"
"""The module that a fork server loads last."""


def _preloadChild() -> None:
    """
    Have the program's fork server load what worker processes need, unless another library has its
    own list for the server.
    """
    server = serverOfProgram()
    if privateOf(server)._preload_modules in ([], ["__main__"]):
        server.set_forkserver_preload([child.__name__, *harmlessImports(), FREEZING])


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
    @ivar endFd: a file descriptor that becomes readable when the process L{hasAnswered}; after
        L{answer}, one that becomes readable when the process ends. Where the system has no
        C{pidfd_open}, this may happen late.
    """

    def __init__(
        self, context: Any, options: child.ChildOptions, recordPath: str | None = None
    ) -> None:
        """
        Ask for the process. It is there when it L{hasAnswered}.

        @param context: the C{multiprocessing} context to start it with.
        @param options: how the process works.
        @param recordPath: where the file of its flight recorder is made. Default: nowhere.
        @raise OSError: if it cannot be started.
        @raise EOFError: if the C{forkserver} that should start it is gone.
        """
        refuseUnguarded()
        context = workerContext(context)
        if isinstance(context, (WorkerServerContext, WorkerSpawnContext)):
            _preloadChild()
            if options.pickler != "cloudpickle":
                # That one sends what is in the main module by value.
                options = options._replace(main=mainModule())
        self.refusal: str | None = None
        self._recorder = Recorder(recordPath)
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
                    with interruptsHeld():
                        self.process.start()
            self.endFd: int = self.process.sentinel
            self._opened = opened.pop_all()
        self._recorder.sent()
        self._finalizer = Finalize(
            self, _abandon, args=(self.process, self._reaper), exitpriority=10
        )

    @property
    def hasAnswered(self) -> bool:
        """
        Whether L{answer} need not wait.
        """
        popen = self.process._popen
        return not isinstance(popen, ServerPopen) or popen.hasAnswered

    def answer(self) -> None:
        """
        Take in which process it is, once, before anything is sent to it. If the fork server has not
        told yet, this waits.

        @raise OSError: if the process could not be started after all. Then it is L{ended}.
        @raise EOFError: if the C{forkserver} that should start it is gone.
        """
        try:
            self._reaper.watch(self.process.pid)
            # A fork server writes to the sentinel when the process has ended. Any other sentinel is
            # the end of a pipe, and a process that a task has forked may hold that open.
            if not isinstance(self.process._popen, ServerPopen):
                self._watchProcess()
        except BaseException:
            # No task can have started another process yet.
            self._finalizer()
            self._opened.close()
            raise

    def _watchProcess(self) -> None:
        if hasattr(os, "pidfd_open"):
            with suppress(OSError):
                self._pidfd = os.pidfd_open(self.process.pid)
                self._opened.callback(os.close, self._pidfd)
                self.endFd = self._pidfd

    def watchAnew(self) -> bool:
        """
        Find another file descriptor that tells the process's end, because the present one says that
        it has ended, but it has not: the fork server has.

        @return: whether there is a new L{endFd}.
        """
        if self._pidfd is None:
            self._watchProcess()
            return self._pidfd is not None
        return False

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

    def dump(self) -> None:
        """
        Have the stacks of its threads written down, wherever they are.
        """
        if recorder.DUMP is not None and not self.hasEnded and self._recorder.mayDump():
            self.signal(recorder.DUMP)

    @property
    def dumped(self) -> str | None:
        """
        What was written since L{dump}.
        """
        return None if isinstance(self.process, EndedProcess) else self._recorder.dumped

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


SLOT_SECONDS: Final = 0.25
"""For how long a process that starts keeps others from starting, if it is not ready before."""


class Launcher:
    """
    Has the processes of one reactor's workers started: a few at a time, because all of them at once
    would take the processors from this program, and in short turns of the reactor.
    """

    def __init__(self, reactor: IReactorTime, limit: int | None = None) -> None:
        """
        @param limit: how many processes may be starting at a time. Default: as many as there are
            processor cores, but two at least.
        """
        self._reactor = ref(reactor)
        self._turns = turnsOf(reactor)
        self._limit = max(2, cores()) if limit is None else limit
        self._waiting: dict[Callable[[], None], None] = {}
        self._starting: dict[Callable[[], None], IDelayedCall] = {}

    def ask(self, launch: Callable[[], None]) -> None:
        """
        Have a process started, now or later.

        @param launch: asks for the process. It must not raise.
        """
        self._waiting[launch] = None
        self._goOn()

    def isWaiting(self, launch: Callable[[], None]) -> bool:
        """
        Whether it has not been called yet, and is to be called.
        """
        return launch in self._waiting

    def hurry(self, launch: Callable[[], None]) -> None:
        """
        Start a process now, if it waits for that.
        """
        if launch in self._waiting:
            self._launch(launch)

    def done(self, launch: Callable[[], None]) -> None:
        """
        Take note that a process is ready, or has ended, or is not wanted any more.
        """
        self._waiting.pop(launch, None)
        timer = self._starting.pop(launch, None)
        if timer is not None:
            if timer.active():
                timer.cancel()
            self._goOn()

    def _goOn(self) -> None:
        for _ in range(min(len(self._waiting), self._limit - len(self._starting))):
            self._turns.do(self._launchNext)

    def _launchNext(self) -> None:
        if self._waiting and len(self._starting) < self._limit:
            self._launch(next(iter(self._waiting)))

    def _launch(self, launch: Callable[[], None]) -> None:
        reactor = self._reactor()
        if reactor is None:
            return
        del self._waiting[launch]
        self._starting[launch] = reactor.callLater(SLOT_SECONDS, self.done, launch)
        launch()


launcherOf = perReactor(Launcher)
"""Returns the one L{Launcher} of a reactor."""


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
    # A fork server that has gone will never tell which process it is. That ends by itself, or there
    # is none.
    with suppress(EOFError, OSError):
        _kill(process)
        reaper.forget(process.pid)
