"""
What a dispatch queue tells its store of its jobs, and gets from it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from asynqueue.dispatch.durable import DeadLetter, DurableJob
from asynqueue.dispatch.job import Job, JobKeeper
from asynqueue.dispatch.ledger import Ledger, Told
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
from asynqueue.dispatch.texts import JobCodec, checkText, storable, told
from asynqueue.errors import JobNotStorable, StoreError
from asynqueue.tasks.description import describeError, shortly


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
        self._dead: set[int] = set()

    # From the store -------------------------------------------------------------------------------

    def open(self, keeper: JobKeeper) -> tuple[list[DurableJob], int]:
        """
        Open the store.

        @return: the jobs that are to be done, and the highest number that a job of the store ever
            had.
        @raise StoreError: if it cannot be opened.
        """
        stored, highest = self._ledger.open()
        self._dead = {one.id for one in stored if one.state == DEAD}
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
                why = f"its argument cannot be decoded: {describeError(error)}"
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
        if stored.due is not None:
            # A clock that was set back makes nothing wait for longer than it was to wait at first.
            wait = min(stored.due - self._wallClock(), stored.due - stored.queued)
            job.due = self._reactor.seconds() + wait
        job.setSaved()
        return job

    def deadLetters(self) -> Deferred[list[DeadLetter]]:
        """
        @return: a Deferred that fires with all dead letters, in the order of their numbers.
        """

        def found(stored: list[StoredJob]) -> list[DeadLetter]:
            return [self._letter(one) for one in stored]

        return self._ledger.ask(DEAD).addCallback(found)

    def _letter(self, stored: StoredJob) -> DeadLetter:
        isReadable = True
        try:
            jobarg = self._codec.loads(stored.arg)
        except Exception:
            # That may be why it is dead.
            jobarg, isReadable = stored.arg, False
        return DeadLetter(
            stored.id,
            stored.function,
            jobarg,
            stored.priority,
            stored.queued,
            stored.attempts,
            stored.unique,
            stored.error or "",
            isReadable,
        )

    # Into the store -------------------------------------------------------------------------------

    def encode(self, jobarg: Any) -> str | bytes:
        """
        @raise JobNotStorable: if the codec cannot encode it.
        """
        try:
            encoded = self._codec.dumps(jobarg)
            if isinstance(encoded, str):
                checkText(encoded)
            elif not isinstance(encoded, bytes):
                raise TypeError(f"the codec made neither text nor bytes of it, but {encoded!r}")
        except Exception as error:
            raise JobNotStorable(
                f"the argument {shortly(jobarg)} of a job for {self._function} cannot be stored: "
                f"{told(error)}"
            ) from error
        return encoded

    def admit(self, job: DurableJob, hear: Told) -> None:
        """
        A job was put.

        @param hear: is told when it is safe, or cannot be made safe.
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
        self._ledger.attempt((INSERT, stored), hear)

    def begin(self, job: Job, hear: Told) -> None:
        """
        An attempt is to begin.

        @param hear: is told when it counts, or cannot.
        """
        self._ledger.attempt((BEGIN, job.id), hear)

    def wait(self, job: Job, why: str) -> None:
        """
        It waits for another attempt.
        """
        due = None if job.due is None else self._wall(job.due)
        self._ledger.note((WAIT, job.id, due, storable(why)))

    def move(self, job: Job) -> None:
        """
        Its priority was changed.
        """
        self._ledger.note((MOVE, job.id, job.priority))

    def end(self, job: Job, hear: Told | None = None) -> None:
        """
        It came to its end, or is not wanted any more.

        @param hear: is told when that is safe, or could not be written for now.
        """
        self._dead.discard(job.id)
        self._ledger.note((END, job.id), hear)

    def bury(self, id: int, error: str, hear: Told | None = None) -> None:
        """
        A job failed for good.

        @param hear: see L{end}.
        """
        self._dead.add(id)
        self._ledger.note((BURY, id, storable(error)), hear)

    def revive(self, id: int, hear: Told) -> None:
        """
        A dead letter is to be tried again, for this queue's function.

        @raise StoreError: if there is none of this number.
        """
        self._takeLetter(id)
        self._ledger.attempt((REVIVE, id, self._function), self._giveBack(id, hear))

    def forget(self, id: int, hear: Told) -> None:
        """
        A dead letter is not wanted any more.

        @raise StoreError: if there is none of this number.
        """
        self._takeLetter(id)
        self._ledger.attempt((END, id), self._giveBack(id, hear))

    def _takeLetter(self, id: int) -> None:
        if id not in self._dead:
            raise StoreError(f"job {id} is not among the dead letters, or not any more")
        self._dead.remove(id)

    def _giveBack(self, id: int, hear: Told) -> Told:
        def tell(error: StoreError | None) -> None:
            if error is not None:
                self._dead.add(id)
            hear(error)

        return tell

    def close(self) -> Deferred[None]:
        """
        Close the store.
        """
        return self._ledger.close()

    def hurry(self) -> None:
        """
        See L{Ledger<asynqueue.dispatch.ledger.Ledger.hurry>}.
        """
        self._ledger.hurry()

    # Times ----------------------------------------------------------------------------------------

    def _wall(self, time: float) -> float:
        return self._wallClock() + time - self._reactor.seconds()

    def _monotonic(self, wallTime: float) -> float:
        return self._reactor.seconds() + wallTime - self._wallClock()
