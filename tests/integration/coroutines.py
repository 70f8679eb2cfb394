"""
Coroutines and asynchronous generators for tests to call. A process that calls none of them does not
import asyncio.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.integration.tasks import AWHILE

_loops: list[Any] = []


async def doubleSoon(number: int) -> int:
    await asyncio.sleep(0.001)
    return number * 2


async def refuseSoon() -> None:
    await asyncio.sleep(0)
    raise ValueError("no")


async def isLoopKept() -> bool:
    """
    Return whether the event loop is that of the last call.
    """
    loop = asyncio.get_running_loop()
    _loops.append(loop)
    return loop is _loops[0]


async def waitThenTouch(begun: str, path: str) -> None:
    """
    Wait for ever. Make a file when this is cancelled.
    """
    try:
        Path(begun).touch()
        await asyncio.sleep(AWHILE)
    finally:
        await asyncio.sleep(0)
        Path(path).touch()


async def resist(begun: str) -> None:
    """
    Go on after every cancellation.
    """
    while True:
        try:
            Path(begun).touch()
            await asyncio.sleep(AWHILE)
        except asyncio.CancelledError:
            continue


async def countSoon(count: int) -> AsyncIterator[int]:
    for number in range(count):
        await asyncio.sleep(0)
        yield number


async def endlessSoon(path: str) -> AsyncIterator[int]:
    number = 0
    try:
        while True:
            await asyncio.sleep(0)
            yield number
            number += 1
    finally:
        await asyncio.sleep(0)
        Path(path).touch()


async def awaitDeferred() -> None:
    from twisted.internet.defer import Deferred

    await Deferred()


def makeDeferred() -> Any:
    from twisted.internet.defer import succeed

    return succeed(1)
