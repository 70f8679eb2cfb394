"""
The resizable dispatch queue.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from itertools import count
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from asynqueue.deferreds.endings import DRAIN_SECONDS
from asynqueue.dispatch.dispatcher import DISPATCH, Caller, checkPriority, dueTime
from asynqueue.dispatch.endings import EndingDispatcher
from asynqueue.dispatch.job import Job, JobDeferred
from asynqueue.dispatch.texts import JobCodec
from asynqueue.errors import QueueFull
from asynqueue.tasks.retry import Retry
from asynqueue.tasks.states import nextState


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
            an L{IJobStore<asynqueue.dispatch.store.IJobStore>}. The jobs that are in it are in line
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
        if size is not None and (type(size) is not int or size < 1):
            raise ValueError(f"size must be a positive integer or None, not {size!r}")
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
            last attempt, with L{JobCancelled<asynqueue.dispatch.job.JobCancelled>}, or with
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
