"""
What a dispatch queue does for jobs that are to survive it, at each step of their lives; or nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from asynqueue.dispatch.books import Books
from asynqueue.dispatch.durable import DeadLetter, DurableJob
from asynqueue.dispatch.job import Job
from asynqueue.dispatch.ledger import Told
from asynqueue.dispatch.line import JobLine
from asynqueue.dispatch.texts import checkKey, told
from asynqueue.errors import JobExists, JobNotStorable, StoreError
from asynqueue.iteration.outcome import Outcome
from asynqueue.tasks.states import UNDERWAY

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

    def putBack(self, job: Job) -> None:
        """A job that is PENDING has to wait again."""

    @property
    def stopped(self) -> bool:
        """Whether there is no more waiting."""

    def _changed(self) -> None:
        """Something may be ready to begin, or over."""


class NotKept:
    """
    Jobs live as long as their queue.

    @cvar isLasting: whether jobs live longer.
    @ivar settling: the jobs whose ends are being written down.
    """

    isLasting: ClassVar[bool] = False

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

    def retry(self, job: Job, error: BaseException) -> None:
        """
        A job has failed, and waits for another attempt.
        """

    def leave(self, job: Job) -> None:
        """
        A job that was underway is left for another run.
        """

    def drop(self, job: Job) -> None:
        """
        A job is not wanted any more.
        """

    def checkPriority(self, priority: float) -> None:
        """
        @raise ValueError: if this is no priority for a job here.
        """

    def release(self, job: Job) -> None:
        """
        A job was cancelled, which may be about to begin.
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

    def hurry(self) -> None:
        """
        The reactor has had its last turn: nothing is to be put off.
        """


