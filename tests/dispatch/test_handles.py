from __future__ import annotations

from collections.abc import Callable

import pytest
from twisted.internet.defer import CancelledError, Deferred

from asynqueue.errors import JobError, StateError
from asynqueue.rdq import Job, JobCancelled, JobDeferred
from tests.dispatch.cases import DispatchCase, firings


class CancelTests(DispatchCase):
    def test_pendingJobThatIsCancelledIsNeverBegun(self) -> None:
        queue = self.makeQueue(width=1)
        d = queue.put("a")
        assert d.job.cancel()
        error = self.errorOf(d, JobCancelled)
        assert isinstance(error, CancelledError)
        assert isinstance(error, JobError)
        assert error.job is d.job
        self.clock.advance(10)
        assert (self.held.begun, d.job.state, queue.size()) == ([], Job.CANCELLED, (0, 0))

    def test_cancellingTheDeferredCancelsTheJob(self) -> None:
        queue = self.makeQueue(width=1)
        d = queue.put("a")
        d.cancel()
        self.errorOf(d, JobCancelled)
        assert (d.job.state, queue.pending()) == (Job.CANCELLED, [])

    def test_jobUnderwayThatIsCancelledCancelsItsCallAndMakesRoom(self) -> None:
        queue = self.makeQueue(width=1)
        d, other = queue.put("a"), self.silenced(queue.put("b"))
        self.settle()
        self.clock.advance(2)
        d.cancel()
        self.errorOf(d, JobCancelled)
        assert (self.held.cancelled, d.job.stopTime) == (["a"], 2)
        self.settle()
        assert queue.underway() == {other.job}

    def test_finishedJobDoesNotChangeAnyMore(self) -> None:
        queue = self.makeQueue(width=1)
        d = queue.put("a")
        self.settle()
        self.held.finish("a")
        job = self.successResultOf(d)
        self.clock.advance(5)
        assert not job.cancel()
        d.cancel()
        assert (job.state, job.result, job.failure) == (Job.FINISHED, "a!", None)
        assert job.stopTime == 0

    def test_failedAndCancelledJobsDoNotChangeAnyMore(self) -> None:
        queue = self.makeQueue(width=1)
        failed, cancelled = queue.put("a"), queue.put("b")
        self.settle()
        cancelled.cancel()
        self.held.fail("a", ValueError())
        for d, kind in ((failed, ValueError), (cancelled, JobCancelled)):
            state, failure = d.job.state, d.job.failure
            self.errorOf(d, kind)
            assert not d.job.cancel()
            assert (d.job.state, d.job.failure) == (state, failure)

    def test_functionMayCancelItsOwnJobAndReturnAValue(self) -> None:
        ds: list[JobDeferred] = []
        queue = self.makeQueue(lambda _: ds[0].job.cancel(), 1)
        ds.append(queue.put("a"))
        self.settle()
        self.errorOf(ds[0], JobCancelled)
        assert queue.size() == (0, 0)

    def test_functionMayCancelItsOwnJobAndRaise(self) -> None:
        ds: list[JobDeferred] = []

        def upset(_: object) -> None:
            ds[0].cancel()
            raise ValueError

        queue = self.makeQueue(upset, 1)
        ds.append(queue.put("a"))
        self.settle()
        self.errorOf(ds[0], JobCancelled)
        assert queue.size() == (0, 0)

    def test_functionMayCancelItsOwnJobAndReturnADeferred(self) -> None:
        ds: list[JobDeferred] = []

        def upset(jobarg: str) -> Deferred[str]:
            ds[0].cancel()
            return self.held(jobarg)

        queue = self.makeQueue(upset, 1)
        ds.append(queue.put("a"))
        self.settle()
        self.errorOf(ds[0], JobCancelled)
        assert (self.held.cancelled, queue.size()) == (["a"], (0, 0))

    def test_functionThatIsCancelledElsewhereFailsItsJob(self) -> None:
        calls: list[Deferred[None]] = []

        def begin(_: object) -> Deferred[None]:
            calls.append(Deferred())
            return calls[-1]

        queue = self.makeQueue(begin, 1)
        d = queue.put("a")
        self.settle()
        calls[0].cancel()
        assert self.errorOf(d, CancelledError).job is d.job
        assert d.job.state == Job.FAILED

    def test_callbackMayCancelAnotherJobUnderway(self) -> None:
        queue = self.makeQueue(width=2)
        first, second = queue.put("a"), queue.put("b")
        self.settle()
        fired = firings(second)
        first.addCallback(lambda _: second.cancel())
        self.held.finish("a")
        assert [type(each) for each in fired] == [JobCancelled]
        assert queue.size() == (0, 0)

    def test_cancelledJobOfADelayLeavesTheClockNothing(self) -> None:
        queue = self.makeQueue(width=1)
        d = queue.put("a", delay=100)
        self.settle()
        assert len(self.clock.getDelayedCalls()) == 1
        d.cancel()
        self.errorOf(d, JobCancelled)
        assert self.clock.getDelayedCalls() == []


