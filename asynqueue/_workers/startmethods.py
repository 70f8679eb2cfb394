"""
Start processes by C{multiprocessing}, without what it does to a process before the process's own
code runs there: the main module is imported later, where its failure can be told.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from multiprocessing import (
    current_process,
    forkserver,
    popen_forkserver,
    popen_spawn_posix,
    reduction,
    resource_tracker,
    spawn,
    util,
)
from multiprocessing.connection import wait
from multiprocessing.context import (
    DefaultContext,
    ForkServerContext,
    ForkServerProcess,
    SpawnContext,
    SpawnProcess,
)
from multiprocessing.context import set_spawning_popen as setSpawningPopen
from multiprocessing.forkserver import ForkServer, read_signed
from multiprocessing.util import Finalize
from types import FunctionType, ModuleType
from typing import Any, Final

from asynqueue._runner.codecs import CODECS
from asynqueue._runner.packing import CLOUDPICKLE, STANDARD, Packer
from asynqueue._runner.processmain import whyNotImportable
from asynqueue._workers.picklability import WITHOUT_MAIN
from asynqueue._workers.procinfo import hasEnded, isStopped

ANSWER_SECONDS: Final = 0.25
"""How long to wait for a fork server, or for what it says of a process, before looking whether the
server is stopped or the process has ended."""

LONGEST_SOCKET: Final = 100
"""How many bytes the path of a socket may have, with some to spare."""

UNKNOWN: Final = 255
"""The exit code that C{multiprocessing} has of a process of which nobody can tell how it ended."""


def mainModule() -> dict[str, str]:
    """
    @return: what C{multiprocessing} would import the program's main module by in a child: the name
        or the path. Empty if there is nothing to import, as in an interactive session.
    """
    data = _preparation("")
    return {name: value for name, value in data.items() if name.startswith("init_main")}


def harmlessImports() -> list[str]:
    """
    Name modules that a fork server may load before it forks, because each child that imports the
    main module needs them: those that define the classes and functions which the main module has
    imported, and the modules it has imported, as far as they are L{isHarmless}.

    @return: the names of the modules. They are loaded here.
    """
    found: dict[str, None] = {}
    for value in list(vars(sys.modules["__main__"]).values()):
        if isinstance(value, ModuleType):
            found[value.__name__] = None
        elif isinstance(value, (type, FunctionType)):
            found[value.__module__] = None
    return [name for name in found if name in sys.modules and isHarmless(name)]


def isHarmless(module: str) -> bool:
    """
    @return: whether a module is of asynqueue, or of those packages of Twisted in which only the
        reactors and what supports them start threads, open files or make a reactor as they are
        imported.
    """
    last = module.rpartition(".")[2]
    return module.startswith(_HARMLESS) and not last.endswith(("reactor", "support"))


_HARMLESS: Final = (
    "asynqueue.",
    "twisted.application.",
    "twisted.internet.",
    "twisted.logger",
    "twisted.python.",
)

_UNGUARDED: Final = (
    "this main module makes worker processes when it is imported. Each worker process imports the "
    'main module, so what makes them has to stand under `if __name__ == "__main__":`'
)


def refuseUnguarded() -> None:
    """
    Refuse to make a worker in a child that imports the main module. No C{except Exception} there
    stops this.
    """
    if getattr(current_process(), "_inheriting", False):
        raise SystemExit(_UNGUARDED)


def packerFor(pickler: str, isForked: bool = False) -> Packer:
    """
    @param pickler: what a worker was given as its C{pickler}.
    @param isForked: whether the worker's processes have everything that this one has.
    @return: what packs the worker's calls.
    @raise ValueError: if there is no such pickler.
    @raise ExtraMissing: if it is not installed.
    """
    refuseUnguarded()
    if pickler not in CODECS:
        known = " or ".join(map(repr, CODECS))
        raise ValueError(f"pickler must be {known}, not {pickler!r}")
    if pickler == "cloudpickle":
        # This imports it.
        assert CLOUDPICKLE.pickler
        return CLOUDPICKLE
    if isForked or whyNotImportable(mainModule()) is None:
        return STANDARD
    return WITHOUT_MAIN


def _preparation(name: str) -> dict[str, Any]:
    """
    Return what C{multiprocessing} prepares a child with.
    """
    with _inSomeFolder():
        return spawn.get_preparation_data(name)


@contextmanager
def _inSomeFolder() -> Iterator[None]:
    """
    Be in a folder that exists. C{multiprocessing} asks for the working folder, which may be gone.
    """
    try:
        os.getcwd()
    except FileNotFoundError:
        # Nobody is hurt by the moment in another one, because nothing can be found or made in a
        # folder that is gone.
        here = os.open(".", os.O_RDONLY)
        try:
            os.chdir("/")
            yield
        finally:
            os.fchdir(here)
            os.close(here)
    else:
        yield


def workerContext(context: Any) -> Any:
    """
    Make the context that starts workers in the way of this module.

    @param context: a context of C{multiprocessing}. One with the C{fork} method, or of the
        program's own, is returned as it is.
    """
    method = context.get_start_method() if isinstance(context, DefaultContext) else None
    if type(context) is SpawnContext or method == "spawn":
        return WorkerSpawnContext()
    if type(context) is ForkServerContext or method == "forkserver":
        server = serverOfProgram()
        if privateOf(server)._forkserver_pid is None and not _hasRoomForSocket():
            return WorkerSpawnContext()
        return WorkerServerContext(server)
    return context


def serverOfProgram() -> ForkServer:
    """
    @return: the fork server that C{multiprocessing} keeps for the whole program.
    """
    server: ForkServer = forkserver._forkserver
    return server


def privateOf(server: ForkServer) -> Any:
    """
    C{multiprocessing} documents no way to end a fork server, and to know its process ID.
    """
    return server


def _hasRoomForSocket() -> bool:
    """
    Whether a fork server finds a folder for its socket, whose path is short enough.
    """
    try:
        return len(os.fsencode(util.get_temp_dir())) + len("/listener-01234567") < LONGEST_SOCKET
    except OSError:
        return False


def ensureRunning(server: ForkServer) -> None:
    """
    Start a fork server, or start it again if it has ended.

    @raise OSError: if that cannot be done.
    """
    with _inSomeFolder():
        _ensureRunning(server)


def _ensureRunning(server: ForkServer) -> None:
    try:
        server.ensure_running()
    except ChildProcessError:
        # It has ended, and the program has asked the system to forget its children. Or it lives,
        # but is the child of another process, of which this program is a forked copy.
        private = privateOf(server)
        os.close(private._forkserver_alive_fd)
        private._forkserver_alive_fd = private._forkserver_address = None
        private._forkserver_pid = None
        server.ensure_running()


def _prepared(
    popen: ServerPopen | _SpawnPopen, process: _ServerProcess | _SpawnedProcess, plain: type
) -> BytesIO:
    """
    Pickle what a child reads first.

    @param plain: the class of C{multiprocessing} that the process has in the child, which is to
        load no module of this room.
    """
    copy: Any = object.__new__(plain)
    copy.__dict__.update(process.__dict__)
    copy.__dict__.pop("server", None)
    preparation = {
        name: value
        for name, value in _preparation(process.name).items()
        if not name.startswith("init_main")
    }
    data = BytesIO()
    setSpawningPopen(popen)
    try:
        reduction.dump(preparation, data)
        reduction.dump(copy, data)
    finally:
        setSpawningPopen(None)
    return data


def _closeAll(*fds: int) -> None:
    for fd in fds:
        os.close(fd)


class WorkerServerContext(ForkServerContext):
    """
    Starts processes by one fork server.
    """

    def __init__(self, server: ForkServer) -> None:
        self._server = server

    def Process(self, *args: Any, **kw: Any) -> _ServerProcess:  # type: ignore[override] # a class there
        """
        Make a process, to be started.
        """
        process = _ServerProcess(*args, **kw)
        process.server = self._server
        return process


class _ServerProcess(ForkServerProcess):
    server: ForkServer

    def _Popen(self, process: _ServerProcess) -> ServerPopen:  # type: ignore[override] # static there
        return ServerPopen(process)


class ServerPopen(popen_forkserver.Popen):
    """
    A process that a fork server has forked.

    @ivar isUnknown: whether nobody can tell how it ended.
    """

    isUnknown = False
    finalizer: Finalize
    returncode: int | None
    _fds: list[int]
    _pid: int | None = None

    def _launch(self, process: _ServerProcess) -> None:
        data = _prepared(self, process, ForkServerProcess)
        self._server = privateOf(process.server)
        ensureRunning(process.server)
        self.sentinel, writer = process.server.connect_to_new_process(self._fds)
        # The child waits for the end of this one to know that its parent is gone.
        self.finalizer = Finalize(self, _closeAll, (os.dup(writer), self.sentinel))
        with open(writer, "wb") as pipe:
            pipe.write(data.getbuffer())
        self._looked = time.monotonic()

    @property
    def pid(self) -> int:  # type: ignore[override] # an attribute there
        """
        The process ID. The server tells it when it has forked the process, and this waits for that.

        @raise EOFError: if the server has ended before.
        """
        if self._pid is None:
            while not wait([self.sentinel], ANSWER_SECONDS):
                _endIfStopped(self._server._forkserver_pid)
            self._pid = read_signed(self.sentinel)
        return self._pid

    @property
    def hasAnswered(self) -> bool:
        """
        Whether the process ID can be told without waiting. Ask again and again, because this looks
        now and then whether the server is stopped.
        """
        if self._pid is not None or wait([self.sentinel], 0):
            return True
        if time.monotonic() - self._looked >= ANSWER_SECONDS:
            self._looked = time.monotonic()
            _endIfStopped(self._server._forkserver_pid)
        return False

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """
        Return the exit code, or C{None} if the process has not ended.

        @param flag: C{WNOHANG} to ask, 0 to wait.
        """
        if self._pid is None and self.returncode is None:
            if flag == os.WNOHANG and not self.hasAnswered:
                return None
            try:
                _ = self.pid
            except (OSError, EOFError):
                self.returncode, self.isUnknown = UNKNOWN, True
        while self.returncode is None:
            if wait([self.sentinel], 0 if flag == os.WNOHANG else ANSWER_SECONDS):
                try:
                    self.returncode = read_signed(self.sentinel)
                except (OSError, EOFError):
                    # The server was killed. The process may live on.
                    if not hasEnded(self.pid):
                        return None
                    self.returncode, self.isUnknown = UNKNOWN, True
            elif flag == os.WNOHANG:
                return None
            elif hasEnded(self.pid) and not wait([self.sentinel], ANSWER_SECONDS):
                # The server is stopped.
                self.returncode, self.isUnknown = UNKNOWN, True
        return self.returncode


def _endIfStopped(server: int) -> None:
    """
    Kill a fork server that somebody has stopped. Another one is made when it is needed.
    """
    if isStopped(server):
        with suppress(ProcessLookupError):
            os.kill(server, signal.SIGKILL)


class WorkerSpawnContext(SpawnContext):
    """
    Starts processes by an interpreter of their own.
    """

    def Process(self, *args: Any, **kw: Any) -> _SpawnedProcess:  # type: ignore[override] # a class there
        """
        Make a process, to be started.
        """
        return _SpawnedProcess(*args, **kw)


class _SpawnedProcess(SpawnProcess):
    def _Popen(self, process: _SpawnedProcess) -> _SpawnPopen:  # type: ignore[override] # static there
        return _SpawnPopen(process)


class _SpawnPopen(popen_spawn_posix.Popen):
    """
    A process with an interpreter of its own.
    """

    finalizer: Finalize
    _fds: list[int]

    def _launch(self, process: _SpawnedProcess) -> None:
        data = _prepared(self, process, SpawnProcess)
        tracker = resource_tracker.getfd()
        self.sentinel, ended = os.pipe()
        reader, writer = os.pipe()
        self.finalizer = Finalize(self, _closeAll, (writer, self.sentinel))
        command = spawn.get_command_line(tracker_fd=tracker, pipe_handle=reader)
        start: Callable[..., int] = util.spawnv_passfds
        try:
            fds = [*self._fds, tracker, reader, ended]
            self.pid = start(spawn.get_executable(), command, fds)
        finally:
            _closeAll(reader, ended)
        with open(writer, "wb", closefd=False) as pipe:
            pipe.write(data.getbuffer())
