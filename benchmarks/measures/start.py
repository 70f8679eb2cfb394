"""
How long a worker process takes from its start to its first answer.
"""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median
from time import perf_counter

from asynqueue import ProcessWorker, TaskQueue
from benchmarks.measure import Contender, Measure, Row, Target
from benchmarks.reactor import runInReactor
from benchmarks.tasks import echo

WARM_UP = 1


def ours(starts: int) -> float:
    """
    @return: the median of the milliseconds from making a worker to its first result. The first
        worker, with which the fork server starts, does not count.
    """
    return runInReactor(lambda: _ours(starts))


async def _ours(starts: int) -> float:
    times = []
    async with TaskQueue() as queue:
        for number in range(WARM_UP + starts):
            started = perf_counter()
            worker = ProcessWorker()
            queue.attachWorker(worker)
            result = await queue.call(echo, number)
            times.append(perf_counter() - started)
            if result != number:
                raise ValueError(f"call {number} returned {result}")
            await queue.detachWorker(worker)
    return median(times[WARM_UP:]) * 1000


def bare(starts: int) -> float:
    """
    @return: the median of the milliseconds that an interpreter takes to start and do nothing, and
        a forked child to do nothing, together.
    """
    times = []
    for _ in range(WARM_UP + starts):
        started = perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
        times.append(perf_counter() - started)
    return median(times[WARM_UP:]) * 1000


_STARTS = {"arguments": {"starts": 20}, "quick": {"starts": 3}}

MEASURE = Measure(
    "start",
    (
        Row(
            "a worker's start to its first answer",
            "ms",
            Contender("ours", ours, **_STARTS),
            Contender("python -c pass, and a fork", bare, **_STARTS),
            Target(1.5, isLeast=False),
        ),
    ),
)
