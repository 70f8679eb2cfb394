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
from benchmarks.parts import becomeUsual, runInReactor
from benchmarks.tasks import echo

WARM_UP = 200


def ours(calls: int, isUsual: bool = False) -> float:
    """
    @param isUsual: whether the program is a usual one, rather than a bare one.
    @return: the median of the microseconds that a call takes, one after the other.
    """
    if isUsual:
        becomeUsual()
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


def pingPong(calls: int, isUsual: bool = False) -> float:
    """
    @return: the same for a pipe that a pickled call goes through, and its result comes back.
    """
    if isUsual:
        becomeUsual()
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


def _row(label: str, isUsual: bool) -> Row:
    arguments = {"calls": 2_000, "isUsual": isUsual}
    quick = {"calls": 200}
    return Row(
        label,
        "µs",
        Contender("ours", ours, arguments=arguments, quick=quick),
        Contender("a bare pipe's ping-pong", pingPong, arguments=arguments, quick=quick),
        Target(2, isLeast=False),
    )


_LABEL = "one call's round trip, median of 2,000"

MEASURE = Measure(
    "roundtrip",
    (
        _row(_LABEL, isUsual=False),
        _row(f"{_LABEL}, in a usual program", isUsual=True),
    ),
)