class Kept(NotKept):
    """
    Jobs live in a store. A job is begun when it is written down that it is, so that an attempt
    which takes the program with it counts; its end is told when that is written down, so that one
    which was told is not done again.
    """

    isLasting = True

    def __init__(self, host: Host, books: Books, line: JobLine, reactor: IReactorTime) -> None:
        super().__init__()
        self._host = host
        self._books = books
        self._line = line
        self._reactor = reactor
        self._byKey: dict[str, DurableJob] = {}
        self._closed: Outcome | None = None
        # The jobs whose beginning is written down, and whose rate does not allow it yet.
        self._held: dict[Job, IDelayedCall] = {}

    def open(self) -> int:
        """
        Put the store's jobs in line.

        @return: the highest number that a job ever had.
        @raise StoreError: if the store cannot be opened.
        """
        jobs, highest = self._books.open(self._host)
        for job in jobs:
            if self._join(job) is None:
                self._stand(job)
        return highest

    def _join(self, job: DurableJob) -> Exception | None:
        """
        Have a job that is in the store wait in line.

        @return: why it cannot, and is dead.
        """
        try:
            self._line.put(job, self._now())
        except Exception as error:
            self._books.bury(job.id, f"it has no key for its rate: {told(error)}")
            return error
        return None

    # Putting --------------------------------------------------------------------------------------

    def standing(self, unique: str, mayStand: bool) -> DurableJob | None:
        """
        @param mayStand: whether it is no error if there is one.
        @return: the job of this key that stands already.
        @raise JobExists: if there is one, and there may not be.
        @raise ValueError: if this is no key.
        """
        checkKey(unique)
        job = self._byKey.get(unique)
        if job is not None and not mayStand:
            raise JobExists(f"{job} has the key {unique!r} already", job)
        return job

    def make(self, id: int, jobarg: Any, priority: float, unique: str | None) -> DurableJob:
        """
        Make a job.

        @raise JobNotStorable: if its argument cannot be stored.
        @raise ValueError: if its priority cannot.
        """
        self.checkPriority(priority)
        now = self._now()
        return DurableJob(id, self._host, jobarg, priority, now, self._books.encode(jobarg), unique)

    def checkPriority(self, priority: float) -> None:
        """
        @raise ValueError: if it is too large an integer for a store.
        """
        if isinstance(priority, int) and not -(2**63) <= priority < 2**63:
            raise ValueError(f"a store keeps priorities of up to 64 bits, not {priority!r}")

    def admit(self, job: Job) -> None:
        """
        Write down that it is in line.
        """
        assert isinstance(job, DurableJob)
        self._stand(job)

        def hear(error: StoreError | None) -> None:
            if error is not None:
                self._refuse(job, error)
            job.setSaved(error)

        self._books.admit(job, hear)

    def _refuse(self, job: DurableJob, error: StoreError) -> None:
        if not job.isDone:
            self._line.remove(job)
            why = StoreError(f"{job} was not saved: {error}")
            why.__cause__ = error
            job.fail(Failure(why), self._now())
        self._host._changed()

    def _stand(self, job: DurableJob) -> None:
        if job.unique is not None:
            self._byKey[job.unique] = job
            job.whenOver = self._standNoMore

    def _standNoMore(self, job: DurableJob) -> None:
        if job.unique is not None and self._byKey.get(job.unique) is job:
            del self._byKey[job.unique]

    # The steps of a job's life --------------------------------------------------------------------

    def begin(self, job: Job, run: Callable[[Job], object]) -> None:
        """
        Write down that it begins, then have it run.
        """

        def hear(error: StoreError | None) -> None:
            if error is not None and job.state == UNDERWAY:
                job.waitAgain()
                job.attempts -= 1
                job.due = self._now() + AGAIN_SECONDS
                self._host.putBack(job)
            self._start(job, run)

        self._books.begin(job, hear)

    def _start(self, job: Job, run: Callable[[Job], object]) -> None:
        """
        Have a job run when its rate allows it, which counted it when it was taken from the line.
        """
        self._held.pop(job, None)
        if job.state == UNDERWAY:
            now = self._now()
            time = self._line.startTime(job, now)
            if time > now:
                self._held[job] = self._reactor.callLater(time - now, self._start, job, run)
                return
        run(job)

    def finish(self, job: Job, result: Any, now: float) -> None:
        """
        Write down that it is over, then tell.
        """
        self.settling.add(job)
        self._books.end(job, self._settle(job, lambda: job.finish(result, now)))

    def fail(self, job: Job, failure: Failure, now: float) -> None:
        """
        Write down that it is dead, then tell.
        """
        self.settling.add(job)
        why = told(failure.value)
        self._books.bury(job.id, why, self._settle(job, lambda: job.fail(failure, now)))

    def _settle(self, job: Job, tell: Callable[[], object]) -> Told:
        def hear(_: StoreError | None) -> None:
            self.settling.discard(job)
            # Unless somebody has cancelled it meanwhile.
            if not job.isDone:
                tell()
            self._host._changed()

        return hear

    def retry(self, job: Job, error: BaseException) -> None:
        """
        Write down that it waits.
        """
        self._books.wait(job, told(error))

    def leave(self, job: Job) -> None:
        """
        Write down that it waits.
        """
        self._books.wait(job, "it was underway when its queue was stopped")

    def drop(self, job: Job) -> None:
        """
        Write down that it is not wanted.
        """
        assert isinstance(job, DurableJob)
        # It may live on, in nobody's hands.
        self._standNoMore(job)
        self._books.end(job)

    def release(self, job: Job) -> None:
        """
        It was cancelled: it need not wait for its rate.
        """
        call = self._held.get(job)
        if call is not None:
            call.reset(0)

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

    def hurry(self) -> None:
        """
        Write down at once what is to be written.
        """
        self._books.hurry()

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
        @raise JobNotStorable: if its argument could not be decoded.
        @raise StoreError: if it is none any more.
        """
        if not letter.isReadable:
            raise JobNotStorable(f"the argument of {letter} cannot be decoded")
        if letter.unique is not None:
            self.standing(letter.unique, False)
        job = self.make(letter.id, letter.jobarg, letter.priority, letter.unique)
        outcome = Outcome()

        def hear(error: StoreError | None) -> None:
            job.setSaved(error)
            if error is not None:
                if not job.isDone:
                    job.fail(Failure(error), self._now())
                outcome.settle(Failure(error))
                return
            if self._host.stopped and not job.isDone:
                self._host.putBack(job)
            elif not job.isDone and (broken := self._join(job)) is not None:
                job.fail(Failure(broken), self._now())
            outcome.settle(job)
            self._host._changed()

        self._stand(job)
        try:
            self._books.revive(letter.id, hear)
        except StoreError:
            self._standNoMore(job)
            raise
        return outcome.wait()

    def forget(self, letter: DeadLetter) -> Deferred[None]:
        """
        A dead letter is not wanted any more.

        @raise StoreError: if it is none any more.
        """
        outcome = Outcome()
        self._books.forget(letter.id, lambda e: outcome.settle(None if e is None else Failure(e)))
        return outcome.wait()

    def _now(self) -> float:
        return self._reactor.seconds()
