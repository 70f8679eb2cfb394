"""
A program of asyncio that is ended by a signal while its queue works.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from typing import Any

from asynqueue.aio import ProcessQueue, ThreadQueue


def show(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def work(isTwice: bool) -> None:
    async with (
        ThreadQueue(1, drainTimeout=None) as own,
        ProcessQueue(1, drainTimeout=20) as queue,
    ):
        await queue.call(abs, 1)
        underway = queue.call(time.sleep, 0.5)
        waiting = queue.call(time.sleep, 3600)
        await asyncio.sleep(0.1)
        show("ready")
        if isTwice:
            # Both come in one turn of the loop.
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
        calls: list[Any] = [underway, waiting]
        for call in calls:
            try:
                show(f"returned {await call}")
            except Exception as error:
                show(type(error).__name__)
        try:
            await asyncio.sleep(3600)
        finally:
            show(await own.call(str, "cleaned up"))


def main(*words: str) -> None:
    """
    @param words: C{"twice"} for a program that gets two signals at once, C{"uvloop"} for that loop.
    """
    factory = None
    if "uvloop" in words:
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work("twice" in words))
