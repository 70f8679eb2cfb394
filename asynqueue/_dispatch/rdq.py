"""
The resizable dispatch queue.
"""

from __future__ import annotations

import math
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from inspect import iscoroutine
from itertools import count
from typing import Any, Final, NamedTuple, Protocol

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from asynqueue._core.checks import checkCount, checkSeconds
from asynqueue._core.retry import Retry
from asynqueue._core.states import PENDING, RUNNING, STOPPED, STOPPING, UNDERWAY, Table, nextState
from asynqueue._dispatch.encoding import ExactJSON, JobCodec
from asynqueue._dispatch.groupcommit import GroupCommit
from asynqueue._dispatch.job import (
    DeadLetter,
    DurableJob,
    Job,
    JobCancelled,
    JobDeferred,
    notDispatched,
)
from asynqueue._dispatch.pending import PendingJobs
from asynqueue._dispatch.persistence import Books, Kept, NotKept
from asynqueue._dispatch.sqlitestore import SQLiteJobStore
from asynqueue._lifecycle import DRAIN_SECONDS, Ending
from asynqueue._reactor import SerialExecutor, defaultReactor, serialExecutor
from asynqueue._runner.exceptions import typeName
from asynqueue.errors import (
    ImplementationError,
    IterationStopped,
    JobNotDispatched,
    QueueFull,
    QueueStopped,
    StateError,
    StoreError,
    WorkerError,
)
from asynqueue.interfaces import IJobStore

PAUSED: Final = "PAUSED"

DISPATCH: Final[Table] = {
    RUNNING: {"pause": PAUSED, "resume": RUNNING, "stop": STOPPING},
    # Jobs are taken on, and none is begun.
    PAUSED: {"pause": PAUSED, "resume": RUNNING, "stop": STOPPING},
    # No jobs are taken on or begun; those underway may end.
    STOPPING: {"stop": STOPPING, "stopped": STOPPED},
    STOPPED: {"stop": STOPPED},
}

TURN_SECONDS: Final = 0.01
"""For how long jobs are begun before the reactor gets its turn."""

NEXT_TURN: Final = -math.inf
"""As a time to look for jobs: whatever the time is."""


class Caller(Protocol):
    """
    Whatever calls functions and returns Deferreds: a C{TaskQueue}, or its C{options(…)}.
    """

    def call(self, function: Any, /, *args: Any, **kw: Any) -> Deferred[Any]:
        """Call a function."""


