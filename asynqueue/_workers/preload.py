"""
Fork servers in which a program's modules are loaded before worker processes are forked there.

The server that C{multiprocessing} keeps for the program cannot be used for this, because another
library may have started it with its own list of modules, and because in some versions of Python it
never loads the main module. So each list of modules has a server of its own. Nobody waits for it:
while it loads the modules, processes are started in the usual way and load them for themselves.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from itertools import count
from multiprocessing import get_all_start_methods, spawn
from multiprocessing.context import BaseContext
from multiprocessing.forkserver import ForkServer
from multiprocessing.util import Finalize, get_temp_dir
from pathlib import Path
from typing import Final

from twisted.logger import Logger

from asynqueue._core.states import Table, nextState
from asynqueue._runner import preloading, processmain
from asynqueue._workers.launch import FREEZING, interruptsHeld
from asynqueue._workers.reaper import programReaper
from asynqueue._workers.startmethods import WorkerServerContext, ensureRunning, privateOf

MAIN: Final = "__main__"

OFF: Final = "OFF"
LOADING: Final = "LOADING"
READY: Final = "READY"
REFUSED: Final = "REFUSED"

_SERVER: Final[Table] = {
    # Nobody needs the server, or it could not be started.
    OFF: {"start": LOADING},
    # It loads the modules. Processes are started in the usual way.
    LOADING: {"report": READY, "refuse": REFUSED, "end": OFF},
    READY: {"end": OFF},
    # It could not load them, or must not be forked. It has ended, and no other is tried.
    REFUSED: {"end": OFF},
}


class PreloadServer:
    """
    A fork server that loads some modules before it forks processes. A server that was killed is
    started again.

    @ivar state: one of the states in the table above.
    """

    log = Logger()

    def __init__(self, modules: Iterable[str]) -> None:
        """
        @param modules: the names of the modules. C{"__main__"} is the program's main module.
        """
        self.state: str = OFF
        self._modules = list(modules)
        self._holders = 0
        self._program = os.getpid()
        self._hasReactor = False
        self._server = ForkServer()
        self._pid = 0
        self._report = Path()
        self._finalizer: Finalize | None = None

    def hold(self) -> None:
        """
        Say that somebody will want processes, again and again. This starts the server.
        """
        self._holders += 1
        if self.state == OFF:
            self._tryToStart()

    def letGo(self) -> None:
        """
        Say that somebody who held the server wants no more processes.
        """
        self._holders -= 1
        if self._holders < 1 and self.state != OFF:
            self._end()

    def context(self, runsReactor: bool) -> BaseContext | None:
        """
        @param runsReactor: whether the process is to run a reactor.
        @return: the context to fork a process from the server with, or C{None} if a process has to
            be started in another way.
        """
        if self.state == LOADING:
            self._look()
        elif self.state == READY and not self._isAlive():
            self._end()
        if self.state == OFF:
            self._tryToStart()
        if self.state != READY or (runsReactor and self._hasReactor):
            return None
        return WorkerServerContext(self._server)

    def _tryToStart(self) -> None:
        try:
            self._start()
        except OSError as error:
            # No memory or file descriptors now. The next process that is wanted tries again.
            self.log.warn("preload={modules} waits: {why}", modules=self._modules, why=error)

    def _start(self) -> None:
        names = [name for name in self._modules if name != MAIN]
        data = spawn.get_preparation_data("asynqueue preload")
        wanted = {"sys_path", "sys_argv", "orig_dir", "dir"}
        if MAIN in self._modules:
            wanted |= {"init_main_from_name", "init_main_from_path"}
        report = Path(get_temp_dir()) / f"preload-{os.getpid()}-{next(_numbers)}.json"
        order = {
            "modules": names,
            "data": {key: value for key, value in data.items() if key in wanted},
            "report": str(report),
        }
        self._server = ForkServer()
        self._server.set_forkserver_preload([processmain.__name__, preloading.__name__, FREEZING])
        os.environ[preloading.VARIABLE] = json.dumps(order, default=str)
        try:
            with interruptsHeld():
                ensureRunning(self._server)
        finally:
            del os.environ[preloading.VARIABLE]
        self._pid, self._report = privateOf(self._server)._forkserver_pid, report
        self._finalizer = Finalize(self, self._kill, exitpriority=5)
        self.state = nextState(_SERVER, self.state, "start", self)
        # A main module that hangs would not notice that the program is gone.
        programReaper().watch(self._pid)

    def _look(self) -> None:
        """
        See whether the server has reported.
        """
        if not self._report.exists():
            if not self._isAlive():
                self._refuse("the server that was to load them has ended")
            return
        found = json.loads(self._report.read_text())
        if found["refusal"] is not None:
            self._refuse(found["refusal"])
            return
        self.state = nextState(_SERVER, self.state, "report", self)
        self._hasReactor = found["hasReactor"]
        if self._hasReactor:
            self.log.warn(
                "preload={modules} made a Twisted reactor, which forked processes cannot run: "
                "processes with useReactor=True load their modules themselves",
                modules=self._modules,
            )

    def _refuse(self, why: str) -> None:
        self.log.warn(
            "preload={modules} has no effect, each process loads its modules itself: {why}",
            modules=self._modules,
            why=why,
        )
        self.state = nextState(_SERVER, self.state, "refuse", self)
        self._kill()

    def _isAlive(self) -> bool:
        try:
            ended = os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return ended is None

    def _end(self) -> None:
        self._kill()
        self.state = nextState(_SERVER, self.state, "end", self)

    def _kill(self) -> None:
        """
        End the server, if it is there. Its processes have ended, or go on without it.
        """
        # In a program that has forked itself since, the server is another process's child.
        if self._finalizer is None or self._program != os.getpid():
            return
        self._finalizer.cancel()
        self._finalizer = None
        self._report.unlink(missing_ok=True)
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            privateOf(self._server)._stop()
        programReaper().forget(self._pid)


_numbers = count()


@cache
def _serverOf(program: int, modules: tuple[str, ...]) -> PreloadServer:
    return PreloadServer(modules)


def preloadServer(modules: Iterable[str]) -> PreloadServer:
    """
    @param modules: the names of modules to load. C{"__main__"} is the program's main module.
    @return: the program's server for these modules.
    @raise TypeError: if these are no names.
    @raise ValueError: if the system has no fork server.
    """
    names = tuple(modules)
    if isinstance(modules, str) or not all(type(name) is str for name in names):
        raise TypeError(f"preload must be a list of modules' names, not {modules!r}")
    if "forkserver" not in get_all_start_methods():
        raise ValueError("preload needs the start method forkserver, which this system lacks")
    return _serverOf(os.getpid(), names)
