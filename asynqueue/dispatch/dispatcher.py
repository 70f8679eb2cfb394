"""
The works of a dispatch queue: when jobs are begun, and what becomes of them.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from inspect import iscoroutine
from typing import Any, Final, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from asynqueue.deferreds.clock import checkSeconds, defaultReactor
from asynqueue.dispatch.job import Job, notDispatched
from asynqueue.dispatch.keeping import NotKept
from asynqueue.dispatch.line import JobLine
from asynqueue.errors import StateError
from asynqueue.tasks.retry import Retry
from asynqueue.tasks.states import (
    PENDING,
    RUNNING,
    STOPPED,
    STOPPING,
    UNDERWAY,
    Table,
    nextState,
)

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
    nobody but L{ResizableDispatchQueue<asynqueue.dispatch.rdq.ResizableDispatchQueue>} is one.
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
        See L{ResizableDispatchQueue<asynqueue.dispatch.rdq.ResizableDispatchQueue>}.
        """
        self._func = func
        self._width = width
        self._limit = size
        self._call: Callable[[Callable[[Any], Any], Any], Any]
        self._call = _callHere if queue is None else queue.call
        self._retry = retry
        self._reactor: IReactorTime = defaultReactor() if reactor is None else reactor
        self._state: str = RUNNING
        self._line = JobLine(rateKey)
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
