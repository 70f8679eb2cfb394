from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest

from asynqueue.errors import TaskTimeout
from asynqueue.rdq import Job, JobDeferred, Retry
from tests.dispatch.cases import DispatchCase


def _same(delay: float, attempt: Any) -> float:
    return delay


class DelayTests(DispatchCase):
    def test_delayedJobWaitsAtLeastSoLong(self) -> None:
        queue = self.makeQueue(width=1)
        self.clock.advance(10)
        [job] = self.putAll(queue, "a", delay=5)
        self.clock.advance(4.5)
        assert (self.held.begun, queue.pending()) == ([], [job])
        self.clock.advance(0.5)
        assert (self.held.begun, job.startTime) == (["a"], 15)

    def test_jobMayBePutForATime(self) -> None:
        queue = self.makeQueue(width=1)
        self.clock.advance(10)
        [job] = self.putAll(queue, "a", at=12)
        self.clock.advance(1)
        assert job.state == Job.PENDING
        self.clock.advance(1)
        assert (job.state, job.startTime) == (Job.UNDERWAY, 12)

    def test_timeThatIsOverIsNow(self) -> None:
        queue = self.makeQueue(width=1)
        self.clock.advance(10)
        self.putAll(queue, "a", at=3)
        self.settle()
        assert self.held.begun == ["a"]

    def test_delayedJobHoldsUpNoOtherAndThenGoesByItsPriority(self) -> None:
        queue = self.makeQueue(width=1)
        self.putAll(queue, "z", priority=-1, delay=5)
        self.putAll(queue, "abc")
        self.settle()
        assert self.held.begun == ["a"]
        self.clock.advance(5)
        self.held.finish("a")
        self.settle()
        assert self.held.begun == ["a", "z"]

    def test_delayAsksForTwoTurns(self) -> None:
        queue = self.makeQueue(width=1)
        self.putAll(queue, "abc", delay=100)
        for _ in range(100):
            self.clock.advance(0.9)
        assert self.clock.asked == 2

    def test_earlierJobIsNotHeldUpByALaterOne(self) -> None:
        queue = self.makeQueue(width=2)
        self.putAll(queue, "a", delay=100)
        self.settle()
        self.putAll(queue, "b", delay=10)
        self.clock.advance(10)
        assert self.held.begun == ["b"]

    def test_delayThatIsNoFiniteTimeIsRefused(self) -> None:
        queue = self.makeQueue(width=1)
        for delay in (-1, math.nan, math.inf):
            with pytest.raises(ValueError, match="seconds"):
                queue.put("a", delay=delay)
        for at in (math.nan, math.inf, -math.inf):
            with pytest.raises(ValueError, match="finite number of seconds"):
                queue.put("a", at=at)
        with pytest.raises(ValueError, match="delay and at exclude each other"):
            queue.put("a", delay=1, at=1)
        assert queue.size() == (0, 0)


