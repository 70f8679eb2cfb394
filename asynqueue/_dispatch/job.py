"""
Jobs: one argument for a dispatch queue's function, with its times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from asynqueue._core.states import CANCELLED, FAILED, FINISHED, PENDING, UNDERWAY
from asynqueue._core.task import Record
from asynqueue.errors import JobError, JobNotDispatched, StoreError


class JobCancelled(JobError, CancelledError):
    """
    A job was cancelled before it had come to its end. This is Twisted's C{CancelledError}, too.
    """


class JobDeferred(Deferred["Job"]):
    """
    A Deferred that waits for a job. Cancelling it cancels the job.

    @ivar job: the job.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(_cancelJob)
        self.job = job


class JobOwner(Protocol):
    """
    Whoever a job belongs to: a dispatch queue.
    """

    def cancelJob(self, job: Job) -> None:
        """Somebody wants a job cancelled that is PENDING or UNDERWAY."""

    def reprioritize(self, job: Job, priority: float) -> None:
        """Somebody wants a job moved."""


class Job(Record):
    """
    One argument for a dispatch queue's function, and what became of it::

                         retry
                      +----------+
                      v          |
        put ---> PENDING --> UNDERWAY --> FINISHED
                   |            |  +----> FAILED
                   +------------+-------> CANCELLED

    @ivar id: a number that is unique within its queue, in the order of putting.
    @ivar jobarg: the argument.
    @ivar priority: lower is more important. To change it, call L{reprioritize}.
    @ivar state: one of the words in the picture.
    @ivar attempts: how many times it was begun.
    @ivar queuedTime: when it was put, in seconds of the queue's clock, as all times here.
    @ivar startTime: when it was begun, the last time, or C{None}.
    @ivar stopTime: when it came to its end, one way or the other, or C{None}.
    @ivar due: not before when it may be begun, or C{None}.
    @ivar result: what the function returned, once the job is FINISHED.
    @ivar failure: why it is FAILED or CANCELLED; while it waits for another attempt, why the last
        one failed; else C{None}.
    """

    PENDING: ClassVar[str] = PENDING
    UNDERWAY: ClassVar[str] = UNDERWAY
    FINISHED: ClassVar[str] = FINISHED
    FAILED: ClassVar[str] = FAILED
    CANCELLED: ClassVar[str] = CANCELLED

    isKept: ClassVar[bool] = False
    """Whether what becomes of it is kept somewhere, so that nobody has to listen."""

    __slots__ = (
        "_owner",
        "_watchers",
        "due",
        "home",
        "jobarg",
        "key",
    )

    def __init__(self, id: int, owner: JobOwner, jobarg: Any, priority: float, now: float) -> None:
        super().__init__(id, priority, now)
        self.jobarg = jobarg
        self.due: float | None = None
        self.key: Any = None
        self.home: Any = None
        self._owner = owner
        self._watchers: JobDeferred | list[JobDeferred] | None = None

    def __repr__(self) -> str:
        return f"<job {self.id}: {self.state}, priority {self.priority}>"

    def cancel(self) -> bool:
        """
        Give it up. If it is underway, what its function waits for is cancelled, too, and its result
        is dropped.

        @return: C{False} if it was done already, which is then not changed.
        """
        if self.isDone:
            return False
        self._owner.cancelJob(self)
        return True

    def reprioritize(self, priority: float) -> None:
        """
        Move it among those that wait.

        @param priority: lower is more important.
        @raise StateError: unless it is PENDING.
        """
        self._owner.reprioritize(self, priority)

    def watch(self) -> JobDeferred:
        """
        @return: a new Deferred that fires with this job when it is FINISHED, and fails when it is
            FAILED or CANCELLED, with an exception whose C{job} this is. Cancelling it cancels the
            job.
        """
        d = JobDeferred(self)
        if self.isDone:
            self._tell(d)
        elif self._watchers is None:
            # Most jobs have one, which is cheaper without a list.
            self._watchers = d
        elif isinstance(self._watchers, list):
            self._watchers.append(d)
        else:
            self._watchers = [self._watchers, d]
        return d

    @property
    def watchers(self) -> list[JobDeferred]:
        """
        The Deferreds that wait for it.
        """
        if self._watchers is None or isinstance(self._watchers, list):
            return list(self._watchers or ())
        return [self._watchers]

    # What its queue does with it ------------------------------------------------------------------

    def retry(self, failure: Failure) -> None:
        """
        It failed, and waits for another attempt.

        @raise StateError: unless it is UNDERWAY.
        """
        self.waitAgain()
        self.outcome = failure

    def finish(self, result: Any, now: float) -> None:
        """
        @raise StateError: unless it is UNDERWAY.
        """
        super().finish(result, now)
        self._end()

    def fail(self, failure: Failure, now: float) -> None:
        """
        @raise StateError: if it is done.
        """
        super().fail(failure, now)
        self._refuse(failure)

    def cancelled(self, now: float) -> None:
        """
        @raise StateError: if it is done.
        """
        failure = Failure(JobCancelled(f"{self} was cancelled", self))
        self.giveUp(failure, now)
        self._refuse(failure)

    def _refuse(self, failure: Failure) -> None:
        # Whoever hears of it is to find the job, whatever the function has raised. Around the
        # type's own ways of setting attributes, which may refuse.
        vars(failure.value)["job"] = self
        self._end()

    def _end(self) -> None:
        watchers, self._watchers = self._watchers, None
        if isinstance(watchers, list):
            for d in watchers:
                self._tell(d)
        elif watchers is not None:
            self._tell(watchers)

    def _tell(self, d: JobDeferred) -> None:
        # One that is being cancelled counts as called when this returns.
        if d.called:
            return
        if self.state == FINISHED:
            d.callback(self)
        else:
            fail(d, self.failure, self.isKept)


