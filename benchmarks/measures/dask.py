"""
Calls and items through a Dask cluster of two processes, whose scheduler is a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from twisted.internet.defer import gatherResults

from asynqueue import DaskWorker, TaskQueue
from benchmarks.measure import Contender, Measure, Row, Target
from benchmarks.measures.calls import executor
from benchmarks.parts import Counter, CountingConsumer, callAtOnce, runInReactor
from benchmarks.tasks import countUp, echo

WORKERS = 2
WARM_UP = 2_000
FEW = 20
"""The calls that come first, where a call is slow."""


@contextmanager
def running() -> Iterator[str]:
    """
    Run a scheduler and its Dask workers, which have one thread each, on the loopback interface.

    @return: the scheduler's address.
    """
    from distributed import Client

    with TemporaryDirectory() as folder:
        dask = [os.path.join(os.path.dirname(sys.executable), "dask")]
        where = ["--scheduler-file", os.path.join(folder, "scheduler")]
        where += ["--host", "127.0.0.1", "--no-dashboard"]
        many = ["--nworkers", str(WORKERS), "--nthreads", "1", "--local-directory", folder]
        commands = [
            [*dask, "scheduler", *where, "--port", "0"],
            [*dask, "worker", *where, *many],
        ]
        programs = [
            subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=os.getcwd())
            for command in commands
        ]
        try:
            with Client(scheduler_file=where[1], set_as_default=False) as client:
                client.wait_for_workers(WORKERS)
                address = client.scheduler.address
            yield address
        finally:
            for program in reversed(programs):
                program.terminate()
                program.wait()


# Ours ---------------------------------------------------------------------------------------------


def _inQueue(work: Callable[[TaskQueue], Any]) -> float:
    """
    Have a coroutine function use a queue, when that knows how long its calls take.
    """

    async def warmUpAndWork(address: str) -> float:
        async with TaskQueue(DaskWorker(address)) as queue:
            await gatherResults([queue.call(echo, number) for number in range(WARM_UP)])
            figure: float = await work(queue)
            return figure

    with running() as address:
        return runInReactor(lambda: warmUpAndWork(address))


def ours(calls: int) -> float:
    """
    @return: calls a second, put at once.
    """
    return _inQueue(lambda queue: callAtOnce(queue, calls))


def oursLatency(calls: int) -> float:
    """
    @return: the median of the milliseconds that a call takes, one after the other.
    """

    async def work(queue: TaskQueue) -> float:
        times = []
        for number in range(calls):
            started = perf_counter()
            if await queue.call(echo, number) != number:
                raise ValueError("another number came back")
            times.append(perf_counter() - started)
        return median(times) * 1e3

    return _inQueue(work)


def oursItems(items: int) -> float:
    """
    @return: items a second from a generator on a Dask worker to a consumer.
    """

    async def work(queue: TaskQueue) -> float:
        consumer = CountingConsumer(items)
        started = perf_counter()
        await queue.call(countUp, items, consumer=consumer)
        seconds = perf_counter() - started
        consumer.counter.check()
        return items / seconds

    return _inQueue(work)


# The peers ----------------------------------------------------------------------------------------


@contextmanager
def _connected() -> Iterator[Any]:
    """
    A client whose cluster has run some calls.
    """
    from distributed import Client

    with running() as address, Client(address, set_as_default=False) as client:
        client.gather([client.submit(echo, -number, pure=False) for number in range(1, FEW)])
        yield client


def submit(calls: int) -> float:
    """
    @return: calls a second by C{Client.submit}, put at once.
    """
    return _gathered(
        calls, lambda client: [client.submit(echo, n, pure=False) for n in range(calls)]
    )


def mapped(calls: int) -> float:
    """
    @return: calls a second by C{Client.map}.
    """
    return _gathered(calls, lambda client: client.map(echo, range(calls), pure=False))


def _gathered(calls: int, put: Callable[[Any], list[Any]]) -> float:
    with _connected() as client:
        started = perf_counter()
        results = client.gather(put(client))
        seconds = perf_counter() - started
    if results != list(range(calls)):
        raise ValueError(f"the results of {calls} calls are wrong")
    return calls / seconds


def submitLatency(calls: int) -> float:
    """
    @return: the median of the milliseconds that C{Client.submit} takes, one after the other.
    """
    with _connected() as client:
        return _latency(lambda number: client.submit(echo, number, pure=False).result(), calls)


def executorLatency(calls: int) -> float:
    """
    @return: the same for the standard library's executor.
    """
    with ProcessPoolExecutor(WORKERS) as pool:
        list(pool.map(echo, range(FEW)))
        return _latency(lambda number: pool.submit(echo, number).result(), calls)


def _latency(call: Callable[[int], int], calls: int) -> float:
    times = []
    for number in range(calls):
        started = perf_counter()
        if call(number) != number:
            raise ValueError("another number came back")
        times.append(perf_counter() - started)
    return median(times) * 1e3


def queueItems(items: int) -> float:
    """
    @return: items a second through Dask's own queue between tasks and clients, which takes each
        item by itself.
    """
    from distributed import Queue

    with _connected() as client:
        queue = Queue(client=client)
        counter = Counter(items, lambda: None)
        started = perf_counter()
        future = client.submit(_putEach, queue, items)
        for _ in range(items):
            counter.add(queue.get())
        future.result()
        seconds = perf_counter() - started
    counter.check()
    return items / seconds


def _putEach(queue: Any, items: int) -> None:
    for number in countUp(items):
        queue.put(number)


_OURS = Contender("ours", ours, arguments={"calls": 60_000}, quick={"calls": 20_000})
_SUBMIT = Contender("Client.submit", submit, arguments={"calls": 4_000}, quick={"calls": 1_000})
_MAP = Contender("Client.map", mapped, arguments={"calls": 10_000}, quick={"calls": 1_000})
_EXECUTOR = Contender(
    "ProcessPoolExecutor", executor, arguments={"calls": 20_000}, quick={"calls": 2_000}
)
_LATENCY = {"arguments": {"calls": 500}, "quick": {"calls": 50}}
_OURS_LATENCY = Contender("ours", oursLatency, **_LATENCY)

_LABEL = "no-op calls on a Dask cluster"
_ONE = "one call on a Dask cluster"
MEASURE = Measure(
    "dask",
    (
        Row(_LABEL, "calls/s", _OURS, None, Target(30_000, isLeast=True, isRatio=False)),
        Row(_LABEL, "calls/s", _OURS, _SUBMIT, Target(50, isLeast=True)),
        Row(_LABEL, "calls/s", _OURS, _MAP),
        Row(_LABEL, "calls/s", _OURS, _EXECUTOR),
        Row(_ONE, "ms", _OURS_LATENCY, Contender("Client.submit", submitLatency, **_LATENCY)),
        Row(
            _ONE, "ms", _OURS_LATENCY, Contender("ProcessPoolExecutor", executorLatency, **_LATENCY)
        ),
        Row(
            "items from a Dask worker",
            "items/s",
            Contender("ours", oursItems, arguments={"items": 200_000}, quick={"items": 50_000}),
            Contender("a Dask Queue", queueItems, arguments={"items": 1_000}, quick={"items": 200}),
        ),
    ),
)
