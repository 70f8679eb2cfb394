from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.tools import Delay
from tests.tools.clocks import outcomes, runNext


class Event:
    """
    Something that may happen, and a checker that counts how often it was asked.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.happened = False
        self.checks: list[float] = []

    def __call__(self) -> bool:
        self.checks.append(self.clock.seconds())
        return self.happened


class CountingClock(Clock):
    """
    I count how many delayed calls were ever asked of me.
    """

    asked = 0

    def callLater(self, *args: object, **kw: object) -> object:  # type: ignore[override]
        self.asked += 1
        return super().callLater(*args, **kw)  # type: ignore[arg-type]


class RingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = CountingClock()
        self.delay = Delay(interval=1, backoff=1.25, reactor=self.clock)
        self.event = Event(self.clock)

    def afterBackoff(self, checks: int) -> Deferred[bool]:
        """
        Start a wait and run its delayed calls until it has checked so often.
        """
        d = self.delay.untilEvent(self.event)
        while len(self.event.checks) < checks:
            runNext(self.clock)
        return d

    def test_doesNothingWhenNothingWaits(self) -> None:
        self.delay.ring()
        pause = self.delay(5)
        self.delay.ring()
        assert not pause.called
        assert self.clock.asked == 1

    def test_endsTheWaitBeforeItReturns(self) -> None:
        d = self.afterBackoff(10)
        self.event.happened = True
        self.delay.ring()
        assert self.successResultOf(d) is True
        assert self.clock.calls == []

    def test_checksEachWaitOnceInTheOrderOfWaiting(self) -> None:
        asked: list[int] = []
        for k in range(3):
            self.delay.untilEvent(lambda k=k: asked.append(k))
        asked.clear()
        self.delay.ring()
        assert asked == [0, 1, 2]

    def test_endsOnlyThoseWhoseEventHasHappened(self) -> None:
        other = Event(self.clock)
        yes, no = self.delay.untilEvent(self.event), self.delay.untilEvent(other)
        self.event.happened = True
        self.delay.ring()
        self.successResultOf(yes)
        assert not no.called
        other.happened = True
        self.clock.advance(0)
        self.successResultOf(no)

    def test_startsTheBackoffOver(self) -> None:
        self.afterBackoff(12)
        start = self.clock.seconds()
        self.delay.ring()
        for _ in range(3):
            runNext(self.clock)
        sinceRing = [time - start for time in self.event.checks[12:]]
        for got, expected in zip(sinceRing, [0, 1, 2.25, 3.8125], strict=True):
            assert got == pytest.approx(expected)

    def test_leavesAPendingCheckThatIsDueWithinTheInterval(self) -> None:
        self.afterBackoff(12)
        (call,) = self.clock.calls
        due = call.getTime()
        self.clock.advance(due - self.clock.seconds() - 0.5)
        asked = self.clock.asked
        self.delay.ring()
        assert (self.clock.asked, self.clock.calls) == (asked, [call])
        runNext(self.clock)
        assert self.event.checks[-1] == due
        runNext(self.clock)
        assert self.event.checks[-1] - due == pytest.approx(1.25)

    def test_manyRingsMakeOneDelayedCallAtMost(self) -> None:
        self.afterBackoff(12)
        asked = self.clock.asked
        for _ in range(100):
            self.delay.ring()
            self.clock.advance(0.001)
        assert (self.clock.asked, len(self.clock.calls)) == (asked + 1, 1)

    def test_steadyRingsDoNotPutThePollingOff(self) -> None:
        self.delay.untilEvent(self.event)
        (call,) = self.clock.calls
        self.delay.ring()
        assert self.clock.calls == [call]
        for _ in range(50):
            self.clock.advance(0.5)
            self.delay.ring()
        assert len(self.event.checks) > 52 + 20

    def test_doesNotMoveTheDeadline(self) -> None:
        for ringAt in (0.5, 1.5, 2.5, 2.999):
            clock = Clock()
            event = Event(clock)
            delay = Delay(interval=1, timeout=3, reactor=clock)
            fired = outcomes(delay.untilEvent(event))
            clock.advance(ringAt)
            delay.ring()
            while clock.calls:
                runNext(clock)
            assert (fired, event.checks[-1]) == ([False], 3)

    def test_waitsThatBeginDuringARingCheckForThemselves(self) -> None:
        again: list[Deferred[bool]] = []
        other = Event(self.clock)

        def restart(_: bool) -> None:
            again.append(self.delay.untilEvent(other))

        self.delay.untilEvent(self.event).addCallback(restart)
        self.event.happened = True
        self.delay.ring()
        assert len(other.checks) == 1
        assert not again[0].called
        other.happened = True
        self.delay.ring()
        assert self.successResultOf(again[0]) is True


class ReentrancyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.delay = Delay(interval=1, reactor=self.clock)

    def ringing(self, event: Event, depths: list[int]) -> Callable[[], bool]:
        """
        Make a checker that rings, and that notes how many calls of it are underway.
        """
        depth = 0

        def checker() -> bool:
            nonlocal depth
            depth += 1
            depths.append(depth)
            self.delay.ring()
            depth -= 1
            return event()

        return checker

    def test_checkersThatRingNeitherRecurseNorSkipNorGoOnForEver(self) -> None:
        events = [Event(self.clock) for _ in range(3)]
        depths: list[int] = []
        waits = [self.delay.untilEvent(self.ringing(event, depths)) for event in events]
        fired = [outcomes(d) for d in waits]
        for event in events:
            event.checks.clear()
        self.delay.ring()
        assert [len(event.checks) for event in events] == [1, 1, 1]
        runNext(self.clock)
        assert set(depths) == {1}
        events[1].happened = True
        self.delay.ring()
        assert fired == [[], [True], []]
        assert len(self.clock.calls) == 2

    def test_ringByAPollingCheckerChecksTheOthers(self) -> None:
        ringer, other = Event(self.clock), Event(self.clock)
        depths: list[int] = []
        self.delay.untilEvent(other)
        d = self.delay.untilEvent(self.ringing(ringer, depths))
        self.clock.advance(0)
        # Its own poll, and the other's, and the one for which the checker rang.
        assert (len(ringer.checks), len(other.checks)) == (2, 4)
        ringer.happened = True
        fired = outcomes(d)
        runNext(self.clock)
        assert (fired, set(depths)) == ([True], {1})

    def test_ringByACallbackChecksThoseAlreadyCheckedOnceMore(self) -> None:
        early, late = Event(self.clock), Event(self.clock)
        first, second = self.delay.untilEvent(early), self.delay.untilEvent(late)

        def makeEarlyHappen(_: bool) -> None:
            early.happened = True
            self.delay.ring()
            assert not first.called

        second.addCallback(makeEarlyHappen)
        late.happened = True
        self.delay.ring()
        self.successResultOf(second)
        assert self.successResultOf(first) is True
        assert self.clock.calls == []

    def test_longChainOfRingsDoesNotRecurse(self) -> None:
        left = 5000

        def again(_: bool = True) -> None:
            nonlocal left
            left -= 1
            if left:
                event = Event(self.clock)
                self.delay.untilEvent(event).addCallback(again)
                event.happened = True
                self.delay.ring()

        again()
        assert (left, self.clock.calls) == (0, [])

    def test_callbackMayCancelAWaitYetToBeChecked(self) -> None:
        event, victim = Event(self.clock), Event(self.clock)
        first, second = self.delay.untilEvent(event), self.delay.untilEvent(victim)
        first.addCallback(lambda _: second.cancel())
        event.happened = victim.happened = True
        self.delay.ring()
        self.successResultOf(first)
        assert outcomes(second) == [CancelledError]
        assert (len(victim.checks), self.clock.calls) == (1, [])

    def test_checkerMayCancelItsOwnWait(self) -> None:
        for provoke in (self.delay.ring, lambda: self.clock.advance(0)):
            for answer in (True, False):
                waits: list[Deferred[bool]] = []

                def checker(waits: list[Deferred[bool]] = waits, answer: bool = answer) -> bool:
                    for d in waits:
                        d.cancel()
                    return answer if waits else False

                waits.append(self.delay.untilEvent(checker))
                provoke()
                assert outcomes(waits[0]) == [CancelledError]
                assert self.clock.calls == []

    def test_callbackMayShutDown(self) -> None:
        event = Event(self.clock)
        first, second = self.delay.untilEvent(event), self.delay.untilEvent(lambda: False)
        first.addCallback(lambda _: self.delay.shutdown())
        event.happened = True
        self.delay.ring()
        self.successResultOf(first)
        assert self.successResultOf(second) is False

    def test_ringWorksAgainAfterARingInARing(self) -> None:
        event = Event(self.clock)
        self.delay.untilEvent(event).addCallback(lambda _: self.delay.ring())
        event.happened = True
        self.delay.ring()
        other = Event(self.clock)
        d = self.delay.untilEvent(other)
        other.happened = True
        self.delay.ring()
        assert self.successResultOf(d) is True


class DelayMachine(RuleBasedStateMachine):
    """
    Many waits on one Delay, where what follows one wait may touch the others.
    """

    INTERVAL = 1.0
    TIMEOUT = 20.0

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.delay = Delay(self.INTERVAL, 1.25, self.TIMEOUT, self.clock)
        self.events: list[Event] = []
        self.waits: list[Deferred[bool]] = []
        self.starts: list[float] = []
        self.fired: list[list[object]] = []

    def live(self) -> list[int]:
        return [k for k, fired in enumerate(self.fired) if not fired]

    def isAnyLive(self) -> bool:
        return bool(self.live())

    def choose(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(self.live()))

    def wait(self, afterwards: str) -> None:
        event = Event(self.clock)
        self.events.append(event)
        self.starts.append(self.clock.seconds())
        d = self.delay.untilEvent(event)
        self.waits.append(d)
        self.fired.append(outcomes(d))
        d.addCallback(lambda _: self.follow(afterwards))

    def follow(self, afterwards: str) -> None:
        if afterwards == "ring":
            self.delay.ring()
        elif afterwards == "wait":
            self.wait("nothing")
        elif afterwards == "cancel" and (live := self.live()):
            self.waits[live[0]].cancel()
        elif afterwards == "happen" and (live := self.live()):
            self.events[live[0]].happened = True
            self.delay.ring()

    @rule(afterwards=st.sampled_from(["nothing", "ring", "wait", "cancel", "happen"]))
    def begin(self, afterwards: str) -> None:
        self.wait(afterwards)

    @precondition(isAnyLive)
    @rule(data=st.data())
    def happen(self, data: st.DataObject) -> None:
        self.events[self.choose(data)].happened = True

    @precondition(isAnyLive)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        k = self.choose(data)
        self.waits[k].cancel()
        assert self.fired[k] == [CancelledError]

    @rule()
    def ring(self) -> None:
        self.delay.ring()
        soon = self.clock.seconds() + self.INTERVAL
        assert not any(self.events[k].happened for k in self.live())
        assert all(call.getTime() <= soon for call in self.clock.calls)

    @precondition(isAnyLive)
    @rule()
    def step(self) -> None:
        runNext(self.clock)

    @rule(seconds=st.floats(0, 8))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def eachLiveWaitHasOneDelayedCall(self) -> None:
        assert len(self.clock.calls) == len(self.live())

    @invariant()
    def eachWaitFiresOnceAndTruly(self) -> None:
        for event, start, fired in zip(self.events, self.starts, self.fired, strict=True):
            age = self.clock.seconds() - start
            if not fired:
                assert age < self.TIMEOUT
            elif fired == [False]:
                # What is due at the deadline runs at most one rounding of a float before it.
                assert age >= self.TIMEOUT - 1e-9
            else:
                assert fired == [CancelledError] or (fired == [True] and event.happened)


DelayMachineTests = DelayMachine.TestCase