def fail(d: Deferred[Any], failure: Failure, isKept: bool) -> None:
    """
    Have a Deferred fail.

    @param isKept: whether it is nothing to be logged that nobody handles this failure. Whoever
        listens, now or later, hears as ever.
    """
    d.errback(failure)
    if isKept and d._debugInfo is not None and d._debugInfo.failResult is failure:
        # What Deferred itself does when somebody handles the failure.
        d._debugInfo.failResult = None


def notDispatched(job: Job) -> Failure:
    """
    @return: why a job fails that waits in a queue that is stopped.
    """
    error = JobNotDispatched(f"{job} was not begun: its queue was stopped", job)
    if job.failure is not None:
        # It waited for another attempt.
        error.__cause__ = job.failure.value
    return Failure(error)


def _cancelJob(d: Deferred[Job]) -> None:
    assert isinstance(d, JobDeferred)
    if not d.job.cancel():
        # It has come to its end, and others are being told of that just now.
        d.job._tell(d)


class DurableJob(Job):
    """
    A job that a store keeps.

    @ivar unique: the key of which there is to be one job only, or C{None}.
    @ivar encoded: its argument, as it is stored; C{None} once it was given to the store.
    @ivar whenOver: is called with the job when it is done, before anybody is told.
    """

    __slots__ = ("_outcome", "_savers", "encoded", "unique", "whenOver")

    isKept = True

    def __init__(
        self,
        id: int,
        owner: JobOwner,
        jobarg: Any,
        priority: float,
        now: float,
        encoded: str | bytes | None = None,
        unique: str | None = None,
    ) -> None:
        super().__init__(id, owner, jobarg, priority, now)
        self.encoded = encoded
        self.unique = unique
        self.whenOver: Callable[[DurableJob], object] | None = None
        self._outcome: StoreError | bool = False
        self._savers: list[Deferred[DurableJob]] | None = None

    @property
    def saved(self) -> Deferred[DurableJob]:
        """
        A new Deferred that fires with the job when it is safe, at once if it is. It fails with
        C{StoreError} if it could not be made safe; then the job fails, too.
        """
        saved: Deferred[DurableJob] = Deferred()
        if self._outcome is not False:
            self._tellSaved(saved)
        elif self._savers is None:
            self._savers = [saved]
        else:
            self._savers.append(saved)
        return saved

    def setSaved(self, error: StoreError | None = None) -> None:
        """
        It is safe, or could not be made safe.
        """
        self._outcome = True if error is None else error
        savers, self._savers = self._savers, None
        for saved in savers or ():
            self._tellSaved(saved)

    def _tellSaved(self, saved: Deferred[DurableJob]) -> None:
        if saved.called:
            # Somebody has cancelled it.
            return
        if isinstance(self._outcome, StoreError):
            fail(saved, Failure(self._outcome), True)
        else:
            saved.callback(self)

    def _end(self) -> None:
        if self.whenOver is not None:
            self.whenOver(self)
        super()._end()


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """
    A job that came to a bad end, and is kept until somebody looks after it.

    @ivar id: its number.
    @ivar function: the name of the function that it was for.
    @ivar jobarg: its argument; if that cannot be decoded, as it is stored.
    @ivar priority: lower is more important.
    @ivar queued: when it was put, in seconds since the epoch.
    @ivar attempts: how many times it was begun.
    @ivar unique: the key of which there is to be one job only, or C{None}.
    @ivar error: what happened, as a text.
    @ivar isReadable: whether its argument can be decoded.
    """

    id: int
    function: str
    jobarg: Any
    priority: float
    queued: float
    attempts: int
    unique: str | None
    error: str
    isReadable: bool = True
