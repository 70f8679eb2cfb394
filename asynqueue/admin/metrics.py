"""
Metrics of queues for Prometheus. This needs the extra C{metrics}.

L{QueueMetrics} tells the facts of some queues, and L{MetricsResource} serves them::

    metrics = QueueMetrics()
    metrics.add(queue, "mails")
    root.putChild(b"metrics", MetricsResource())

An observer of each queue counts what happens. Everything else is looked up when somebody asks, at a
cost that does not grow with the number of tasks.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import accumulate, pairwise
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final
from weakref import ref

from twisted.web.resource import Resource
from twisted.web.server import Request
from zope.interface import implementer

from asynqueue._core.states import CANCELLED, FAILED, FINISHED, LOST, PENDING
from asynqueue._core.task import Record
from asynqueue._observers import GIVEN_BACK, QUEUED, RETRYING, STARTED, Event
from asynqueue._version import __version__
from asynqueue.errors import (
    ConnectionLost,
    DaskWorkerDied,
    ExecutorDied,
    ExtraMissing,
    WorkerDied,
    WorkerRecycled,
    WorkerStartError,
)
from asynqueue.interfaces import IObserver

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from asynqueue.admin.administrable import Administrable

BUCKETS: Final = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0, 1800.0, 7200.0)
"""The upper bounds of the histograms' buckets, in seconds."""

FEW: Final = 64
"""So many tasks that were removed may be remembered, besides as many as there are."""

DASHBOARD: Final = Path(__file__).with_name("dashboard.json")
"""A dashboard of these metrics, for Grafana to import."""

REASONS: Final = (
    # A process was killed, likely for lack of memory.
    "memory",
    # A process was killed by another signal.
    "signal",
    # A process ended by itself.
    "exit",
    # The session with a server was lost.
    "connection",
    # An executor broke.
    "executor",
    # Dask lost its worker.
    "dask",
    # A new process, thread or connection could not be started.
    "start",
    # The worker replaced its process, as it was told.
    "recycled",
    "other",
)
"""The values of the label C{reason}. There are no others."""

_REASONS: Final = (
    (ConnectionLost, "connection"),
    (ExecutorDied, "executor"),
    (DaskWorkerDied, "dask"),
    (WorkerStartError, "start"),
    (WorkerRecycled, "recycled"),
)

_STATUS: Final = {FINISHED: "finished", FAILED: "failed", CANCELLED: "cancelled"}


def reasonOf(error: BaseException | None) -> str:
    """
    Find the word for the reason of a loss.

    @param error: why a worker lost its runner.
    @return: one of L{REASONS}.
    """
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason
    if not isinstance(error, WorkerDied):
        return "other"
    if error.signal is not None:
        return "memory" if error.isLikelyOutOfMemory else "signal"
    return "other" if error.exitCode is None else "exit"


