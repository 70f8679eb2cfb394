"""
Spans of OpenTelemetry for the tasks of a queue. This needs the extra C{otel}.

A L{QueueTracer} is an observer of one queue::

    queue.addObserver(QueueTracer("mails"))

Each task has a PRODUCER span, for the moment in which it is put into the queue, as a child of the
span that is current there. Each run of the task has a CONSUMER span, as a child of that one, from
when a worker gets the task until the run ends. In the task's function, wherever it runs, the run's
span is the current one, so that spans and logs of the program's own belong to it. Only the program
that has the queue exports the spans of the tasks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from zope.interface import implementer

from asynqueue._core.description import describeFunction, shortly
from asynqueue._core.states import ENDED, FAILED
from asynqueue._core.task import Task
from asynqueue._observers import GIVEN_BACK, QUEUED, RETRYING, Event
from asynqueue._runner.context import TRACE, Pairs, TravellingContext
from asynqueue._version import __version__
from asynqueue.errors import ExtraMissing, textOf, typeName
from asynqueue.interfaces import ITracer

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, TracerProvider

    from asynqueue._dispatch.job import Job
    from asynqueue._queue.queuedtask import QueuedTask

_ENDS: Final = ENDED | {GIVEN_BACK, RETRYING}
"""The events with which a run ends."""


@implementer(ITracer)
class QueueTracer:
    """
    Makes spans of the tasks of a C{TaskQueue}, or of the jobs of a C{ResizableDispatchQueue}, of
    those that are put after it was added. Make one for each queue.

    A PRODUCER is named C{put}, a CONSUMER C{run}. The name of the function follows, or that of a
    dispatch queue, which has one function only. They have these attributes:

      - C{messaging.system}, which is C{asynqueue}; C{messaging.destination.name}, the name of the
        queue; C{messaging.operation.name} and C{messaging.operation.type}; and
        C{messaging.message.id}, the number of the task or the job.
      - C{asynqueue.function}, C{asynqueue.series} and C{asynqueue.niceness} of a task, and
        C{asynqueue.update} of a run of an update.
      - C{asynqueue.attempt} and C{asynqueue.worker} of a CONSUMER, and C{asynqueue.outcome}:
        FINISHED, FAILED, CANCELLED, RETRYING or GIVEN_BACK.
      - C{error.type} if it FAILED or is RETRYING. The exception is recorded, too, and the span has
        the status of an error.

    The span of a task that yields items lasts until the last item. A task that ends without a run,
    because it was cancelled for example, has an INTERNAL span named C{end} instead, which says
    that.

    A job that comes from a store has no PRODUCER, because the store keeps no spans. Its CONSUMER
    begins a trace.
    """

    def __init__(self, name: str, tracerProvider: TracerProvider | None = None) -> None:
        """
        @param name: the name of the queue.
        @param tracerProvider: makes the spans. Default: the global one.
        @raise ExtraMissing: if OpenTelemetry is not installed.
        """
        try:
            from opentelemetry import trace
            from opentelemetry.context import Context, get_current
        except ImportError as error:
            raise ExtraMissing("a QueueTracer", "otel") from error
        self._trace = trace
        self._getCurrent = get_current
        # The reactor's turn in which a task begins has nothing to do with it.
        self._nothing = Context()
        self._tracer = trace.get_tracer("asynqueue", __version__, tracerProvider)
        self._name = name
        kinds = trace.SpanKind
        self._kinds = {"send": kinds.PRODUCER, "process": kinds.CONSUMER, None: kinds.INTERNAL}
        # The spans of the runs that have not ended, as far as this was told, by the number of the
        # task. A task that was given back may run again before this hears of that.
        self._open: dict[int, list[Span]] = {}

    def capture(self) -> Pairs:
        """
        See L{ITracer}.
        """
        return ((TRACE, TravellingContext(self._getCurrent())),)

    def begins(self, event: Event) -> None:
        """
        See L{ITracer}.
        """
        record = event.task or event.job
        assert record is not None
        if event.kind == QUEUED:
            self._queued(record)
        else:
            self._started(record, event)

    def __call__(self, event: Event) -> None:
        """
        See L{IObserver<asynqueue.interfaces.IObserver>}.
        """
        record = event.task or event.job
        if record is None or event.kind not in _ENDS:
            return
        spans = self._open.get(record.id)
        if spans:
            span = spans.pop(0)
            if not spans:
                del self._open[record.id]
        else:
            given = _find(record.context)
            if given is None:
                # It began before this tracer was added.
                return
            span = self._make(record, "end", None, given.parent)
        self._end(span, event)

    def _queued(self, record: QueuedTask | Job) -> None:
        given = _find(record.context)
        current = self._getCurrent() if given is None else given.context
        span = self._make(record, "put", "send", current)
        span.end()
        put = self._trace.set_span_in_context(span, current)
        record.context = _replaced(record.context, TravellingContext(put, put))

    def _started(self, record: QueuedTask | Job, event: Event) -> None:
        given = _find(record.context)
        parent = self._nothing if given is None else given.parent
        span = self._make(record, "run", "process", parent)
        span.set_attribute("asynqueue.attempt", record.attempts)
        if event.worker is not None:
            span.set_attribute("asynqueue.worker", type(event.worker).__name__)
        if event.task is not None and event.task.isUpdate:
            span.set_attribute("asynqueue.update", True)
        self._open.setdefault(record.id, []).append(span)
        run = self._trace.set_span_in_context(span, parent)
        record.context = _replaced(record.context, TravellingContext(run, parent))

    def _make(
        self, record: QueuedTask | Job, operation: str, kind: str | None, parent: Context
    ) -> Span:
        """
        @param operation: what is done with the task or the job.
        @param kind: what OpenTelemetry calls that; C{None} if it has no name for it.
        @param parent: the context of the span's parent.
        """
        facts: dict[str, str | int] = {
            "messaging.system": "asynqueue",
            "messaging.destination.name": self._name,
            "messaging.operation.name": operation,
            "messaging.message.id": str(record.id),
        }
        if kind is not None:
            facts["messaging.operation.type"] = kind
        what = self._name
        task = record if isinstance(record, Task) else None
        if task is not None:
            facts["asynqueue.function"] = what = describeFunction(task.shownFunction)
            facts["asynqueue.niceness"] = task.options.niceness
            if task.series is not None:
                facts["asynqueue.series"] = _nameOf(task.series)
        return self._tracer.start_span(f"{operation} {what}", parent, self._kinds[kind], facts)

    def _end(self, span: Span, event: Event) -> None:
        span.set_attribute("asynqueue.outcome", event.kind)
        error = event.reason
        if error is not None and event.kind in (FAILED, RETRYING):
            span.set_attribute("error.type", typeName(type(error)))
            span.record_exception(error)
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, textOf(error)))
        span.end()


def _find(pairs: Iterable[tuple[str, object]] | None) -> TravellingContext | None:
    for name, value in pairs or ():
        if name == TRACE and isinstance(value, TravellingContext):
            return value
    return None


def _replaced(pairs: Pairs | None, travelling: TravellingContext) -> Pairs:
    others = tuple(pair for pair in pairs or () if pair[0] != TRACE)
    return (*others, (TRACE, travelling))


def _nameOf(series: object) -> str:
    return series if isinstance(series, str) else shortly(series)
