"""
Jobs that survive a restart: what a dispatch queue tells its store, and gets from it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.python.reflect import safe_repr

from asynqueue.dispatch.job import Job, JobKeeper
from asynqueue.dispatch.ledger import Ledger
from asynqueue.dispatch.store import (
    BEGIN,
    BEGUN,
    BURY,
    DEAD,
    END,
    INSERT,
    MOVE,
    REVIVE,
    WAIT,
    StoredJob,
)
from asynqueue.errors import JobNotStorable


class JobCodec(Protocol):
    """
    Makes texts or bytes of jobs' arguments, and arguments of these. The modules C{json} and
    C{pickle} are such.
    """

    def dumps(self, value: Any, /) -> str | bytes:
        """Encode an argument, or raise."""

    def loads(self, data: Any, /) -> Any:
        """Decode an argument, or raise."""


class ExactJSON:
    """
    JSON for those values only that come back as they were. A tuple, which would come back as a
    list, is refused rather than changed, and so is a dictionary whose keys are numbers.
    """

    def dumps(self, value: Any, /) -> str:
        """
        @raise ValueError: if the value would come back as another.
        @raise TypeError: if JSON knows nothing of the kind.
        """
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
        if type(value) is not str and self.loads(text) != value:
            raise ValueError(f"it would come back from JSON as {safe_repr(self.loads(text))}")
        return text

    def loads(self, data: Any, /) -> Any:
        """
        @raise ValueError: if it is no JSON.
        """
        return json.loads(data)


class DurableJob(Job):
    """
    A job that a store keeps.

    @ivar saved: a Deferred that fires with the job when it is safe, and fails with C{StoreError} if
        it could not be made safe. A failure of it need not be handled: the job fails, too.
    @ivar unique: the key of which there is to be one job only, or C{None}.
    @ivar encoded: its argument, as it is stored; C{None} once it was given to the store.
    @ivar whenOver: is called with the job when it is done, before anybody is told.
    """

    __slots__ = ("encoded", "saved", "unique", "whenOver")

    def __init__(
        self,
        id: int,
        keeper: JobKeeper,
        jobarg: Any,
        priority: float,
        now: float,
        encoded: str | bytes | None = None,
        unique: str | None = None,
    ) -> None:
        super().__init__(id, keeper, jobarg, priority, now)
        self.encoded = encoded
        self.unique = unique
        self.whenOver: Callable[[DurableJob], object] | None = None
        self.saved: Deferred[DurableJob] = Deferred()
        self.saved.addErrback(lambda _: None)

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
    """

    id: int
    function: str
    jobarg: Any
    priority: float
    queued: float
    attempts: int
    unique: str | None
    error: str


