from __future__ import annotations

from enum import IntEnum
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from asynqueue._dispatch.rdq import TURN_SECONDS
from asynqueue.errors import QueueStopped
from asynqueue.rdq import Job, ResizableDispatchQueue
from tests.dispatch.cases import DispatchCase


class PutTests(DispatchCase):
    def test_firesWithTheJobThatHasTheResult(self) -> None:
        queue = self.makeQueue(lambda number: 2 * number, 1)
        d = queue.put(6)
        self.assertNoResult(d)
        self.settle()
        job = self.successResultOf(d)
        assert job is d.job
        assert (job.jobarg, job.result, job.failure) == (6, 12, None)
        assert (job.state, job.isDone, job.attempts) == (Job.FINISHED, True, 1)

    def test_functionIsNeverCalledFromWithinPut(self) -> None:
        queue = self.makeQueue(width=3)
        self.putAll(queue, "ab")
        assert (self.held.begun, queue.size()) == ([], (0, 2))
        self.settle()
        assert (self.held.begun, queue.size()) == (["a", "b"], (2, 0))

    def test_notesItsTimes(self) -> None:
        queue = self.makeQueue(width=1)
        self.clock.advance(1)
        [job] = self.putAll(queue, "a", delay=2)
        assert (job.queuedTime, job.startTime, job.stopTime, job.due) == (1, None, None, 3)
        self.clock.advance(4)
        assert (job.startTime, job.stopTime) == (5, None)
        self.clock.advance(3)
        self.held.finish("a")
        assert (job.queuedTime, job.startTime, job.stopTime) == (1, 5, 8)

    def test_failsWithWhatTheFunctionRaisedWhoseJobItIs(self) -> None:
        queue = self.makeQueue(int, 1)
        d = queue.put("twelve")
        self.settle()
        error = self.errorOf(d, ValueError)
        assert error.job is d.job
        assert (d.job.state, d.job.failure.value) == (Job.FAILED, error)

    def test_exceptionThatRefusesAttributesHasTheJobAllTheSame(self) -> None:
        class Rigid(Exception):
            def __setattr__(self, name: str, value: object) -> None:
                raise TypeError

        def refuse(_: object) -> None:
            raise Rigid

        d = self.makeQueue(refuse, 1).put(1)
        self.settle()
        assert self.errorOf(d, Rigid).job is d.job

    def test_exceptionWithAJobOfItsOwnBringsTheJobDownNoLess(self) -> None:
        class Employed(Exception):
            @property
            def job(self) -> str:
                return "clerk"

        def refuse(_: object) -> None:
            raise Employed

        d = self.makeQueue(refuse, 1).put(1)
        self.settle()
        assert self.errorOf(d, Employed).job == "clerk"
        assert d.job.state == Job.FAILED

    def test_functionMayBeACoroutine(self) -> None:
        waiting: Deferred[int] = Deferred()

        async def add(number: int) -> int:
            return number + await waiting

        queue = self.makeQueue(add, 1)
        d = queue.put(3)
        self.settle()
        assert queue.size() == (1, 0)
        waiting.callback(4)
        assert self.successResultOf(d).result == 7

    def test_whatEndsAProgramElsewhereEndsOnlyTheJob(self) -> None:
        def leave(_: object) -> None:
            raise SystemExit(3)

        queue = self.makeQueue(leave, 1)
        d = queue.put(1)
        self.settle()
        self.errorOf(d, SystemExit)
        assert queue.size() == (0, 0)

    def test_deferredCanBeAwaited(self) -> None:
        queue = self.makeQueue(lambda number: -number, 1)

        async def ask() -> Any:
            return (await queue.put(3)).result

        d = Deferred.fromCoroutine(ask())
        self.settle()
        assert self.successResultOf(d) == -3


