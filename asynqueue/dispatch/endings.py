"""
How a dispatch queue ends: by being stopped, or with its program.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from asynqueue.deferreds.endings import Endings
from asynqueue.dispatch.dispatcher import DISPATCH
from asynqueue.dispatch.job import Job, JobCancelled, notDispatched
from asynqueue.dispatch.stored import StoredDispatcher
from asynqueue.errors import IterationStopped, JobNotDispatched, QueueStopped, WorkerError
from asynqueue.tasks.states import PENDING, UNDERWAY, nextState

ENDS: Final = (QueueStopped, WorkerError, IterationStopped, CancelledError)
"""What a function fails with when the program ends, and with it a queue that the function uses. Any
of these may come of something else too; then the job is only tried once more than it need be."""


class EndingDispatcher(StoredDispatcher):
    """
    Stops, and does so when its program ends, if nobody has stopped it before.

    @ivar drainTimeout: for how many seconds jobs that are underway may go on after a signal that
        asks the program to end. C{None}: signals are left to others, who stop the queue.
    """

    _endings: Endings

    def _endWithProgram(self, drainTimeout: float | None) -> None:
        """
        @raise ValueError: if the time is negative or not a number.
        """
        self.drainTimeout = drainTimeout
        self._endings = Endings(self, self._reactor)

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
        self._endings.forget()
        return [job for job in self._left if _isLeftBehind(job)]

    def _checkGoingOn(self, what: str) -> None:
        if self.stopped:
            raise QueueStopped(f"{self!r} is asked for {what}, but it was stopped")

    # With the program -----------------------------------------------------------------------------

    def _isCutShort(self, failure: Failure) -> bool:
        if not self._endings.hasBegun or failure.check(*ENDS) is None:
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
