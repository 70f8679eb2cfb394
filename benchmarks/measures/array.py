"""
How fast a large NumPy array gets to a child.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from statistics import median
from time import perf_counter
from typing import Any

from asynqueue import ProcessQueue
from benchmarks.measure import Contender, Measure, Row, Target
from benchmarks.parts import runInReactor
from benchmarks.tasks import endsOf

WARM_UP = 1


def ours(mebibytes: int, times: int) -> float:
    """
    @param times: how often the array is sent.
    @return: MiB a second, from the median of the times until the answer is here.
    """
    return runInReactor(lambda: _ours(mebibytes, times))


async def _ours(mebibytes: int, times: int) -> float:
    array, seconds = _makeArray(mebibytes), []
    async with ProcessQueue(1) as queue:
        for _ in range(WARM_UP + times):
            started = perf_counter()
            result = await queue.call(endsOf, array)
            seconds.append(perf_counter() - started)
            _check(result, array)
    return mebibytes / median(seconds[WARM_UP:])


def executor(mebibytes: int, times: int) -> float:
    """
    @return: the same for the standard library's executor.
    """
    array, seconds = _makeArray(mebibytes), []
    with ProcessPoolExecutor(1) as pool:
        for _ in range(WARM_UP + times):
            started = perf_counter()
            result = pool.submit(endsOf, array).result()
            seconds.append(perf_counter() - started)
            _check(result, array)
    return mebibytes / median(seconds[WARM_UP:])


def _makeArray(mebibytes: int) -> Any:
    import numpy as np

    return np.arange(mebibytes << 17, dtype=np.float64)


def _check(result: float, array: Any) -> None:
    if result != array.size - 1:
        raise ValueError(f"the child saw another array: {result}")


_SIZE = {"arguments": {"mebibytes": 100, "times": 5}, "quick": {"times": 1}}

MEASURE = Measure(
    "array",
    (
        Row(
            "a NumPy array of 100 MiB to a child",
            "MiB/s",
            Contender("ours", ours, **_SIZE),
            Contender("ProcessPoolExecutor", executor, **_SIZE),
            Target(10, isLeast=True),
        ),
    ),
)
