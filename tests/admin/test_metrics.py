"""
The metrics of queues, as Prometheus reads them.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import sys
import threading
from collections import Counter
from random import Random
from typing import Any
from unittest import mock
from weakref import ref

import pytest
from twisted.internet.task import Clock
from twisted.web.error import UnsupportedMethod
from twisted.web.resource import Resource
from twisted.web.test.requesthelper import DummyRequest

from asynqueue import ResizableDispatchQueue, TaskQueue, aio
from asynqueue.admin.metrics import DASHBOARD, REASONS, MetricsResource, QueueMetrics, reasonOf
from asynqueue.errors import (
    ConnectionLost,
    DaskWorkerDied,
    ExecutorDied,
    ExtraMissing,
    WorkerDied,
    WorkerRecycled,
    WorkerStartError,
)
from asynqueue.rdq import Job
from asynqueue.testing import InlineWorker
from tests.admin.cases import storm
from tests.dispatch.cases import DispatchCase
from tests.support.cases import QueueCase

Sample = tuple[str, tuple[tuple[str, str], ...]]


def makeRegistry() -> Any:
    from prometheus_client import CollectorRegistry

    return CollectorRegistry()


def samplesOf(registry: Any) -> dict[Sample, float]:
    """
    @return: the values in a registry, by their names and labels.
    """
    return {
        (sample.name.removeprefix("asynqueue_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def valuesOf(registry: Any, **labels: str) -> dict[str, float]:
    """
    @return: the values in a registry that have exactly these labels, by their names.
    """
    wanted = tuple(sorted(labels.items()))
    return {name: value for (name, has), value in samplesOf(registry).items() if has == wanted}


def fail() -> None:
    raise ValueError("no")


class TaskMetricsTests(QueueCase):
    def setUp(self) -> None:
        super().setUp()
        self.registry = makeRegistry()
        self.metrics = QueueMetrics(self.registry)

    def seen(self, name: str = "mails", **labels: str) -> dict[str, float]:
        return valuesOf(self.registry, queue=name, **labels)

    def test_tasksAreCountedFromTheirCallToTheirEnd(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        worker.stepAll()
        self.metrics.add(queue, "mails")
        for function in (len, len, fail):
            queue.call(function, *["abc"] * (function is len)).addErrback(lambda _: None)
        seen = self.seen()
        self.assertEqual(seen["tasks_submitted_total"], 3)
        self.assertEqual(seen["tasks_pending"] + seen["tasks_underway"], 3)
        self.assertEqual((seen["workers"], seen["queue_paused"]), (1, 0))
        worker.stepAll()
        queue.pause()
        queue.call(len, "abc").addErrback(lambda _: None).cancel()
        seen = self.seen()
        self.assertEqual((seen["tasks_submitted_total"], seen["queue_paused"]), (4, 1))
        self.assertEqual((seen["tasks_pending"], seen["tasks_underway"]), (0, 0))
        for status, number in {"finished": 2, "failed": 1, "cancelled": 1}.items():
            self.assertEqual(self.seen(status=status)["tasks_finished_total"], number)

    def test_waitsAndRunsAreMeasuredApart(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        worker.stepAll()
        self.metrics.add(queue, "mails")
        queue.pause()
        queue.call(len, "abc")
        self.clock.advance(3)
        queue.resume()
        self.clock.advance(20)
        worker.stepAll()
        seen = self.seen()
        self.assertEqual((seen["task_wait_seconds_sum"], seen["task_wait_seconds_count"]), (3, 1))
        self.assertEqual((seen["task_run_seconds_sum"], seen["task_run_seconds_count"]), (20, 1))
        self.assertEqual(self.seen(le="2.0")["task_wait_seconds_bucket"], 0)
        self.assertEqual(self.seen(le="10.0")["task_wait_seconds_bucket"], 1)
        self.assertEqual(self.seen(le="+Inf")["task_run_seconds_bucket"], 1)

    def test_theOldestIsTheOneThatHasWaitedLongestWhateverItsPriority(self) -> None:
        queue = self.makeQueue()
        self.metrics.add(queue, "mails")
        self.assertEqual(self.seen()["oldest_pending_seconds"], 0)
        starved = queue.submit(len, "abc", doLast=True)
        self.clock.advance(5)
        urgent = queue.submit(len, "abc", doNext=True)
        self.clock.advance(1)
        self.assertEqual(self.seen()["oldest_pending_seconds"], 6)
        for task, left in ((starved, 1), (urgent, 0)):
            task.d.addErrback(lambda _: None)
            task.cancel()
            self.assertEqual(self.seen()["oldest_pending_seconds"], left)

    def test_tasksThatWereThereBeforeAreKnown(self) -> None:
        queue = self.makeQueue()
        queue.call(len, "abc").addErrback(lambda _: None)
        self.clock.advance(5)
        self.metrics.add(queue, "mails")
        seen = self.seen()
        self.assertEqual((seen["tasks_pending"], seen["tasks_submitted_total"]), (1, 0))
        self.assertEqual(seen["oldest_pending_seconds"], 5)
        queue.cancelAll()

    def test_aRunThatFailedAndIsTriedAgainIsARun(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        worker.stepAll()
        self.metrics.add(queue, "mails")
        queue.options(retryOn=ValueError, retries=1).call(fail).addErrback(lambda _: None)
        worker.stepAll()
        self.assertEqual(self.seen()["task_run_seconds_count"], 1)
        self.assertEqual(self.seen(status="failed")["tasks_finished_total"], 0)
        self.clock.advance(60)
        worker.stepAll()
        self.assertEqual(self.seen()["task_run_seconds_count"], 2)
        self.assertEqual(self.seen(status="failed")["tasks_finished_total"], 1)

    def test_updatesDoNotCount(self) -> None:
        worker = self.makeWorker()
        queue = self.makeQueue(worker)
        self.settle()
        self.metrics.add(queue, "mails")
        queue.update(len, "abc")
        self.settle()
        self.assertEqual(self.seen()["tasks_submitted_total"], 0)
        self.assertEqual(self.seen(status="finished")["tasks_finished_total"], 0)
        self.assertEqual(self.seen()["task_run_seconds_count"], 0)

    def test_aLostRunnerCountsByItsReason(self) -> None:
        worker = self.makeWorker()
        queue = self.makeQueue(worker)
        self.settle()
        self.metrics.add(queue, "mails")
        worker.channel.die(exitCode=3)
        self.clock.advance(1)
        self.clock.advance(1)
        worker.channel.die(signal=9)
        self.clock.advance(1)
        deaths = {
            reason: self.seen(reason=reason)["worker_deaths_total"]
            for reason in ("exit", "signal", "memory")
        }
        self.assertEqual(deaths, {"exit": 1, "signal": 1, "memory": 0})

    def test_severalQueuesAreToldApart(self) -> None:
        first, second = self.makeQueue(), self.makeQueue()
        self.metrics.add(first, "mails")
        self.metrics.add(second, "disks")
        first.call(len, "abc").addErrback(lambda _: None)
        self.assertEqual(self.seen("mails")["tasks_pending"], 1)
        self.assertEqual(self.seen("disks")["tasks_pending"], 0)
        with self.assertRaisesRegex(ValueError, "'disks' already"):
            self.metrics.add(first, "disks")
        self.metrics.remove("disks")
        self.assertEqual(self.seen("disks"), {})
        first.cancelAll()

    def test_aQueueThatEndsIsToldNoMoreAndItsNameIsFree(self) -> None:
        worker = InlineWorker()
        queue = TaskQueue(worker, reactor=self.clock)
        self.metrics.add(queue, "mails")
        done = queue.shutdown()
        self.settle()
        self.successResultOf(done)
        self.assertEqual(self.seen(), {})
        self.metrics.add(self.makeQueue(), "mails")
        self.assertEqual(self.seen()["tasks_pending"], 0)

    def test_aQueueIsToldUntilItHasEndedWhatItHas(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        worker.stepAll()
        self.metrics.add(queue, "mails")
        queue.call(len, "abc")
        queue.shutdown()
        self.assertEqual(self.seen()["tasks_underway"], 1)
        self.stopQueue(queue)
        self.assertEqual(self.seen(), {})

    def test_aQueueThatTheProgramDropsIsNotKept(self) -> None:
        queue = TaskQueue(reactor=self.clock)
        self.metrics.add(queue, "mails")
        dropped = ref(queue)
        del queue
        gc.collect()
        self.assertIsNone(dropped())
        self.assertEqual(self.seen(), {})

    def test_aClosedCollectorIsNotInTheRegistryAndObservesNothing(self) -> None:
        queue = self.makeQueue()
        self.metrics.add(queue, "mails")
        self.metrics.close()
        self.assertEqual(samplesOf(self.registry), {})
        queue.call(len, "abc").addErrback(lambda _: None)
        queue.cancelAll()
        QueueMetrics(self.registry).add(queue, "mails")
        self.assertEqual(self.seen()["tasks_pending"], 0)

    def test_theProgramIsNamedWithItsVersions(self) -> None:
        [labels] = [dict(has) for name, has in samplesOf(self.registry) if name == "build_info"]
        self.assertEqual(sorted(labels), ["python", "version"])

    def test_bucketsAreTheOnesThatWereGiven(self) -> None:
        registry = makeRegistry()
        QueueMetrics(registry, buckets=(1, 2)).add(self.makeQueue(), "mails")
        bounds = {dict(has).get("le") for name, has in samplesOf(registry) if "wait" in name}
        self.assertEqual(bounds, {None, "1.0", "2.0", "+Inf"})
        for wrong in ((), (1, 1), (2, 1)):
            with self.assertRaisesRegex(ValueError, "must grow"):
                QueueMetrics(makeRegistry(), buckets=wrong)

    def test_aRegistryHasOneOfTheseOnly(self) -> None:
        with self.assertRaisesRegex(ValueError, "asynqueue_tasks_submitted"):
            QueueMetrics(self.registry)

    def test_theNumbersAddUpWhateverHappens(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        worker.stepAll()
        self.metrics.add(queue, "mails")

        kinds: Counter[str] = Counter()
        for _ in storm(self, queue, worker, kinds):
            seen = self.seen()
            ended = [
                self.seen(status=status)["tasks_finished_total"]
                for status in ("finished", "failed", "cancelled")
            ]
            left = seen["tasks_pending"] + seen["tasks_underway"]
            self.assertEqual(seen["tasks_submitted_total"], sum(ended) + left)
        self.assertEqual((left, seen["oldest_pending_seconds"]), (0, 0))
        self.assertGreater(min(*ended, kinds["GIVEN_BACK"], kinds["RETRYING"]), 0)
        self.assertEqual(seen["task_wait_seconds_count"], kinds["STARTED"])
        self.assertEqual(seen["task_run_seconds_count"], kinds["STARTED"] - kinds["GIVEN_BACK"])


class WaitingJobsTests(DispatchCase):
    def test_theOldestOfManyDelayedJobsIsKnownAsTheyGoAndCome(self) -> None:
        registry = makeRegistry()
        queue = self.makeQueue()
        QueueMetrics(registry).add(queue, "texts")
        random = Random(1)
        jobs: list[Job] = []
        for _ in range(300):
            jobs += self.putAll(queue, "a", delay=random.choice([None, *range(20)]))
            if len(jobs) > 50:
                jobs.pop(random.randrange(len(jobs))).cancel()
            self.clock.advance(random.choice([0, 1]))
            since = min(max(job.queuedTime, job.due or 0) for job in jobs)
            waited = max(0, self.clock.seconds() - since)
            assert valuesOf(registry, queue="texts")["oldest_pending_seconds"] == waited


class JobMetricsTests(DispatchCase):
    def setUp(self) -> None:
        super().setUp()
        self.registry = makeRegistry()
        self.metrics = QueueMetrics(self.registry)

    def seen(self, **labels: str) -> dict[str, float]:
        return valuesOf(self.registry, queue="texts", **labels)

    def test_jobsAreCountedAsTasksAre(self) -> None:
        queue = self.makeQueue(width=1)
        self.metrics.add(queue, "texts")
        self.putAll(queue, "abc")
        self.clock.advance(2)
        self.clock.advance(3)
        seen = self.seen()
        self.assertEqual((seen["tasks_submitted_total"], seen["tasks_pending"]), (3, 2))
        self.assertEqual((seen["tasks_underway"], seen["oldest_pending_seconds"]), (1, 5))
        self.held.finish("a")
        self.settle()
        self.held.fail("b", ValueError())
        seen = self.seen()
        self.assertEqual((seen["task_run_seconds_sum"], seen["task_run_seconds_count"]), (3, 2))
        for status in ("finished", "failed"):
            self.assertEqual(self.seen(status=status)["tasks_finished_total"], 1)
        self.assertNotIn("workers", seen)
        self.assertNotIn("worker_deaths_total", self.seen(reason="exit"))

    def test_aJobWaitsFromWhenItMayRun(self) -> None:
        queue = self.makeQueue(width=1)
        self.metrics.add(queue, "texts")
        self.putAll(queue, "a", delay=10)
        self.assertEqual(self.seen()["oldest_pending_seconds"], 0)
        queue.pause()
        [other] = self.putAll(queue, "b")
        self.clock.advance(4)
        self.assertEqual(self.seen()["oldest_pending_seconds"], 4)
        other.cancel()
        self.clock.advance(8)
        self.assertEqual(self.seen()["oldest_pending_seconds"], 2)
        queue.resume()
        self.settle()
        self.assertEqual(self.seen()["task_wait_seconds_sum"], 2)

    def test_jobsThatAreTakenOutSilentlyDoNotWaitAnyMore(self) -> None:
        queue = self.makeQueue()
        self.metrics.add(queue, "texts")
        left = self.putAll(queue, "ab")
        self.clock.advance(5)
        queue.clearQueue(cancelPending=False)
        self.putAll(queue, "c")
        self.clock.advance(2)
        self.assertEqual(self.seen()["oldest_pending_seconds"], 2)
        for job in left:
            job.cancel()

    def test_aStoppedQueueIsToldNoMore(self) -> None:
        queue = self.makeQueue(width=1)
        self.metrics.add(queue, "texts")
        self.putAll(queue, "ab")
        self.settle()
        queue.stop()
        self.assertEqual(self.seen()["tasks_underway"], 1)
        self.held.finish("a")
        self.settle()
        self.assertEqual(self.seen(), {})


def test_queuesOfAsyncioAreToldToo() -> None:
    registry = makeRegistry()
    metrics = QueueMetrics(registry)

    async def main() -> dict[str, float]:
        async with aio.ThreadQueue(1) as queue:
            metrics.add(queue, "mails")
            await queue.call(len, "abc")
            jobs = aio.ResizableDispatchQueue(len, width=1)
            metrics.add(jobs, "texts")
            await jobs.put("abc")
            assert valuesOf(registry, queue="texts", status="finished") == {
                "tasks_finished_total": 1
            }
            await jobs.stop()
            return valuesOf(registry, queue="mails", status="finished")

    assert asyncio.run(main()) == {"tasks_finished_total": 1}
    assert valuesOf(registry, queue="texts") == {}


def test_aQueueIsForgottenWhenItsEventLoopIsOver() -> None:
    registry = makeRegistry()
    metrics = QueueMetrics(registry)
    queues: list[Any] = []

    async def main() -> None:
        async with aio.ThreadQueue(1) as queue:
            queues.append(queue)
            metrics.add(queue, "mails")
            await queue.call(len, "abc")

    asyncio.run(main())
    assert valuesOf(registry, queue="mails") == {}
    asyncio.run(main())
    metrics.close()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (WorkerDied(1, signal=9, isLikelyOutOfMemory=True), "memory"),
        (WorkerDied(1, signal=15), "signal"),
        (WorkerDied(1, exitCode=1), "exit"),
        (WorkerDied(), "other"),
        (ConnectionLost("here", "cut"), "connection"),
        (ExecutorDied("Pool", "broken"), "executor"),
        (DaskWorkerDied("killed"), "dask"),
        (WorkerStartError("no"), "start"),
        (WorkerRecycled("old"), "recycled"),
        (RuntimeError("anything"), "other"),
        (None, "other"),
    ],
    ids=str,
)
def test_theReasonOfALossIsOneOfAFew(error: BaseException | None, reason: str) -> None:
    assert reasonOf(error) == reason
    assert reason in REASONS


def answerTo(resource: Resource, accept: str | None = None, **args: str) -> tuple[Any, bytes]:
    request = DummyRequest([b""])
    request.args = {f"{name}[]".encode(): [value.encode()] for name, value in args.items()}
    if accept is not None:
        request.requestHeaders.setRawHeaders("accept", [accept])
    return request, resource.render(request)


def test_theResourceServesARegistryInTheThreadThatAsks() -> None:
    registry = makeRegistry()
    threads: list[threading.Thread] = []

    class Collector:
        def collect(self) -> list[Any]:
            threads.append(threading.current_thread())
            return []

    registry.register(Collector())
    threads.clear()
    queue = ResizableDispatchQueue(len, reactor=Clock())
    QueueMetrics(registry).add(queue, "texts")
    request, text = answerTo(MetricsResource(registry))
    assert threads == [threading.current_thread()]
    [kind] = request.responseHeaders.getRawHeaders("content-type")
    assert kind.startswith("text/plain")
    assert b'asynqueue_tasks_pending{queue="texts"} 0.0\n' in text


def test_theResourceSpeaksOpenMetricsIfTheClientDoes() -> None:
    resource = MetricsResource(makeRegistry())
    request, text = answerTo(resource, "application/openmetrics-text; version=1.0.0")
    [kind] = request.responseHeaders.getRawHeaders("content-type")
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


def test_theResourceTellsOnlyWhatItIsAskedFor() -> None:
    registry = makeRegistry()
    QueueMetrics(registry)
    _, text = answerTo(MetricsResource(registry), name="asynqueue_build_info")
    assert b"asynqueue_build_info{" in text
    assert b"tasks" not in text


@pytest.mark.parametrize("version", ["x", "1.x", "", "9.9", "\N{SNOWMAN}"])
def test_aClientThatAcceptsAStrangeVersionIsAnswered(version: str) -> None:
    resource = MetricsResource(makeRegistry())
    for kind in ("application/openmetrics-text", "text/plain"):
        _, text = answerTo(resource, f"{kind}; version={version}")
        assert isinstance(text, bytes)


def test_theResourceTakesNothingButGETAndHEAD() -> None:
    request = DummyRequest([b""])
    request.method = b"POST"
    with pytest.raises(UnsupportedMethod):
        MetricsResource(makeRegistry()).render(request)


def test_withoutTheExtraTheErrorNamesTheCommand() -> None:
    with mock.patch.dict(sys.modules, {"prometheus_client": None}):
        for make in (QueueMetrics, MetricsResource):
            with pytest.raises(ExtraMissing, match=r"pip install 'asynqueue2\[metrics\]'"):
                make()


def test_theDashboardAsksForMetricsAndLabelsThatExist() -> None:
    registry = makeRegistry()
    queue = TaskQueue(reactor=Clock())
    QueueMetrics(registry).add(queue, "mails")
    labels: dict[str, set[str]] = {}
    for name, has in samplesOf(registry):
        labels.setdefault(f"asynqueue_{name}", set()).update(dict(has))
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions += [
        one["query"]["query"]
        for one in dashboard["templating"]["list"]
        if "query" in one and isinstance(one["query"], dict)
    ]
    asked = set()
    for expression in expressions:
        names = set(re.findall(r"\basynqueue_\w+", expression))
        assert names and names <= set(labels), expression
        asked |= names
        known = set().union(*(labels[name] for name in names))
        wanted = set(re.findall(r"(\w+)\s*=~?\s*\"", expression))
        for group in re.findall(r"\b(?:by|without)\s*\(([^)]*)\)", expression):
            wanted |= set(re.split(r"\s*,\s*", group))
        assert wanted <= known, expression
    told = {re.sub(r"_(count|sum|bucket)$", "", name) for name in labels}
    assert told == {re.sub(r"_(count|sum|bucket)$", "", name) for name in asked}
