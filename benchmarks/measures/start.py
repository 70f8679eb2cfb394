"""
How long a worker process takes from its start to its first answer, with a small main module and
with one that takes a second to import.
"""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median
from time import perf_counter
from typing import Any

from asynqueue import ProcessWorker, TaskQueue
from benchmarks.measure import Contender, Measure, Row, Target
from benchmarks.parts import runInReactor
from benchmarks.tasks import echo

WARM_UP = 1


def ours(starts: int) -> float:
    """
    @return: the median of the milliseconds from making a worker to its first result. The first
        worker, with which the fork server starts, does not count. It stays attached.
    """
    return runInReactor(lambda: startTimes(starts))


async def startTimes(starts: int, **options: Any) -> float:
    """
    @param options: the worker's.
    @return: see L{ours}.
    """
    times = []
    async with TaskQueue() as queue:
        for number in range(WARM_UP + starts):
            # A series makes sure that the new worker runs the call, because the first one stays.
            series = f"start {number}"
            started = perf_counter()
            worker = ProcessWorker(series=[series], **options)
            queue.attachWorker(worker)
            result = await queue.call(echo, number, series=series)
            times.append(perf_counter() - started)
            if result != number:
                raise ValueError(f"call {number} returned {result}")
            if number >= WARM_UP:
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


def slowMain(starts: int, isPreloaded: bool) -> float:
    """
    @param isPreloaded: whether the fork server loads the main module, so that the processes that it
        forks have it.
    @return: the same as L{ours}, for a program whose main module takes a second to import.
    """
    arguments = [str(starts), *["--preload"] * isPreloaded]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.slowmain", *arguments],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return float(done.stdout)


_STARTS = {"arguments": {"starts": 20}, "quick": {"starts": 3}}


def _slow(isPreloaded: bool) -> dict[str, Any]:
    return {
        "arguments": {"starts": 5, "isPreloaded": isPreloaded},
        "quick": {"starts": 2},
    }


MEASURE = Measure(
    "start",
    (
        Row(
            "a worker's start to its first answer",
            "ms",
            Contender("ours", ours, **_STARTS),
            Contender("python -c pass, and a fork", bare, **_STARTS),
            Target(1, isLeast=False),
        ),
        Row(
            "the same, with a __main__ that takes 1 s to import, preloaded",
            "ms",
            Contender("ours, preloaded", slowMain, **_slow(isPreloaded=True)),
            Contender("ours, not preloaded", slowMain, **_slow(isPreloaded=False)),
            Target(30, isLeast=False, isRatio=False),
        ),
    ),
)
