"""
What it costs a queue to be seen from outside, measured or traced, and how long a page of what waits
takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median
from time import process_time
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.testing import MemoryReactorClock, StringTransport

from asynqueue import TaskQueue
from asynqueue.admin import Access, AdminSite, QueueMetrics, QueueTracer
from asynqueue.admin.web import GuardedSite
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


class _TimedClock(MemoryReactorClock):
    """
    A reactor in memory that measures its turns.

    @ivar turns: the processor time of each, in milliseconds.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.turns: list[float] = []

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kw: object
    ) -> IDelayedCall:
        return super().callLater(delay, self.measure, callable, *args, **kw)

    def measure(self, function: Callable[..., Any], *args: Any, **kw: Any) -> None:
        """
        Call a function in a turn of its own.
        """
        started = process_time()
        function(*args, **kw)
        self.turns.append(1000 * (process_time() - started))


def webPageTime(tasks: int, page: int, isWhole: bool) -> float:
    """
    @param page: which page of the tasks that wait, from 1.
    @return: the milliseconds of processor time for the web page about a queue, or of the longest
        turn of the reactor in it.
    """
    clock = _TimedClock()
    queue = TaskQueue(reactor=clock)
    for number in range(tasks):
        queue.call(echo, number, series=number % 100).addErrback(lambda _: None)
    access = Access("a benchmark")
    admin = AdminSite(queue, login=lambda _: access, show=["arguments"], reactor=clock)
    site = GuardedSite(admin, ["localhost"], reactor=clock)
    took = []
    for _ in range(5):
        channel, wire = site.buildProtocol(None), StringTransport()
        assert channel is not None
        channel.makeConnection(wire)  # type: ignore[no-untyped-call]
        clock.turns.clear()
        request = f"GET /queue/here/TaskQueue?pending={page} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        clock.measure(channel.dataReceived, request.encode())
        while not wire.value().endswith(b"</html>"):
            clock.advance(0)
        took.append(sum(clock.turns) if isWhole else max(clock.turns))
    return median(took)


def _webPageRow(page: int, isWhole: bool) -> Row:
    sizes = {"tasks": 1_000_000, "page": page, "isWhole": isWhole}
    what = "the whole web page" if isWhole else "the longest turn"
    contender = Contender(what, webPageTime, arguments=sizes, quick={"tasks": 20_000})
    return Row(
        f"a million pending tasks: {what} with page {page} of them",
        "ms",
        contender,
        None,
        Target(100 if isWhole else 20, isLeast=False, isRatio=False),
    )


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
        _webPageRow(1, isWhole=True),
        _webPageRow(1, isWhole=False),
        _webPageRow(400, isWhole=True),
        _webPageRow(400, isWhole=False),
    ),
)
