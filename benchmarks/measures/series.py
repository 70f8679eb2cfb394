"""
How many tasks a second run when each of them belongs to another series.
"""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import Any

from twisted.internet.defer import Deferred

from asynqueue import ProcessWorker, TaskQueue
from benchmarks.measure import Contender, Measure, Row, Target
from benchmarks.parts import Counter, runInReactor
from benchmarks.tasks import echo

WARM_UP = 500

LIMIT = 30.0
"""Seconds after which tasks that are not done no longer count."""


def rate(qualified: int, used: int, tasks: int) -> float:
    """
    @param qualified: for how many series the two workers are qualified.
    @param used: how many of these series have tasks. The tasks go to them in turn.
    @param tasks: how many tasks there are in all. At most C{qualified} of them wait at once.
    @return: how many are done a second.
    """
    return runInReactor(lambda: _rate(qualified, used, tasks))


async def _rate(qualified: int, used: int, tasks: int) -> float:
    from twisted.internet import reactor

    installed: Any = reactor
    names = [f"series {number}" for number in range(qualified)]
    queue = TaskQueue()
    for _ in range(2):
        queue.attachWorker(ProcessWorker(series=names))
    for number in range(WARM_UP):
        await queue.call(echo, number)
    done = 0
    started = perf_counter()
    deadline = started + LIMIT
    while done < tasks and perf_counter() < deadline:
        over: Deferred[None] = Deferred()
        counter = Counter(min(qualified, tasks - done), partial(over.callback, None))
        for number in range(counter.expected):
            d = queue.call(echo, number, series=names[number % used])
            d.addCallbacks(counter.add, lambda failure: None)
            if perf_counter() > deadline:
                break
        over.addTimeout(max(0.0, deadline - perf_counter()), installed)
        over.addErrback(lambda failure: None)
        await over
        done += counter.count
        if counter.count == counter.expected:
            counter.check()
    seconds = perf_counter() - started
    queue.cancelAll()
    await queue.shutdown()
    return done / seconds


def _row(number: int, tasks: int, least: float) -> Row:
    sizes = {"qualified": number, "tasks": tasks}
    quick = {"qualified": number // 10, "tasks": tasks // 10}
    return Row(
        f"one task in each of {number:,} series",
        "tasks/s",
        Contender(
            f"ours, {number:,} series",
            rate,
            arguments={**sizes, "used": number},
            quick={**quick, "used": number // 10},
        ),
        Contender("all in one of them", rate, arguments={**sizes, "used": 1}, quick=quick),
        Target(least, isLeast=True),
    )


MEASURE = Measure("series", (_row(1_000, 20_000, 0.8), _row(100_000, 100_000, 0.5)))
