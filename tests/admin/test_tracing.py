"""
The spans of OpenTelemetry of tasks and jobs.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any
from unittest import mock

import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from asynqueue import (
    AsyncWorker,
    ExecutorWorker,
    TaskQueue,
    aio,
)
from asynqueue.admin.tracing import QueueTracer
from asynqueue.errors import ExtraMissing
from asynqueue.testing.memory import act
from tests.admin.cases import storm
from tests.dispatch.cases import DispatchCase
from tests.support.cases import QueueCase
from tests.support.remote import RemoteMixin

request: ContextVar[str] = ContextVar("request")


class Spans:
    """
    Keeps the spans that were ended.

    @ivar provider: what makes them.
    """

    def __init__(self) -> None:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        self.provider: Any = TracerProvider()
        self._exporter: Any = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def tracer(self, name: str = "mails") -> QueueTracer:
        return QueueTracer(name, self.provider)

    def own(self, name: str) -> Any:
        """
        @return: a context manager, in which a span of the program's own is the current one.
        """
        return self.provider.get_tracer("own").start_as_current_span(name)

    def ended(self, name: str = "") -> list[Any]:
        """
        @return: the spans that have ended, of one name or of all.
        """
        return [span for span in self._exporter.get_finished_spans() if name in ("", span.name)]

    def one(self, name: str) -> Any:
        [span] = self.ended(name)
        return span


def parentOf(span: Any) -> int | None:
    return None if span.parent is None else span.parent.span_id


def isChild(span: Any, other: Any) -> bool:
    return bool(
        parentOf(span) == other.context.span_id and span.context.trace_id == other.context.trace_id
    )


def currentSpan() -> tuple[int, int, bool]:
    """
    @return: the number of the current span and of its trace, and whether it comes from elsewhere.
    """
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    return context.span_id, context.trace_id, context.is_remote


def currentSpans(number: int) -> Iterator[tuple[int, int, bool]]:
    for _ in range(number):
        yield currentSpan()


async def currentSpanLater() -> tuple[int, int, bool]:
    await asyncio.sleep(0)
    return currentSpan()


def requestAndSpan() -> tuple[str, int]:
    return request.get(), currentSpan()[0]


def baggage(name: str) -> object:
    from opentelemetry import baggage

    return baggage.get_baggage(name)


def fail(text: str = "no") -> None:
    raise ValueError(text)


def idsOf(span: Any) -> tuple[int, int]:
    return span.context.span_id, span.context.trace_id


class TaskSpanTests(QueueCase):
    """
    With workers in memory, whose calls are pickled as on their way to a process.
    """

    def setUp(self) -> None:
        super().setUp()
        self.spans = Spans()
        self.worker = self.makeWorker(stepSeconds=None)
        self.queue = self.makeQueue(self.worker)
        self.worker.stepAll()
        self.tracer = self.spans.tracer()
        self.queue.addObserver(self.tracer)

    def finish(self, d: Deferred[Any]) -> Any:
        self.worker.stepAll()
        return self.successResultOf(d)

    def failed(self, d: Deferred[Any]) -> Any:
        self.worker.stepAll()
        return self.failureResultOf(d).value

    def test_aTaskIsAChildOfItsCallerAndItsRunIsAChildOfThat(self) -> None:
        from opentelemetry.trace import SpanKind, StatusCode

        with self.spans.own("request"):
            d = self.queue.call(len, "abc", niceness=5, series=None)
        self.assertEqual(self.finish(d), 3)
        put, run = self.spans.one("put len"), self.spans.one("run len")
        self.assertTrue(isChild(put, self.spans.one("request")))
        self.assertTrue(isChild(run, put))
        self.assertEqual((put.kind, run.kind), (SpanKind.PRODUCER, SpanKind.CONSUMER))
        self.assertLessEqual(put.end_time, run.start_time)
        self.assertEqual(run.status.status_code, StatusCode.UNSET)
        self.assertEqual(
            dict(run.attributes),
            {
                "messaging.system": "asynqueue",
                "messaging.destination.name": "mails",
                "messaging.operation.name": "run",
                "messaging.operation.type": "process",
                "messaging.message.id": "1",
                "asynqueue.function": "len",
                "asynqueue.niceness": 5,
                "asynqueue.attempt": 1,
                "asynqueue.worker": "MemoryWorker",
                "asynqueue.outcome": "FINISHED",
            },
        )
        self.assertEqual(put.attributes["messaging.operation.type"], "send")

    def test_theRunIsTheCurrentSpanOfItsFunctionElsewhere(self) -> None:
        found = self.finish(self.queue.call(currentSpan))
        self.assertEqual(found, (*idsOf(self.spans.one("run currentSpan")), True))
        self.assertEqual(currentSpan()[0], 0)

    def test_theRunIsTheCurrentSpanOfACoroutineElsewhere(self) -> None:
        found = self.finish(self.queue.call(currentSpanLater))
        self.assertEqual(found[:2], idsOf(self.spans.one("run currentSpanLater")))

    def test_baggageTravelsToo(self) -> None:
        from opentelemetry import context
        from opentelemetry.baggage import set_baggage

        token = context.attach(set_baggage("user", "ann"))
        try:
            d = self.queue.call(baggage, "user")
        finally:
            context.detach(token)
        self.assertEqual(self.finish(d), "ann")

    def test_nothingOfARunIsLeftForTheNextOne(self) -> None:
        first = self.finish(self.queue.call(currentSpan))
        self.queue.removeObserver(self.tracer)
        self.assertNotEqual(first[0], 0)
        self.assertEqual(self.finish(self.queue.call(currentSpan)), (0, 0, False))

    def test_aFailureIsRecorded(self) -> None:
        from opentelemetry.trace import StatusCode

        self.failed(self.queue.call(fail, "no such user"))
        run = self.spans.one("run fail")
        self.assertEqual(run.status.status_code, StatusCode.ERROR)
        self.assertEqual(run.status.description, "no such user")
        self.assertEqual(run.attributes["error.type"], "ValueError")
        self.assertEqual(run.attributes["asynqueue.outcome"], "FAILED")
        [event] = run.events
        self.assertEqual(event.attributes["exception.message"], "no such user")

    def test_aTaskThatIsCancelledUnderwayHasARunThatSaysSo(self) -> None:
        from opentelemetry.trace import StatusCode

        task = self.queue.submit(len, "abc")
        task.d.addErrback(lambda _: None)
        task.cancel()
        run = self.spans.one("run len")
        self.assertEqual(run.attributes["asynqueue.outcome"], "CANCELLED")
        self.assertEqual(run.status.status_code, StatusCode.UNSET)
        self.worker.stepAll()

    def test_aTaskThatEndsWithoutARunHasASpanThatSaysSo(self) -> None:
        self.queue.pause()
        task = self.queue.submit(len, "abc")
        task.d.addErrback(lambda _: None)
        task.cancel()
        self.assertEqual(self.spans.ended("run len"), [])
        end = self.spans.one("end len")
        self.assertTrue(isChild(end, self.spans.one("put len")))
        self.assertEqual(end.attributes["asynqueue.outcome"], "CANCELLED")

    def test_eachRunOfATaskThatIsTriedAgainIsASpan(self) -> None:
        d = self.queue.options(retryOn=ValueError, retries=1).call(fail)
        self.worker.stepAll()
        self.clock.advance(60)
        self.failed(d)
        runs = self.spans.ended("run fail")
        put = self.spans.one("put fail")
        self.assertTrue(all(isChild(run, put) for run in runs))
        self.assertEqual(
            [
                (run.attributes["asynqueue.attempt"], run.attributes["asynqueue.outcome"])
                for run in runs
            ],
            [(1, "RETRYING"), (2, "FAILED")],
        )
        self.assertEqual(len({run.context.span_id for run in runs}), 2)

    def test_aTaskWhoseWorkerDiesRunsInAnotherSpan(self) -> None:
        d = self.queue.options(idempotent=True).call(act, "look")
        seen: list[Any] = []

        def look() -> None:
            seen.append(currentSpan()[0])
            if len(seen) == 1:
                self.worker.channel.die(signal=9)

        self.worker.actions["look"] = look
        for _ in range(5):
            self.worker.stepAll()
            self.clock.advance(1)
        self.finish(d)
        runs = self.spans.ended("run act")
        self.assertEqual([run.context.span_id for run in runs], seen)
        outcomes = [run.attributes["asynqueue.outcome"] for run in runs]
        self.assertEqual(outcomes, ["GIVEN_BACK", "FINISHED"])

    def test_aStreamIsSpannedOverItsLife(self) -> None:
        d = self.queue.call(currentSpans, 2)
        self.worker.stepAll()
        stream = self.successResultOf(d)
        found = [self.finish(next(stream)) for _ in range(2)]
        run = self.spans.one("run currentSpans")
        self.assertEqual([one[:2] for one in found], [idsOf(run)] * 2)
        self.assertEqual(run.attributes["asynqueue.outcome"], "FINISHED")

    def test_theRunsOfAMapBelongToTheCallerOfMap(self) -> None:
        with self.spans.own("request"):
            results = self.queue.map(len, ["abc", "de", "f"], chunksize=1, window=1)
        for _ in range(3):
            d = next(results)
            self.worker.stepAll()
            self.successResultOf(d)
        request = self.spans.one("request")
        puts = self.spans.ended("put len")
        self.assertEqual(len(puts), 3)
        self.assertTrue(all(isChild(put, request) for put in puts))

    def test_anUpdateIsSpannedLikeATask(self) -> None:
        d = self.queue.update(currentSpan)
        [found] = self.finish(d)
        put, run = self.spans.one("put currentSpan"), self.spans.one("run currentSpan")
        self.assertTrue(isChild(run, put))
        self.assertEqual(found[1], put.context.trace_id)
        self.assertIs(run.attributes["asynqueue.update"], True)

    def test_declaredContextVariablesTravelBesideTheSpan(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        names = ["tests.admin.test_tracing.request"]
        queue = TaskQueue(worker, contextvars=names, reactor=self.clock)
        self.queues.append(queue)
        worker.stepAll()
        queue.addObserver(self.spans.tracer())
        token = request.set("r1")
        try:
            d = queue.call(requestAndSpan)
        finally:
            request.reset(token)
        worker.stepAll()
        found = self.successResultOf(d)
        self.assertEqual(found, ("r1", self.spans.one("run requestAndSpan").context.span_id))

    def test_eachRunHasOneSpanWhateverHappens(self) -> None:
        kinds: Counter[str] = Counter()
        for _ in storm(self, self.queue, self.worker, kinds):
            pass
        ended = [
            span.attributes["asynqueue.outcome"]
            for span in self.spans.ended()
            if span.name.startswith("run ")
        ]
        self.assertEqual(len(ended), kinds["STARTED"])
        for outcome in ("FINISHED", "FAILED", "RETRYING", "GIVEN_BACK"):
            self.assertEqual(ended.count(outcome), kinds[outcome])
        puts = [span for span in self.spans.ended() if span.name.startswith("put ")]
        self.assertEqual(len(puts), kinds["QUEUED"])

    def test_aTracerThatRaisesDoesNoHarm(self) -> None:
        tracer = self.spans.tracer()
        unable: Any = None
        tracer._tracer = unable
        self.queue.removeObserver(self.tracer)
        self.queue.addObserver(tracer)
        self.assertEqual(self.finish(self.queue.call(len, "abc")), 3)
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 2)


class JobSpanTests(DispatchCase):
    def setUp(self) -> None:
        super().setUp()
        self.spans = Spans()

    def test_aJobIsAChildOfItsCallerAndItsRunIsTheCurrentSpan(self) -> None:
        queue = self.makeQueue(lambda _: currentSpan(), width=1)
        queue.addObserver(self.spans.tracer("texts"))
        with self.spans.own("request"):
            d = queue.put("abc")
        self.settle()
        job = self.successResultOf(d)
        put, run = self.spans.one("put texts"), self.spans.one("run texts")
        self.assertTrue(isChild(put, self.spans.one("request")))
        self.assertTrue(isChild(run, put))
        self.assertEqual(job.result, (*idsOf(run), False))
        self.assertEqual(currentSpan()[0], 0)

    def test_aJobInATaskQueueHasTheTaskForItsChild(self) -> None:
        workers = TaskQueue(AsyncWorker(reactor=self.clock), reactor=self.clock)
        workers.addObserver(self.spans.tracer("mails"))
        queue = self.makeQueue(len, width=1, queue=workers)
        queue.addObserver(self.spans.tracer("texts"))
        d = queue.put("abc")
        for _ in range(5):
            self.settle()
        self.successResultOf(d)
        self.assertTrue(isChild(self.spans.one("put len"), self.spans.one("run texts")))
        self.successResultOf(workers.shutdown())

    def test_jobsThatFailOrAreCancelledSaySo(self) -> None:
        queue = self.makeQueue(width=2)
        queue.addObserver(self.spans.tracer("texts"))
        jobs = self.putAll(queue, "abc")
        self.settle()
        self.held.fail("a", ValueError("no"))
        jobs[1].cancel()
        queue.pause()
        jobs[2].cancel()
        found = {
            span.attributes["messaging.message.id"]: (
                span.name,
                span.attributes["asynqueue.outcome"],
            )
            for span in self.spans.ended()
            if "asynqueue.outcome" in span.attributes
        }
        self.assertEqual(found["1"], ("run texts", "FAILED"))
        self.assertEqual(found["2"], ("run texts", "CANCELLED"))
        self.assertEqual(found["3"][1], "CANCELLED")

    def test_aJobFromAStoreBeginsATrace(self) -> None:
        from asynqueue.rdq import MemoryJobStore

        store = MemoryJobStore()
        queue = self.makeQueue(store=store, storedAs="texts")
        self.putAll(queue, "a")
        self.settle()
        queue.stop()
        self.settle()
        again = self.makeQueue(width=1, store=store, storedAs="texts")
        again.addObserver(self.spans.tracer("texts"))
        with self.spans.own("request"):
            for _ in range(5):
                self.settle()
        self.held.finish("a")
        self.settle()
        self.assertIsNone(parentOf(self.spans.one("run texts")))


def runQueue(main: Callable[[Spans], Any]) -> Spans:
    """
    Run a program of asyncio with a bounded time.
    """
    spans = Spans()

    async def bounded() -> None:
        async with asyncio.timeout(20):
            await main(spans)

    asyncio.run(bounded())
    return spans


def test_inAThreadTheSpanItselfIsTheCurrentOne() -> None:
    async def main(spans: Spans) -> None:
        async with aio.ThreadQueue(1) as queue:
            queue.addObserver(spans.tracer())
            with spans.own("request"):
                await queue.call(nameCurrent, "named by the function")

    spans = runQueue(main)
    run = spans.one("named by the function")
    assert isChild(run, spans.one("put nameCurrent"))


def nameCurrent(name: str) -> None:
    from opentelemetry import trace

    trace.get_current_span().update_name(name)


def test_inAProcessSpansBelongToTheRunAndOnlyTheParentExportsIt() -> None:
    found: list[Any] = []

    async def main(spans: Spans) -> None:
        async with aio.ProcessQueue(1) as queue:
            queue.addObserver(spans.tracer())
            with spans.own("request"):
                found.append(await queue.call(currentSpan))
            assert len(spans.ended("put currentSpan")) == 1

    spans = runQueue(main)
    run = spans.one("run currentSpan")
    assert found == [(*idsOf(run), True)]
    assert {span.name for span in spans.ended()} == {
        "request",
        "put currentSpan",
        "run currentSpan",
    }
    assert len({span.context.trace_id for span in spans.ended()}) == 1


def test_inAnExecutorTheRunIsTheCurrentSpanToo() -> None:
    from concurrent.futures import ThreadPoolExecutor

    found: list[Any] = []

    async def main(spans: Spans) -> None:
        with ThreadPoolExecutor(1) as executor:
            worker = ExecutorWorker(executor, reactor=aio.getReactor())
            async with aio.TaskQueue(worker) as queue:
                queue.addObserver(spans.tracer())
                found.append(await queue.call(currentSpan))

    spans = runQueue(main)
    assert found == [(*idsOf(spans.one("run currentSpan")), False)]


class RemoteSpanTests(RemoteMixin, TestCase):
    timeout = 30.0

    async def test_aServerThatRunsOnlySomeModulesTakesTheSpanToo(self) -> None:
        spans = Spans()
        await self.serve(only=[__name__])
        async with TaskQueue(self.remote(), timeout=2.0, observers=[spans.tracer()]) as queue:
            found = await queue.call(currentSpan)
        self.assertEqual(found, (*idsOf(spans.one("run currentSpan")), True))


def test_withoutTheExtraTheErrorNamesTheCommand() -> None:
    with (
        mock.patch.dict(sys.modules, {"opentelemetry": None}),
        pytest.raises(ExtraMissing, match=r"pip install 'asynqueue2\[otel\]'"),
    ):
        QueueTracer("mails")
