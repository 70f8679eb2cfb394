"""
Functions that report, log and keep data in processes, for tests to call. This module imports no
Twisted, but some functions do.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from asynqueue import ProcessBase, report
from tests.integration.tasks import sleepOr

letter: ContextVar[Any] = ContextVar("letter")


# Progress and logs
# -------------------------------------------------------------------------------------------------


def countUp(count: int) -> int:
    for number in range(count + 1):
        report(number, count)
    return count


def countAndYield(count: int) -> Iterator[int]:
    for number in range(count):
        report(number + 1, count)
        yield number


def reportAndWait(path: str) -> None:
    report(1, 2)
    while not os.path.exists(path):
        sleepOr(0.002)


def log(name: str, level: int, text: str, *args: Any, **extra: Any) -> None:
    logging.getLogger(name).log(level, text, *args, extra=extra)


def logAndYield(name: str, count: int) -> Iterator[int]:
    for number in range(count):
        logging.getLogger(name).warning("item %d", number)
        yield number


def logException(name: str) -> None:
    try:
        raise ValueError("inside")
    except ValueError:
        logging.getLogger(name).exception("it broke")


def logInThread(name: str) -> None:
    thread = threading.Thread(target=log, args=(name, logging.WARNING, "from a thread"))
    thread.start()
    thread.join()


def logWithTwisted(name: str, text: str) -> None:
    from twisted.logger import Logger

    Logger(name).warn(text)


def failWithTwisted(name: str) -> None:
    from twisted.logger import Logger

    try:
        raise ValueError("inside")
    except ValueError:
        Logger(name).failure("it broke")


class Garbage:
    """
    An object that logs when it is garbage, as Twisted's Deferreds do.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.circle = self

    def __del__(self) -> None:
        logging.getLogger(self.name).warning("collected")


def talk(name: str, seconds: float, size: int, isLittering: bool) -> int:
    """
    Log and report, in two threads, and maybe leave garbage that logs too. A C{TaskInterrupted} ends
    it, but for one that is raised in a destructor, where Python ignores it.

    @return: how often the main thread has.
    """
    go = True

    def chatter() -> None:
        while go:
            logging.getLogger(name).warning("chatter %s", "x" * size)
            time.sleep(0.0005)

    thread = threading.Thread(target=chatter)
    gc.set_threshold(50)
    count = 0
    until = time.monotonic() + seconds
    try:
        # This may be interrupted as soon as the thread has logged. Then the thread has to end, too.
        thread.start()
        while time.monotonic() < until:
            count += 1
            if isLittering:
                Garbage(name)
            report(count)
            logging.getLogger(name).warning("main %s", "y" * size)
        return count
    finally:
        go = False
        thread.join()


# Context variables
# -------------------------------------------------------------------------------------------------


def readLetter() -> Any:
    return letter.get("none")


def setLetter(value: Any) -> None:
    letter.set(value)


# What stays
# -------------------------------------------------------------------------------------------------


class Counter(ProcessBase):
    def __init__(self, name: str = "") -> None:
        self.name = name

    def increase(self) -> tuple[int, int, str]:
        self.data["count"] = self.data.get("count", 0) + 1
        return self.pid, self.count, self.name

    def ask(self) -> Any:
        return self.nothing


class OtherCounter(Counter):
    pass
