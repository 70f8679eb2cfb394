from __future__ import annotations

import gc
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.tools import DeferredTracker
from tests.tools.clocks import noting, outcomes


class TrackingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.tracker = DeferredTracker(reactor=self.clock)

    def test_takesTheSettingsOfAsynQueue09(self) -> None:
        assert DeferredTracker(0.1, 1.1, self.clock).notWaiting()
        assert DeferredTracker(interval=0.1, backoff=1.1, reactor=self.clock).notWaiting()

    def test_putReturnsTheSameDeferredAndCountsIt(self) -> None:
        d: Deferred[int] = Deferred()
        assert self.tracker.put(d) is d
        assert (self.tracker.dCount, self.tracker.notWaiting()) == (1, False)
        d.callback(0)
        assert (self.tracker.dCount, self.tracker.notWaiting()) == (0, True)

    def test_resultPassesThroughUnchanged(self) -> None:
        result = object()
        d: Deferred[object] = Deferred()
        fired = outcomes(self.tracker.put(d))
        d.callback(result)
        assert fired == [result]

    def test_failureReachesTheDeferredsOwnErrbacks(self) -> None:
        d: Deferred[int] = Deferred()
        fired = outcomes(self.tracker.put(d))
        d.errback(ZeroDivisionError())
        assert (fired, self.tracker.notWaiting()) == ([ZeroDivisionError], True)

    def test_failureThatNobodyHandlesIsStillReported(self) -> None:
        self.tracker.put(fail(ZeroDivisionError()))
        gc.collect()
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1

    def test_deferredThatHasFiredAlreadyLeavesAtOnce(self) -> None:
        self.tracker.put(succeed(1))
        assert self.tracker.notWaiting()

    def test_whatIsNoDeferredIsRefusedAndNotCounted(self) -> None:
        with self.assertRaises(AttributeError):
            self.tracker.put(3)  # type: ignore[arg-type]
        assert self.tracker.notWaiting()

    def test_waitConditionsNest(self) -> None:
        self.tracker.addWait()
        self.tracker.addWait()
        self.tracker.removeWait()
        assert not self.tracker.notWaiting()
        self.tracker.removeWait()
        assert self.tracker.notWaiting()

    def test_countIsNeverNegative(self) -> None:
        self.tracker.removeWait()
        self.tracker.addWait()
        assert self.tracker.dCount == 1

    def test_removingTooMuchDoesNotHarmTheDeferredsThatItStoodFor(self) -> None:
        d: Deferred[str] = Deferred()
        self.tracker.put(d)
        self.tracker.removeWait()
        d.callback("whole")
        assert (self.successResultOf(d), self.tracker.dCount) == ("whole", 0)


class WaitingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.tracker = DeferredTracker(reactor=self.clock)

    def put(self, number: int) -> list[Deferred[None]]:
        return [self.tracker.put(Deferred()) for _ in range(number)]

    def test_deferToAllFiresWithTheLastOfThem(self) -> None:
        first, second = self.put(2)
        d = self.tracker.deferToAll()
        second.callback(None)
        assert not d.called
        first.callback(None)
        assert self.successResultOf(d) is True

    def test_firesBeforeLaterCallbacksOfTheTrackedDeferred(self) -> None:
        order: list[str] = []
        (tracked,) = self.put(1)
        tracked.addCallback(noting(order, "own"))
        self.tracker.deferToAll().addCallback(noting(order, "waiting"))
        tracked.callback(None)
        assert order == ["waiting", "own"]

    def test_nothingTrackedFiresAllOfThemAtOnce(self) -> None:
        for d in (
            self.tracker.deferToAll(),
            self.tracker.deferToAny(),
            self.tracker.deferUntilFewer(1),
        ):
            assert self.successResultOf(d) is True

    def test_deferToAnyFiresWithAnyOfThem(self) -> None:
        for k in range(3):
            tracked = self.put(3)
            d = self.tracker.deferToAny()
            tracked.pop(k).callback(None)
            assert self.successResultOf(d) is True
            for other in tracked:
                other.callback(None)

    def test_deferToAnyDoesNotHeedWhatFiredBefore(self) -> None:
        first, second = self.put(2)
        first.callback(None)
        d = self.tracker.deferToAny()
        assert not d.called
        second.callback(None)
        assert self.successResultOf(d) is True

    def test_deferToAnyIsNotSpoiledByPutsMeanwhile(self) -> None:
        (first,) = self.put(1)
        d = self.tracker.deferToAny()
        self.put(5)
        assert not d.called
        first.callback(None)
        assert self.successResultOf(d) is True

    def test_deferToAnyFiresForOnePutMeanwhile(self) -> None:
        self.put(1)
        d = self.tracker.deferToAny()
        self.tracker.put(succeed(None))
        assert self.successResultOf(d) is True

    def test_deferUntilFewerFiresAtOnceBelowTheLimit(self) -> None:
        self.put(2)
        assert self.successResultOf(self.tracker.deferUntilFewer(3)) is True

    def test_deferUntilFewerWaitsUntilBelowTheLimit(self) -> None:
        tracked = self.put(4)
        d = self.tracker.deferUntilFewer(3)
        tracked[0].callback(None)
        assert not d.called
        tracked[1].callback(None)
        assert self.successResultOf(d) is True

    def test_deferUntilFewerCountsThosePutMeanwhile(self) -> None:
        tracked = self.put(3)
        d = self.tracker.deferUntilFewer(3)
        tracked += self.put(1)
        tracked[0].callback(None)
        assert not d.called
        tracked[1].callback(None)
        assert self.successResultOf(d) is True

    def test_limitMayBeAnyNumber(self) -> None:
        tracked = self.put(50)
        assert not self.tracker.deferUntilFewer(100 / 2).called
        assert self.tracker.deferUntilFewer(102 / 2).called
        assert self.tracker.deferUntilFewer(math.inf).called
        d = self.tracker.deferUntilFewer(49.5)
        assert not d.called
        tracked[0].callback(None)
        assert self.successResultOf(d) is True

    def test_thereAreNeverFewerThanNone(self) -> None:
        waits = [self.tracker.deferUntilFewer(limit) for limit in (0, -1.5)]
        [tracked] = self.put(1)
        tracked.callback(None)
        assert not any(d.called for d in waits)
        self.tracker.quitWaiting()
        assert [self.successResultOf(d) for d in waits] == [True, True]

    def test_limitThatIsNotANumberIsAnErrorThatNamesIt(self) -> None:
        for limit in (math.nan, None, "3"):
            with self.assertRaisesRegex(TypeError, f"N must be a number, not {limit!r}"):
                self.tracker.deferUntilFewer(limit)  # type: ignore[arg-type]

    def test_removeWaitFiresWhatWaits(self) -> None:
        self.tracker.addWait()
        waits = [
            self.tracker.deferToAll(),
            self.tracker.deferToAny(),
            self.tracker.deferUntilFewer(1),
        ]
        self.tracker.removeWait()
        for d in waits:
            assert self.successResultOf(d) is True

    def test_cancellingLeaves(self) -> None:
        (tracked,) = self.put(1)
        d, other = self.tracker.deferToAll(timeout=1), self.tracker.deferToAll()
        d.cancel()
        assert outcomes(d) == [CancelledError]
        assert self.clock.calls == []
        tracked.callback(None)
        assert self.successResultOf(other) is True


class TimeoutTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.tracker = DeferredTracker(reactor=self.clock)
        self.tracker.addWait()
        self.ways: list[Callable[[float | None], Deferred[bool]]] = [
            self.tracker.deferToAll,
            self.tracker.deferToAny,
            lambda timeout: self.tracker.deferUntilFewer(1, timeout),
        ]

    def test_firesFalseAfterTheTimeout(self) -> None:
        for wait in self.ways:
            d = wait(2)
            self.clock.advance(1.9)
            assert not d.called
            self.clock.advance(0.1)
            assert self.successResultOf(d) is False

    def test_whatTimedOutWaitsNoMore(self) -> None:
        fired = [outcomes(wait(2)) for wait in self.ways]
        self.clock.advance(2)
        self.tracker.removeWait()
        assert fired == [[False]] * 3

    def test_timeoutIsCancelledWhenNoLongerNeeded(self) -> None:
        fired = [outcomes(wait(2)) for wait in self.ways]
        self.tracker.removeWait()
        assert (fired, self.clock.calls) == ([[True]] * 3, [])

    def test_withoutOneThereIsNoDelayedCall(self) -> None:
        for wait in self.ways:
            wait(None)
        assert self.clock.calls == []

    def test_negativeOneIsAnErrorThatNamesIt(self) -> None:
        for _ in range(2):
            for wait in self.ways:
                with self.assertRaisesRegex(ValueError, "must be 0 or more seconds, not -1"):
                    wait(-1)
            self.tracker.removeWait()
        assert self.clock.calls == []


class QuitWaitingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.tracker = DeferredTracker(reactor=self.clock)
        self.tracked: Deferred[int] = self.tracker.put(Deferred())

    def test_firesAllThatWaits(self) -> None:
        waits = [
            self.tracker.deferToAll(1),
            self.tracker.deferToAny(1),
            self.tracker.deferUntilFewer(1, 1),
        ]
        self.tracker.quitWaiting()
        for d in waits:
            assert self.successResultOf(d) is True
        assert self.clock.calls == []

    def test_tracksNothingAfterwards(self) -> None:
        self.tracker.quitWaiting()
        self.tracker.put(Deferred())
        self.tracker.addWait()
        self.tracker.removeWait()
        assert (self.tracker.notWaiting(), self.tracker.dCount) == (True, None)
        for d in (
            self.tracker.deferToAll(),
            self.tracker.deferToAny(),
            self.tracker.deferUntilFewer(1),
        ):
            assert self.successResultOf(d) is True

    def test_deferredsPutBeforeFireUndisturbed(self) -> None:
        self.tracker.quitWaiting()
        self.tracked.callback(3)
        assert (self.successResultOf(self.tracked), self.tracker.dCount) == (3, None)

    def test_deferredsPutAfterwardsAreLeftAlone(self) -> None:
        class Untouchable(Deferred[None]):
            addCallbacks = None  # type: ignore[assignment]
            addBoth = None  # type: ignore[assignment]

        self.tracker.quitWaiting()
        d = Untouchable()
        assert self.tracker.put(d) is d

    def test_mayBeDoneAgain(self) -> None:
        self.tracker.quitWaiting()
        self.tracker.quitWaiting()
        assert self.tracker.notWaiting()


class ReentrancyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.tracker = DeferredTracker(reactor=Clock())
        self.tracked: list[Deferred[None]] = []
        self.most = 0

    def put(self) -> None:
        self.tracked.append(self.tracker.put(Deferred()))
        self.most = max(self.most, self.tracker.dCount or 0)

    def test_severalProducersTogetherKeepToTheLimit(self) -> None:
        produced = 0

        def produce(_: bool) -> None:
            nonlocal produced
            if produced < 50:
                produced += 1
                self.put()
                self.tracker.deferUntilFewer(3).addCallback(produce)

        for _ in range(5):
            self.tracker.deferUntilFewer(3).addCallback(produce)
        while self.tracked:
            self.tracked.pop(0).callback(None)
        assert (produced, self.most, self.tracker.notWaiting()) == (50, 3, True)

    def test_callbackMayFireAnotherTrackedDeferred(self) -> None:
        self.put()
        self.put()
        order: list[str] = []
        nextOne = self.tracker.deferToAny()
        nextOne.addCallback(noting(order, "any"))
        nextOne.addCallback(lambda _: self.tracked[1].callback(None))
        self.tracker.deferToAll().addCallback(noting(order, "all"))
        self.tracked[0].callback(None)
        assert order == ["any", "all"]

    def test_deferToAnyInACallbackWaitsForTheNextOne(self) -> None:
        self.put()
        self.put()
        again: list[Deferred[bool]] = []
        self.tracker.deferToAny().addCallback(lambda _: again.append(self.tracker.deferToAny()))
        self.tracked[0].callback(None)
        assert not again[0].called
        self.tracked[1].callback(None)
        assert self.successResultOf(again[0]) is True

    def test_callbackMayCancelOneThatWouldFireNext(self) -> None:
        for fire in (lambda: self.tracked[-1].callback(None), self.tracker.quitWaiting):
            self.put()
            first, second = self.tracker.deferToAll(), self.tracker.deferToAll()

            def cancelSecond(_: bool, second: Deferred[bool] = second) -> None:
                second.cancel()

            first.addCallback(cancelSecond)
            fire()
            self.successResultOf(first)
            assert outcomes(second) == [CancelledError]
        assert self.successResultOf(self.tracked[0]) is None

    def test_callbackMayQuitWaiting(self) -> None:
        self.put()
        self.put()
        self.tracker.deferToAny().addCallback(lambda _: self.tracker.quitWaiting())
        d = self.tracker.deferToAll()
        self.tracked[0].callback(None)
        assert self.successResultOf(d) is True


