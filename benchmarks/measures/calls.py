"""
How many calls a second go through two processes: from a bare program, and from a usual one.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import Future, ProcessPoolExecutor
from threading import Event
from time import perf_counter

from twisted.internet.defer import gatherResults

from asynqueue import ProcessQueue
from benchmarks import asynqueue09
from benchmarks.measure import Contender, Measure, OldContender, Row, Target
from benchmarks.parts import Counter, becomeUsual, callAtOnce, runInReactor
from benchmarks.tasks import echo

WARM_UP = 500
PATIENCE = 300.0


def ours(calls: int) -> float:
    """
    @return: calls a second through a queue: from the first one put until the last Deferred fired.
    """

    async def work() -> float:
        async with ProcessQueue(2) as queue:
            await gatherResults([queue.call(echo, number) for number in range(WARM_UP)])
            return await callAtOnce(queue, calls)

    return runInReactor(work)


def executor(calls: int) -> float:
    """
    @return: the same for the standard library's executor.
    """
    over = Event()
    counter = Counter(calls, over.set)

    def done(future: Future[int]) -> None:
        counter.add(future.result())

    with ProcessPoolExecutor(2) as pool:
        list(pool.map(echo, range(WARM_UP)))
        started = perf_counter()
        for number in range(calls):
            pool.submit(echo, number).add_done_callback(done)
        over.wait(PATIENCE)
        seconds = perf_counter() - started
    counter.check()
    return calls / seconds


def pool(calls: int) -> float:
    """
    @return: the same for the standard library's pool.
    """
    over = Event()
    counter = Counter(calls, over.set)
    with multiprocessing.Pool(2) as workers:
        workers.map(echo, range(WARM_UP))
        started = perf_counter()
        for number in range(calls):
            workers.apply_async(echo, (number,), callback=counter.add)
        over.wait(PATIENCE)
        seconds = perf_counter() - started
    counter.check()
    return calls / seconds


def usualOurs(calls: int) -> float:
    """
    @return: calls a second through a queue, in a usual program that gathers the results.
    """
    becomeUsual()
    return runInReactor(lambda: _usualOurs(calls))


async def _usualOurs(calls: int) -> float:
    async with ProcessQueue(2) as queue:
        await gatherResults([queue.call(echo, number) for number in range(WARM_UP)])
        started = perf_counter()
        results = await gatherResults([queue.call(echo, number) for number in range(calls)])
        seconds = perf_counter() - started
    _check(results, calls)
    return calls / seconds


def usualExecutor(calls: int) -> float:
    """
    @return: the same for the standard library's executor.
    """
    becomeUsual()
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(echo, range(WARM_UP)))
        started = perf_counter()
        futures = [pool.submit(echo, number) for number in range(calls)]
        results = [future.result() for future in futures]
        seconds = perf_counter() - started
    _check(results, calls)
    return calls / seconds


def usualPool(calls: int) -> float:
    """
    @return: the same for the standard library's pool.
    """
    becomeUsual()
    with multiprocessing.Pool(2) as workers:
        workers.map(echo, range(WARM_UP))
        started = perf_counter()
        handles = [workers.apply_async(echo, (number,)) for number in range(calls)]
        results = [handle.get() for handle in handles]
        seconds = perf_counter() - started
    _check(results, calls)
    return calls / seconds


def _check(results: list[int], calls: int) -> None:
    if results != list(range(calls)):
        raise ValueError(f"the results of {calls} calls are wrong")


_CALLS = {"arguments": {"calls": 20_000}, "quick": {"calls": 2_000}}
_OURS = Contender("ours", ours, **_CALLS)
_EXECUTOR = Contender("ProcessPoolExecutor", executor, **_CALLS)
_POOL = Contender("Pool.apply_async", pool, **_CALLS)
# With some hundred calls underway it exceeds the interpreter's depth of recursion, and hangs.
_OLD = OldContender(
    "AsynQueue 0.9.9, 16 a time",
    asynqueue09.calls,
    arguments={"calls": 8_000, "underway": 16},
    quick={"calls": 800},
)

_USUAL = Contender("ours", usualOurs, **_CALLS)
_USUAL_EXECUTOR = Contender("ProcessPoolExecutor", usualExecutor, **_CALLS)
_USUAL_POOL = Contender("Pool.apply_async", usualPool, **_CALLS)

_LABEL = "no-op calls, 20,000 put at once"
_USUAL_LABEL = f"{_LABEL}, in a usual program"
MEASURE = Measure(
    "calls",
    (
        Row(_LABEL, "calls/s", _OURS, _EXECUTOR, Target(10, isLeast=True)),
        Row(_LABEL, "calls/s", _OURS, _POOL, Target(3, isLeast=True)),
        Row(_LABEL, "calls/s", _OURS, _OLD),
        Row(_USUAL_LABEL, "calls/s", _USUAL, _USUAL_EXECUTOR, Target(10, isLeast=True)),
        Row(_USUAL_LABEL, "calls/s", _USUAL, _USUAL_POOL, Target(3, isLeast=True)),
    ),
)
