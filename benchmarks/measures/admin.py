"""
What it costs a queue to be seen from outside, measured or traced, and how long a page of what waits
takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median
from time import process_time
from typing import Final

from twisted.internet.testing import MemoryReactorClock

from asynqueue import TaskQueue
from asynqueue.admin import QueueMetrics, QueueTracer
from asynqueue.testing import InlineWorker
from benchmarks.measure import Contender, Measure, Row, Target
from benchmarks.parts import Counter, runInReactor
from benchmarks.tasks import echo

WARM_UP = 10
"""How many rounds are not counted."""


def shareKept(attach: str, rounds: int, calls: int) -> float:
    """
    Compare the processor time of calls through two queues in the same process, of which one has
    something attached. Their worker is in the same thread, so that nothing else takes time. They
    take turns in short rounds, because this differs by less than the speed of a machine from one
    minute to the next.

    @param attach: the name of what is attached, in C{ATTACHED}.
    @return: the median, over the rounds, of the time without it divided by the time with it.
    """

    async def compare() -> float:
        async with TaskQueue(InlineWorker()) as bare, TaskQueue(InlineWorker()) as other:
            # The queue does not keep all of these.
            attached = ATTACHED[attach](other)
            ratios = []
            for number in range(rounds + WARM_UP):
                order = (bare, other) if number % 2 else (other, bare)
                times = {queue: _processorTime(queue, calls) for queue in order}
                ratios.append(times[bare] / times[other])
            del attached
        return median(ratios[WARM_UP:])

    return runInReactor(compare)


def _processorTime(queue: TaskQueue, calls: int) -> float:
    counter = Counter(calls, lambda: None)
    started = process_time()
    for number in range(calls):
        queue.call(echo, number).addCallback(counter.add)
    taken = process_time() - started
    counter.check()
    return taken


def _admin(queue: TaskQueue) -> object:
    return queue.admin()


def _client(queue: TaskQueue) -> object:
    administration = queue.admin()
    administration.api.attach()
    return administration


def _metrics(queue: TaskQueue) -> object:
    from prometheus_client import CollectorRegistry

    metrics = QueueMetrics(CollectorRegistry())
    metrics.add(queue, "a benchmark")
    return metrics


def _spans(queue: TaskQueue) -> object:
    from opentelemetry.sdk.trace import TracerProvider

    # The spans are made, and nobody exports them.
    tracer = QueueTracer("a benchmark", TracerProvider())
    queue.addObserver(tracer)
    return tracer


ATTACHED: Final[Mapping[str, Callable[[TaskQueue], object]]] = {
    "nothing": lambda queue: None,
    "admin": _admin,
    "client": _client,
    "metrics": _metrics,
    "spans": _spans,
}


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


def _costRow(attach: str, what: str, target: Target | None = None) -> Row:
    sizes = {"attach": attach, "rounds": 200, "calls": 500}
    contender = Contender(what, shareKept, arguments=sizes, quick={"rounds": 20})
    return Row(f"calls for the same processor time, with {what}", "", contender, None, target)


MEASURE = Measure(
    "admin",
    (
        _costRow("nothing", "nothing attached, to show the noise"),
        _costRow(
            "admin",
            "admin() and nobody who looks",
            Target(0.98, isLeast=True, isRatio=False),
        ),
        _costRow("client", "admin() and a client"),
        _costRow("metrics", "metrics"),
        _costRow("spans", "spans that nobody exports"),
        _pageRow(0),
        _pageRow(399),
    ),
)