class WatchTests(DispatchCase):
    def noting(self, told: list[int], number: int) -> Callable[[Job], Job]:
        def note(job: Job) -> Job:
            told.append(number)
            return job

        return note

    def test_allWhoWatchAreToldInTheOrderOfWatching(self) -> None:
        queue = self.makeQueue(width=1)
        d = queue.put("a")
        told: list[int] = []
        watchers = [d.job.watch() for _ in range(3)]
        for number, watcher in enumerate(watchers):
            watcher.addCallback(self.noting(told, number))
        self.settle()
        self.held.finish("a")
        for each in (d, *watchers):
            assert self.successResultOf(each) is d.job
        assert told == [0, 1, 2]

    def test_allWhoWatchAreToldOfAFailure(self) -> None:
        queue = self.makeQueue(width=1)
        d = queue.put("a")
        watcher = d.job.watch()
        self.settle()
        self.held.fail("a", ValueError())
        for each in (d, watcher):
            assert self.errorOf(each, ValueError).job is d.job

    def test_whoWatchesWhatIsDoneIsToldAtOnce(self) -> None:
        queue = self.makeQueue(width=3)
        done, failed, cancelled = (queue.put(jobarg) for jobarg in "abc")
        self.settle()
        self.held.finish("a")
        self.held.fail("b", ValueError())
        cancelled.cancel()
        for d in (done, done.job.watch()):
            assert self.successResultOf(d) is done.job
        for d in (failed, failed.job.watch()):
            self.errorOf(d, ValueError)
        for d in (cancelled, cancelled.job.watch()):
            self.errorOf(d, JobCancelled)

    def test_cancellingAWatcherCancelsTheJobForAll(self) -> None:
        queue = self.makeQueue(width=1)
        d = queue.put("a")
        watcher = d.job.watch()
        assert watcher.job is d.job
        watcher.cancel()
        for each in (d, watcher):
            self.errorOf(each, JobCancelled)

    def test_watcherThatIsCancelledByAnotherWhoIsToldHearsTheSame(self) -> None:
        queue = self.makeQueue(width=1)
        d = queue.put("a")
        watcher = d.job.watch()
        fired = firings(watcher)
        d.addCallback(lambda _: watcher.cancel())
        self.settle()
        self.held.finish("a")
        assert fired == [d.job]

    def test_whoWatchesWithinACallbackIsToldAtOnce(self) -> None:
        queue = self.makeQueue(width=1)
        d = queue.put("a")
        inner: list[JobDeferred] = []
        d.addCallback(lambda job: inner.append(job.watch()))
        self.settle()
        self.held.finish("a")
        assert self.successResultOf(inner[0]) is d.job


class ReprioritizeTests(DispatchCase):
    def test_movedUpAJobGoesFirst(self) -> None:
        queue = self.makeQueue()
        jobs = self.putAll(queue, "abc", priority=5)
        queue.reprioritize(jobs[2], 1)
        assert (self.argsOf(queue.pending()), jobs[2].priority) == (["c", "a", "b"], 1)
        queue.width = 3
        self.settle()
        assert self.held.begun == ["c", "a", "b"]

    def test_movedDownAJobIsNotLost(self) -> None:
        queue = self.makeQueue()
        jobs = self.putAll(queue, "abc")
        jobs[0].reprioritize(10)
        assert self.argsOf(queue.pending()) == ["b", "c", "a"]
        queue.width = 3
        self.settle()
        assert self.held.begun == ["b", "c", "a"]

    def test_amongItsNewEqualsAJobStandsWhereItWasPut(self) -> None:
        queue = self.makeQueue()
        [first] = self.putAll(queue, "a", priority=3)
        self.putAll(queue, "bc")
        first.reprioritize(0)
        assert self.argsOf(queue.pending()) == ["a", "b", "c"]

    def test_jobThatIsDelayedCanBeMoved(self) -> None:
        queue = self.makeQueue(width=1)
        jobs = self.putAll(queue, "ab", delay=5)
        jobs[1].reprioritize(-1)
        self.clock.advance(5)
        assert self.held.begun == ["b"]

    def test_onlyWhatIsPendingCanBeMoved(self) -> None:
        queue = self.makeQueue(width=1)
        job, other = self.putAll(queue, "ab")
        self.settle()
        with pytest.raises(StateError, match="UNDERWAY: 'reprioritize' is not allowed now"):
            queue.reprioritize(job, 3)
        other.cancel()
        with pytest.raises(StateError, match="CANCELLED: 'reprioritize' is not allowed now"):
            other.reprioritize(3)
        assert (job.priority, other.priority) == (0, 0)

    def test_jobOfAnotherQueueIsNotMoved(self) -> None:
        queue, other = self.makeQueue(), self.makeQueue()
        [job] = self.putAll(other, "a")
        with pytest.raises(ValueError, match="does not wait here"):
            queue.reprioritize(job, 3)
        assert (other.pending(), job.priority) == ([job], 0)
