"""
How much of two processes' time is spent on the tasks.

The tasks sleep, and a sleep takes a little longer than asked for. So the same sleeps in two bare
loops, which report each of them, are the measure.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection, wait
from time import perf_counter
from typing import Any

from twisted.internet.defer import gatherResults

from asynqueue import ProcessQueue
from benchmarks import asynqueue09
from benchmarks.measure import Contender, Measure, OldContender, Row, Target
from benchmarks.parts import runInReactor
from benchmarks.tasks import nap

WARM_UP = 4


def ours(seconds: float, naps: int) -> float:
    """
    @param seconds: how long a nap is.
    @param naps: how many there are for both processes together, all put at once.
    @return: naps a second.
    """
    return runInReactor(lambda: _ours(seconds, naps))


async def _ours(seconds: float, naps: int) -> float:
    async with ProcessQueue(2) as queue:
        await gatherResults([queue.call(nap, seconds) for _ in range(WARM_UP)])
        started = perf_counter()
        await gatherResults([queue.call(nap, seconds) for _ in range(naps)])
        return naps / (perf_counter() - started)


def bareLoops(seconds: float, naps: int) -> float:
    """
    @return: the same for two processes with a loop each.
    """
    pipes = []
    for _ in range(2):
        near, far = multiprocessing.Pipe()
        multiprocessing.Process(target=loop, args=(far, seconds, naps // 2), daemon=True).start()
        near.recv()
        pipes.append(near)
    started = perf_counter()
    for near in pipes:
        near.send(None)
    # How many reports are still to come by each pipe.
    expected: dict[Any, int] = dict.fromkeys(pipes, naps // 2)
    ready: Any
    while expected:
        for ready in wait(expected):
            ready.recv()
            expected[ready] -= 1
            if not expected[ready]:
                del expected[ready]
    return naps / (perf_counter() - started)


def loop(far: Connection, seconds: float, naps: int) -> None:
    """
    Wait to be told to start, then nap, and report each nap.
    """
    far.send(None)
    far.recv()
    for _ in range(naps):
        nap(seconds)
        far.send(None)


def _rows(seconds: float, naps: int, least: float) -> list[Row]:
    arguments = {"seconds": seconds, "naps": naps}
    quick = {"naps": max(2, naps // 10)}
    label = f"{naps:,} tasks that sleep {seconds * 1000:.0f} ms"
    mine = Contender("ours", ours, arguments=arguments, quick=quick)
    bare = Contender("two bare loops", bareLoops, arguments=arguments, quick=quick)
    old = OldContender("AsynQueue 0.9.9", asynqueue09.naps, arguments=arguments, quick=quick)
    return [
        Row(label, "tasks/s", mine, bare, Target(least, isLeast=True)),
        Row(label, "tasks/s", mine, old),
    ]


MEASURE = Measure(
    "efficiency",
    (
        *_rows(0.001, 4_000, 0.97),
        *_rows(0.01, 400, 0.99),
        *_rows(0.1, 40, 0.998),
        *_rows(1.0, 4, 0.999),
    ),
)
