"""
Jobs: one argument for a dispatch queue's function, with its times.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from asynqueue._core.states import CANCELLED, FAILED, FINISHED, PENDING, UNDERWAY
from asynqueue._core.task import Record
from asynqueue._runner.context import Pairs
from asynqueue._waiters import QuietDeferred
from asynqueue.errors import JobError, JobNotDispatched, StoreError


class JobCancelled(JobError, CancelledError):
    """
    A job was cancelled before it ended. This is Twisted's C{CancelledError}, too.
    """


class JobDeferred(QuietDeferred):
    """
    A Deferred that waits for a job.

    @ivar job: the job.
    """

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job

    def cancel(self) -> None:
        """
        Cancel the job. This fires when the job's end is told: at once, or when it is on disk if a
        store keeps the job.
        """
        if self.called:
            # A callback may have returned a Deferred that this waits for.
            super().cancel()
        else:
            self.job.cancel()


class JobOwner(Protocol):
    """
    The dispatch queue that a job belongs to.
    """

    def cancelJob(self, job: Job) -> None:
        """Cancel a job that has not ended."""

    def reprioritize(self, job: Job, priority: float) -> None:
        """Move a job among those that wait."""


class Job(Record):
    """
    One argument for a dispatch queue's function, and what became of it::

                         retry
                      +----------+
                      v          |
        put ---> PENDING --> UNDERWAY --> FINISHED
                   |            |  +----> FAILED
                   +------------+-------> CANCELLED

    A job can be pickled. The copy keeps everything that stands below except C{context},
    C{progress}, C{result} and C{failure}, and belongs to no queue: give it to the C{put} of one to
    have its argument dispatched.

    @ivar id: a number that is unique within its queue, in the order of putting.
    @ivar jobarg: the argument.
    @ivar priority: lower is more important. To change it, call L{reprioritize}.
    @ivar state: one of the words in the picture.
    @ivar attempts: how many times the job was begun.
    @ivar queuedTime: when the job was put, in seconds of the queue's clock, as all times here.
    @ivar startTime: when its last attempt began, or C{None}.
    @ivar stopTime: when the job ended, or C{None}.
    @ivar due: the time before which the job does not begin, or C{None}.
    @ivar context: what tracers have travel with the job, as pairs of name and value, or C{None}.
    @ivar progress: the latest C{Progress} that the function reported with L{report
        <asynqueue.report>}, or C{None}.
    @ivar result: what the function returned, once the job is FINISHED.
    @ivar failure: why the job is FAILED or CANCELLED. While the job waits for another attempt, why
        the last attempt failed. Otherwise C{None}.
    """

    PENDING: ClassVar[str] = PENDING
    UNDERWAY: ClassVar[str] = UNDERWAY
    FINISHED: ClassVar[str] = FINISHED
    FAILED: ClassVar[str] = FAILED
    CANCELLED: ClassVar[str] = CANCELLED

    isKept: ClassVar[bool] = False
    """Whether a store keeps what becomes of the job, so that nobody has to listen."""

    __slots__ = (
        "_owner",
        "_told",
        "_watchers",
        "context",
        "due",
        "home",
        "jobarg",
        "key",
    )

    _PICKLED: ClassVar[tuple[str, ...]] = (
        "id",
        "jobarg",
        "priority",
        "state",
        "attempts",
        "queuedTime",
        "startTime",
        "stopTime",
        "due",
    )

    def __init__(
        self, id: int, owner: JobOwner | None, jobarg: Any, priority: float, now: float
    ) -> None:
        super().__init__(id, priority, now)
        self.jobarg = jobarg
        self.due: float | None = None
        self.context: Pairs | None = None
        self.key: Hashable = None
        self.home: Any = None
        self._owner = owner
        self._watchers: JobDeferred | list[JobDeferred] | None = None
        # What the Deferreds fire with, once it is told: the job, or a failure.
        self._told: Job | Failure | None = None

    def __repr__(self) -> str:
        return f"<job {self.id}: {self.state}, priority {self.priority}>"

    def __getstate__(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self._PICKLED}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(0, None, None, 0, 0.0)  # type: ignore[misc]
        for name, value in state.items():
            setattr(self, name, value)
        error = JobError(f"{self} was unpickled and belongs to no queue: put it into one", self)
        self._told = Failure(error)

    def cancel(self) -> bool:
        """
        Cancel the job. If it is underway, what its function waits for is cancelled, too, and its
        result is dropped. The job is CANCELLED at once. Its Deferreds fire then, or when that is on
        disk if a store keeps the job.

        @return: C{False} if nothing was changed because the job has ended, or its queue was
            stopped.
        """
        if self.isDone or self._told is not None or self._owner is None:
            return False
        self._owner.cancelJob(self)
        return True

    def reprioritize(self, priority: float) -> None:
        """
        Move the job among those that wait.

        @param priority: lower is more important.
        @raise JobError: if the job was unpickled.
        @raise StateError: unless the job is PENDING.
        @raise ValueError: if the priority is not a number, or the job does not wait in its queue
            any more.
        """
        if self._owner is None:
            raise JobError(f"{self} was unpickled and belongs to no queue: put it into one", self)
        self._owner.reprioritize(self, priority)

    def watch(self) -> JobDeferred:
        """
        Return a new Deferred that fires with this job when the job is FINISHED, and fails when it
        is FAILED or CANCELLED, or is left PENDING by its queue's C{stop}. The exception's C{job} is
        the job. Cancelling the Deferred cancels the job.
        """
        d = JobDeferred(self)
        if self._told is not None:
            self._fire(d)
        elif self._watchers is None:
            # Most jobs have one watcher, which is cheaper without a list.
            self._watchers = d
        elif isinstance(self._watchers, list):
            self._watchers.append(d)
        else:
            self._watchers = [self._watchers, d]
        return d

    @property
    def watchers(self) -> list[JobDeferred]:
        """
        The Deferreds that wait for the job.
        """
        if self._watchers is None or isinstance(self._watchers, list):
            return list(self._watchers or ())
        return [self._watchers]

    # What its queue does with it ------------------------------------------------------------------

    def cancelled(self, now: float) -> None:
        """
        Note that the job was cancelled.

        @raise StateError: if the job has ended.
        """
        self.giveUp(Failure(JobCancelled(f"{self} was cancelled", self)), now)

    def tellEnd(self) -> None:
        """
        Fire the Deferreds, because the job has ended.
        """
        if self.state == FINISHED:
            self._tell(self)
        else:
            # The listeners are to find the job, whatever the function has raised. This goes around
            # the type's own ways of setting attributes, which may refuse.
            vars(self.failure.value)["job"] = self
            self._tell(self.failure)

    def tellNotDispatched(self) -> None:
        """
        Fire the Deferreds, because the queue was stopped while the job was waiting.
        """
        error = JobNotDispatched(f"{self} was not begun, because its queue was stopped", self)
        if self.failure is not None:
            # The job waited for another attempt.
            error.__cause__ = self.failure.value
        self._tell(Failure(error))

    def _tell(self, told: Job | Failure) -> None:
        if self._told is not None:
            return
        self._told = told
        watchers, self._watchers = self._watchers, None
        if isinstance(watchers, list):
            for d in watchers:
                self._fire(d)
        elif watchers is not None:
            self._fire(watchers)

    def _fire(self, d: JobDeferred) -> None:
        told = self._told
        if isinstance(told, Failure):
            # The program has stopped or cleared the queue, or has cancelled the job, and so knows.
            d.fail(told, self.isKept or self.state in (PENDING, CANCELLED))
        else:
            d.callback(self)


class DurableJob(Job):
    """
    A job that a store keeps.

    @ivar unique: the key of which there is to be one job only, or C{None}.
    """

    __slots__ = ("_savers", "_savingOutcome", "unique")

    _PICKLED = (*Job._PICKLED, "unique")

    isKept = True

    def __init__(
        self,
        id: int,
        owner: JobOwner | None,
        jobarg: Any,
        priority: float,
        now: float,
        unique: str | None = None,
    ) -> None:
        super().__init__(id, owner, jobarg, priority, now)
        self.unique = unique
        # Whether the job is safe; or why it could not be made safe.
        self._savingOutcome: StoreError | bool = False
        self._savers: QuietDeferred | list[QuietDeferred] | None = None

    @property
    def saved(self) -> Deferred[DurableJob]:
        """
        A new Deferred that fires with the job when the job is on disk, at once if it is. The
        Deferred fails with C{StoreError} if the job could not be written; then the job fails, too.
        """
        saved = QuietDeferred()
        if self._savingOutcome is not False:
            self._fireSaved(saved)
        elif self._savers is None:
            self._savers = saved
        elif isinstance(self._savers, list):
            self._savers.append(saved)
        else:
            self._savers = [self._savers, saved]
        return saved

    def tellSaved(self, error: StoreError | None = None) -> None:
        """
        The job is on disk, or could not be written.
        """
        self._savingOutcome = True if error is None else error
        savers, self._savers = self._savers, None
        if isinstance(savers, list):
            for saved in savers:
                self._fireSaved(saved)
        elif savers is not None:
            self._fireSaved(savers)

    def _fireSaved(self, saved: QuietDeferred) -> None:
        if saved.called:
            # Somebody has cancelled it.
            return
        if isinstance(self._savingOutcome, StoreError):
            saved.fail(Failure(self._savingOutcome), isQuiet=True)
        else:
            saved.callback(self)


# Pickles of jobs name the module that stays.
Job.__module__ = DurableJob.__module__ = "asynqueue.rdq"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """
    A job that failed for good. The store keeps it until somebody looks after it.

    @ivar id: the job's number.
    @ivar function: the name of the function that the job was for.
    @ivar jobarg: the argument, or its stored form if that cannot be decoded.
    @ivar priority: lower is more important.
    @ivar queued: when the job was put, in seconds since the epoch.
    @ivar attempts: how many times the job was begun.
    @ivar unique: the key of which there is to be one job only, or C{None}.
    @ivar error: what happened, as a text.
    @ivar isReadable: whether the argument can be decoded.
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
