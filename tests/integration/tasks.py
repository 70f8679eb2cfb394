"""
Functions for tests to call in real processes. Child processes import this module, so it is light.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asynqueue import report
from asynqueue._runner.streams import BATCH_SECONDS

AWHILE = 60.0
"""Seconds; longer than any test waits."""

_remembered: list[Any] = []
_yielded = [0]


@dataclass(frozen=True)
class Point:
    """
    A value of a type of one's own.
    """

    x: float
    y: float


@dataclass
class Adder:
    """
    A callable that can be pickled, but not hashed.
    """

    first: int

    def __call__(self, second: int) -> int:
        return self.first + second

    def add(self, second: int) -> int:
        return self.first + second


class OwnError(Exception):
    """
    An error with more attributes than a text.
    """

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text, code)
        self.code = code


def raiseOwn(text: str, code: int) -> None:
    _raiseDeeper(text, code)


def _raiseDeeper(text: str, code: int) -> None:
    raise OwnError(text, code)


def raiseChained() -> None:
    try:
        raise KeyError("the first")
    except KeyError as error:
        raise ValueError("the second") from error


def isHere() -> tuple[int, int]:
    """
    @return: the IDs of this process and of its parent.
    """
    return os.getpid(), os.getppid()


def startMethod() -> str | None:
    """
    @return: how this process was started.
    """
    return multiprocessing.get_start_method(allow_none=True)


def nothing(*_: Any) -> None:
    pass


# Data that a process keeps
# -------------------------------------------------------------------------------------------------


def remember(value: Any) -> int:
    """
    Remember a value in this process.
    """
    _remembered.append(value)
    return os.getpid()


def remembered() -> tuple[int, list[Any]]:
    """
    @return: this process's ID, and what was noted in it.
    """
    return os.getpid(), list(_remembered)


# Files that tell the test something
# -------------------------------------------------------------------------------------------------


def touchAnd(path: str, function: Callable[..., Any], *args: Any) -> Any:
    """
    Make a file to show that this runs, then call a function.
    """
    Path(path).touch()
    return function(*args)


def note(path: str, text: str) -> None:
    """
    Append a line to a file.
    """
    with open(path, "a") as file:
        file.write(f"{text}\n")


def noteAndSleep(path: str, text: str, seconds: float) -> None:
    note(path, text)
    time.sleep(seconds)


# Ways not to end
# -------------------------------------------------------------------------------------------------


def sleepAwhile() -> None:
    time.sleep(AWHILE)


def setAlarm() -> None:
    """
    Leave an alarm behind, which would kill the process after a minute, and fail.
    """
    signal.setitimer(signal.ITIMER_REAL, 60.0)
    raise ValueError("too early")


def alarmed() -> Iterator[float]:
    """
    Set an alarm for oneself, and yield, again and again, how many seconds are left.
    """
    signal.setitimer(signal.ITIMER_REAL, 60.0)
    for _ in range(3000):
        yield signal.getitimer(signal.ITIMER_REAL)[0]
    signal.setitimer(signal.ITIMER_REAL, 0)


def sleepOr(seconds: float) -> float:
    """
    Take so many seconds, without a system call that could be interrupted.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    return seconds


def waitFor(path: str) -> None:
    """
    Return when a file exists.
    """
    while not os.path.exists(path):
        sleepOr(0.002)


def hangInC() -> None:
    """
    Block without ever handling a signal.
    """
    sum(itertools.repeat(0))


