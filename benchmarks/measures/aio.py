"""
The queues for asyncio: their calls against the standard library's executor, and what they cost
beyond the queues for Twisted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from statistics import median
from time import perf_counter, process_time
from typing import Any

from twisted.internet.defer import gatherResults

from asynqueue import ProcessQueue, aio
from benchmarks.measure import Contender, Measure, Row
from benchmarks.parts import runInReactor
from benchmarks.tasks import echo

WARM_UP = 500

Call = Callable[[Callable[[int], int], int], "asyncio.Future[int]"]


def roundTrip(calls: int) -> float:
    """
    @return: the median of the microseconds that a call takes, one after the other.
    """
    return asyncio.run(_roundTrip(calls))


async def _roundTrip(calls: int) -> float:
    async with aio.ProcessQueue(1) as queue:
        return await _median(queue.call, calls)


def executorsRoundTrip(calls: int) -> float:
    """
    @return: the same for the standard library's executor.
    """
    return asyncio.run(_executorsRoundTrip(calls))


async def _executorsRoundTrip(calls: int) -> float:
    with ProcessPoolExecutor(1) as pool:
        return await _median(partial(asyncio.get_running_loop().run_in_executor, pool), calls)


async def _median(call: Call, calls: int) -> float:
    times = []
    for number in range(WARM_UP + calls):
        started = perf_counter()
        result = await call(echo, number)
        times.append(perf_counter() - started)
        _check([result], [number])
    return median(times[WARM_UP:]) * 1e6


def rate(calls: int) -> float:
    """
    @return: calls a second, all put at once and gathered.
    """
    return asyncio.run(_rate(calls))


async def _rate(calls: int) -> float:
    async with aio.ProcessQueue(2) as queue:
        return await _gathered(queue.call, calls)


def executorsRate(calls: int) -> float:
    """
    @return: the same for the standard library's executor.
    """
    return asyncio.run(_executorsRate(calls))


async def _executorsRate(calls: int) -> float:
    with ProcessPoolExecutor(2) as pool:
        return await _gathered(partial(asyncio.get_running_loop().run_in_executor, pool), calls)


async def _gathered(call: Call, calls: int) -> float:
    await asyncio.gather(*(call(echo, number) for number in range(WARM_UP)))
    started = perf_counter()
    results = await asyncio.gather(*(call(echo, number) for number in range(calls)))
    seconds = perf_counter() - started
    _check(results, range(calls))
    return calls / seconds


def processorTime(calls: int) -> float:
    """
    @return: the microseconds of this process's processor time that each of many calls costs, put at
        once and gathered.
    """
    return asyncio.run(_processorTime(calls))


async def _processorTime(calls: int) -> float:
    async with aio.ProcessQueue(1) as queue:
        await asyncio.gather(*(queue.call(echo, number) for number in range(WARM_UP)))
        started = process_time()
        results = await asyncio.gather(*(queue.call(echo, number) for number in range(calls)))
        seconds = process_time() - started
    _check(results, range(calls))
    return seconds / calls * 1e6


def twistedProcessorTime(calls: int) -> float:
    """
    @return: the same for Deferreds, under Twisted's reactor on asyncio's loop.
    """
    from twisted.internet import asyncioreactor

    asyncioreactor.install()
    return runInReactor(lambda: _twistedProcessorTime(calls))


async def _twistedProcessorTime(calls: int) -> float:
    async with ProcessQueue(1) as queue:
        await gatherResults([queue.call(echo, number) for number in range(WARM_UP)])
        started = process_time()
        results = await gatherResults([queue.call(echo, number) for number in range(calls)])
        seconds = process_time() - started
    _check(results, range(calls))
    return seconds / calls * 1e6


def _check(results: Any, expected: Any) -> None:
    if list(results) != list(expected):
        raise ValueError("a call returned the result of another one")


_ONE = {"arguments": {"calls": 2_000}, "quick": {"calls": 200}}
_MANY = {"arguments": {"calls": 20_000}, "quick": {"calls": 2_000}}

MEASURE = Measure(
    "asyncio",
    (
        Row(
            "asyncio: one call's round trip, median of 2,000",
            "µs",
            Contender("ours", roundTrip, **_ONE),
            Contender("run_in_executor, ProcessPoolExecutor", executorsRoundTrip, **_ONE),
        ),
        Row(
            "asyncio: no-op calls, 20,000 put at once",
            "calls/s",
            Contender("ours", rate, **_MANY),
            Contender("run_in_executor, ProcessPoolExecutor", executorsRate, **_MANY),
        ),
        Row(
            "asyncio: processor time of each of 20,000 calls, near side",
            "µs",
            Contender("ours", processorTime, **_MANY),
            Contender("Deferreds, asyncioreactor", twistedProcessorTime, **_MANY),
        ),
    ),
)
