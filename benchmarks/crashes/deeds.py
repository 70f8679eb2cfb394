"""
The functions that run in the worker processes, harmful and harmless.

Those import this module, so it imports nothing that it can do without.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

PAYLOAD = 64 << 20
"""Bytes that no pipe holds at once."""

CHILD_SECONDS = 15.0
"""How long the child that a dead process leaves behind lives on."""

_SENDING = {"_send", "_write"}


def marked(path: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """
    Call a function, after noting in a file that it began.
    """
    with open(path, "a") as file:
        file.write("begun\n")
    return function(*arguments)


def stand(seconds: float) -> str:
    """
    Do no harm for a while.
    """
    time.sleep(seconds)
    return "stood"


def meet(mine: str, others: str, seconds: float) -> bool:
    """
    Make a file, and wait for another's. Two calls can only meet in two processes.

    @return: whether they met.
    """
    with open(mine, "w"):
        pass
    limit = time.monotonic() + seconds
    while not os.path.exists(others):
        if time.monotonic() > limit:
            return False
        time.sleep(0.01)
    return True


def killSelf() -> None:
    """
    End by SIGKILL.
    """
    os.kill(os.getpid(), signal.SIGKILL)


def terminateSelf() -> None:
    """
    End by SIGTERM, unless the process heeds that otherwise.
    """
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(1)


def segfault() -> None:
    """
    Read where nothing is.
    """
    ctypes.string_at(0)


def leave() -> None:
    """
    End with status 0, in the middle of everything.
    """
    os._exit(0)


def exitPolitely() -> NoReturn:
    """
    Raise SystemExit.
    """
    sys.exit(1)


def interrupt() -> NoReturn:
    """
    Raise KeyboardInterrupt.
    """
    raise KeyboardInterrupt


def exhaust() -> None:
    """
    Ask for more memory than there can be.
    """
    bytearray(1 << 62)


def hang() -> NoReturn:
    """
    Go on for ever, whatever is asked.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        try:
            time.sleep(60)
        except BaseException as error:
            sys.stderr.write(f"not interested: {error!r}\n")


def closeFiles() -> None:
    """
    Close every file descriptor but the standard ones, and return as if nothing were.
    """
    os.closerange(3, 4096)


def dieWhileSending() -> bytes:
    """
    Return a large result, and die when a part of it is in the pipe.
    """
    threading.Thread(target=_killWhenSending, daemon=True).start()
    return bytes(PAYLOAD)


def _killWhenSending() -> None:
    # Every contender writes to its pipe in a function of one of these names.
    while not any(frame.f_code.co_name in _SENDING for frame in sys._current_frames().values()):
        time.sleep(0)
    killSelf()


def dieAfterwards() -> str:
    """
    Return, and die a little later, with nothing to do.
    """
    threading.Timer(0.1, killSelf).start()
    return "done"


def dieLeavingAChild() -> None:
    """
    Die, leaving a child that has inherited every pipe.
    """
    if not os.fork():
        time.sleep(CHILD_SECONDS)
        os._exit(0)
    killSelf()


def take(argument: object) -> None:
    """
    Do nothing with an argument.
    """


class Unpicklable:
    """
    Something that cannot be pickled.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()


class Rebuilt:
    """
    Something that calls a function where it is unpickled.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._call


def refuse() -> NoReturn:
    """
    Raise an error.
    """
    raise ValueError("this cannot be rebuilt")


class UnpicklableError(Exception):
    """
    An error that cannot be pickled.
    """

    def __init__(self) -> None:
        super().__init__("unpicklable")
        self.lock = threading.Lock()


class OneWayError(Exception):
    """
    An error that can be pickled, but not unpickled.
    """

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} in {where}")


def returnUnpicklable() -> Unpicklable:
    """
    Return what cannot be pickled.
    """
    return Unpicklable()


def returnRefusing() -> Rebuilt:
    """
    Return what raises where it is unpickled.
    """
    return Rebuilt(refuse)


def returnExiting() -> Rebuilt:
    """
    Return what calls C{sys.exit} where it is unpickled.
    """
    return Rebuilt(sys.exit, 1)


def raiseUnpicklable() -> NoReturn:
    """
    Raise an error that cannot be pickled.
    """
    raise UnpicklableError


def raiseOneWay() -> NoReturn:
    """
    Raise an error that cannot be unpickled.
    """
    raise OneWayError("an error", "a task")
