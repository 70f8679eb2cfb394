"""
What it costs a queue to be seen from outside, and how long a page of what waits takes.
"""

from __future__ import annotations

from time import perf_counter, process_time

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.testing import MemoryReactorClock

from asynqueue import ProcessQueue, TaskQueue
from asynqueue.admin import AdminAPI
from benchmarks.measure import Contender, Measure, Row, Target
from benchmarks.parts import Counter, runInReactor
from benchmarks.tasks import echo

WARM_UP = 500


def withNobody(calls: int) -> float:
    """
    @return: calls a second through two processes of a queue that can be seen, while nobody looks.
    """
    return runInReactor(lambda: _callsEachSecond(calls, canBeSeen=True, isWatched=False))


def watched(calls: int) -> float:
    """
    @return: the same while a client is attached.
    """
    return runInReactor(lambda: _callsEachSecond(calls, canBeSeen=True, isWatched=True))


def without(calls: int) -> float:
    """
    @return: the same for a queue that cannot be seen.
    """
    return runInReactor(lambda: _callsEachSecond(calls, canBeSeen=False, isWatched=False))


async def _callsEachSecond(calls: int, canBeSeen: bool, isWatched: bool) -> float:
    async with ProcessQueue(2) as queue:
        if canBeSeen:
            api: AdminAPI = queue.admin().api
            if isWatched:
                api.attach()
        await gatherResults([queue.call(echo, number) for number in range(WARM_UP)])
        over: Deferred[None] = Deferred()
        counter = Counter(calls, lambda: over.callback(None))
        started = perf_counter()
        for number in range(calls):
            queue.call(echo, number).addCallbacks(counter.add, over.errback)
        await over
        seconds = perf_counter() - started
    counter.check()
    return calls / seconds


def pageTime(tasks: int, page: int) -> float:
    """
    @return: the milliseconds of processor time for a page of 25 tasks of those that wait.
    """
    clock = MemoryReactorClock()
    queue = TaskQueue(reactor=clock)
    api = queue.admin().api
    for number in range(tasks):
        queue.call(echo, number, series=number % 100).addErrback(lambda _: None)
    took = []
    for _ in range(5):
        started = process_time()
        api.answer({"do": "snapshot", "page": page}, "a benchmark")
        took.append(process_time() - started)
    return 1000 * sorted(took)[2]


_CALLS = {"arguments": {"calls": 20_000}, "quick": {"calls": 2_000}}
_WITHOUT = Contender("a queue without admin()", without, **_CALLS)


def _pageRow(page: int) -> Row:
    sizes = {"tasks": 1_000_000, "page": page}
    contender = Contender(f"page {page}", pageTime, arguments=sizes, quick={"tasks": 20_000})
    return Row(
        f"a million pending tasks: page {page} of them, for an admin",
        "ms",
        contender,
        None,
        Target(20, isLeast=False, isRatio=False),
    )


MEASURE = Measure(
    "admin",
    (
        Row(
            "calls/s of a queue with admin(), nobody attached",
            "calls/s",
            Contender("nobody attached", withNobody, **_CALLS),
            _WITHOUT,
            Target(0.98, isLeast=True),
        ),
        Row(
            "calls/s of a queue with admin(), a client attached",
            "calls/s",
            Contender("a client attached", watched, **_CALLS),
            _WITHOUT,
        ),
        _pageRow(0),
        _pageRow(399),
    ),
)
