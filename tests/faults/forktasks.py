"""
Tasks that fork processes, start programs, or stop or replace their own process.
"""

from __future__ import annotations

import fcntl
import logging
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from asynqueue import report
from tests.integration.tasks import AWHILE, note

log = logging.getLogger("tests.faults.forktasks")


def _die() -> None:
    os._exit(3)


def _exitInAThread() -> None:
    threading.Thread(target=_die).start()
    time.sleep(AWHILE)


def _raise() -> None:
    # Nobody is to read the traceback.
    sys.stderr = None
    raise RuntimeError("in the copy")


def _logAndReport() -> None:
    for _ in range(100):
        log.warning("the copy logs")
        report(1, 2)


def _forkAgain() -> None:
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)


def _sleep() -> None:
    time.sleep(AWHILE)


ENDS: dict[str, tuple[Callable[[], Any], int]] = {
    "return": (int, 0),
    "raise": (_raise, 1),
    "sys.exit(5)": (lambda: sys.exit(5), 5),
    "os._exit in a thread": (_exitInAThread, 3),
    "logs and reports": (_logAndReport, 0),
    "forks again": (_forkAgain, 0),
}
"""What a forked copy does, and its exit code then."""


def _forked(how: str) -> int | None:
    """
    @return: the copy's ID; C{None} in the copy, when that has done what it does.
    """
    pid = os.fork()
    if pid:
        return pid
    ENDS[how][0]()
    return None


def forkThat(how: str) -> Any:
    """
    Fork a copy that ends in some way, and return its exit code.
    """
    pid = _forked(how)
    if pid is None:
        return "the copy's result"
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def yieldForkThat(how: str) -> Iterator[Any]:
    """
    The same, in a generator.
    """
    yield forkThat(how)


async def awaitForkThat(how: str) -> Any:
    """
    The same, in a coroutine.
    """
    return forkThat(how)


class ForksWhenRebuilt:
    """
    An argument that forks when it is rebuilt.
    """

    def __reduce__(self) -> Any:
        return forkThat, ("return",)


class ForksWhenPickled:
    """
    A result that forks when it is pickled.
    """

    def __reduce__(self) -> Any:
        return int, (forkThat("return"),)


def makeForksWhenPickled() -> ForksWhenPickled:
    return ForksWhenPickled()


def noteOnce(path: str, number: int) -> int:
    note(path, str(number))
    return number


def terminateFork() -> int | None:
    """
    Start a process by forking, terminate it, and return its exit code.
    """
    process = multiprocessing.get_context("fork").Process(target=_sleep)
    process.start()
    process.terminate()
    process.join()
    return process.exitcode


def describeFork() -> list[str]:
    """
    Return what is left of the worker in a copy.
    """
    before = {os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        left = [
            f"{signal.Signals(number).name}: {signal.getsignal(number)}"
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGURG, signal.SIGCHLD)
            if signal.getsignal(number) not in (signal.SIG_DFL, signal.default_int_handler)
        ]
        left += [str(handler) for handler in logging.getLogger().handlers]
        now = {os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}
        left += [path for path in now & before if "socket:" in path or "asynqueue" in path]
        os.write(writer, "\n".join(left).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with open(reader) as told:
        return told.read().splitlines()


def interruptProgram() -> int:
    """
    Start a program, send it SIGINT, and return its exit code.
    """
    code = "import time; print(flush=True); time.sleep(60)"
    # The program's own interpreter turns SIGINT into an exception only if it is not ignored.
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        return process.wait()


def ignoredByPrograms() -> list[int]:
    """
    Return the numbers of the signals that a program finds ignored.
    """
    status = subprocess.run(
        ["cat", "/proc/self/status"], capture_output=True, text=True, check=True
    ).stdout
    [mask] = [line.split()[1] for line in status.splitlines() if line.startswith("SigIgn")]
    return [number for number in range(1, 65) if int(mask, 16) & (1 << (number - 1))]


def inheritedByPrograms() -> list[str]:
    """
    Return what a program inherits besides the standard streams. Left out are the writing ends of
    pipes, by which C{multiprocessing} sees that a process has ended.
    """
    inherited = []
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            mode = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
            isWritingEnd = stat.S_ISFIFO(os.fstat(fd).st_mode) and mode == os.O_WRONLY
            if fd > 2 and os.get_inheritable(fd) and not isWritingEnd:
                inherited.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            # It was open for the listing itself.
            continue
    return inherited


def readByProgram() -> bytes:
    """
    Return what a program reads from its standard input.
    """
    return subprocess.run(["cat"], stdout=subprocess.PIPE, check=True, timeout=10).stdout


# Processes that are stopped, replaced or silent
# -------------------------------------------------------------------------------------------------


def stopSelf() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def stopGroup() -> None:
    os.killpg(os.getpgrp(), signal.SIGSTOP)


def stopInAThread() -> None:
    threading.Thread(target=stopSelf).start()
    time.sleep(AWHILE)


def becomeAnotherProgram() -> None:
    os.execv(sys.executable, [sys.executable, "-c", f"import time; time.sleep({AWHILE})"])


def ready() -> None:
    """
    Do nothing, so that this module has been imported.
    """


def claim(size: int, kind: int) -> None:
    """
    Write the beginning of a frame that never comes into the worker's pipe.

    @param size: how many bytes it claims to have.
    @param kind: what it claims them to be.
    """
    header = (1).to_bytes(4, "little") + size.to_bytes(7, "little") + bytes([kind])
    for fd in range(3, 1024):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.write(fd, header + bytes(1000))
        except OSError:
            continue
    time.sleep(AWHILE)


def dieSoon(seconds: float) -> None:
    """
    Sleep, with the fork server gone.
    """
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(seconds)


# Errors that compose their texts, and arrays that cannot be read
# -------------------------------------------------------------------------------------------------


class OrderRefused(Exception):
    """
    Composes its text from its argument.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"order {code} was refused")
        self.code = code


class Tagged(OrderRefused):
    """
    Composes it twice.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.args = (f"[{self.args[0]}]",)


def refuse(code: int, kind: type[OrderRefused] = OrderRefused) -> None:
    raise kind(code)


def refuseMany(*codes: int) -> None:
    raise ExceptionGroup("many", [OrderRefused(code) for code in codes])


def cutArray(path: str) -> Any:
    """
    Make an array on a mapped file that is cut afterwards.
    """
    import mmap

    import numpy

    size = 1 << 23
    with open(path, "w+b") as file:
        file.truncate(size)
        array = numpy.frombuffer(mmap.mmap(file.fileno(), size), numpy.uint8)
        file.truncate(size // 2)
    return array


def throughPipe() -> Any:
    """
    Return one end of a pipe of this process.
    """
    return multiprocessing.Pipe()[0]
