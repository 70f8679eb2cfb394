"""
Durable jobs: what is told to the store, and when, and what was told by it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from asynqueue._core.description import describeError, shortly
from asynqueue._core.states import UNDERWAY
from asynqueue._dispatch.encoding import JobCodec, checkKey, checkText, storable, told
from asynqueue._dispatch.groupcommit import GroupCommit, Told
from asynqueue._dispatch.job import DeadLetter, DurableJob, Job, JobOwner
from asynqueue._dispatch.pending import PendingJobs
from asynqueue._dispatch.stores import (
    BEGIN,
    BEGUN,
    DEAD,
    DEAD_LETTER,
    END,
    INSERT,
    MOVE,
    REQUEUE,
    WAIT,
    StoredJob,
)
from asynqueue._waiters import OneShotObserverList
from asynqueue.errors import JobExists, JobNotStorable, StoreError


class Books:
    """
    Keeps a store in agreement with a queue's jobs.
    """

    def __init__(
        self,
        ledger: GroupCommit,
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

    def open(self, owner: JobOwner) -> tuple[list[DurableJob], int]:
        """
        Open the store.

        @return: the jobs that are to be done, and the highest number that a job of the store ever
            had.
        @raise StoreError: if it cannot be opened.
        """
        stored, highest = self._ledger.open()
        self._dead = {one.id for one in stored if one.state == DEAD}
        jobs = [self._restore(one, owner) for one in stored if one.state != DEAD]
        return [job for job in jobs if job is not None], highest

    def _restore(self, stored: StoredJob, owner: JobOwner) -> DurableJob | None:
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
            owner,
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
        self._ledger.note((DEAD_LETTER, id, storable(error)), hear)

    def revive(self, id: int, hear: Told) -> None:
        """
        A dead letter is to be tried again, for this queue's function.

        @raise StoreError: if there is none of this number.
        """
        self._takeLetter(id)
        self._ledger.attempt((REQUEUE, id, self._function), self._giveBack(id, hear))

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
        See L{GroupCommit<asynqueue._dispatch.groupcommit.GroupCommit.hurry>}.
        """
        self._ledger.hurry()

    # Times ----------------------------------------------------------------------------------------

    def _wall(self, time: float) -> float:
        return self._wallClock() + time - self._reactor.seconds()

    def _monotonic(self, wallTime: float) -> float:
        return self._reactor.seconds() + wallTime - self._wallClock()


AGAIN_SECONDS: Final = 1.0
"""How long a job waits whose beginning could not be written down."""


class Host(Protocol):
    """
    What a owner of jobs needs of its queue.
    """

    def cancelJob(self, job: Job) -> None:
        """See L{JobOwner<asynqueue._dispatch.job.JobOwner>}."""

    def reprioritize(self, job: Job, priority: float) -> None:
        """See L{JobOwner<asynqueue._dispatch.job.JobOwner>}."""

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

    def __init__(self, host: Host, books: Books, line: PendingJobs, reactor: IReactorTime) -> None:
        super().__init__()
        self._host = host
        self._books = books
        self._line = line
        self._reactor = reactor
        self._byKey: dict[str, DurableJob] = {}
        self._closed: OneShotObserverList[None] | None = None
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
            self._closed = OneShotObserverList()
            self._books.close().addBoth(self._closed.fire)
        return self._closed.whenFired()

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
        outcome: OneShotObserverList[DurableJob] = OneShotObserverList()

        def hear(error: StoreError | None) -> None:
            job.setSaved(error)
            if error is not None:
                if not job.isDone:
                    job.fail(Failure(error), self._now())
                outcome.fire(Failure(error))
                return
            if self._host.stopped and not job.isDone:
                self._host.putBack(job)
            elif not job.isDone and (broken := self._join(job)) is not None:
                job.fail(Failure(broken), self._now())
            outcome.fire(job)
            self._host._changed()

        self._stand(job)
        try:
            self._books.revive(letter.id, hear)
        except StoreError:
            self._standNoMore(job)
            raise
        return outcome.whenFired()

    def forget(self, letter: DeadLetter) -> Deferred[None]:
        """
        A dead letter is not wanted any more.

        @raise StoreError: if it is none any more.
        """
        outcome: OneShotObserverList[None] = OneShotObserverList()
        self._books.forget(letter.id, lambda e: outcome.fire(None if e is None else Failure(e)))
        return outcome.whenFired()

    def _now(self) -> float:
        return self._reactor.seconds()
