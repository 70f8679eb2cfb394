"""
The cost of a task that waits: memory, and the time to put it and to take it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from time import process_time

import psutil
from twisted.internet.task import Clock

from asynqueue import TaskQueue
from asynqueue._core.groups import Capacity
from asynqueue._core.scheduler import Scheduler
from asynqueue._core.states import FINISHED, UNDERWAY
from asynqueue._core.task import Task
from benchmarks.measure import Contender, Measure, Row, Target
from benchmarks.tasks import echo

WARM_UP = 1_000


def bytesEach(tasks: int) -> float:
    """
    @return: the bytes by which this process's resident memory grows for each call that waits in a
        queue without workers, including its argument (a separate integer) and its Deferred.
    """
    queue = TaskQueue(reactor=Clock())
    _putCalls(queue, WARM_UP)
    gc.collect()
    process = psutil.Process()
    before = process.memory_info().rss
    _putCalls(queue, tasks)
    return (process.memory_info().rss - before) / tasks


def _putCalls(queue: TaskQueue, calls: int) -> None:
    for number in range(calls):
        queue.call(echo, number)


def putGrowth(many: int, few: int) -> float:
    """
    @param many: how many tasks are put, from none on, before they are all taken.
    @param few: the same for the comparison, over and over, until as many were put in all.
    @return: how many times more processor time it takes to make a task and put it into a
        scheduler among many than among few.
    """
    return _putAndTake(many, many)[0] / _putAndTake(few, many)[0]


def takeGrowth(many: int, few: int) -> float:
    """
    @return: the same for a scheduler's decision about a task, and of hearing that it is over.
    """
    return _putAndTake(many, many)[1] / _putAndTake(few, many)[1]


def putTime(pending: int, total: int) -> float:
    """
    @param total: how many tasks are put in all.
    @return: the microseconds of processor time that it takes to make a task and put it into a
        scheduler.
    """
    return _putAndTake(pending, total)[0]


def takeTime(pending: int, total: int) -> float:
    """
    @return: the microseconds of processor time that it takes a scheduler to decide about a task,
        and then to hear that it is over.
    """
    return _putAndTake(pending, total)[1]


def listPutGrowth(many: int, few: int) -> float:
    """
    @return: how many times more processor time it takes to make a task and append it to a plain
        list of many than to one of few.
    """
    return _appendAndPop(many, many)[0] / _appendAndPop(few, many)[0]


def listTakeGrowth(many: int, few: int) -> float:
    """
    @return: the same for taking a task off a plain list, and of setting its state twice.
    """
    return _appendAndPop(many, many)[1] / _appendAndPop(few, many)[1]


def _appendAndPop(pending: int, total: int) -> tuple[float, float]:
    putting = taking = 0.0
    for _ in range(total // pending):
        started = process_time()
        tasks = []
        for number in range(pending):
            tasks.append(Task(number, echo, (number,)))
        put = process_time()
        tasks.reverse()
        while tasks:
            task = tasks.pop()
            task.state = UNDERWAY
            task.state = FINISHED
        putting += put - started
        taking += process_time() - put
    return putting / total * 1e6, taking / total * 1e6


def _putAndTake(pending: int, total: int) -> tuple[float, float]:
    scheduler: Scheduler[Task] = Scheduler()
    scheduler.attach("worker", capacity=Capacity(slots=1, aheadSeconds=0.025))
    _put(scheduler, WARM_UP)
    _takeAll(scheduler, WARM_UP)
    putting = taking = 0.0
    for _ in range(total // pending):
        started = process_time()
        _put(scheduler, pending)
        put = process_time()
        _takeAll(scheduler, pending)
        putting += put - started
        taking += process_time() - put
    return putting / total * 1e6, taking / total * 1e6


def _put(scheduler: Scheduler[Task], tasks: int) -> None:
    for number in range(tasks):
        scheduler.put(Task(number, echo, (number,)))


def _takeAll(scheduler: Scheduler[Task], tasks: int) -> None:
    scheduler.open("worker")
    while tasks:
        for worker, taken in scheduler.decide():
            for task in taken:
                scheduler.done(task)
            # As if each had run for a microsecond: so many are taken at a time.
            scheduler.release(worker, [(task, 1e-6) for task in taken])
            tasks -= len(taken)
    scheduler.close("worker")


def _row(what: str, ours: Callable[..., float], plain: Callable[..., float]) -> Row:
    sizes = {
        "arguments": {"many": 1_000_000, "few": 1_000},
        "quick": {"many": 20_000},
    }
    return Row(
        f"a million pending tasks against a thousand: {what}",
        "times",
        Contender(f"ours, {what}", ours, **sizes),
        Contender(f"a plain list, {what}", plain, **sizes),
        Target(1, isLeast=False),
    )


def _timeRow(what: str, function: Callable[..., float]) -> Row:
    arguments = {"pending": 1_000_000, "total": 1_000_000}
    quick = {"pending": 20_000, "total": 20_000}
    return Row(
        f"a million pending tasks: scheduler's {what}",
        "µs",
        Contender(f"ours, {what}, µs", function, arguments=arguments, quick=quick),
    )


_BYTES = Contender("ours", bytesEach, arguments={"tasks": 1_000_000}, quick={"tasks": 20_000})
_BYTES_ROW = Row(
    "a million pending calls: memory of each",
    "bytes",
    _BYTES,
    None,
    Target(500, isLeast=False, isRatio=False),
)

MEASURE = Measure(
    "pending",
    (
        _BYTES_ROW,
        _timeRow("put", putTime),
        _row("put", putGrowth, listPutGrowth),
        _timeRow("take", takeTime),
        _row("take", takeGrowth, listTakeGrowth),
    ),
)