class RateTests(DispatchCase):
    def test_noMoreThanTheRateBeginInAWindow(self) -> None:
        queue = self.makeQueue(lambda _: self.clock.seconds(), 100, rate=3, per=2.0)
        jobs = self.putAll(queue, range(8))
        self.settle()
        for _ in range(20):
            self.clock.advance(0.5)
        assert [job.result for job in jobs] == [0, 0, 0, 2, 2, 2, 4, 4]

    def test_burstBeginsAtOnceAndTheOthersAtTheAveragePace(self) -> None:
        queue = self.makeQueue(lambda _: self.clock.seconds(), 100, rate=4, per=1.0, burst=2)
        jobs = self.putAll(queue, range(6))
        self.settle()
        for _ in range(20):
            self.clock.advance(0.125)
        assert [job.result for job in jobs] == [0, 0, 0.25, 0.5, 1.0, 1.0]

    def test_widthHoldsBesideTheRate(self) -> None:
        queue = self.makeQueue(width=1, rate=10, per=1.0)
        self.putAll(queue, "ab")
        self.clock.advance(5)
        assert self.held.begun == ["a"]

    def test_rateIsNotWastedOnWhatDoesNotBegin(self) -> None:
        queue = self.makeQueue(width=5, rate=1, per=10.0)
        [job] = self.putAll(queue, "a")
        self.putAll(queue, "b")
        job.cancel()
        self.settle()
        assert self.held.begun == ["b"]

    def test_whatBecomesMoreImportantMeanwhileGoesFirst(self) -> None:
        queue = self.makeQueue(width=5, rate=1, per=10.0)
        jobs = self.putAll(queue, "abc")
        self.settle()
        self.clock.advance(5)
        jobs[2].reprioritize(-1)
        self.clock.advance(5)
        assert self.held.begun == ["a", "c"]

    def test_rateChangesAtRunTime(self) -> None:
        queue = self.makeQueue(width=100, rate=1, per=10.0)
        self.putAll(queue, range(20))
        self.settle()
        self.clock.advance(1)
        assert len(self.held.begun) == 1
        queue.setRate(4, 2.0)
        assert queue.rate == (4, 2.0, None)
        self.settle()
        # One began a second ago.
        assert len(self.held.begun) == 4
        self.clock.advance(1)
        assert len(self.held.begun) == 5
        self.clock.advance(1)
        assert len(self.held.begun) == 8
        queue.setRate(1, 100.0)
        self.clock.advance(99)
        assert len(self.held.begun) == 8
        queue.setRate(None)
        self.settle()
        assert len(self.held.begun) == 20
        assert queue.rate is None

    def test_wrongRateChangesNothing(self) -> None:
        queue = self.makeQueue(width=1, rate=2, per=3.0)
        with pytest.raises(ValueError, match="rate must be a positive integer"):
            queue.setRate(0)
        assert queue.rate == (2, 3.0, None)

    def test_eachKeyHasItsOwnRate(self) -> None:
        queue = self.makeQueue(width=100, rate=1, per=10.0, rateKey=lambda jobarg: jobarg[0])
        self.putAll(queue, ["a1", "a2", "a3", "b1", "b2"])
        self.settle()
        assert self.held.begun == ["a1", "b1"]
        self.clock.advance(5)
        self.putAll(queue, ["c1"])
        self.settle()
        assert self.held.begun[2:] == ["c1"]
        self.clock.advance(5)
        assert self.held.begun[3:] == ["a2", "b2"]

    def test_keyThatCannotBeFoundRefusesThePut(self) -> None:
        queue = self.makeQueue(width=1, rate=1, rateKey=lambda jobarg: jobarg["user"])
        with pytest.raises(KeyError, match="user"):
            queue.put({})
        with pytest.raises(TypeError, match="unhashable"):
            queue.put({"user": []}, delay=5)
        assert (queue.size(), self.clock.asked) == ((0, 0), 0)

    def test_heldUpJobsAskForOneTurnAWindow(self) -> None:
        queue = self.makeQueue(lambda _: None, 100, rate=2, per=10.0)
        self.putAll(queue, range(10))
        self.settle()
        for _ in range(700):
            self.clock.advance(0.0625)
        assert queue.size() == (0, 0)
        assert self.clock.asked == 5

    def test_putsWhileHeldUpAskForOneTurnEach(self) -> None:
        queue = self.makeQueue(lambda _: None, 100, rate=1, per=1000.0)
        for number in range(10):
            self.putAll(queue, [number])
            self.settle()
            self.settle()
        # One to look, and one for when the window is over.
        assert self.clock.asked == 20 - 1
        assert len(self.clock.getDelayedCalls()) == 1

    def test_retriedJobsCountAgainstTheRate(self) -> None:
        def refuse(_: object) -> None:
            raise ValueError

        retry = Retry(3, delays=lambda failures: 0.0)
        queue = self.makeQueue(refuse, 5, rate=1, per=10.0, retry=retry)
        [job] = self.putAll(queue, "a")
        attempts = []
        for _ in range(3):
            self.clock.advance(5)
            attempts.append(job.attempts)
            self.clock.advance(5)
        assert (attempts, job.state) == ([1, 2, 3], Job.FAILED)


