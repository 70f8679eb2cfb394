"""
Functions for tests to call in processes that run a reactor.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, inlineCallbacks, succeed
from twisted.internet.task import deferLater

from asynqueue import report
from asynqueue._reactor import defaultReactor
from tests.integration.tasks import AWHILE

# The reactor of a process that has one is there before any call.
_reactor: Any = defaultReactor()


def later(seconds: float, value: Any = None) -> Deferred[Any]:
    return deferLater(_reactor, seconds, lambda: value)


def fired(value: Any) -> Deferred[Any]:
    return succeed(value)


def refuseLater(seconds: float) -> Deferred[Any]:
    def refuse() -> None:
        raise ValueError("not this")

    return deferLater(_reactor, seconds, refuse)


def failed() -> Deferred[Any]:
    return fail(ValueError("bare"))


def cleaned() -> Deferred[Any]:
    """
    A Deferred whose failure Twisted has made a text of.
    """
    from twisted.python.failure import Failure

    try:
        raise ValueError("long ago")
    except ValueError:
        failure = Failure()
    failure.cleanFailure()
    return fail(failure)


async def addLater(first: int, second: int) -> int:
    one = await later(0.001, first)
    report(1, 2)
    other = await later(0.001, second)
    report(2, 2)
    return int(one + other)


@inlineCallbacks
def addInSteps(first: int, second: int) -> Generator[Deferred[Any], Any, int]:
    one = yield later(0.001, first)
    other = yield later(0.001, second)
    return int(one + other)


async def refuseInSteps() -> None:
    await later(0.001)
    raise ValueError("in steps")


def waitUntilCancelled(begun: str, path: str) -> Deferred[Any]:
    """
    A Deferred that never fires. Its canceller makes a file.
    """
    d: Deferred[Any] = Deferred(lambda d: Path(path).touch())
    _reactor.callLater(0, Path(begun).touch)
    return d


async def resist(begun: str) -> None:
    while True:
        try:
            Path(begun).touch()
            await later(AWHILE)
        except CancelledError:
            continue


def block(begun: str, path: str) -> None:
    """
    Block the reactor. Make a file when this is interrupted.
    """
    try:
        Path(begun).touch()
        time.sleep(AWHILE)
    finally:
        Path(path).touch()


async def some(count: int) -> Iterator[int]:
    await later(0.001)
    return iter(range(count))


def where() -> tuple[int, str]:
    return os.getpid(), type(_reactor).__name__


def runProgram() -> Any:
    """
    Have the reactor run a program, which takes its SIGCHLD.
    """
    from twisted.internet.utils import getProcessOutput

    text = "import os, sys, time; os.close(1); time.sleep(0.05); sys.exit(0)"
    return getProcessOutput(sys.executable, ["-c", text], reactor=_reactor)


def stopReactor() -> Deferred[Any]:
    _reactor.callLater(0, _reactor.stop)
    return Deferred()
