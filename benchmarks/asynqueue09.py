"""
The functions that measure AsynQueue 0.9.

Another interpreter runs this module. The package C{asynqueue} there is that of 0.9.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from asynqueue.process import ProcessQueue
from benchmarks.parts import Counter, CountingConsumer, runInReactor
from benchmarks.tasks import countUp, echo, nap

WARM_UP = 16

Work = Callable[[ProcessQueue], Coroutine[Deferred[Any], Any, float]]


def calls(calls: int, underway: int) -> float:
    """
    @param underway: how many are put at once; the next ones when those are over.
    @return: calls a second, with two processes.
    """

    async def work(queue: ProcessQueue) -> float:
        counter = Counter(calls, lambda: None)
        started = perf_counter()
        for first in range(0, calls, underway):
            numbers = range(first, min(first + underway, calls))
            for result in await gatherResults([queue.call(echo, number) for number in numbers]):
                counter.add(result)
        seconds = perf_counter() - started
        counter.check()
        return calls / seconds

    return _run(2, work)


def naps(seconds: float, naps: int) -> float:
    """
    @return: naps a second, with two processes.
    """

    async def work(queue: ProcessQueue) -> float:
        started = perf_counter()
        await gatherResults([queue.call(nap, seconds) for _ in range(naps)])
        return naps / (perf_counter() - started)

    return _run(2, work)


def items(items: int) -> float:
    """
    @return: items a second from a child's generator to a consumer.
    """

    async def work(queue: ProcessQueue) -> float:
        consumer = CountingConsumer(items)
        started = perf_counter()
        await queue.call(countUp, items, consumer=consumer)
        seconds = perf_counter() - started
        consumer.counter.check()
        return items / seconds

    return _run(1, work)


def _run(processes: int, work: Work) -> float:
    # Its workers do not survive being pickled, as the other start methods want it.
    multiprocessing.set_start_method("fork")

    async def begin() -> float:
        queue = ProcessQueue(processes)
        await gatherResults([queue.call(echo, number) for number in range(WARM_UP)])
        figure = await work(queue)
        await queue.shutdown()
        return figure

    return runInReactor(begin)
