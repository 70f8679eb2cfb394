"""
What a worker over an executor knows of each task.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from asynqueue.errors import CallNotPicklable, ExecutorDied, WorkerError
from asynqueue.universe.exceptions import explained
from asynqueue.universe.executed import Call, Outcome
from asynqueue.universe.herestream import HereStream
from asynqueue.workers.channel.stream import notRebuilt
from asynqueue.workers.executor.kinds import UNPICKLABLE
from asynqueue.workers.executor.mailbox import Mailbox
from asynqueue.workers.executor.stream import failureOf
from asynqueue.workers.executor.streams import Streams


class Run:
    """
    A task that was given; it is the near side of its call.

    @ivar done: what C{run} returned.
    @ivar future: the executor's, while that has the call.
    @ivar call: that call.
    @ivar hasBegun: whether it is known to have begun.
    """

    def __init__(self, task: Any, mailbox: Mailbox) -> None:
        self.task = task
        self.done: Deferred[None] = Deferred()
        self.future: Any = None
        self.call: Call | None = None
        self.hasBegun = False
        self._mailbox = mailbox
        self._progress: tuple[float, float | None] | None = None

    @property
    def mayHaveBegun(self) -> bool:
        """
        Whether the call may have had any effect.
        """
        return self.hasBegun or (self.call is not None and self.call.wasPickled)

    def begun(self) -> None:
        """
        In the executor's thread: the call begins.
        """
        self.hasBegun = True

    def report(self, done: float, total: float | None) -> None:
        """
        In the executor's thread: the call has come so far. Of what comes before the reactor has
        looked, only the last is told.
        """
        isFirst = self._progress is None
        self._progress = done, total
        if isFirst:
            self._mailbox.post(self._tell)

    def _tell(self) -> None:
        progress, self._progress = self._progress, None
        reported = getattr(self.task, "reported", None)
        if progress is not None and reported is not None:
            reported(*progress)

    # Ends -----------------------------------------------------------------------------------------

    def finished(self, outcome: Outcome, streams: Streams) -> None:
        """
        End the task with what has become of its call.
        """
        task, codec = self.task, outcome.codec
        if outcome.error is not None:
            task.errback(failureOf(codec.rebuild(outcome.error)))
        elif isinstance(outcome.result, HereStream):
            streams.deliver(task, outcome.result)
        else:
            try:
                result = codec.unpack(outcome.result)
            except BaseException as error:
                task.errback(Failure(notRebuilt("the result", error)))
            else:
                task.callback(result)

    def failed(self, error: BaseException, executor: str, isSealed: bool) -> None:
        """
        The executor could not run the call.

        @param isSealed: whether the executor does nothing that can fail, other than to pickle it.
        """
        why: Exception
        if isSealed or isinstance(error, UNPICKLABLE):
            why = explained(CallNotPicklable, "pickle the call", error)
        else:
            why = explained(WorkerError, f"run the call in the {executor}", error)
        why.__cause__ = error
        self.task.errback(Failure(why))

    def died(self, error: BaseException, executor: str, why: str) -> None:
        """
        The executor broke with the call.
        """
        died = ExecutorDied(executor, why)
        died.__cause__ = error
        self.task.errback(Failure(died))
