from __future__ import annotations

import gc

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from asynqueue import Retry
from asynqueue.errors import JobNotDispatched, QueueStopped
from asynqueue.rdq import Job, JobCancelled, ResizableDispatchQueue
from tests.dispatch.cases import DispatchCase, firings


def _stopAgain(
    failure: Failure, queue: ResizableDispatchQueue, stopping: list[Deferred[list[Job]]]
) -> None:
    stopping.append(queue.stop())


class PauseTests(DispatchCase):
    def test_pauseBeginsNothingAndFiresWhenNothingIsUnderway(self) -> None:
        queue = self.makeQueue(width=2)
        self.putAll(queue, "abc")
        self.settle()
        paused = queue.pause()
        assert (queue.paused, queue.stopped) == (True, False)
        self.held.finish("a")
        self.settle()
        self.assertNoResult(paused)
        self.held.finish("b")
        assert self.successResultOf(paused) is None
        self.settle()
        assert (self.held.begun, queue.size()) == (["a", "b"], (0, 1))

    def test_idleQueueIsPausedAtOnce(self) -> None:
        queue = self.makeQueue(width=2)
        self.putAll(queue, "a")
        self.successResultOf(queue.pause())
        self.clock.advance(10)
        assert (queue.size(), self.clock.getDelayedCalls()) == ((0, 1), [])

    def test_pausedQueueTakesJobs(self) -> None:
        queue = self.makeQueue(width=2)
        self.successResultOf(queue.pause())
        self.putAll(queue, "ab")
        self.clock.advance(10)
        assert queue.size() == (0, 2)
        queue.resume()
        self.settle()
        assert queue.size() == (2, 0)

    def test_resumeGoesOnWithTheOldWidth(self) -> None:
        queue = self.makeQueue(width=2)
        queue.pause()
        assert queue.width == 2
        queue.resume()
        assert (queue.width, queue.paused) == (2, False)

    def test_resumeMayChangeTheWidth(self) -> None:
        queue = self.makeQueue(width=2)
        self.putAll(queue, "abcd")
        queue.pause()
        queue.resume(3)
        self.settle()
        assert (queue.width, queue.size()) == (3, (3, 1))
        queue.pause()
        queue.resume(0)
        assert queue.width == 0

    def test_widthThatIsSetWhilePausedCountsFromResume(self) -> None:
        queue = self.makeQueue(width=1)
        self.putAll(queue, "abc")
        queue.pause()
        queue.width = 2
        self.clock.advance(1)
        assert (queue.width, queue.size()) == (2, (0, 3))
        queue.resume()
        self.settle()
        assert queue.size() == (2, 1)

    def test_pauseTwiceFiresBoth(self) -> None:
        queue = self.makeQueue(width=1)
        self.putAll(queue, "a")
        self.settle()
        first, second = queue.pause(), queue.pause()
        queue.resume()
        assert queue.width == 1
        self.assertNoResult(first)
        self.held.finish("a")
        self.successResultOf(first)
        self.successResultOf(second)

    def test_whoWaitsForAPauseMayCancel(self) -> None:
        queue = self.makeQueue(width=1)
        self.putAll(queue, "a")
        self.settle()
        first, second = queue.pause(), queue.pause()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.held.finish("a")
        self.successResultOf(second)

    def test_firstOfTwoThatWaitMayCancelTheOther(self) -> None:
        queue = self.makeQueue(width=1)
        self.putAll(queue, "a")
        self.settle()
        first, second, third = queue.pause(), queue.pause(), queue.pause()
        fired = firings(second)
        first.addCallback(lambda _: second.cancel())
        self.held.finish("a")
        assert [type(each) for each in fired] == [CancelledError]
        self.successResultOf(third)

    def test_resumeOfAQueueThatIsNotPausedChangesNothingButTheWidth(self) -> None:
        queue = self.makeQueue(width=1)
        queue.resume()
        queue.resume(3)
        assert (queue.width, queue.paused) == (3, False)

    def test_pausedQueueCanBeStoppedAndThenNotResumed(self) -> None:
        queue = self.makeQueue(width=1)
        jobs = self.putAll(queue, "ab")
        queue.pause()
        assert self.successResultOf(queue.stop()) == jobs
        for method in (queue.resume, queue.pause, queue.whenReady):
            with pytest.raises(QueueStopped):
                method()
        assert (queue.paused, queue.stopped) == (False, True)


