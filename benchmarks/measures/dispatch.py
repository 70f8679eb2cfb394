"""
The cost of a dispatch queue: of each job that passes through, and of each job that waits.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from time import process_time

import psutil
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.task import Clock

from asynqueue import ResizableDispatchQueue
from asynqueue.rdq import JobDeferred
from benchmarks.measure import Contender, Measure, Row
from benchmarks.parts import Counter
from benchmarks.tasks import echo

WIDTH = 100
BATCH = 1_000
WARM_UP = 1_000


def dispatchTime(jobs: int) -> float:
    """
    @return: the microseconds of processor time that each of many jobs costs whose function returns
        at once: to put it, among a thousand at a time, to begin it, and to hear of its end.
    """
    _dispatch(WARM_UP)
    return _dispatch(jobs)


def _dispatch(jobs: int) -> float:
    clock = Clock()
    queue = ResizableDispatchQueue(echo, WIDTH, reactor=clock)
    counter = Counter(jobs, lambda: None)
    gc.collect()
    started = process_time()
    for first in range(0, jobs, BATCH):
        for number in range(first, first + BATCH):
            queue.put(number).addCallback(lambda job: counter.add(job.result))
        while clock.getDelayedCalls():
            clock.advance(0)
    seconds = process_time() - started
    counter.check()
    return seconds / jobs * 1e6


def semaphoreTime(jobs: int) -> float:
    """
    @return: the same for a loop over a semaphore, which keeps no records.
    """
    _loop(WARM_UP)
    return _loop(jobs)


def _loop(jobs: int) -> float:
    semaphore = DeferredSemaphore(WIDTH)
    counter = Counter(jobs, lambda: None)
    gc.collect()
    started = process_time()
    for number in range(jobs):
        d: Deferred[int] = semaphore.run(echo, number)
        d.addCallback(counter.add)
    seconds = process_time() - started
    counter.check()
    return seconds / jobs * 1e6


def bytesEach(jobs: int) -> float:
    """
    @return: the bytes by which this process's resident memory grows for each job that waits,
        including its argument (a separate integer) and its Deferred.
    """
    queue = _fill(WARM_UP)[0]
    gc.collect()
    process = psutil.Process()
    before = process.memory_info().rss
    for number in range(jobs):
        queue.put(number)
    return (process.memory_info().rss - before) / jobs


def putTime(pending: int, total: int) -> float:
    """
    @param pending: how many jobs are put, from none on.
    @param total: how many are put in all, over and over.
    @return: the microseconds of processor time that it takes to put a job.
    """
    return _each(pending, total, lambda queue, ds: None, countsPut=True)


def reprioritizeTime(pending: int, total: int) -> float:
    """
    @return: the microseconds that it takes to move a job among so many, alternately up and down.
    """

    def move(queue: ResizableDispatchQueue, ds: list[JobDeferred]) -> None:
        for number, d in enumerate(ds):
            queue.reprioritize(d.job, -number if number % 2 else number)

    return _each(pending, total, move)


def cancelTime(pending: int, total: int) -> float:
    """
    @return: the microseconds that it takes to cancel a job among so many, the last one first, and
        for its Deferred to fail.
    """

    def cancel(queue: ResizableDispatchQueue, ds: list[JobDeferred]) -> None:
        for d in reversed(ds):
            d.addErrback(_ignore)
            d.cancel()

    return _each(pending, total, cancel)


def _ignore(failure: object) -> None:
    pass


def _fill(pending: int) -> tuple[ResizableDispatchQueue, list[JobDeferred]]:
    queue = ResizableDispatchQueue(echo, WIDTH, reactor=Clock())
    return queue, [queue.put(number) for number in range(pending)]


def _each(
    pending: int,
    total: int,
    work: Callable[[ResizableDispatchQueue, list[JobDeferred]], None],
    countsPut: bool = False,
) -> float:
    work(*_fill(WARM_UP))
    seconds = 0.0
    for _ in range(total // pending):
        gc.collect()
        started = process_time()
        queue, ds = _fill(pending)
        if not countsPut:
            gc.collect()
            started = process_time()
        work(queue, ds)
        seconds += process_time() - started
    return seconds / total * 1e6


def _row(what: str, function: Callable[[int, int], float]) -> Row:
    million = {"pending": 1_000_000, "total": 1_000_000}
    thousand = {"pending": 1_000, "total": 200_000}
    return Row(
        f"a million pending jobs: {what}",
        "µs",
        Contender(
            f"ours, {what}", function, arguments=million, quick={"pending": 20_000, "total": 20_000}
        ),
        Contender(f"{what} with a thousand", function, arguments=thousand, quick={"total": 20_000}),
    )


_JOBS = {"arguments": {"jobs": 100_000}, "quick": {"jobs": 10_000}}
_BYTES = Contender("ours", bytesEach, arguments={"jobs": 1_000_000}, quick={"jobs": 20_000})

MEASURE = Measure(
    "dispatch",
    (
        Row(
            "an instant job through a dispatch queue of width 100",
            "µs",
            Contender("ours", dispatchTime, **_JOBS),
            Contender("a bare DeferredSemaphore", semaphoreTime, **_JOBS),
        ),
        Row("a million pending jobs: memory of each", "bytes", _BYTES),
        _row("put", putTime),
        _row("cancel", cancelTime),
        _row("reprioritize", reprioritizeTime),
    ),
)