class OrderTests(DispatchCase):
    def test_lowerPrioritiesGoFirstAndEqualOnesInTheOrderOfPutting(self) -> None:
        queue = self.makeQueue()
        for jobarg, priority in [("a", 3), ("b", 1), ("c", 2.5), ("d", 1), ("e", 3)]:
            self.silenced(queue.put(jobarg, priority))
        assert self.argsOf(queue.pending()) == list("bdcae")
        queue.width = 5
        self.settle()
        assert self.held.begun == list("bdcae")

    def test_prioritiesMayBeEnumerated(self) -> None:
        class Urgency(IntEnum):
            HIGH = 1
            LOW = 2

        queue = self.makeQueue()
        self.silenced(queue.put("a", Urgency.LOW))
        self.silenced(queue.put("b", Urgency.HIGH))
        assert self.argsOf(queue.pending()) == ["b", "a"]

    def test_priorityThatIsNoNumberIsRefused(self) -> None:
        queue = self.makeQueue()
        [job] = self.putAll(queue, "a")
        wrong: list[Any] = [float("nan"), "high"]
        for priority in wrong:
            with pytest.raises(ValueError, match="a priority must be a number"):
                queue.put("b", priority)
            with pytest.raises(ValueError, match="a priority must be a number"):
                queue.reprioritize(job, priority)
        assert self.argsOf(queue.pending()) == ["a"]

    def test_whatComesLaterButIsMoreImportantGoesFirst(self) -> None:
        queue = self.makeQueue(width=1)
        self.putAll(queue, "abc")
        self.settle()
        self.putAll(queue, "z", priority=-1)
        for jobarg in "az":
            self.held.finish(jobarg)
            self.settle()
        assert self.held.begun == ["a", "z", "b"]


class WidthTests(DispatchCase):
    def test_noMoreThanTheWidthAreUnderway(self) -> None:
        queue = self.makeQueue(width=2)
        self.putAll(queue, range(5))
        self.settle()
        assert queue.size() == (2, 3)
        self.held.finish(0)
        self.settle()
        assert (queue.size(), self.held.begun) == ((2, 2), [0, 1, 2])

    def test_sizeHasNames(self) -> None:
        queue = self.makeQueue(width=1)
        self.putAll(queue, range(3))
        self.settle()
        assert (queue.size().underway, queue.size().pending) == (1, 2)

    def test_widerBeginsMoreAtOnce(self) -> None:
        queue = self.makeQueue(width=1)
        self.putAll(queue, range(5))
        self.settle()
        queue.setWidth(4)
        assert queue.getWidth() == 4
        self.settle()
        assert queue.size() == (4, 1)

    def test_narrowerLeavesThoseUnderwayAlone(self) -> None:
        queue = self.makeQueue(width=3)
        self.putAll(queue, range(6))
        self.settle()
        queue.width = 1
        assert (queue.width, queue.size()) == (1, (3, 3))
        self.held.finish(0, 1)
        self.settle()
        assert queue.size() == (1, 3)
        self.held.finish(2)
        self.settle()
        assert (queue.size(), self.held.cancelled) == ((1, 2), [])

    def test_upAndDownWhileUnderwayTheLatestWidthCounts(self) -> None:
        queue = self.makeQueue(width=3)
        self.putAll(queue, range(20))
        self.settle()
        underway = [0, 1, 2]
        for width in (2, 1, 3, 0, 5, 1, 4, 4, 0, 2):
            queue.width = width
            self.settle()
            begun = len(self.held.begun)
            assert queue.size().underway == max(width, len(underway))
            underway = list(range(begun - queue.size().underway, begun))
            while len(underway) > 1:
                self.held.finish(underway.pop(0))
                self.settle()
                underway = sorted(job.jobarg for job in queue.underway())
                if len(underway) <= width:
                    break

    def test_withNoWidthJobsOnlyWait(self) -> None:
        queue = self.makeQueue(width=2)
        queue.width = 0
        self.putAll(queue, "ab")
        self.clock.advance(10)
        assert queue.size() == (0, 2)
        assert self.clock.getDelayedCalls() == []
        queue.width = 1
        self.settle()
        assert queue.size() == (1, 1)

    def test_widthThatIsNoIntegerOfZeroOrMoreIsRefusedEverywhere(self) -> None:
        queue = self.makeQueue(width=3)
        wrong: list[Any] = [-1, 1.5, "3", None, True]
        for width in wrong:
            with pytest.raises(ValueError, match="the width must be an integer of 0 or more"):
                self.makeQueue(width=width)
            with pytest.raises(ValueError, match="the width must be an integer of 0 or more"):
                queue.width = width
            if width is not None:
                with pytest.raises(ValueError, match="the width must be an integer"):
                    queue.resume(width)
        assert queue.width == 3

    def test_slotOfAFunctionThatDoesNotEndWhenCancelledStaysTaken(self) -> None:
        ends: list[Deferred[None]] = []

        async def stubborn(_: object) -> None:
            end: Deferred[None] = Deferred()
            ends.append(end)
            try:
                await Deferred()
            finally:
                await end

        queue = self.makeQueue(stubborn, 1)
        first, second = self.putAll(queue, "ab")
        self.settle()
        first.cancel()
        self.settle()
        assert first.state == Job.CANCELLED
        assert (queue.underway(), queue.pending()) == ({first}, [second])
        ends[0].callback(None)
        self.settle()
        assert queue.underway() == {second}
        second.cancel()
        ends[1].callback(None)