class StopTests(DispatchCase):
    def test_waitsForThoseUnderwayAndGivesThoseThatWaited(self) -> None:
        queue = self.makeQueue(width=1)
        [done] = self.putAll(queue, "a")
        late, early = queue.put("b", 5), queue.put("c", 1)
        self.settle()
        stopped = queue.stop()
        for d in (late, early):
            error = self.errorOf(d, JobNotDispatched)
            assert issubclass(JobNotDispatched, QueueStopped)
            assert (error.job, d.job.state) == (d.job, Job.PENDING)
        self.assertNoResult(stopped)
        assert queue.stopped
        self.held.finish("a")
        assert self.successResultOf(stopped) == [early.job, late.job]
        assert (done.state, queue.size()) == (Job.FINISHED, (0, 0))

    def test_mayCancelThoseUnderway(self) -> None:
        queue = self.makeQueue(width=2)
        ds = [queue.put(jobarg) for jobarg in "abc"]
        self.settle()
        stopped = queue.stop(cancelUnderway=True)
        assert self.held.cancelled == ["a", "b"]
        for d, kind in zip(ds, [JobCancelled, JobCancelled, JobNotDispatched], strict=True):
            self.errorOf(d, kind)
        assert self.successResultOf(stopped) == [d.job for d in ds]

    def test_secondStopFiresWithTheSame(self) -> None:
        queue = self.makeQueue(width=1)
        self.putAll(queue, "abc")
        self.settle()
        first, second = queue.stop(), queue.stop()
        self.held.finish("a")
        third = queue.stop()
        for d in (first, second, third):
            assert self.argsOf(self.successResultOf(d)) == ["b", "c"]

    def test_secondStopMayCancelWhatTheFirstWaitedFor(self) -> None:
        queue = self.makeQueue(width=1)
        self.putAll(queue, "abc")
        self.settle()
        first = queue.stop()
        second = queue.stop(cancelUnderway=True)
        for d in (first, second):
            assert self.argsOf(self.successResultOf(d)) == ["a", "b", "c"]

    def test_whatFinishesWhileOthersAreCancelledIsNotLeft(self) -> None:
        queue = self.makeQueue(width=2)
        first, second = queue.put("a"), queue.put("b")
        self.settle()
        first.addErrback(lambda _: self.held.finish("b"))
        assert self.argsOf(self.successResultOf(queue.stop(cancelUnderway=True))) == ["a"]
        assert self.successResultOf(second).state == Job.FINISHED

    def test_stoppedQueueLeavesTheClockNothing(self) -> None:
        queue = self.makeQueue(width=3, rate=1, per=100.0)
        self.putAll(queue, "ab")
        self.putAll(queue, "c", delay=1000)
        self.settle()
        assert len(self.clock.getDelayedCalls()) == 1
        queue.stop()
        assert self.clock.getDelayedCalls() == []

    def test_whatFailsAfterStopIsNotTriedAgain(self) -> None:
        queue = self.makeQueue(width=1, retry=Retry(5, delays=float))
        d = queue.put("a")
        self.settle()
        stopped = queue.stop()
        self.held.fail("a", ValueError())
        self.errorOf(d, ValueError)
        assert self.successResultOf(stopped) == []

    def test_whatWaitsForAnotherAttemptTellsWhyTheLastFailed(self) -> None:
        queue = self.makeQueue(width=1, retry=Retry(5, delays=float))
        d = queue.put("a")
        self.settle()
        self.held.fail("a", ValueError("busy"))
        assert self.successResultOf(queue.stop()) == [d.job]
        assert str(self.errorOf(d, JobNotDispatched).__cause__) == "busy"

    def test_stopFromWithinTheFunction(self) -> None:
        stopped: list[Deferred[list[Job]]] = []
        queue = self.makeQueue(lambda _: stopped.append(queue.stop()), 2)
        jobs = self.putAll(queue, "abc")
        self.settle()
        assert self.successResultOf(stopped[0]) == jobs[1:]
        self.assertStates(jobs, Job.FINISHED, Job.PENDING, Job.PENDING)
        assert self.clock.getDelayedCalls() == []

    def test_stopWhenWhatIsUnderwayCancelsItself(self) -> None:
        queue = self.makeQueue(width=1)
        d = queue.put("a")
        self.settle()
        inner: list[Deferred[list[Job]]] = []
        d.addErrback(lambda _: inner.append(queue.stop()))
        outer = queue.stop(cancelUnderway=True)
        assert self.argsOf(self.successResultOf(outer)) == ["a"]
        assert self.argsOf(self.successResultOf(inner[0])) == ["a"]

    def test_callbackThatStopsOnceMoreIsToldOfAllThatIsLeft(self) -> None:
        for cancelUnderway in (True, False):
            queue = self.makeQueue(width=int(cancelUnderway))
            first = queue.put("a")
            self.putAll(queue, "bc")
            self.settle()
            inner: list[Deferred[list[Job]]] = []
            first.addErrback(_stopAgain, queue, inner)
            outer = queue.stop(cancelUnderway)
            for stopped in (outer, inner[0]):
                assert self.argsOf(self.successResultOf(stopped)) == ["a", "b", "c"]

    def test_callbackMayCancelAnotherThatIsNotDispatched(self) -> None:
        queue = self.makeQueue()
        first, second = queue.put("a"), queue.put("b")
        fired = firings(second)
        first.addErrback(lambda _: second.cancel())
        assert self.argsOf(self.successResultOf(queue.stop())) == ["a", "b"]
        assert [type(each) for each in fired] == [JobCancelled]


