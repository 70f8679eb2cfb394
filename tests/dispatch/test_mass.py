"""
Very many jobs end at once, and the reactor gets its turns.
"""

from __future__ import annotations

from typing import Any

import pytest

from asynqueue.rdq import Job
from tests.dispatch.cases import DispatchCase
from tests.dispatch.stored import DurableCase

MANY = 1000


class SlowCase(DispatchCase):
    """
    Hearing of a job's end takes a millisecond.
    """

    def putMany(self, queue: Any, **keywords: Any) -> list[Job]:
        jobs = []
        for number in range(MANY):
            d = queue.put(number, **keywords)
            d.addErrback(self.hear)
            jobs.append(d.job)
        return jobs

    def hear(self, failure: Any) -> None:
        self.clock.rightNow += 0.001

    def turnAll(self) -> int:
        """
        @return: how many turns the reactor took.
        """
        asked = self.clock.asked
        self.settle()
        return self.clock.asked - asked


class MassTests(SlowCase):
    def test_stopLeavesThemInManyTurns(self) -> None:
        queue = self.makeQueue()
        jobs = self.putMany(queue)
        stopped = queue.stop()
        self.assertNoResult(stopped)
        assert queue.size() == (0, 0)
        # Each turn is of 10 milliseconds.
        assert 90 <= self.turnAll() <= 110
        assert self.successResultOf(stopped) == jobs
        assert {job.state for job in jobs} == {Job.PENDING}

    def test_clearQueueCancelsThemInManyTurns(self) -> None:
        queue = self.makeQueue()
        jobs = self.putMany(queue)
        assert queue.clearQueue() == jobs
        assert queue.size() == (0, 0)
        drained = queue.pause()
        self.assertNoResult(drained)
        # Each turn is of 10 milliseconds.
        assert 90 <= self.turnAll() <= 110
        self.successResultOf(drained)
        assert {job.state for job in jobs} == {Job.CANCELLED}

    def test_aJobThatIsClearedCanBeCancelledBeforeItsTurn(self) -> None:
        queue = self.makeQueue()
        jobs = self.putMany(queue)
        queue.clearQueue()
        assert jobs[-1].cancel()
        assert not jobs[-1].cancel()
        with pytest.raises(ValueError, match="does not wait"):
            jobs[-2].reprioritize(1)
        self.turnAll()

    def test_newJobsBeginMeanwhile(self) -> None:
        queue = self.makeQueue(width=1)
        self.putMany(queue)
        queue.clearQueue()
        [job] = self.putAll(queue, "a")
        self.settle()
        assert self.held.begun == ["a"]
        self.turnAll()
        self.held.finish("a")
        assert job.state == Job.FINISHED

    def test_stopAfterClearWaitsForBoth(self) -> None:
        queue = self.makeQueue()
        self.putMany(queue)
        queue.clearQueue()
        left = self.putMany(queue)
        stopped = queue.stop()
        self.turnAll()
        assert self.successResultOf(stopped) == left


class DurableMassTests(SlowCase, DurableCase):
    def test_theKeysOfClearedJobsAreFreeAtOnce(self) -> None:
        queue = self.makeDurable()
        old = self.putMany(queue)
        last = self.silenced(queue.put("a", unique="key")).job
        queue.clearQueue()
        new = self.silenced(queue.put("b", unique="key")).job
        assert new is not last
        self.turnAll()
        assert queue.put("c", unique="key").job is new
        assert {job.state for job in [*old, last]} == {Job.CANCELLED}
        assert self.rows() == [('"b"', "waiting", 0)]