class Dispatcher:
    """
    Begins the jobs of a line, so many at a time, and hears of their ends. It takes on no jobs, and
    nobody but L{ResizableDispatchQueue<asynqueue._dispatch.rdq.ResizableDispatchQueue>} is one.
    """

    def __init__(
        self,
        func: Callable[[Any], Any],
        width: int,
        size: int | None,
        queue: Caller | None,
        rateKey: Callable[[Any], Hashable] | None,
        retry: Retry | None,
        reactor: IReactorTime | None,
    ) -> None:
        """
        See L{ResizableDispatchQueue<asynqueue._dispatch.rdq.ResizableDispatchQueue>}.
        """
        self._func = func
        self._width = width
        self._limit = size
        self._call: Callable[[Callable[[Any], Any], Any], Any]
        self._call = _callHere if queue is None else queue.call
        self._retry = retry
        self._reactor: IReactorTime = defaultReactor() if reactor is None else reactor
        self._state: str = RUNNING
        self._line = PendingJobs(rateKey)
        self._keeping = NotKept()
        self._underway: dict[Job, Deferred[Any] | None] = {}
        self._left: list[Job] = []
        self._turn: IDelayedCall | None = None
        self._turnTime = NEXT_TURN
        self._isDispatching = False
        self._drained: list[Deferred[None]] = []
        self._ready: OrderedDict[Deferred[None], None] = OrderedDict()

    @property
    def paused(self) -> bool:
        """
        Whether it is paused.
        """
        return self._state == PAUSED

    @property
    def stopped(self) -> bool:
        """
        Whether it was stopped.
        """
        return self._state in (STOPPING, STOPPED)

    # Turns ----------------------------------------------------------------------------------------

    def _dispatchSoon(self) -> None:
        """
        Something may be ready to begin: have a look in the reactor's next turn.
        """
        if (
            not self._isDispatching
            and self._state == RUNNING
            and len(self._underway) < self._width
            and self._line
        ):
            self._lookAt(NEXT_TURN)

    def _lookAt(self, time: float) -> None:
        """
        Have a look at this time, or before.
        """
        if self._turn is not None:
            if self._turnTime <= time:
                return
            self._turn.cancel()
        self._turnTime = time
        delay = max(0.0, time - self._reactor.seconds())
        self._turn = self._reactor.callLater(delay, self._dispatch)

    def _cancelTurn(self) -> None:
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _dispatch(self) -> None:
        """
        Begin jobs, for a while: those, too, that come in the meantime.
        """
        self._turn = None
        self._isDispatching = True
        try:
            mayFollow = self._beginMany()
        finally:
            self._isDispatching = False
        self._tell()
        if self._state != RUNNING:
            return
        if mayFollow:
            self._lookAt(NEXT_TURN)
        elif len(self._underway) < self._width:
            time = self._line.nextTime()
            if time is not None:
                self._lookAt(time)

    def _beginMany(self) -> bool:
        """
        @return: whether there may be more that could begin now.
        """
        seconds, underway, take = self._reactor.seconds, self._underway, self._line.take
        started = now = seconds()
        while self._state == RUNNING and len(underway) < self._width:
            # A clock that was set back is no reason to go on for long.
            if not started <= now < started + TURN_SECONDS:
                return True
            job = take(now)
            if job is None:
                return False
            self._begin(job, now)
            now = seconds()
        return False

    # Jobs -----------------------------------------------------------------------------------------

    def _begin(self, job: Job, now: float) -> None:
        job.begin(now)
        self._underway[job] = None
        self._keeping.begin(job, self._run)

    def _run(self, job: Job) -> None:
        if job.state != UNDERWAY:
            # It could not begin after all, or was cancelled before it could.
            del self._underway[job]
            self._changed()
            return
        try:
            result = self._call(self._func, job.jobarg)
        except BaseException:
            # The function's own, as maybeDeferred has it; or a task queue refuses.
            self._ended(Failure(), job)
            return
        if not isinstance(result, Deferred):
            # Most of what costs time here would be a Deferred for it.
            self._ended(result, job)
            return
        self._underway[job] = result
        result.addBoth(self._ended, job)
        if job.isDone:
            # Its own function has cancelled it.
            result.cancel()

    def _ended(self, result: Any, job: Job) -> None:
        del self._underway[job]
        if job.state == UNDERWAY:
            now = self._reactor.seconds()
            if not isinstance(result, Failure):
                self._keeping.finish(job, result, now)
            elif self._isCutShort(result):
                self._waitForAnother(job, result)
            elif not self._tryAgain(job, result, now):
                self._keeping.fail(job, result, now)
        self._changed()

    def _tryAgain(self, job: Job, failure: Failure, now: float) -> bool:
        """
        @return: whether the failure is dealt with.
        """
        error = failure.value
        assert error is not None
        if self._retry is None or isinstance(error, CancelledError):
            return False
        if self.stopped and not self._keeping.isLasting:
            return False
        try:
            delay = self._retry.delayAfter(error, job.attempts)
            due = None if delay is None else dueTime(now, delay)
        except Exception as broken:
            # The policy is at fault, and whoever waits for the job is to hear of both.
            broken.__cause__ = error
            self._keeping.fail(job, Failure(broken), now)
            return True
        if job.isDone:
            # The policy has cancelled it.
            return True
        if due is None:
            return False
        job.due = due
        self._waitForAnother(job, failure)
        return True

    def _waitForAnother(self, job: Job, failure: Failure) -> None:
        """
        A job has failed, which is to be tried again.
        """
        error = failure.value
        assert error is not None
        job.retry(failure)
        self._keeping.retry(job, error)
        self.putBack(job)

    def _isCutShort(self, failure: Failure) -> bool:
        """
        @return: whether a job failed because the program ends.
        """
        return False

    def putBack(self, job: Job) -> None:
        """
        A job that was underway waits again; or it is left behind, if there is no more waiting here.
        """
        now = self._reactor.seconds()
        if self.stopped:
            self._left.append(job)
            job.fail(notDispatched(job), now)
        else:
            self._line.put(job, now, isNew=False)

    def cancelJob(self, job: Job) -> None:
        """
        Somebody wants a job cancelled that is not done. (For jobs to call.)
        """
        self._keeping.drop(job)
        self._cancelJob(job)

    def _cancelJob(self, job: Job) -> None:
        self._line.remove(job)
        if not self._line:
            self._cancelTurn()
        call = self._underway.get(job)
        job.cancelled(self._reactor.seconds())
        self._keeping.release(job)
        if call is not None:
            # Its slot is free when that has fired.
            call.cancel()
        self._changed()

    def reprioritize(self, job: Job, priority: float) -> None:
        """
        Move a job among those that wait.

        @param priority: lower is more important.
        @raise StateError: unless the job is PENDING.
        @raise ValueError: if the priority is no number, or the job is not one of mine.
        """
        if job.state != PENDING:
            raise StateError(job, job.state, "reprioritize")
        self._keeping.checkPriority(checkPriority(priority))
        self._line.reprioritise(job, priority)
        self._keeping.move(job)

    # Those who wait -------------------------------------------------------------------------------

    def _whenDrained(self) -> Deferred[None]:
        drained: Deferred[None] = Deferred(self._drained.remove)
        self._drained.append(drained)
        self._checkDrained()
        return drained

    def _checkDrained(self) -> None:
        settling = self._keeping.settling
        if self._state == STOPPING and not self._underway and not settling:
            self._state = nextState(DISPATCH, self._state, "stopped", self)
        while self._drained and not self._underway and not settling:
            self._drained.pop(0).callback(None)

    def _room(self) -> float:
        if self.stopped:
            return 0
        return math.inf if self._limit is None else self._limit - len(self._line)

    def _changed(self) -> None:
        """
        There may be somebody to tell, and something may be ready to begin.
        """
        if self._ready or self._drained or self._state == STOPPING:
            self._tell()
        if not self._isDispatching:
            self._dispatchSoon()

    def _tell(self) -> None:
        """
        There may be room, and nothing may be left underway.
        """
        room = self._room()
        while self._ready and room > 0:
            self._ready.popitem(last=False)[0].callback(None)
            room = min(room - 1, self._room())
        self._checkDrained()