class QueueMetrics:
    """
    A collector of C{prometheus_client}, which tells the facts of some queues::

        asynqueue_tasks_submitted_total{queue}         tasks or jobs that were put
        asynqueue_tasks_finished_total{queue,status}   those that ended: finished, failed, cancelled
        asynqueue_tasks_pending{queue}                 those that wait
        asynqueue_tasks_underway{queue}                those that workers have
        asynqueue_oldest_pending_seconds{queue}        how long the first of those that wait waits
        asynqueue_task_wait_seconds{queue}             histogram: from when one may run until it
                                                       is with a worker
        asynqueue_task_run_seconds{queue}              histogram: from then until that run ends
        asynqueue_workers{queue}                       attached workers
        asynqueue_worker_deaths_total{queue,reason}    runners that workers lost
        asynqueue_queue_paused{queue}                  1 if the queue is paused, otherwise 0
        asynqueue_build_info{version,python}           1

    It counts from when a queue is added. Updates do not count. The label C{reason} has one of the
    values in L{REASONS}. A dispatch queue has no workers, and thus not the two metrics of these.

    The registry must ask for this in the reactor's thread, as L{MetricsResource} does.
    """

    def __init__(
        self, registry: CollectorRegistry | None = None, buckets: Sequence[float] = BUCKETS
    ) -> None:
        """
        @param registry: where this is registered. Default: the global registry of
            C{prometheus_client}. It can have one of these only.
        @param buckets: the upper bounds of the histograms' buckets, in seconds.
        @raise ExtraMissing: if C{prometheus_client} is not installed.
        @raise ValueError: if the bounds do not grow, or the registry has such metrics already.
        """
        try:
            import prometheus_client
            from prometheus_client import core
        except ImportError as error:
            raise ExtraMissing("QueueMetrics", "metrics") from error
        if not buckets or any(low >= high for low, high in pairwise(buckets)):
            raise ValueError(f"the bounds of buckets must grow, unlike {list(buckets)}")
        self._core: ModuleType = core
        self._buckets = tuple(map(float, buckets))
        self._counts: dict[str, _QueueCounts] = {}
        self.registry: Any = prometheus_client.REGISTRY if registry is None else registry
        self.registry.register(self)

    def add(self, queue: Administrable, name: str) -> None:
        """
        Tell the facts of a queue from now on, until it has shut down or the program has dropped it.

        @param queue: a C{TaskQueue} or a C{ResizableDispatchQueue}, of C{asynqueue} or of
            C{asynqueue.aio}.
        @param name: the value of the label C{queue}.
        @raise ValueError: if another queue has that name.
        """
        self._forgetEnded()
        if name in self._counts:
            raise ValueError(
                f"there is a queue {name!r} already: give each queue a name of its own"
            )
        self._counts[name] = _QueueCounts(queue, self._buckets)

    def remove(self, name: str) -> None:
        """
        Tell nothing of a queue any more.

        @raise KeyError: if there is none of that name.
        """
        self._counts.pop(name).detach()

    def close(self) -> None:
        """
        Tell nothing any more, and leave the registry.
        """
        self.registry.unregister(self)
        for name in list(self._counts):
            self.remove(name)

    def _forgetEnded(self) -> None:
        for name in [name for name, counts in self._counts.items() if counts.isOver()]:
            self.remove(name)

    def describe(self) -> Iterable[Metric]:
        """
        Return the metrics without any values, by which the registry knows their names.
        """
        return self._families().values()

    def collect(self) -> Iterator[Metric]:
        """
        Return the metrics with their present values.
        """
        self._forgetEnded()
        families = self._families()
        for name, counts in self._counts.items():
            counts.tell(name, families)
        yield from families.values()

    def _families(self) -> dict[str, Any]:
        core = self._core
        kinds = (
            (core.CounterMetricFamily, "tasks_submitted", "Tasks that were put", ()),
            (core.CounterMetricFamily, "tasks_finished", "Tasks that ended", ("status",)),
            (core.GaugeMetricFamily, "tasks_pending", "Tasks that wait", ()),
            (core.GaugeMetricFamily, "tasks_underway", "Tasks that workers have", ()),
            (
                core.GaugeMetricFamily,
                "oldest_pending_seconds",
                "For how long the first of the tasks that wait has waited",
                (),
            ),
            (
                core.HistogramMetricFamily,
                "task_wait_seconds",
                "From when a task may run until a worker has it",
                (),
            ),
            (
                core.HistogramMetricFamily,
                "task_run_seconds",
                "From when a worker has a task until that run ends",
                (),
            ),
            (core.GaugeMetricFamily, "workers", "Attached workers", ()),
            (core.CounterMetricFamily, "worker_deaths", "Runners lost by workers", ("reason",)),
            (core.GaugeMetricFamily, "queue_paused", "Whether the queue is paused", ()),
        )
        families = {
            name: make(f"asynqueue_{name}", text, labels=["queue", *labels])
            for make, name, text, labels in kinds
        }
        build = {"version": __version__, "python": platform.python_version()}
        families["build"] = core.InfoMetricFamily("asynqueue_build", "What runs here", value=build)
        return families


