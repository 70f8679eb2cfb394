"""
The main function of a worker's child process.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import current_process, spawn
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize
from types import FrameType, ModuleType
from typing import Any, Final, NamedTuple, Protocol

from asynqueue._runner.callrunner import CallRunner
from asynqueue._runner.codecs import CODECS
from asynqueue._runner.coroutines import CoroutineRunner
from asynqueue._runner.forking import endCopy, leaveInCopies
from asynqueue._runner.logs import LogForwarding
from asynqueue._runner.makecall import Waiter
from asynqueue._runner.messages import LOG, Message
from asynqueue._runner.pipes import FarPipe
from asynqueue._runner.recorder import Recorder
from asynqueue.errors import textOf, typeName

NUDGE: Final = getattr(signal, "SIGURG", None)
"""The signal that has a busy child look at its messages. Its default is to be ignored, so that it
does no harm to a process that does not expect it."""

LOOK_SECONDS: Final = 0.002
"""How long a child with calls in hand goes on before it looks for more messages."""


class ChildOptions(NamedTuple):
    """
    How a child is to work.

    @ivar raw: whether iterators are brought back as they are, where a call does not say.
    @ivar useReactor: whether it runs a reactor, so that a call may return a Deferred.
    @ivar logLevels: the levels of the loggers whose records are sent to the parent, by name;
        C{None} to send none.
    @ivar pickler: what results are pickled with, a name in L{CODECS}.
    @ivar main: the name or path of the program's main module, which is to be imported, in the words
        of C{multiprocessing}; C{None} if there is nothing to do.
    """

    raw: bool = False
    useReactor: bool = False
    logLevels: Mapping[str, int] | None = None
    pickler: str = "pickle"
    main: Mapping[str, str] | None = None


def main(
    connection: Connection, life: Connection, recorder: Recorder, options: ChildOptions
) -> None:
    """
    Run the calls that come over a pipe, until told to quit or the near end is gone.

    @param connection: the pipe's far end.
    @param life: the far end of another pipe, on which nothing is ever sent.
    @param recorder: where to note the call that begins, and a crash.
    @param options: how to work.
    """
    _leaveTerminal()
    for end in (connection, life):
        # A program that replaces this process must not hold the pipe open.
        os.set_inheritable(end.fileno(), False)
    dieWith(life)
    try:
        recorder.catchCrash()
        if options.main is not None:
            worker = os.getpid()
            importMain(options.main)
            if os.getpid() != worker:
                # A copy that the main module has forked is no worker.
                endCopy()
        pipe = FarPipe(connection.fileno())
        service = _makeService(pipe, options)
    except BaseException as error:
        # The near side tells it. Nobody is to read a traceback for each try.
        recorder.explain(f"{typeName(type(error))}: {textOf(error)}")
        sys.exit(1)
    logs = LogForwarding(lambda record: pipe.post((LOG, runner.current, record)))
    runner = CallRunner(
        pipe.post,
        begin=recorder.begin,
        raw=options.raw,
        codec=CODECS[options.pickler],
        waiter=service.waiter,
    )
    runner.told = recorder.erase
    if hasattr(signal, "setitimer"):
        runner.tidy = dropAlarm
    if options.logLevels is not None:
        runner.watch = logs.catchTwisted
        logs.install(options.logLevels)

    def close() -> None:
        connection.close()
        life.close()

    leaveInCopies(pipe, logs, recorder, close)
    _heedSignals(pipe, runner, service)
    try:
        service.serve(runner)
    except (BrokenPipeError, ConnectionResetError):
        # The near end is gone. Nobody wants a result any more.
        return
    if runner.isTerminated:
        # This comes after everything else that is done at the end.
        Finalize(None, _dieOfTermination, exitpriority=-1)


def _makeService(pipe: FarPipe, options: ChildOptions) -> Service:
    if not options.useReactor:
        return PlainService(pipe)
    from asynqueue._runner.reactormain import ReactorService

    return ReactorService(pipe)


class _NoMain(ModuleType):
    """
    Stands for a main module that could not be imported. The error of a call that looks for
    something in it shows its C{repr}, which tells the reason.
    """

    def __init__(self, why: str) -> None:
        super().__init__("__main__")
        self.__why = why

    def __repr__(self) -> str:
        return f"<no main module: {self.__why}>"


def whyNotImportable(main: Mapping[str, str]) -> str | None:
    """
    @param main: the name or path of a program's main module, as for L{importMain}.
    @return: why no worker process can import it, or C{None} if one may.
    """
    path = main.get("init_main_from_path")
    if main.get("init_main_from_name", "").rpartition(".")[2] == "__main__":
        return (
            "the main module is the __main__.py of a package, folder or archive, and worker "
            "processes do not import such a file: what calls need has to be in another module"
        )
    # A script on the standard input is said to be in a file called so.
    if not main or (path is not None and os.path.basename(path) == "<stdin>"):
        return "the main module is not in a file, so no worker process can import it"
    return None


def importMain(main: Mapping[str, str]) -> None:
    """
    Import the program's main module, as C{multiprocessing} does. If that fails, calls that need
    nothing of the module can run all the same.

    @param main: its name or path, in the words of C{multiprocessing}. Empty if it has none.
    """
    where = next(iter(main.values()), None)
    why = whyNotImportable(main)
    if why is not None:
        if getattr(sys.modules["__main__"], "__file__", None) is None:
            sys.modules["__main__"] = sys.modules["__mp_main__"] = _NoMain(why)
        return
    process: Any = current_process()
    # A main module that starts processes when it is imported lacks its guard, and is told so.
    process._inheriting = True
    try:
        spawn.prepare(dict(main))
    except BaseException as error:
        why = f"worker processes cannot import the main module {where}: "
        why += f"{typeName(type(error))}: {textOf(error)}"
        if not isinstance(error, Exception) and "__main__" not in why:
            why += ". What only the program is to do has to stand under "
            why += '`if __name__ == "__main__":`'
        sys.modules["__main__"] = sys.modules["__mp_main__"] = _NoMain(why)
    finally:
        del process._inheriting


def _leaveTerminal() -> None:
    """
    Keep the terminal's Ctrl-C and input from this process and from the programs that tasks start.
    """
    # A handler that does nothing, because a program that a task starts would inherit a signal that
    # is ignored, but has the usual handling of one that is handled.
    signal.signal(signal.SIGINT, _doNothing)
    if hasattr(signal, "siginterrupt"):
        signal.siginterrupt(signal.SIGINT, False)
    if hasattr(signal, "pthread_sigmask"):
        # It was held back until it is handled.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    # C{multiprocessing} replaces only the object sys.stdin.
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    if empty:
        os.close(empty)
    # Everything that its tasks start belongs to its process group, and no Ctrl-C reaches that.
    with suppress(PermissionError):
        # It leads a group already if the process that started it has made one.
        os.setsid()


def _doNothing(number: int, frame: FrameType | None) -> None:
    pass


class Service(Protocol):
    """
    Drives a runner in a child process.
    """

    waiter: Waiter

    def serve(self, runner: CallRunner) -> None:
        """Greet, then work until the runner has ended or the near end is gone."""

    def wake(self) -> None:
        """Notice that the runner has been told to end. The handler of SIGTERM calls this."""


class PlainService:
    """
    Waits for messages, and for nothing else.

    @ivar waiter: waits for coroutines.
    """

    def __init__(self, pipe: FarPipe) -> None:
        self.waiter: Waiter = CoroutineRunner()
        self._pipe = pipe
        self._isReading = False

    def serve(self, runner: CallRunner) -> None:
        pipe = self._pipe
        runner.hello()
        while not runner.ended and not pipe.isClosed:
            if not runner.hasWork or pipe.hasInput():
                runner.receive(self._read(runner))
            runner.work(LOOK_SECONDS)
        runner.close()

    def wake(self) -> None:
        if self._isReading:
            raise _NoMoreWaiting

    def _read(self, runner: CallRunner) -> list[Message]:
        """
        Read. SIGTERM breaks that off: the calls that stay unread have not begun.
        """
        self._isReading = True
        try:
            # SIGTERM may have come just before.
            return [] if runner.ended else self._pipe.read()
        except _NoMoreWaiting:
            return []
        finally:
            self._isReading = False


class _NoMoreWaiting(BaseException):
    """
    The handler of SIGTERM raises this in a child that waits for its next message.
    """


def _heedSignals(pipe: FarPipe, runner: CallRunner, service: Service) -> None:
    isReading = mustRead = False

    def nudged(number: int, frame: FrameType | None) -> None:
        nonlocal mustRead
        if pipe.holdsBack(number):
            return
        mustRead = True
        if runner.running is None:
            # Between tasks the loop itself reads, and must not be disturbed while it does. But a
            # task may be about to begin.
            runner.wasNudged = True
        else:
            look()

    def look() -> None:
        nonlocal isReading, mustRead
        if isReading:
            # Another signal came while this reads. The one before reads again.
            return
        while mustRead:
            isReading, mustRead = True, False
            try:
                while pipe.hasInput() and not pipe.isClosed:
                    runner.receive(pipe.read())
            finally:
                isReading = False
        runner.interrupt()

    def terminated(number: int, frame: FrameType | None) -> None:
        if not pipe.holdsBack(number):
            runner.terminate()
            service.wake()

    runner.look = look
    signal.signal(signal.SIGTERM, terminated)
    if NUDGE is not None:
        signal.signal(NUDGE, nudged)
        # A library's system call in a task goes on after the signal, rather than fails.
        signal.siginterrupt(NUDGE, False)


def dropAlarm() -> None:
    """
    End an alarm that a task has set and left behind, because it would hit an innocent task. A timer
    that goes off again and again is left alone: it may be that of a profiler.
    """
    seconds, interval = signal.getitimer(signal.ITIMER_REAL)
    if seconds and not interval:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _dieOfTermination() -> None:
    """
    End as a process ends that does not handle SIGTERM, so that the parent sees that this is no
    usual end.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)


def dieWith(life: Connection) -> None:
    """
    On Linux, have the kernel kill this process as soon as the near end of a pipe is closed, even if
    this process is busy then. The near end is closed when the near process ends in whatever way.
    That one need not be this process's parent: with C{forkserver} it is not.

    @param life: the pipe's far end.
    """
    if sys.platform != "linux":
        return
    import fcntl

    fd = life.fileno()
    fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
    if life.poll():
        # It was closed before.
        os.kill(os.getpid(), signal.SIGKILL)