def _callHere(func: Callable[[Any], Any], jobarg: Any) -> Any:
    result = func(jobarg)
    return Deferred.fromCoroutine(result) if iscoroutine(result) else result


def dueTime(now: float, delay: float | None, at: float | None = None) -> float:
    """
    @param now: the time.
    @param delay: how many seconds to wait from now on; or else C{at} is the time to wait for.
    @raise ValueError: if that is no finite time, or both are given.
    """
    if delay is not None:
        if at is not None:
            raise ValueError("delay and at exclude each other")
        at = now + checkSeconds("delay", delay)
    if at is None or not math.isfinite(at):
        raise ValueError(f"a job can begin at a finite number of seconds, not at {at!r}")
    return at


def checkPriority(priority: float) -> float:
    """
    @raise ValueError: if it is no number.
    """
    if not isinstance(priority, int | float) or math.isnan(priority):
        raise ValueError(f"a priority must be a number, not {priority!r}")
    return priority


ATTEMPTS = 3
"""How many times a job is begun that takes the program with it, if no policy of retries says so."""


class StoredDispatcher(Dispatcher):
    """
    Opens the store, and looks after the dead letters in it.
    """

    _kept: Kept | None = None

    def _keepIn(self, store: Any, codec: JobCodec | None, name: str | None) -> int:
        """
        Keep jobs in a store from now on, and put those that are in it in line.

        @return: the number of the next job.
        @raise StoreError: if it cannot be opened.
        """
        if isinstance(store, str | os.PathLike):
            store = SQLiteJobStore(store)
        elif not IJobStore.providedBy(store):
            raise ImplementationError(f"{store!r} is neither a path nor a provider of IJobStore")
        books = Books(
            GroupCommit(store, self._makeAside(), self._reactor),
            _nameOf(self._func) if name is None else name,
            ExactJSON() if codec is None else codec,
            ATTEMPTS if self._retry is None else self._retry.attempts,
            self._reactor,
            self._wallClock,
        )
        kept = Kept(self, books, self._line, self._reactor)
        highest = kept.open()
        self._keeping = self._kept = kept
        return highest + 1

    def _makeAside(self) -> SerialExecutor:
        return serialExecutor(self._reactor, "asynqueue store", StoreError)

    def _wallClock(self) -> float:
        return time.time()

    def deadLetters(self) -> Deferred[list[DeadLetter]]:
        """
        @return: a Deferred that fires with the jobs in my store that came to a bad end: those that
            failed for good, that were begun as often as may be without coming to an end, whose
            function is gone or whose argument cannot be decoded. In the order of putting.
        @raise StoreError: if I have no store.
        """
        return self._storeOf("dead letters").deadLetters()

    def retryDeadLetter(self, letter: DeadLetter) -> Deferred[DurableJob]:
        """
        Put a dead letter in line again, for my function, as if it had not been tried yet.

        @param letter: one of L{deadLetters}.
        @return: a Deferred that fires with the job when that is safe, or fails with C{StoreError}.
        @raise JobExists: if another job with its key stands.
        @raise JobNotStorable: if its argument could not be decoded.
        @raise QueueStopped: after C{stop}.
        @raise StoreError: if I have no store, or the letter is not in it any more.
        """
        if self.stopped:
            raise QueueStopped(f"{self!r} was stopped, and takes no more jobs")
        return self._storeOf("dead letters").revive(letter)

    def dropDeadLetter(self, letter: DeadLetter) -> Deferred[None]:
        """
        Forget a dead letter.

        @param letter: one of L{deadLetters}.
        @return: a Deferred that fires when that is safe, or fails with C{StoreError}.
        @raise StoreError: if I have no store, or the letter is not in it any more.
        """
        return self._storeOf("dead letters").forget(letter)

    def _storeOf(self, what: str) -> Kept:
        if self._kept is None:
            raise StoreError(f"{self!r} has no store, and so no {what}")
        return self._kept