@implementer(IObserver)
class _QueueCounts:
    """
    Counts what happens in a queue, and remembers since when each task waits or runs.
    """

    # What it asks for, all kinds of queues have, but no interface says so.
    def __init__(self, queue: Any, buckets: tuple[float, ...]) -> None:
        self._ref = ref(queue)
        # A dispatch queue has jobs and no workers.
        self._hasWorkers = hasattr(queue, "workers")
        self._submitted = 0
        self._finished: Counter[str] = Counter()
        self._deaths: Counter[str] = Counter()
        self._waits = _Histogram(buckets)
        self._runs = _Histogram(buckets)
        self._waiting = _Waiting()
        # When each task began that is underway, and since when it might.
        self._began: dict[int, tuple[float, float]] = {}
        now = queue.seconds()
        for record in (
            [*queue.tasks()] if self._hasWorkers else [*queue.pending(), *queue.underway()]
        ):
            if record.state == PENDING:
                self._wait(record, record.queuedTime, now)
            elif record.startTime is not None:
                self._began[record.id] = record.startTime, record.queuedTime
        queue.addObserver(self)

    def detach(self) -> None:
        """
        Count nothing any more.
        """
        queue = self._ref()
        # An event loop whose queue is over may be over itself.
        if queue is not None and not self.isOver():
            queue.removeObserver(self)

    def isOver(self) -> bool:
        """
        Whether the queue has ended all that it had and takes nothing on, or was dropped.
        """
        queue = self._ref()
        if queue is None:
            return True
        isRunning = queue.isRunning() if self._hasWorkers else not queue.stopped
        return not isRunning and not any(queue.size())

    def __call__(self, event: Event) -> None:
        """
        See L{IObserver<asynqueue.interfaces.IObserver>}.
        """
        kind, record = event.kind, event.task or event.job
        if record is None:
            if kind == LOST:
                self._deaths[reasonOf(event.reason)] += 1
        elif event.task is not None and event.task.isUpdate:
            return
        elif kind == QUEUED:
            self._submitted += 1
            self._wait(record, event.time, event.time)
        elif kind == STARTED:
            since = self._waiting.remove(record.id, event.time)
            self._began[record.id] = event.time, since
            self._waits.observe(event.time - since)
        elif kind in _STATUS:
            self._finished[_STATUS[kind]] += 1
            self._ran(record, event)
            self._waiting.remove(record.id, event.time)
        elif kind == RETRYING:
            self._ran(record, event)
            self._wait(record, event.time, event.time)
        elif kind == GIVEN_BACK:
            _, since = self._began.pop(record.id, (0.0, record.queuedTime))
            self._wait(record, since, event.time)

    def _wait(self, record: Record, since: float, now: float) -> None:
        """
        @param since: when the task or the job began to wait. One with a delay waits from when that
            is over.
        """
        due: float | None = getattr(record, "due", None)
        if due is not None:
            since = max(since, due)
        self._waiting.add(record.id, since, now)

    def _ran(self, record: Record, event: Event) -> None:
        began = self._began.pop(record.id, None)
        if began is not None:
            self._runs.observe(event.time - began[0])

    def tell(self, name: str, families: dict[str, Any]) -> None:
        """
        Add the present values to the metrics.
        """
        queue = self._ref()
        assert queue is not None
        underway, pending = queue.size()
        families["tasks_submitted"].add_metric([name], self._submitted)
        for status in _STATUS.values():
            families["tasks_finished"].add_metric([name, status], self._finished[status])
        families["tasks_pending"].add_metric([name], pending)
        families["tasks_underway"].add_metric([name], underway)
        families["oldest_pending_seconds"].add_metric([name], self._oldest(pending))
        self._waits.tell(name, families["task_wait_seconds"])
        self._runs.tell(name, families["task_run_seconds"])
        families["queue_paused"].add_metric([name], int(queue.paused))
        if self._hasWorkers:
            families["workers"].add_metric([name], len(queue))
            for reason in REASONS:
                families["worker_deaths"].add_metric([name, reason], self._deaths[reason])

    def _oldest(self, pending: int) -> float:
        waiting, queue = self._waiting, self._ref()
        assert queue is not None
        if len(waiting) > pending and not self._hasWorkers:
            # Nobody hears of jobs that are taken out without being cancelled.
            self._waiting = _Waiting()
            for job in queue.pending():
                self._wait(job, waiting.since(job.id, job.queuedTime), queue.seconds())
        now: float = queue.seconds()
        return max(0.0, now - self._waiting.oldest(now)) if pending else 0.0