class RetryTests(DispatchCase):
    def failing(self, d: JobDeferred, error: Exception) -> None:
        """
        Have the job's attempt fail.
        """
        assert d.job.state == Job.UNDERWAY
        self.held.fail(d.job.jobarg, error)

    def test_failedJobIsTriedAgainAfterTheDelay(self) -> None:
        queue = self.makeQueue(width=1, retry=Retry(3, delays=lambda failures: 2.0 * failures))
        d = queue.put("a")
        self.settle()
        self.failing(d, ValueError("first"))
        assert (d.job.state, d.job.attempts, d.job.due) == (Job.PENDING, 1, 2)
        assert str(d.job.failure and d.job.failure.value) == "first"
        self.clock.advance(2)
        self.failing(d, ValueError("second"))
        assert d.job.due == 2 + 4
        self.clock.advance(4)
        assert d.job.attempts == 3
        self.held.finish("a")
        job = self.successResultOf(d)
        assert (job.state, job.failure, job.startTime) == (Job.FINISHED, None, 6)

    def test_afterTheLastAttemptItFailsWithWhatThatOneRaised(self) -> None:
        queue = self.makeQueue(width=1, retry=Retry(2, delays=float))
        d = queue.put("a")
        for number in range(2):
            self.clock.advance(10)
            self.assertNoResult(d)
            self.failing(d, ValueError(number))
        error = self.errorOf(d, ValueError)
        assert (error.args, error.job, d.job.attempts) == ((1,), d.job, 2)

    def test_onlyTheNamedErrorsAreTriedAgain(self) -> None:
        queue = self.makeQueue(width=1, retry=Retry(5, delays=float, errors=(OSError,)))
        d = queue.put("a")
        self.settle()
        self.failing(d, TaskTimeout())
        self.clock.advance(1)
        self.failing(d, ValueError())
        self.errorOf(d, ValueError)
        assert d.job.attempts == 2

    def test_waitingForAnotherAttemptTakesNoSlot(self) -> None:
        queue = self.makeQueue(width=1, retry=Retry(2, delays=lambda failures: 100.0))
        d = self.silenced(queue.put("a"))
        self.putAll(queue, "b")
        self.settle()
        self.failing(d, ValueError())
        self.settle()
        assert (self.held.begun, queue.pending()) == (["a", "b"], [d.job])

    def test_jobThatIsTriedAgainKeepsItsPlaceAmongItsEquals(self) -> None:
        queue = self.makeQueue(width=1, retry=Retry(2, delays=lambda failures: 0.0))
        d = self.silenced(queue.put("a"))
        self.putAll(queue, "bc")
        self.settle()
        self.failing(d, ValueError())
        self.settle()
        assert self.held.begun == ["a", "a"]

    def test_whatWaitsForAnotherAttemptCanBeCancelledAndMoved(self) -> None:
        queue = self.makeQueue(width=1, retry=Retry(2, delays=lambda failures: 5.0))
        d = self.silenced(queue.put("a"))
        self.settle()
        self.failing(d, ValueError())
        d.job.reprioritize(4)
        assert queue.pending() == [d.job]
        d.cancel()
        assert (d.job.state, queue.size()) == (Job.CANCELLED, (0, 0))
        assert self.clock.getDelayedCalls() == []

    def test_cancelledJobIsNotTriedAgain(self) -> None:
        queue = self.makeQueue(width=1, retry=Retry(5, delays=float))
        d = self.silenced(queue.put("a"))
        self.settle()
        d.cancel()
        self.clock.advance(10)
        assert (d.job.state, d.job.attempts) == (Job.CANCELLED, 1)

    def test_policyThatRaisesFailsTheJobWithBoth(self) -> None:
        def broken(_: object) -> bool:
            raise ZeroDivisionError

        queue = self.makeQueue(width=1, retry=Retry(5, isWorthwhile=broken))
        d = queue.put("a")
        self.settle()
        self.failing(d, ValueError("first"))
        error = self.errorOf(d, ZeroDivisionError)
        assert (error.job, str(error.__cause__)) == (d.job, "first")
        assert queue.size() == (0, 0)

    def test_delayThatIsNoTimeFailsTheJob(self) -> None:
        for delay in (-1.0, math.nan, math.inf):
            queue = self.makeQueue(width=1, retry=Retry(5, delays=partial(_same, delay)))
            d = queue.put("a")
            self.settle()
            self.failing(d, OSError())
            assert "seconds" in str(self.errorOf(d, ValueError))

    def test_policyMayCancelTheJob(self) -> None:
        ds: list[JobDeferred] = []
        retry = Retry(5, isWorthwhile=lambda _: ds[0].job.cancel())
        queue = self.makeQueue(width=1, retry=retry)
        d = self.silenced(queue.put("a"))
        ds.append(d)
        self.settle()
        self.failing(d, ValueError())
        self.clock.advance(10)
        assert (d.job.state, queue.size()) == (Job.CANCELLED, (0, 0))