def _nameOf(function: Any) -> str:
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None)
    return f"{module}.{name}" if module and name else typeName(type(function))


ENDS: Final = (QueueStopped, WorkerError, IterationStopped, CancelledError)
"""What a function fails with when the program ends, and with it a queue that the function uses. Any
of these may come of something else too; then the job is only tried once more than it need be."""


class EndingDispatcher(StoredDispatcher):
    """
    Stops, and does so when its program ends, if nobody has stopped it before.

    @ivar drainTimeout: for how many seconds jobs that are underway may go on after a signal that
        asks the program to end. C{None}: signals are left to others, who stop the queue.
    """

    _ending: Ending

    def _endWithProgram(self, drainTimeout: float | None) -> None:
        """
        @raise ValueError: if the time is negative or not a number.
        """
        self.drainTimeout = drainTimeout
        self._ending = Ending(
            self._reactor,
            self,
            self._countUnderway,
            self._drain,
            self._cut,
            self._endNow,
            self._giveUp,
        )

    def stop(self, cancelUnderway: bool = False) -> Deferred[list[Job]]:
        """
        Take on no more jobs, begin none, and wait for those underway. The Deferreds of those that
        wait fail with C{JobNotDispatched}.

        @param cancelUnderway: whether the jobs that are underway are cancelled rather than waited
            for.
        @return: a Deferred that fires when no job is underway any more, with the jobs that did not
            come to their ends: those that were cancelled by this, then those that waited, by
            priority. So does that of a second call.
        """
        self._state = nextState(DISPATCH, self._state, "stop", self)
        self._cancelTurn()
        while self._ready:
            ready, _ = self._ready.popitem(last=False)
            ready.errback(Failure(QueueStopped(f"{self!r} was stopped, and takes no more jobs")))
        cancelled = [job for job in self._underway if cancelUnderway and not job.isDone]
        waiting = self._line.clear()
        self._left = [*cancelled, *self._left, *waiting]
        for job in cancelled:
            # On hearing of one, somebody may have cancelled another.
            if not job.isDone:
                self._keeping.leave(job)
                self._cancelJob(job)
        now = self._reactor.seconds()
        for job in waiting:
            # On hearing of one, somebody may have cancelled another.
            if not job.isDone:
                job.fail(notDispatched(job), now)
        stopped = self._whenDrained().addCallback(lambda _: self._keeping.close())
        return stopped.addCallback(self._allOver)

    def _allOver(self, _: None) -> list[Job]:
        self._ending.forget()
        return [job for job in self._left if _isLeftBehind(job)]

    def _checkGoingOn(self, what: str) -> None:
        if self.stopped:
            raise QueueStopped(f"{self!r} is asked for {what}, but it was stopped")

    # With the program -----------------------------------------------------------------------------

    def _isCutShort(self, failure: Failure) -> bool:
        if not self._ending.hasBegun or failure.check(*ENDS) is None:
            return False
        # One that nobody keeps has no other run before it, but a job that was refused was not run.
        return self._keeping.isLasting or failure.check(QueueStopped) is not None

    def _countUnderway(self) -> int:
        return len(self._underway)

    def _drain(self, why: str) -> Deferred[Any]:
        stopped = self.stop()
        now = self._reactor.seconds()
        for job in [job for job, call in self._underway.items() if call is None]:
            # Its function has not been called: it is being written down that it begins, or its rate
            # does not allow it yet.
            if job.state == UNDERWAY:
                self._keeping.leave(job)
                self._left.append(job)
                job.fail(notDispatched(job), now)
                self._keeping.release(job)
        return stopped

    def _cut(self, why: str) -> Deferred[Any]:
        self.stop(cancelUnderway=True)
        # What takes no notice of being cancelled is not waited for.
        return self._keeping.close()

    def _endNow(self, why: str) -> None:
        self._cut(why)
        self._keeping.hurry()

    def _giveUp(self) -> None:
        waiting: list[Deferred[Any]] = list(self._ready)
        for job in (*self._line, *self._underway):
            waiting += job.watchers
        self._endNow("the interpreter ends")
        for d in waiting:
            # There is nobody left to handle it.
            d.addErrback(lambda _: None)