class _Waiting:
    """
    Since when each task may run. Most tasks come in the order of these times.
    """

    __slots__ = ("_heap", "_inOrder", "_latest", "_others")

    def __init__(self) -> None:
        # By the numbers of the tasks. The first one of those in order is the oldest of them.
        self._inOrder: dict[int, float] = {}
        self._others: dict[int, float] = {}
        # The others, and some that were removed.
        self._heap: list[tuple[float, int]] = []
        self._latest = 0.0

    def __len__(self) -> int:
        return len(self._inOrder) + len(self._others)

    def add(self, id: int, since: float, now: float) -> None:
        """
        Add a task, which may run some time before or after the present one.
        """
        if self._latest <= since <= now:
            self._latest = since
            self._inOrder[id] = since
            return
        self._others[id] = since
        heappush(self._heap, (since, id))
        if len(self._heap) > FEW + 2 * len(self._others):
            self._heap = [(since, id) for id, since in self._others.items()]
            heapify(self._heap)

    def since(self, id: int, unknown: float) -> float:
        """
        Return since when a task may run.

        @param unknown: is returned if the task is not here.
        """
        return self._inOrder.get(id, self._others.get(id, unknown))

    def remove(self, id: int, unknown: float) -> float:
        """
        Remove a task, if it is here. Return what L{since} does.
        """
        since = self._inOrder.pop(id, None)
        return self._others.pop(id, unknown) if since is None else since

    def oldest(self, unknown: float) -> float:
        """
        Return the first of all times.

        @param unknown: is returned if there is none.
        """
        heap = self._heap
        while heap and self._others.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        first = next(iter(self._inOrder.values()), unknown)
        return min(first, heap[0][0]) if heap else first


class _Histogram:
    """
    Counts lengths of time by their sizes.
    """

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """
        Count one. A clock that was set back makes none negative.
        """
        seconds = max(0.0, seconds)
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def tell(self, name: str, family: Any) -> None:
        """
        Add the present values to a metric.
        """
        bounds = [*map(str, self._bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(self._counts), strict=True))
        family.add_metric([name], buckets=buckets, sum_value=self._sum)


class MetricsResource(Resource):
    """
    Serves the metrics of a registry, in the format that the client prefers. Everything is done in
    the reactor's thread, in which the queues can be asked.
    """

    isLeaf = True

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """
        @param registry: the registry. Default: the global one of C{prometheus_client}.
        @raise ExtraMissing: if C{prometheus_client} is not installed.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        try:
            import prometheus_client
            from prometheus_client.exposition import choose_encoder
        except ImportError as error:
            raise ExtraMissing("a MetricsResource", "metrics") from error
        self._registry: Any = prometheus_client.REGISTRY if registry is None else registry
        self._choose: Any = choose_encoder

    def render_GET(self, request: Request) -> bytes:
        """
        Answer a request. With C{name[]=...} it is for these metrics only.
        """
        names = [name.decode("utf-8", "replace") for name in request.args.get(b"name[]", ())]
        registry = self._registry.restricted_registry(names) if names else self._registry
        accepted = ",".join(request.requestHeaders.getRawHeaders("accept") or ())
        try:
            encode, kind = self._choose(accepted)
            text: bytes = encode(registry)
        except (TypeError, ValueError):
            # The client wants a version that is not a number.
            encode, kind = self._choose("")
            text = encode(registry)
        request.setHeader(b"content-type", kind.encode("ascii", "replace"))
        request.setHeader(b"cache-control", b"no-store")
        return text
