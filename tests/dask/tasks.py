"""
What tests have a Dask worker do.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterator
from contextvars import ContextVar
from copy import copy
from typing import Any

from asynqueue import report

asked: ContextVar[str] = ContextVar("asked", default="nobody")

setup: list[Any] = []


def spin(begun: str, ended: str) -> None:
    """
    Be busy until it is interrupted, and note what interrupts it.
    """
    note(begun, "begun")
    until = time.monotonic() + 20.0
    try:
        # In Python 3.12 and 3.13, an exception that comes where "while x:" jumps back would not be
        # caught here.
        while True:
            if time.monotonic() > until:
                break
    except BaseException as error:
        note(ended, type(error).__name__)
        raise


async def doze(begun: str, ended: str) -> None:
    """
    Wait in a coroutine until it is cancelled.
    """
    note(begun, "begun")
    try:
        await asyncio.sleep(20.0)
    except BaseException as error:
        note(ended, type(error).__name__)
        raise


def countSlowly(count: int) -> Iterator[int]:
    """
    Yield numbers, with a pause before each.
    """
    for number in range(count):
        time.sleep(0.02)
        yield number


def spinItems(begun: str, ended: str) -> Iterator[int]:
    """
    Yield one item, and be busy before the next.
    """
    # An item leaves at once if it was slow to come.
    time.sleep(0.02)
    yield 1
    spin(begun, ended)
    yield 2


def sleepLong(begun: str) -> None:
    """
    Sleep where nothing can interrupt it.
    """
    note(begun, "begun")
    time.sleep(20.0)


def note(path: str, text: str) -> None:
    """
    Add a line to a file.
    """
    with open(path, "a") as file:
        file.write(text + "\n")


def dieOnce(path: str) -> int:
    """
    Kill this process, unless it was run before. Return how often it was run.
    """
    note(path, "run")
    with open(path) as file:
        runs = len(file.readlines())
    if runs == 1:
        os._exit(9)
    return runs


def stepOrDie(path: str, number: int, fatal: int) -> int:
    """
    Note a number. Kill this process at one of them.
    """
    note(path, str(number))
    if number == fatal:
        os._exit(9)
    return number


def whoAsked() -> str:
    """
    Return the value of a context variable.
    """
    return asked.get()


def reportSteps(number: int) -> int:
    """
    Report progress.
    """
    for step in range(number):
        report(step + 1, number)
        time.sleep(0.03)
    return number


def logSomething(text: str) -> None:
    """
    Log a warning.
    """
    logging.getLogger("tests.dask.tasks").warning(text)


def prepare(value: Any) -> int:
    """
    Remember a value in this process.
    """
    setup.append(value)
    return os.getpid()


def prepared() -> list[Any]:
    """
    Return the remembered values.
    """
    return setup


def tenth(number: int) -> int:
    """
    Take a hundredth of a second.
    """
    time.sleep(0.01)
    return number


def tenthNoted(path: str, number: int) -> int:
    """
    Note a number, and take a hundredth of a second.
    """
    note(path, str(number))
    return tenth(number)


async def addPluginAgain(dask_worker: Any, name: str) -> None:
    """
    Have this Dask worker replace a plugin by a copy that has done nothing yet.
    """
    plugin = copy(dask_worker.plugins[name])
    await dask_worker.plugin_add(plugin, name)


async def offer(dask_worker: Any, **resources: float) -> int:
    """
    Have this Dask worker offer some resources. Return its process.
    """
    await dask_worker.set_resources(**resources)
    return os.getpid()
