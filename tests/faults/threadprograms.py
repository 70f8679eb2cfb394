"""
Small programs whose threads hang, or do what they should not.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.task import react
from twisted.logger import globalLogBeginner, textFileLogObserver

from asynqueue import Delay, ThreadLooper, ThreadQueue, deferToThread
from asynqueue.errors import IterationStopped, ReactorTouched, WorkerDetached

AWHILE = 60.0

begun = threading.Event()


def tell(what: object) -> None:
    """
    Say something to whoever started this program.
    """
    print(what, flush=True)  # noqa: T201


def hang() -> None:
    begun.set()
    time.sleep(AWHILE)


def hangStubbornly() -> None:
    while True:
        try:
            hang()
        except BaseException:  # noqa: S112
            continue


def hangInAnIteration() -> Iterator[int]:
    yield 1
    hang()


async def untilBegun() -> None:
    await Delay().untilEvent(begun.is_set)


async def shutdown(reactor: Any) -> None:
    """
    Shut a queue down that has a thread that hangs, with a time for it.
    """
    globalLogBeginner.beginLoggingTo(
        [textFileLogObserver(sys.stdout)], redirectStandardIO=False, discardBuffer=True
    )
    queue = ThreadQueue(2, timeout=0.1)
    hung = queue.call(hangStubbornly)
    await untilBegun()
    assert await queue.call(len, "other work goes on") == 18
    await queue.shutdown()
    try:
        await hung
    except WorkerDetached as error:
        tell(error)
    tell("shut down")


async def iteration(reactor: Any) -> None:
    """
    The same, with an iterator that hangs.
    """
    queue = ThreadQueue(1, timeout=0.1)
    hung = queue.call(hangInAnIteration)
    await untilBegun()
    await queue.shutdown()
    try:
        await hung
    except IterationStopped:
        tell("shut down")


async def stop(reactor: Any) -> None:
    """
    Stop the reactor while threads of all kinds hang.
    """
    for start in (ThreadQueue().call, ThreadLooper().call, deferToThread):
        begun.clear()
        start(hang).addErrback(lambda failure: tell(type(failure.value).__name__))
        await untilBegun()
    tell("stops")


async def never(reactor: Any) -> None:
    """
    End with an idle thread that nobody has ended.
    """
    await deferToThread(len, "text")
    tell("stops")


async def touch(reactor: Any) -> None:
    """
    Have a task touch the reactor, in a queue that was not asked to be in debug mode.
    """
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
    async with ThreadQueue() as queue:
        try:
            delayed = await queue.call(reactor.callLater, AWHILE, tell, "late")
        except ReactorTouched as error:
            tell(error.method)
        else:
            delayed.cancel()
            tell("not detected")


async def end(reactor: Any) -> None:
    """
    Have a task stop the reactor, in debug mode.
    """
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
    async with ThreadQueue(debug=True) as queue:
        try:
            await queue.call(reactor.stop)
        except ReactorTouched as error:
            tell(error.method)
        tell(await queue.call(str.lower, "The queue goes on"))


PROGRAMS: dict[str, Callable[[Any], Any]] = {
    "shutdown": shutdown,
    "iteration": iteration,
    "stop": stop,
    "never": never,
    "touch": touch,
    "end": end,
}


def main(name: str) -> None:
    """
    Run one of them.
    """
    react(PROGRAMS[name])