def _isLeftBehind(job: Job) -> bool:
    # It may have come to its end while others were being cancelled; or this is asked in the middle
    # of that, by a callback.
    if job.failure is None or job.state == PENDING:
        return job.state == PENDING
    return job.failure.check(JobCancelled, JobNotDispatched) is not None


class Size(NamedTuple):
    """
    How many jobs a dispatch queue has.
    """

    underway: int
    pending: int


class ResizableDispatchQueue(EndingDispatcher):
    """
    Calls one function with many arguments, a limited number of them at once::

        queue = ResizableDispatchQueue(sendMessage, width=5, rate=10, per=1.0)
        d = queue.put(phoneNumber, priority=3)
        d.addCallback(lambda job: print(job.result))

    Each argument makes a L{Job}. Jobs wait in the order of their priorities, lower first, equal
    ones in the order of putting; as many are underway at once as the queue is wide, which may be
    changed at any time, down to none. What waits and what is underway can be looked at, moved and
    cancelled.

    The function is called in the main loop, and never from within a method of this queue; it may
    return a Deferred or a coroutine. With a task queue, it is called by that queue's workers
    instead.

    My methods must be called in the reactor's thread.
    """

    def __init__(
        self,
        func: Callable[[Any], Any],
        width: int = 0,
        size: int | None = None,
        backlog: int | None = None,
        *,
        queue: Caller | None = None,
        rate: int | None = None,
        per: float = 1.0,
        burst: int | None = None,
        rateKey: Callable[[Any], Hashable] | None = None,
        retry: Retry | None = None,
        store: Any = None,
        codec: JobCodec | None = None,
        storedAs: str | None = None,
        drainTimeout: float | None = DRAIN_SECONDS,
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        @param func: takes a job's argument.
        @param width: how many jobs may be underway at once. With 0, jobs only wait.
        @param size: how many jobs may be pending at once; C{None} for no limit.
        @param backlog: accepted for txRDQ's callers, and without effect: nobody waits in line for
            jobs here.
        @param queue: what calls the function: a C{TaskQueue}, or what its C{options} returns.
            Default: the main loop. It is not shut down by me.
        @param rate: how many jobs may begin in any C{per} seconds, wherever these begin; C{None}
            for no limit.
        @param per: see C{rate}.
        @param burst: how many of these may begin at once; the others follow at the average pace. By
            default all of them may.
        @param rateKey: takes a job's argument, and gives a hashable key: the rate then holds for
            each key by itself, and the jobs of a key that has used it up hold up no others.
        @param retry: which failures are tried again. By default none is.
        @param store: where jobs are kept that are to survive this program: the path of a file, or
            an L{IJobStore<asynqueue.interfaces.IJobStore>}. The jobs that are in it are in line
            again when this has returned. By default jobs live as long as the queue.
        @param codec: makes texts or bytes of the jobs' arguments for the store, and arguments of
            these: an object with C{dumps} and C{loads}, such as the module C{pickle}. Default:
            JSON, for what comes back from it as it was.
        @param storedAs: by what name the function is known in the store. Default: its module and
            qualified name. Jobs of other names are dead letters.
        @param drainTimeout: for how many seconds jobs that are underway may go on after a SIGINT or
            SIGTERM at which the reactor stops. Those that wait are left, as C{stop} leaves them; so
            are, in a store, those that come to no end because of it. 0 to wait for none. With
            C{None} the queue leaves signals to others, who stop it. Default: 5. With a task queue
            as C{queue}, that one has a time of its own.
        @param reactor: what gives the time. Default: the global reactor.
        @raise StoreError: if the store cannot be opened; C{StoreLocked} if another queue has it,
            C{StoreCorrupt} if it makes no sense.
        @raise ValueError: if the width is not an integer or negative, the size is not a positive
            integer, C{rate}, C{per} and C{burst} are no rate, or C{drainTimeout} is negative.
        """
        checkCount("size", size, optional=True)
        super().__init__(func, _checkWidth(width), size, queue, rateKey, retry, reactor)
        self.setRate(rate, per, burst)
        first = 1
        self._endWithProgram(drainTimeout)
        if store is not None:
            first = self._keepIn(store, codec, storedAs)
        self._ids = count(first)
        self._dispatchSoon()

    def __repr__(self) -> str:
        underway, pending = self.size()
        return (
            f"<{type(self).__name__}: {self._state}, width {self._width}, "
            f"{underway} underway, {pending} pending>"
        )

    # Jobs -----------------------------------------------------------------------------------------

    def put(
        self,
        jobarg: Any,
        priority: float = 0,
        *,
        delay: float | None = None,
        at: float | None = None,
        unique: str | None = None,
        mayStand: bool = True,
    ) -> JobDeferred:
        """
        Add a job.

        @param jobarg: the argument for the function.
        @param priority: lower is more important.
        @param delay: how many seconds it is to wait at least.
        @param at: the time before which it is not to begin, in seconds of the reactor's clock.
        @param unique: a key, a string, of which there is to be one job at a time, in line or
            underway. This takes a store.
        @param mayStand: whether, if there is one already, a Deferred of that one is returned.
            Otherwise C{JobExists} is raised.
        @return: a Deferred, whose C{job} is the job. It fires with the job when that is FINISHED;
            the function's result is C{job.result}. It fails with what the function raised in the
            last attempt, with L{JobCancelled<asynqueue._dispatch.job.JobCancelled>}, or with
            C{JobNotDispatched} if the queue was stopped before its turn came; the exception's
            C{job} is the job. Cancelling it cancels the job. If a job that a store keeps fails and
            nobody handles that, it is not logged.
        @raise JobExists: if there is a job of this key, and there may not be.
        @raise JobNotStorable: if there is a store, and the codec cannot encode the argument.
        @raise QueueStopped: after C{stop}.
        @raise QueueFull: if as many jobs as may be are pending.
        @raise ValueError: if the priority is no number, C{delay} or C{at} is no finite one or the
            delay is negative, or both C{delay} and C{at} are given. What C{rateKey} raises comes
            through, and so does a C{TypeError} if its key is not hashable. In each of these cases
            there is no job.
        """
        self._checkGoingOn("a place for a job")
        job = self._standing(unique, mayStand)
        if job is None:
            job = self._putNew(jobarg, checkPriority(priority), delay, at, unique)
        d = job.watch()
        self._dispatchSoon()
        return d

    def _putNew(
        self,
        jobarg: Any,
        priority: float,
        delay: float | None,
        at: float | None,
        unique: str | None,
    ) -> Job:
        if self._limit is not None and len(self._line) >= self._limit:
            raise QueueFull(f"{self!r} may have no more than {self._limit} jobs pending")
        now = self._reactor.seconds()
        due = None if delay is None and at is None else dueTime(now, delay, at)
        job = self._makeJob(jobarg, priority, now, unique)
        job.due = due
        self._line.put(job, now)
        self._keeping.admit(job)
        return job

    def _standing(self, unique: str | None, mayStand: bool) -> Job | None:
        """
        @return: the job that has this unique key already.
        """
        if unique is None:
            return None
        if self._kept is None:
            raise ValueError("only a queue with a store knows which keys are taken")
        return self._kept.standing(unique, mayStand)

    def _makeJob(self, jobarg: Any, priority: float, now: float, unique: str | None) -> Job:
        if self._kept is not None:
            return self._kept.make(next(self._ids), jobarg, priority, unique)
        return Job(next(self._ids), self, jobarg, priority, now)

    def pending(self) -> list[Job]:
        """
        @return: the jobs that wait, by priority and then in the order of putting.
        """
        return list(self._line)

    def underway(self) -> set[Job]:
        """
        @return: the jobs whose calls have begun and have not ended. One that was cancelled is among
            them until its call has taken notice.
        """
        return set(self._underway)

    def size(self) -> Size:
        """
        @return: how many jobs are underway, and how many are pending.
        """
        return Size(len(self._underway), len(self._line))

    def clearQueue(self, cancelPending: bool = True) -> list[Job]:
        """
        Take out all jobs that wait.

        @param cancelPending: whether they are cancelled. Otherwise they are left as they are, in
            nobody's hands: their Deferreds fire only if somebody cancels them.
        @return: the jobs, by priority.
        """
        jobs = self._line.clear()
        self._cancelTurn()
        for job in jobs:
            self._keeping.drop(job)
        if cancelPending:
            now = self._reactor.seconds()
            for job in jobs:
                # On hearing of one, somebody may have cancelled another.
                if not job.isDone:
                    job.cancelled(now)
        self._changed()
        return jobs

    # Width ----------------------------------------------------------------------------------------

    def getWidth(self) -> int:
        """
        @return: how many jobs may be underway at once, when the queue is not paused. More may be
            underway for a while after it was made less.
        """
        return self._width

    def setWidth(self, width: int) -> None:
        """
        Change how many jobs may be underway at once. Those that are underway are left alone. While
        the queue is paused, this takes effect with L{resume}.

        @raise ValueError: if it is not an integer, or negative.
        """
        self._width = _checkWidth(width)
        self._dispatchSoon()

    width = property(getWidth, setWidth)

    def pause(self) -> Deferred[None]:
        """
        Begin no more jobs until L{resume}.

        @return: a Deferred that fires when no job is underway any more, at once if none is. If the
            queue is resumed before, it goes on waiting for such a moment. Cancelling it only ends
            the waiting.
        @raise QueueStopped: after C{stop}.
        """
        self._checkGoingOn("a pause")
        self._state = nextState(DISPATCH, self._state, "pause", self)
        self._cancelTurn()
        return self._whenDrained()

    def resume(self, width: int | None = None) -> None:
        """
        Go on after L{pause}.

        @param width: the new width. By default it is as it was.
        @raise QueueStopped: after C{stop}.
        @raise ValueError: if the width is not an integer, or negative.
        """
        self._checkGoingOn("resuming")
        if width is not None:
            self._width = _checkWidth(width)
        self._state = nextState(DISPATCH, self._state, "resume", self)
        self._dispatchSoon()

    def whenReady(self) -> Deferred[None]:
        """
        @return: a Deferred that fires when there is room for another job, at once if there is. Of
            several that wait, as many fire as there is room for, the first first. The room is not
            kept: who puts later than in a callback may find it taken. Cancelling it ends the wait.
        @raise QueueStopped: after C{stop}. Those that wait then fail with it.
        """
        self._checkGoingOn("room for a job")
        if self._room() > len(self._ready):
            return succeed(None)
        ready: Deferred[None] = Deferred(self._ready.pop)
        self._ready[ready] = None
        return ready

    # Rate -----------------------------------------------------------------------------------------

    @property
    def rate(self) -> tuple[int, float, int | None] | None:
        """
        How many jobs may begin, in how many seconds, and how many of these at once; C{None} if
        there is no limit.
        """
        return self._line.rate

    def setRate(self, rate: int | None, per: float = 1.0, burst: int | None = None) -> None:
        """
        Change how many jobs may begin in a length of time. The latest starts still count, as far
        as they are known: as many as the rate was until now.

        @param rate: C{None} for no limit.
        @raise ValueError: if these are no rate.
        """
        self._line.setRate(None if rate is None else (rate, per, burst))
        self._dispatchSoon()


def _checkWidth(width: int) -> int:
    if type(width) is not int or width < 0:
        raise ValueError(f"the width must be an integer of 0 or more, not {width!r}")
    return width
