"""
What a store keeps of a queue's jobs: how a stored job becomes a job again, and a job a stored one.

A change goes from the queue into L{GroupCommit<asynqueue._dispatch.groupcommit.GroupCommit>} as
data, in the verbs of L{asynqueue._dispatch.stores}.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue._core.description import describeError, shortly, withCause
from asynqueue._dispatch.encoding import (
    LONGEST_TEXT,
    JobCodec,
    checkText,
    describeForStore,
    storable,
)
from asynqueue._dispatch.groupcommit import GroupCommit
from asynqueue._dispatch.job import DeadLetter, DurableJob, JobOwner
from asynqueue._dispatch.stores import (
    BEGUN,
    DEAD,
    DEAD_LETTER,
    END,
    REQUEUE,
    WAITING,
    StoredJob,
)
from asynqueue._reactor import SerialExecutor
from asynqueue.errors import JobNotStorable, StoreCorrupt, StoreError
from asynqueue.interfaces import IJobStore

ATTEMPTS: Final = 3
"""How often a job is begun whose program ends each time, if no policy of retries says so."""

TRACEBACKS: Final = 100
"""Of how many dead letters the traceback is remembered."""


class Persistence:
    """
    Keeps a store in agreement with a queue's jobs.

    @ivar commits: the L{GroupCommit} that changes of jobs go into.
    @ivar name: the store's name.
    @ivar tracebacks: those of the jobs that became dead letters last, by the jobs' numbers.
    """

    log = Logger()

    def __init__(
        self,
        store: IJobStore,
        executor: SerialExecutor,
        function: str,
        codec: JobCodec,
        attempts: int,
        reactor: IReactorTime,
        wallClock: Callable[[], float],
    ) -> None:
        """
        @param executor: calls the store's methods.
        @param function: the name of the queue's function.
        @param attempts: how often a job is begun whose program ends each time.
        @param reactor: gives the queue's time.
        @param wallClock: gives the seconds since the epoch.
        """
        self.commits = GroupCommit(store, executor, reactor)
        self._function = function
        self._codec = codec
        self._attempts = attempts
        self._reactor = reactor
        self._wallClock = wallClock
        self._dead: set[int] = set()
        self.name = str(store.name)
        self.tracebacks: dict[int, str] = {}

    # From the store -------------------------------------------------------------------------------

    def open(self, owner: JobOwner) -> tuple[list[DurableJob], int]:
        """
        Open the store. A job that cannot be done any more becomes a dead letter.

        @return: the jobs that are to be done, and the highest number that a job of the store ever
            had.
        @raise StoreError: if the store cannot be opened.
        """
        stored, highest = self.commits.open()
        self._dead = {one.id for one in stored if one.state == DEAD}
        try:
            jobs = self._restoreAll([one for one in stored if one.state != DEAD], owner)
        except BaseException:
            # Ctrl-C, for example. The jobs stay in the store, and another queue can open it.
            self.commits.close()
            raise
        return jobs, highest

    def _restoreAll(self, stored: list[StoredJob], owner: JobOwner) -> list[DurableJob]:
        jobs: list[DurableJob] = []
        for one in stored:
            try:
                jobs.append(self._restore(one, owner))
            except StoreError as error:
                self.bury(one.id, one.function, error, str(error))
        return jobs

    def _restore(self, stored: StoredJob, owner: JobOwner) -> DurableJob:
        """
        @raise StoreError: if the job cannot be done any more.
        """
        _checkRow(stored)
        if stored.function != self._function:
            raise StoreError(
                f"it is for the function {stored.function}, and this queue's is {self._function}"
            )
        if stored.state == BEGUN and stored.attempts >= self._attempts:
            raise StoreError(
                f"it was begun {stored.attempts} times, and its program ended each time, or it "
                "failed, before it came to its end"
            )
        try:
            jobarg = self._codec.loads(stored.arg)
        except Exception as error:
            raise StoreError(f"its argument cannot be decoded: {describeError(error)}") from error
        queued = self._reactor.seconds() + stored.queued - self._wallClock()
        job = DurableJob(stored.id, owner, jobarg, stored.priority, queued, stored.unique)
        job.attempts = stored.attempts
        if stored.due is not None:
            # If the wall clock was set back, nothing waits for longer than it was to wait at first.
            wait = min(stored.due - self._wallClock(), stored.due - stored.queued)
            job.due = self._reactor.seconds() + wait
        job.tellSaved()
        return job

    # Into the store -------------------------------------------------------------------------------

    def encode(self, jobarg: object) -> str | bytes:
        """
        @raise JobNotStorable: if the codec cannot encode the argument.
        """
        try:
            encoded = self._codec.dumps(jobarg)
            if isinstance(encoded, str):
                checkText(encoded)
            elif not isinstance(encoded, bytes):
                raise TypeError(f"the codec returned {encoded!r}, which is neither text nor bytes")
        except Exception as error:
            raise JobNotStorable(
                f"the argument {shortly(jobarg)} of a job for {self._function} cannot be stored: "
                f"{describeForStore(error)}"
            ) from error
        return encoded

    def stored(self, job: DurableJob, encoded: str | bytes) -> StoredJob:
        """
        @param job: a job that is put now.
        @param encoded: its argument.
        @return: the job as a store is to keep it.
        """
        now = self._wallClock()
        due = None if job.due is None else now + job.due - job.queuedTime
        return StoredJob(job.id, self._function, encoded, job.priority, now, due, job.unique)

    def wallTime(self, time: float | None) -> float | None:
        """
        @param time: a time of the queue's clock, or C{None}.
        @return: the same in seconds since the epoch, as stores keep times, because no other clock
            goes on from one run of a program to the next.
        """
        return None if time is None else time + self._wallClock() - self._reactor.seconds()

    def bury(
        self,
        id: int,
        what: object,
        error: BaseException,
        why: str | None = None,
        told: Callable[[StoreError | None], object] | None = None,
    ) -> None:
        """
        Make a dead letter of a job, and log that.

        @param what: the argument, or whatever names the job for people.
        @param error: what happened.
        @param why: the text that the dead letter keeps. Default: the error's type and text.
        @param told: is called when that is on disk, or could not be written for now.
        """
        text = describeForStore(error) if why is None else storable(why)
        traceback = withCause(Failure(error).getTraceback(), error)
        if len(self.tracebacks) >= TRACEBACKS:
            del self.tracebacks[next(iter(self.tracebacks))]
        self.tracebacks[id] = traceback[-LONGEST_TEXT:]
        # The traceback stands in the text, because a job's failure is no fault of this program: an
        # event with a failure would fail the tests of programs that expect it.
        self.log.error(
            "Job {id} ({what}) for {function} is a dead letter now: {why}\n{traceback}",
            id=id,
            what=shortly(what),
            function=self._function,
            why=text,
            traceback=traceback,
        )
        self._dead.add(id)
        self.commits.note((DEAD_LETTER, id, text), told)

    # Dead letters ---------------------------------------------------------------------------------

    def deadLetters(self) -> Deferred[list[DeadLetter]]:
        """
        @return: a Deferred that fires with all dead letters, in the order of their numbers.
        """

        def found(stored: list[StoredJob]) -> list[DeadLetter]:
            return [self._letter(one) for one in stored]

        return self.commits.ask(DEAD).addCallback(found)

    def _letter(self, stored: StoredJob) -> DeadLetter:
        error = storable(str(stored.error or ""))
        try:
            _checkRow(stored)
        except StoreCorrupt:
            # The dead letter's text says so. What is damaged is shown as far as it makes sense.
            function = storable(str(stored.function))
            return DeadLetter(stored.id, function, stored.arg, 0, 0.0, 0, None, error, False)
        isReadable = True
        try:
            jobarg = self._codec.loads(stored.arg)
        except Exception:
            # That may be why the job is dead.
            jobarg, isReadable = stored.arg, False
        return DeadLetter(
            stored.id,
            stored.function,
            jobarg,
            stored.priority,
            stored.queued,
            stored.attempts,
            stored.unique,
            error,
            isReadable,
        )

    def checkDead(self, id: int) -> None:
        """
        @raise StoreError: if a job is not a dead letter.
        """
        if id not in self._dead:
            raise StoreError(f"job {id} is not a dead letter, or not any more")

    def takeDeadLetter(
        self, id: int, told: Callable[[StoreError | None], object], requeue: bool
    ) -> None:
        """
        Take a job from the dead letters. If the store fails, the job is put back among them.

        @param told: is called when that is on disk, or has failed.
        @param requeue: whether the job waits again, for this queue's function. Otherwise it is
            forgotten.
        @raise StoreError: if the job is not a dead letter.
        """
        self.checkDead(id)
        self._dead.remove(id)

        def tell(error: StoreError | None) -> None:
            if error is not None:
                self._dead.add(id)
            told(error)

        change = (REQUEUE, id, self._function) if requeue else (END, id)
        self.commits.note(change, tell, isOwed=False)


def _checkRow(stored: StoredJob) -> None:
    """
    @raise StoreCorrupt: if a field of a stored job is not of its kind.
    """
    kinds: dict[str, tuple[type, ...]] = {
        "function": (str,),
        "arg": (str, bytes),
        "priority": (int, float),
        "queued": (int, float),
        "due": (int, float, type(None)),
        "unique": (str, type(None)),
        "state": (str,),
        "attempts": (int,),
    }
    for name, kind in kinds.items():
        value = getattr(stored, name)
        isRight = isinstance(value, kind)
        if isinstance(value, str):
            # SQLite does not check the encoding of texts.
            isRight = isRight and value.encode("utf-8", "replace").decode() == value
        elif isinstance(value, float):
            isRight = (
                isRight and not math.isnan(value) and (name == "priority" or math.isfinite(value))
            )
        if not isRight:
            raise StoreCorrupt(f"its {name} is damaged: {value!r}")
    if stored.state not in (WAITING, BEGUN, DEAD):
        raise StoreCorrupt(f"its state is damaged: {stored.state!r}")
