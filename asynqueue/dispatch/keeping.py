"""
What a dispatch queue does for jobs that are to survive it, at each step of their lives; or nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from asynqueue.dispatch.durable import Books, DeadLetter, DurableJob
from asynqueue.dispatch.job import Job
from asynqueue.dispatch.line import JobLine
from asynqueue.errors import JobExists, StoreError
from asynqueue.iteration.outcome import Outcome
from asynqueue.tasks.states import PENDING, UNDERWAY
from asynqueue.universe.exceptions import textOf, typeName

AGAIN_SECONDS: Final = 1.0
"""How long a job waits whose beginning could not be written down."""


class Host(Protocol):
    """
    What a keeper of jobs needs of its queue.
    """

    def cancelJob(self, job: Job) -> None:
        """See L{JobKeeper<asynqueue.dispatch.job.JobKeeper>}."""

    def reprioritize(self, job: Job, priority: float) -> None:
        """See L{JobKeeper<asynqueue.dispatch.job.JobKeeper>}."""

    def _changed(self) -> None:
        """Something may be ready to begin, or over."""


class NotKept:
    """
    Jobs live as long as their queue.

    @ivar settling: the jobs whose ends are being written down.
    """

    def __init__(self) -> None:
        self.settling: set[Job] = set()

    def admit(self, job: Job) -> None:
        """
        A new job is in line.
        """

    def begin(self, job: Job, run: Callable[[Job], object]) -> None:
        """
        A job's attempt is to begin: have it run.
        """
        run(job)

    def finish(self, job: Job, result: Any, now: float) -> None:
        """
        A job's function has returned.
        """
        job.finish(result, now)

    def fail(self, job: Job, failure: Failure, now: float) -> None:
        """
        A job has failed for good.
        """
        job.fail(failure, now)

    def wait(self, job: Job, why: str) -> None:
        """
        A job waits for another attempt, in this run or in the next.
        """

    def drop(self, job: Job) -> None:
        """
        A job is not wanted any more.
        """

    def move(self, job: Job) -> None:
        """
        A job's priority was changed.
        """

    def close(self) -> Deferred[None]:
        """
        No job is underway any more, and none will be.
        """
        return succeed(None)


class Kept(NotKept):
    """
    Jobs live in a store. A job is begun when it is written down that it is, so that an attempt
    which takes the program with it counts; its end is told when that is written down, so that one
    which was told is not done again.
    """

    def __init__(self, host: Host, books: Books, line: JobLine, reactor: IReactorTime) -> None:
        super().__init__()
        self._host = host
        self._books = books
        self._line = line
        self._reactor = reactor
        self._standing: dict[str, DurableJob] = {}
        self._closed: Outcome | None = None

    def open(self) -> tuple[list[DurableJob], int]:
        """
        Put the store's jobs in line.

        @return: these, and the highest number that a job ever had.
        @raise StoreError: if the store cannot be opened.
        """
        jobs, highest = self._books.open(self._host)
        now = self._reactor.seconds()
        kept = []
        for job in jobs:
            try:
                self._line.put(job, now)
            except Exception as error:
                self._books.bury(job.id, f"it has no key for its rate: {_told(error)}")
                continue
            kept.append(job)
            self._stand(job)
        return kept, highest

    # Putting --------------------------------------------------------------------------------------

    def standing(self, unique: str | None, mayStand: bool) -> DurableJob | None:
        """
        @param mayStand: whether it is no error if there is one.
        @return: the job of this key that stands already.
        @raise JobExists: if there is one, and there may not be.
        """
        job = None if unique is None else self._standing.get(unique)
        if job is not None and not mayStand:
            raise JobExists(f"{job} has the key {unique!r} already", job)
        return job

    def make(self, id: int, jobarg: Any, priority: float, unique: str | None) -> DurableJob:
        """
        Make a job.

        @raise JobNotStorable: if its argument cannot be stored.
        """
        now = self._reactor.seconds()
        return DurableJob(id, self._host, jobarg, priority, now, self._books.encode(jobarg), unique)

    def admit(self, job: Job) -> None:
        """
        Write down that it is in line.
        """
        assert isinstance(job, DurableJob)
        self._stand(job)
        written = self._books.admit(job)
        written.addCallbacks(lambda _: job.saved.callback(job), self._notSaved, errbackArgs=(job,))

    def _notSaved(self, failure: Failure, job: DurableJob) -> None:
        job.saved.errback(failure)
        if not job.isDone:
            self._line.remove(job)
            job.fail(Failure(StoreError(f"{job} was not saved: {failure.value}")), self._now())
        self._host._changed()

    def _stand(self, job: DurableJob) -> None:
        if job.unique is not None:
            self._standing[job.unique] = job
            job.whenOver = self._stands

    def _stands(self, job: DurableJob) -> None:
        if job.unique is not None and self._standing.get(job.unique) is job:
            del self._standing[job.unique]

    # The steps of a job's life --------------------------------------------------------------------

    def begin(self, job: Job, run: Callable[[Job], object]) -> None:
        """
        Write down that it begins, then have it run.
        """

        def notWritten(failure: Failure) -> None:
            if job.state == UNDERWAY:
                job.waitAgain()
                job.attempts -= 1
                job.due = self._now() + AGAIN_SECONDS
                self._line.put(job, self._now(), isNew=False)
            run(job)

        self._books.begin(job).addCallbacks(lambda _: run(job), notWritten)

    def finish(self, job: Job, result: Any, now: float) -> None:
        """
        Write down that it is over, then tell.
        """
        self._settle(job, self._books.end(job), lambda: job.finish(result, now))

    def fail(self, job: Job, failure: Failure, now: float) -> None:
        """
        Write down that it is dead, then tell.
        """
        written = self._books.bury(job.id, _told(failure.value))
        self._settle(job, written, lambda: job.fail(failure, now))

    def _settle(self, job: Job, written: Deferred[None], tell: Callable[[], object]) -> None:
        self.settling.add(job)

        def settled(_: object) -> None:
            self.settling.discard(job)
            # Unless somebody has cancelled it meanwhile.
            if job.state in (PENDING, UNDERWAY):
                tell()
            self._host._changed()

        written.addCallback(settled)

    def wait(self, job: Job, why: str) -> None:
        """
        Write down that it waits.
        """
        self._books.wait(job, why)

    def drop(self, job: Job) -> None:
        """
        Write down that it is not wanted.
        """
        self._books.end(job)

    def move(self, job: Job) -> None:
        """
        Write down its priority.
        """
        self._books.move(job)

    def close(self) -> Deferred[None]:
        """
        Close the store, when all is written down; once, for all that ask.
        """
        if self._closed is None:
            self._closed = Outcome()
            self._books.close().addBoth(self._closed.settle)
        return self._closed.wait()

    # Dead letters ---------------------------------------------------------------------------------

    def deadLetters(self) -> Deferred[list[DeadLetter]]:
        """
        @return: a Deferred that fires with all dead letters.
        """
        return self._books.deadLetters()

    def revive(self, letter: DeadLetter) -> Deferred[DurableJob]:
        """
        Put a dead letter in line again.

        @return: a Deferred that fires with the job.
        @raise JobExists: if another job has its key.
        @raise JobNotStorable: if its argument is not one that could be put.
        """
        self.standing(letter.unique, False)
        job = self.make(letter.id, letter.jobarg, letter.priority, letter.unique)
        self._stand(job)

        def revived(_: object) -> DurableJob:
            if not job.isDone:
                job.saved.callback(job)
                self._line.put(job, self._now())
                self._host._changed()
            return job

        def notRevived(failure: Failure) -> Failure:
            self._stands(job)
            return failure

        return self._books.revive(letter.id).addCallbacks(revived, notRevived)

    def bury(self, letter: DeadLetter) -> Deferred[None]:
        """
        A dead letter is not wanted any more.
        """
        return self._books.forget(letter.id)

    def _now(self) -> float:
        return self._reactor.seconds()


def _told(error: BaseException | None) -> str:
    return "" if error is None else f"{typeName(type(error))}: {textOf(error)}"