class TurnTests(DispatchCase):
    def test_busyQueueGivesTheReactorItsTurns(self) -> None:
        clock = self.clock

        def work(_: object) -> None:
            clock.rightNow += TURN_SECONDS / 4

        queue = self.makeQueue(work, 1)
        self.putAll(queue, range(10))
        self.clock.advance(1)
        # Four jobs, and four, and two.
        assert (queue.pending(), self.clock.asked) == ([], 3)

    def test_clockThatIsSetBackDoesNotKeepTheReactor(self) -> None:
        clock = self.clock
        clock.advance(1000)

        def setBack(jobarg: int) -> None:
            if jobarg == 0:
                clock.rightNow -= 500

        queue = self.makeQueue(setBack, 1)
        self.putAll(queue, range(5))
        self.settle()
        assert (queue.pending(), self.clock.asked) == ([], 1)

    def test_manyPutsAskForOneTurn(self) -> None:
        queue = self.makeQueue(width=3)
        self.putAll(queue, range(100))
        assert self.clock.asked == 1

    def test_idleQueueAsksForNone(self) -> None:
        queue = self.makeQueue(width=3)
        jobs = self.putAll(queue, range(3))
        self.settle()
        asked = self.clock.asked
        self.held.finish(0, 1, 2)
        self.assertStates(jobs, *[Job.FINISHED] * 3)
        self.clock.advance(100)
        assert self.clock.asked == asked
        assert self.clock.getDelayedCalls() == []

    def test_instantJobsPutFromCallbacksDoNotRecurse(self) -> None:
        left = 10_000
        queue = self.makeQueue(lambda number: number, 2)

        def again(_: object = None) -> None:
            nonlocal left
            if left:
                left -= 1
                queue.put(left).addCallback(again)

        again()
        while self.clock.getDelayedCalls():
            self.settle()
        assert left == 0


class ConstructionTests(DispatchCase):
    def test_freshQueueIsEmptyAndRuns(self) -> None:
        queue = self.makeQueue()
        assert (queue.pending(), queue.underway(), queue.size()) == ([], set(), (0, 0))
        assert (queue.width, queue.paused, queue.stopped, queue.rate) == (0, False, False, None)
        assert repr(queue) == ("<ResizableDispatchQueue: RUNNING, width 0, 0 underway, 0 pending>")

    def test_sizeAndBacklogStandWhereTxRDQHasThem(self) -> None:
        queue = ResizableDispatchQueue(self.held, 2, 3, 4, reactor=self.clock)
        assert queue.width == 2

    def test_sizeThatIsNoPositiveIntegerIsRefused(self) -> None:
        for size in (0, -1, 1.5, "3", True):
            with pytest.raises(ValueError, match="size must be a positive integer or None"):
                self.makeQueue(size=size)

    def test_wrongRateIsRefused(self) -> None:
        wrong: list[dict[str, Any]] = [{"rate": 0}, {"rate": 1, "per": 0}, {"rate": 1, "burst": 0}]
        for keywords in wrong:
            with pytest.raises(ValueError, match="must be a positive"):
                self.makeQueue(**keywords)

    def test_putAfterStopIsRefused(self) -> None:
        queue = self.makeQueue()
        self.successResultOf(queue.stop())
        with pytest.raises(QueueStopped, match="was stopped: a place for a job was refused"):
            queue.put(1)
