"""
How long one call takes, there and back.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from statistics import median
from time import perf_counter

from asynqueue import ProcessQueue
from benchmarks.measure import Contender, Measure, Row, Target
from benchmarks.reactor import runInReactor
from benchmarks.tasks import echo

WARM_UP = 200


def ours(calls: int) -> float:
    """
    @return: the median of the microseconds that a call takes, one after the other.
    """
    return runInReactor(lambda: _ours(calls))


async def _ours(calls: int) -> float:
    times = []
    async with ProcessQueue(1) as queue:
        for number in range(WARM_UP + calls):
            started = perf_counter()
            result = await queue.call(echo, number)
            times.append(perf_counter() - started)
            _check(result, number)
    return median(times[WARM_UP:]) * 1e6


def pingPong(calls: int) -> float:
    """
    @return: the same of a pipe that a pickled call goes through, and its result comes back.
    """
    times = []
    near, far = multiprocessing.Pipe()
    process = multiprocessing.Process(target=answer, args=(far,))
    process.start()
    for number in range(WARM_UP + calls):
        started = perf_counter()
        near.send((echo, (number,)))
        result = near.recv()
        times.append(perf_counter() - started)
        _check(result, number)
    near.send(None)
    process.join()
    return median(times[WARM_UP:]) * 1e6


def answer(far: Connection) -> None:
    """
    Run the calls that come through a pipe.
    """
    while (call := far.recv()) is not None:
        function, args = call
        far.send(function(*args))


def _check(result: int, number: int) -> None:
    if result != number:
        raise ValueError(f"call {number} returned {result}")


_CALLS = {"arguments": {"calls": 2_000}, "quick": {"calls": 200}}

MEASURE = Measure(
    "roundtrip",
    (
        Row(
            "one call's round trip, median of 2,000",
            "µs",
            Contender("ours", ours, **_CALLS),
            Contender("a bare pipe's ping-pong", pingPong, **_CALLS),
            Target(2, isLeast=False),
        ),
    ),
)