@dataclass
class ModelWait:
    """
    A wait, and what it should have fired with by now.
    """

    limit: float
    deadline: float
    deferred: Deferred[bool]
    fired: list[object]
    expected: list[object]


class TrackerMachine(RuleBasedStateMachine):
    """
    A tracker against a model that is a number and a list.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.tracker = DeferredTracker(reactor=self.clock)
        self.tracked: list[Deferred[Any]] = []
        self.conditions = 0
        self.hasQuit = False
        self.waits: list[ModelWait] = []

    def count(self) -> int:
        return 0 if self.hasQuit else len(self.tracked) + self.conditions

    def live(self) -> list[ModelWait]:
        return [wait for wait in self.waits if not wait.expected]

    def fireModel(self) -> None:
        for wait in self.live():
            if self.count() < wait.limit:
                wait.expected = [True]

    @rule()
    def put(self) -> None:
        d: Deferred[Any] = Deferred()
        self.tracker.put(d)
        if not self.hasQuit:
            self.tracked.append(d)

    @rule()
    def putFired(self) -> None:
        self.tracker.put(succeed(None))
        # It counts as one more for no longer than an instant, and then as one that has fired.
        self.fireModel()

    @precondition(lambda self: self.tracked)
    @rule(data=st.data(), isFailure=st.booleans())
    def fire(self, data: st.DataObject, isFailure: bool) -> None:
        d = self.tracked.pop(data.draw(st.integers(0, len(self.tracked) - 1)))
        self.fireModel()
        fired = outcomes(d)
        if isFailure:
            d.errback(ZeroDivisionError())
        else:
            d.callback(7)
        assert fired == [ZeroDivisionError if isFailure else 7]

    @rule()
    def addWait(self) -> None:
        self.tracker.addWait()
        if not self.hasQuit:
            self.conditions += 1

    @precondition(lambda self: self.conditions)
    @rule()
    def removeWait(self) -> None:
        self.conditions -= 1
        self.fireModel()
        self.tracker.removeWait()

    @rule(
        limit=st.one_of(st.integers(1, 6), st.just(math.inf)),
        timeout=st.one_of(st.none(), st.integers(1, 5)),
    )
    def wait(self, limit: float, timeout: int | None) -> None:
        if limit == math.inf:
            d = self.tracker.deferToAny(timeout)
            isSo = not self.count()
        elif limit == 1:
            d = self.tracker.deferToAll(timeout)
            isSo = not self.count()
        else:
            d = self.tracker.deferUntilFewer(limit, timeout)
            isSo = self.count() < limit
        deadline = math.inf if timeout is None else self.clock.seconds() + timeout
        expected: list[object] = [True] if isSo else []
        self.waits.append(ModelWait(limit, deadline, d, outcomes(d), expected))

    @precondition(lambda self: self.live())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        wait = data.draw(st.sampled_from(self.live()))
        wait.expected = [CancelledError]
        wait.deferred.cancel()

    @rule(seconds=st.integers(0, 3))
    def advance(self, seconds: int) -> None:
        self.clock.advance(seconds)
        for wait in self.live():
            if wait.deadline <= self.clock.seconds():
                wait.expected = [False]

    @precondition(lambda self: len(self.waits) > 5)
    @rule()
    def quitWaiting(self) -> None:
        self.hasQuit = True
        self.fireModel()
        self.tracker.quitWaiting()

    @invariant()
    def agreesWithTheModel(self) -> None:
        assert [wait.fired for wait in self.waits] == [wait.expected for wait in self.waits]
        assert self.tracker.notWaiting() == (self.count() == 0)
        assert self.tracker.dCount == (None if self.hasQuit else self.count())
        assert len(self.clock.calls) == sum(wait.deadline < math.inf for wait in self.live())


TrackerMachineTests = TrackerMachine.TestCase