class ClearTests(DispatchCase):
    def test_clearCancelsWhatWaits(self) -> None:
        queue = self.makeQueue(width=1)
        ds = [queue.put(jobarg) for jobarg in "abc"]
        self.settle()
        assert queue.clearQueue() == [ds[1].job, ds[2].job]
        for d in ds[1:]:
            assert self.errorOf(d, JobCancelled).job is d.job
        assert queue.size() == (1, 0)
        self.held.finish("a")
        assert self.successResultOf(ds[0]).state == Job.FINISHED

    def test_whatNobodyListensToIsNotLoggedWhenItIsCancelled(self) -> None:
        queue = self.makeQueue()
        for jobarg in "abc":
            queue.put(jobarg)
        late = queue.put("d").job
        assert len(queue.clearQueue()) == 4
        late.watch()
        queue.put("e").job.cancel()
        gc.collect()
        assert self.flushLoggedErrors() == []

    def test_clearMayLeaveTheJobsAsTheyAre(self) -> None:
        queue = self.makeQueue()
        d = queue.put("a")
        assert queue.clearQueue(cancelPending=False) == [d.job]
        queue.width = 1
        self.clock.advance(10)
        self.assertNoResult(d)
        assert (d.job.state, queue.size()) == (Job.PENDING, (0, 0))
        with pytest.raises(ValueError, match="does not wait here"):
            d.job.reprioritize(3)
        d.cancel()
        self.errorOf(d, JobCancelled)

    def test_putAfterAClearIsLikeAnyOther(self) -> None:
        for cancelPending in (True, False):
            queue = self.makeQueue(width=1)
            old = self.putAll(queue, "ab")
            queue.clearQueue(cancelPending)
            d = queue.put("c")
            self.settle()
            assert queue.underway() == {d.job}
            self.held.finish("c")
            self.successResultOf(d)
            for job in old:
                job.cancel()

    def test_callbackMayPutCancelAndClear(self) -> None:
        queue = self.makeQueue()
        first, second, third = (queue.put(jobarg) for jobarg in "abc")
        fired = [firings(second), firings(third)]

        def upset(_: object) -> None:
            second.cancel()
            self.silenced(queue.put("d"))
            assert self.argsOf(queue.clearQueue()) == ["d"]
            self.silenced(queue.put("e"))

        first.addErrback(upset)
        assert self.argsOf(queue.clearQueue()) == ["a", "b", "c"]
        for each in fired:
            assert [type(error) for error in each] == [JobCancelled]
        assert self.argsOf(queue.pending()) == ["e"]

    def test_clearedQueueLeavesTheClockNothing(self) -> None:
        queue = self.makeQueue(width=1)
        self.putAll(queue, "ab", delay=100)
        self.settle()
        queue.clearQueue()
        assert self.clock.getDelayedCalls() == []