class Books:
    """
    Keeps a store in agreement with a queue's jobs.
    """

    def __init__(
        self,
        ledger: Ledger,
        function: str,
        codec: JobCodec,
        limit: int,
        reactor: IReactorTime,
        wallClock: Callable[[], float],
    ) -> None:
        """
        @param function: the name of the queue's function.
        @param limit: after how many attempts a job that was underway when its program ended is not
            begun again.
        @param wallClock: gives the seconds since the epoch.
        """
        self._ledger = ledger
        self._function = function
        self._codec = codec
        self._limit = limit
        self._reactor = reactor
        self._wallClock = wallClock

    # From the store -------------------------------------------------------------------------------

    def open(self, keeper: JobKeeper) -> tuple[list[DurableJob], int]:
        """
        Open the store.

        @return: the jobs that are to be done, and the highest number that a job of the store ever
            had.
        @raise StoreError: if it cannot be opened.
        """
        stored, highest = self._ledger.open()
        jobs = [self._restore(one, keeper) for one in stored if one.state != DEAD]
        return [job for job in jobs if job is not None], highest

    def _restore(self, stored: StoredJob, keeper: JobKeeper) -> DurableJob | None:
        """
        Make a job of what was stored; or bury it, if it cannot be done any more.
        """
        why = None
        jobarg = None
        if stored.function != self._function:
            why = f"it is for the function {stored.function}, and this queue's is {self._function}"
        elif stored.state == BEGUN and stored.attempts >= self._limit:
            why = (
                f"it was begun {stored.attempts} times, and its program ended each time, or it "
                "failed, before it came to its end"
            )
        else:
            try:
                jobarg = self._codec.loads(stored.arg)
            except Exception as error:
                why = f"its argument cannot be decoded: {type(error).__name__}: {error}"
        if why is not None:
            self.bury(stored.id, why)
            return None
        job = DurableJob(
            stored.id,
            keeper,
            jobarg,
            stored.priority,
            self._monotonic(stored.queued),
            unique=stored.unique,
        )
        job.attempts = stored.attempts
        job.due = None if stored.due is None else self._monotonic(stored.due)
        job.saved.callback(job)
        return job

    def deadLetters(self) -> Deferred[list[DeadLetter]]:
        """
        @return: a Deferred that fires with all dead letters, in the order of their numbers.
        """

        def found(stored: list[StoredJob]) -> list[DeadLetter]:
            return [self._letter(one) for one in stored]

        return self._ledger.ask(DEAD).addCallback(found)

    def _letter(self, stored: StoredJob) -> DeadLetter:
        try:
            jobarg = self._codec.loads(stored.arg)
        except Exception:
            # That may be why it is dead.
            jobarg = stored.arg
        return DeadLetter(
            stored.id,
            stored.function,
            jobarg,
            stored.priority,
            stored.queued,
            stored.attempts,
            stored.unique,
            stored.error or "",
        )

    # Into the store -------------------------------------------------------------------------------

    def encode(self, jobarg: Any) -> str | bytes:
        """
        @raise JobNotStorable: if the codec cannot encode it.
        """
        try:
            return self._codec.dumps(jobarg)
        except Exception as error:
            raise JobNotStorable(
                f"the argument {_shortly(jobarg)} of a job for {self._function} cannot be stored: "
                f"{type(error).__name__}: {error}"
            ) from error

    def admit(self, job: DurableJob) -> Deferred[None]:
        """
        A job was put.

        @return: a Deferred that fires when it is safe, or fails with C{StoreError}.
        """
        encoded, job.encoded = job.encoded, None
        assert encoded is not None
        stored = StoredJob(
            job.id,
            self._function,
            encoded,
            job.priority,
            self._wall(job.queuedTime),
            None if job.due is None else self._wall(job.due),
            job.unique,
        )
        return self._ledger.note(INSERT, stored)

    def begin(self, job: Job) -> Deferred[None]:
        """
        An attempt is to begin. It counts when the Deferred fires.
        """
        return self._ledger.note(BEGIN, job.id)

    def wait(self, job: Job, why: str) -> None:
        """
        It waits for another attempt.
        """
        due = None if job.due is None else self._wall(job.due)
        self._ledger.note(WAIT, job.id, due, why).addErrback(_wasLogged)

    def move(self, job: Job) -> None:
        """
        Its priority was changed.
        """
        self._ledger.note(MOVE, job.id, job.priority).addErrback(_wasLogged)

    def end(self, job: Job) -> Deferred[None]:
        """
        It came to its end, or is not wanted any more.

        @return: a Deferred that fires when that is safe, or could not be written for now.
        """
        return self._ledger.note(END, job.id).addErrback(_wasLogged)

    def bury(self, id: int, error: str) -> Deferred[None]:
        """
        A job failed for good.

        @return: a Deferred, as L{end} returns it.
        """
        return self._ledger.note(BURY, id, error).addErrback(_wasLogged)

    def revive(self, id: int) -> Deferred[None]:
        """
        A dead letter is to be tried again.
        """
        return self._ledger.note(REVIVE, id)

    def forget(self, id: int) -> Deferred[None]:
        """
        A dead letter is not wanted any more.
        """
        return self._ledger.note(END, id)

    def close(self) -> Deferred[None]:
        """
        Close the store.
        """
        return self._ledger.close()

    # Times ----------------------------------------------------------------------------------------

    def _wall(self, time: float) -> float:
        return self._wallClock() + time - self._reactor.seconds()

    def _monotonic(self, wallTime: float) -> float:
        return self._reactor.seconds() + wallTime - self._wallClock()


def _wasLogged(failure: Failure) -> None:
    """
    The ledger has logged it, and tries again.
    """


def _shortly(value: Any) -> str:
    text = safe_repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
