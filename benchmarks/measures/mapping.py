"""
How many items a second are mapped by two processes.
"""

from __future__ import annotations

from time import perf_counter

from asynqueue import ProcessQueue
from benchmarks.measure import Contender, Measure, Row, Target
from benchmarks.parts import runInReactor
from benchmarks.tasks import echo

WARM_UP = 2_000


def ours(items: int) -> float:
    """
    @return: items a second through a queue's C{map}, its chunks' size its own choice.
    """
    return runInReactor(lambda: _ours(items))


async def _ours(items: int) -> float:
    async with ProcessQueue(2) as queue:
        await _sumOf(queue, WARM_UP)
        started = perf_counter()
        total = await _sumOf(queue, items)
        seconds = perf_counter() - started
    _check(total, items)
    return items / seconds


async def _sumOf(queue: ProcessQueue, items: int) -> int:
    total = 0
    async for result in queue.map(echo, range(items)):
        total += result
    return total


def joblib(items: int) -> float:
    """
    @return: the same for joblib, its batches' size its own choice.
    """
    from joblib import Parallel, delayed

    with Parallel(n_jobs=2) as parallel:
        parallel(delayed(echo)(number) for number in range(WARM_UP))
        started = perf_counter()
        total = sum(parallel(delayed(echo)(number) for number in range(items)))
        seconds = perf_counter() - started
    _check(total, items)
    return items / seconds


def _check(total: int, items: int) -> None:
    if total != sum(range(items)):
        raise ValueError(f"the results of {items} items came to {total}")


def _row(items: int) -> Row:
    arguments = {"items": items}
    quick = {"items": items // 10}
    return Row(
        f"map of a no-op over {items:,} items",
        "items/s",
        Contender("ours", ours, arguments=arguments, quick=quick),
        Contender("joblib, auto-batching", joblib, arguments=arguments, quick=quick),
        Target(5, isLeast=True),
    )


MEASURE = Measure("map", (_row(20_000), _row(200_000)))