def hangStubbornly(path: str) -> None:
    """
    Ignore SIGTERM, and every exception that is raised here. Make a file when this has begun.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        try:
            Path(path).touch()
            time.sleep(AWHILE)
        except BaseException:  # noqa: S112
            continue


def swallowOnce() -> str:
    """
    Catch an interruption, and return a result.
    """
    try:
        time.sleep(AWHILE)
    except BaseException as error:
        return type(error).__name__
    return "slept"


# Ways to end
# -------------------------------------------------------------------------------------------------


def killSelf(number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)
    time.sleep(AWHILE)


def killSelfAndServer() -> None:
    """
    Kill the process that has forked this one, and with it this one.
    """
    os.kill(os.getppid(), signal.SIGKILL)
    killSelf()


def segfault() -> None:
    import ctypes

    ctypes.string_at(0)


def endProcess(code: int) -> None:
    os._exit(code)


def forkAndDie(path: str) -> None:
    """
    Leave a child that holds the descriptors of this process open as long as the file exists.
    The child writes its process ID to the file.
    """
    child = os.fork()
    if child == 0:
        while os.path.exists(path):
            time.sleep(0.01)
        os._exit(0)
    Path(path).write_text(str(child))
    os._exit(3)


def countAndKillSelf(path: str) -> None:
    """
    Kill this process as the system does for lack of memory, and count that in a file.
    """
    Path(path).write_text("oom_kill 1\n")
    killSelf()


_left: list[subprocess.Popen[str]] = []


def leaveChildren() -> list[int]:
    """
    Leave a program that heeds no request to end, a program of that one's, and a fork of this
    process.

    @return: their IDs.
    """
    script = f"trap '' TERM HUP INT; sleep {AWHILE:.0f} & echo $!; wait"
    shell = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True)
    assert shell.stdout is not None
    _left.append(shell)
    child = os.fork()
    if child == 0:
        while True:
            time.sleep(AWHILE)
    return [shell.pid, int(shell.stdout.readline()), child]


def raiseKind(kind: type[BaseException], *args: Any) -> None:
    raise kind(*args)


def allocate(size: int) -> int:
    return len(bytearray(size))


class KilledOnDeletion:
    """
    A result that kills its process once it has been sent.
    """

    def __reduce__(self) -> Any:
        return str, ("it was sent",)

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def makeKilledOnDeletion() -> KilledOnDeletion:
    return KilledOnDeletion()


class KillsOnRebuild:
    """
    An argument that kills the process in which it is rebuilt.
    """

    def __reduce__(self) -> Any:
        return killSelf, ()


def killedWhileSending(size: int) -> bytes:
    """
    Have a thread kill this process as soon as it is writing its result.
    """
    main = threading.main_thread().ident
    assert main is not None

    def watch() -> None:
        while sys._current_frames()[main].f_code.co_name != "_write":
            time.sleep(0)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    return bytes(size)


# Calls that resist their end
# -------------------------------------------------------------------------------------------------


class Resisting(Exception):
    """
    An error that has no text.
    """

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Unpicklable:
    """
    Raises an error of some type when it is pickled.
    """

    def __init__(self, kind: type[BaseException] = TypeError) -> None:
        self._kind = kind

    def __reduce__(self) -> Any:
        raise self._kind("not to be pickled")


class Nameless(Unpicklable):
    """
    Raises an error when its repr() is asked for, too.
    """

    def __repr__(self) -> str:
        raise RuntimeError("not to be shown")


class UnpicklableError(Exception):
    """
    An error that raises a second error when it is pickled, whose text cannot be had either.
    """

    def __reduce__(self) -> Any:
        raise Resisting


def makeUnpicklable(kind: type[BaseException]) -> Unpicklable:
    return Unpicklable(kind)


class RebuiltNowhere:
    """
    Raises an exception of some type when it is unpickled.
    """

    def __init__(self, kind: type[BaseException]) -> None:
        self._kind = kind

    def __reduce__(self) -> Any:
        return raiseKind, (self._kind, "not here")


def makeRebuiltNowhere(kind: type[BaseException]) -> RebuiltNowhere:
    return RebuiltNowhere(kind)


def yieldRebuiltNowhere(count: int) -> Iterator[Any]:
    yield from range(count)
    yield RebuiltNowhere(ValueError)


# Streams
# -------------------------------------------------------------------------------------------------


def squares(count: int) -> Iterator[int]:
    for number in range(count):
        yield number * number


def countedBlocks(size: int) -> Iterator[bytes]:
    """
    Blocks of bytes without end. L{yielded} returns how many there were.
    """
    _yielded[0] = 0
    while True:
        _yielded[0] += 1
        yield bytes(size)


def yielded() -> int:
    return _yielded[0]


def numbersThenDie(count: int) -> Iterator[int]:
    yield from range(count)
    os.kill(os.getpid(), signal.SIGKILL)


def slowNumbers(count: int) -> Iterator[int]:
    """
    Numbers that are slow enough to be sent each by itself.
    """
    for number in range(count):
        sleepOr(2 * BATCH_SECONDS)
        yield number


def numbersThenHang(count: int, path: str) -> Iterator[int]:
    yield from slowNumbers(count)
    hangStubbornly(path)


def numbersThenSleep(count: int) -> Iterator[int]:
    yield from slowNumbers(count)
    sleepAwhile()


def pids(count: int) -> Iterator[int]:
    for _ in range(count):
        yield os.getpid()


# Arrays
# -------------------------------------------------------------------------------------------------


def arrays(count: int, size: int) -> Iterator[Any]:
    """
    Arrays of bytes, which are all the same piece of memory.
    """
    import numpy

    array = numpy.empty(size, dtype=numpy.uint8)
    for number in range(count):
        array[:] = number
        yield array


def doubleInPlace(array: Any) -> Any:
    """
    Write to the array that the call got.
    """
    array *= 2
    return array


def describeArray(array: Any) -> tuple[Any, ...]:
    return array.shape, str(array.dtype), float(array.sum()), array.flags.writeable


# Within executors
# -------------------------------------------------------------------------------------------------


async def doubled(number: int) -> int:
    return 2 * number


def reporting() -> str:
    report(1, 2)
    return "done"
