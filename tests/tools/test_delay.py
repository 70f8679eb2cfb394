from __future__ import annotations

import gc
import math
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.tools import Delay
from tests.tools.clocks import moveTo, outcomes, runNext


def never() -> bool:
    return False


class SettingsTests(SynchronousTestCase):
    def test_defaultsAreOneMillisecondAndTenPercentForEver(self) -> None:
        delay = Delay(reactor=Clock())
        assert (delay.interval, delay.backoff, delay.timeout) == (0.001, 1.10, None)
        assert (Delay.interval, Delay.backoff, Delay.timeout) == (0.001, 1.10, None)

    def test_subclassMayHaveOtherDefaults(self) -> None:
        class Slow(Delay):
            interval = 2.0

        assert Slow(reactor=Clock()).interval == 2.0
        assert Slow(0.5, reactor=Clock()).interval == 0.5

    def test_backoffAtTheEndsOfItsRangeIsTaken(self) -> None:
        for backoff in (1.0, 1.3):
            assert Delay(backoff=backoff, reactor=Clock()).backoff == backoff

    def test_backoffOutsideItsRangeIsAnErrorThatNamesValueAndRange(self) -> None:
        for backoff in (0.99, 1.31, -1.0, 0, math.nan, math.inf):
            with self.assertRaisesRegex(ValueError, rf"from 1\.0 to 1\.3, not {backoff!r}"):
                Delay(backoff=backoff, reactor=Clock())

    def test_negativeTimesAreErrorsThatNameThem(self) -> None:
        with self.assertRaisesRegex(ValueError, r"interval must be 0 or more seconds, not -0\.1"):
            Delay(interval=-0.1, reactor=Clock())
        with self.assertRaisesRegex(ValueError, "timeout must be 0 or more seconds, not -2"):
            Delay(timeout=-2, reactor=Clock())
        with self.assertRaisesRegex(ValueError, "delay must be 0 or more seconds, not -3"):
            Delay(reactor=Clock())(-3)

    def test_constructionInstallsNoSystemEventTrigger(self) -> None:
        class Reactor(Clock):
            triggers = 0

            def addSystemEventTrigger(self, *args: object) -> None:
                self.triggers += 1

        reactor = Reactor()
        Delay(reactor=reactor)
        assert (reactor.triggers, reactor.calls) == (0, [])


class PauseTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.delay = Delay(interval=0.5, reactor=self.clock)

    def test_firesWithNoneAfterTheInterval(self) -> None:
        d = self.delay()
        self.clock.advance(0.49)
        assert not d.called
        self.clock.advance(0.02)
        assert self.successResultOf(d) is None

    def test_firesAfterTheGivenSecondsInstead(self) -> None:
        d = self.delay(2)
        self.clock.advance(1.99)
        assert not d.called
        self.clock.advance(0.01)
        assert self.successResultOf(d) is None

    def test_zeroSecondsIsTheNextReactorTurn(self) -> None:
        d = self.delay(0)
        assert not d.called
        self.clock.advance(0)
        assert self.successResultOf(d) is None

    def test_cancellingCancelsTheDelayedCall(self) -> None:
        d, other = self.delay(), self.delay()
        d.cancel()
        assert outcomes(d) == [CancelledError]
        assert len(self.clock.calls) == 1
        self.clock.advance(1)
        assert self.successResultOf(other) is None

    def test_theTimeoutDoesNotConcernIt(self) -> None:
        d = Delay(timeout=0.1, reactor=self.clock)(0.5)
        self.clock.advance(0.2)
        assert not d.called
        self.clock.advance(0.3)
        self.successResultOf(d)


class UntilEventTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.delay = Delay(interval=1, backoff=1.25, reactor=self.clock)
        self.event = False
        self.checks: list[float] = []

    def happened(self) -> bool:
        self.checks.append(self.clock.seconds())
        return self.event

    def test_eventThatHasHappenedFiresAtOnce(self) -> None:
        self.event = True
        assert self.successResultOf(self.delay.untilEvent(self.happened)) is True
        assert (self.checks, self.clock.calls) == ([0], [])

    def test_secondCheckIsInTheNextReactorTurn(self) -> None:
        d = self.delay.untilEvent(self.happened)
        self.event = True
        assert not d.called
        self.clock.advance(0)
        assert self.successResultOf(d) is True
        assert (self.checks, self.clock.calls) == ([0, 0], [])

    def test_anyTrueAnswerFiresTrueAndAnyFalseOneDoesNot(self) -> None:
        for answer in (1, "yes", [0], object()):
            d = self.delay.untilEvent(lambda answer=answer: answer)
            assert self.successResultOf(d) is True
        for no in (0, "", (), None):
            d = self.delay.untilEvent(lambda no=no: no)
            assert not d.called

    def test_checkerGetsItsArguments(self) -> None:
        got: list[object] = []

        def checker(*args: object, **kw: object) -> bool:
            got.append((args, kw))
            return len(got) == 2

        d = self.delay.untilEvent(checker, 1, 2, key=3)
        self.clock.advance(0)
        self.successResultOf(d)
        assert got == [((1, 2), {"key": 3})] * 2

    def test_withoutTimeoutItWaitsForEver(self) -> None:
        d = self.delay.untilEvent(never)
        while self.clock.seconds() < 1e9:
            runNext(self.clock)
        assert not d.called

    def test_timeoutFiresFalseAfterALastCheckAtTheDeadline(self) -> None:
        delay = Delay(interval=1, backoff=1.25, timeout=3, reactor=self.clock)
        d = delay.untilEvent(self.happened)
        for _ in range(4):
            runNext(self.clock)
        assert self.successResultOf(d) is False
        assert (self.checks, self.clock.calls) == ([0, 0, 1, 2.25, 3], [])

    def test_eventAtTheDeadlineIsSeen(self) -> None:
        delay = Delay(interval=1, timeout=3, reactor=self.clock)
        d = delay.untilEvent(lambda: self.clock.seconds() == 3)
        while self.clock.calls:
            runNext(self.clock)
        assert self.successResultOf(d) is True

    def test_aReactorThatComesLateDoesNotProlongTheWait(self) -> None:
        d = Delay(interval=1, timeout=10, reactor=self.clock).untilEvent(self.happened)
        self.clock.advance(0)
        self.clock.advance(50)
        assert self.successResultOf(d) is False
        assert self.checks == [0, 0, 50]

    def test_timeoutZeroChecksOnlyOnce(self) -> None:
        delay = Delay(timeout=0, reactor=self.clock)
        assert self.successResultOf(delay.untilEvent(self.happened)) is False
        self.event = True
        assert self.successResultOf(delay.untilEvent(self.happened)) is True
        assert (self.checks, self.clock.calls) == ([0, 0], [])

    def test_intervalZeroChecksInEachReactorTurn(self) -> None:
        delay = Delay(interval=0, reactor=self.clock)
        answers = iter([False] * 5 + [True])
        d = delay.untilEvent(lambda: next(answers))
        self.clock.advance(0)
        assert self.successResultOf(d) is True
        assert (list(answers), self.clock.seconds()) == ([], 0)

    def test_cancellingEndsTheWait(self) -> None:
        d = self.delay.untilEvent(self.happened)
        self.clock.advance(0)
        d.cancel()
        assert outcomes(d) == [CancelledError]
        assert self.clock.calls == []
        self.delay.ring()
        assert len(self.checks) == 2

    def test_waitThatIsOverLeavesNothingForTheGarbageCollector(self) -> None:
        # What tests before this one left may take several rounds, because finalizers run between.
        while gc.collect():
            pass
        gc.disable()
        self.addCleanup(gc.enable)
        d = self.delay.untilEvent(self.happened)
        self.event = True
        self.delay.ring()
        self.successResultOf(d)
        del d
        assert gc.collect() == 0

    @given(
        interval=st.integers(1, 64),
        backoff=st.sampled_from([1.0, 1.125, 1.25]),
        timeout=st.integers(0, 512),
    )
    def test_checksComeAtTheTimesOfTheFormula(
        self, interval: int, backoff: float, timeout: int
    ) -> None:
        # All of these are sums of few powers of two, so that the floats are exact.
        expected = [0.0]
        if timeout:
            expected.append(0.0)
            for k in range(12):
                expected.append(min(expected[-1] + interval / 64 * backoff**k, timeout / 64))
                if expected[-1] == timeout / 64:
                    break
        self.clock, self.checks = Clock(), []
        delay = Delay(interval / 64, backoff, timeout / 64, self.clock)
        fired = outcomes(delay.untilEvent(self.happened))
        while len(self.checks) < len(expected):
            runNext(self.clock)
        assert self.checks == expected
        assert fired == ([False] if expected[-1] == timeout / 64 else [])
        assert len(self.clock.calls) == 1 - len(fired)


class BadCheckerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.delay = Delay(reactor=self.clock)

    def test_checkerThatIsNotCallableIsATypeErrorThatNamesIt(self) -> None:
        with self.assertRaisesRegex(TypeError, "must be callable, not 'no checker'"):
            self.delay.untilEvent("no checker")  # type: ignore[arg-type]
        assert self.clock.calls == []

    def assertErrbacks(self, bad: Callable[[], object], error: type[BaseException]) -> None:
        """
        The checker's misdeed comes back, whether at the first check, a later one or a ring.
        """
        assert outcomes(self.delay.untilEvent(bad)) == [error]
        provocations: list[Callable[[], object]] = [
            lambda: self.clock.advance(0),
            self.delay.ring,
            self.delay.shutdown,
        ]
        for provoke in provocations:
            answers = iter([never, bad])
            d = self.delay.untilEvent(lambda answers=answers: next(answers)())
            assert not d.called
            provoke()
            assert outcomes(d) == [error]
            assert self.clock.calls == []

    def test_exceptionFromTheCheckerErrbacks(self) -> None:
        def bad() -> bool:
            raise ZeroDivisionError("bad checker")

        self.assertErrbacks(bad, ZeroDivisionError)

    def test_evenOneThatIsNoExceptionErrbacksSinceTheWaitMustNotHang(self) -> None:
        def bad() -> bool:
            raise SystemExit(1)

        self.assertErrbacks(bad, SystemExit)

    def test_answerWithoutATruthErrbacks(self) -> None:
        class Vague:
            def __bool__(self) -> bool:
                raise ArithmeticError("neither true nor false")

        self.assertErrbacks(Vague, ArithmeticError)

    def test_checkerThatReturnsADeferredErrbacksWithTypeError(self) -> None:
        self.assertErrbacks(Deferred, TypeError)

    def test_checkerThatIsACoroutineFunctionErrbacksWithTypeError(self) -> None:
        async def bad() -> bool:
            return False

        self.assertErrbacks(bad, TypeError)

    def test_failureInOneWaitLeavesTheOthersAlone(self) -> None:
        answers = iter([False])
        broken = self.delay.untilEvent(lambda: next(answers))
        whole = self.delay.untilEvent(never)
        self.delay.ring()
        assert outcomes(broken) == [StopIteration]
        assert not whole.called


class ShutdownTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.delay = Delay(reactor=self.clock)

    def test_pendingPausesFireNone(self) -> None:
        pauses = [self.delay(k) for k in range(3)]
        self.delay.shutdown()
        for d in pauses:
            assert self.successResultOf(d) is None
        assert self.clock.calls == []

    def test_pendingEventsFireWithALastCheck(self) -> None:
        event: list[int] = []
        yes, no = self.delay.untilEvent(lambda: event), self.delay.untilEvent(never)
        self.clock.advance(0)
        event.append(1)
        self.delay.shutdown()
        assert self.successResultOf(yes) is True
        assert self.successResultOf(no) is False
        assert self.clock.calls == []

    def test_laterWaitsFireAtOnce(self) -> None:
        self.delay.shutdown()
        assert self.successResultOf(self.delay(5)) is None
        assert self.successResultOf(self.delay.untilEvent(lambda: True)) is True
        assert self.successResultOf(self.delay.untilEvent(never)) is False
        assert self.clock.calls == []

    def test_mayBeDoneAgain(self) -> None:
        self.delay.shutdown()
        self.delay.shutdown()

    def test_callbacksMayWaitAgainAndCancelOthers(self) -> None:
        first = self.delay(1)
        second = self.delay(1)
        event = self.delay.untilEvent(never)
        later: list[object] = []

        def ended(_: None) -> None:
            second.cancel()
            event.cancel()
            self.delay.shutdown()
            later.append(self.successResultOf(self.delay.untilEvent(never)))

        first.addCallback(ended)
        self.delay.shutdown()
        self.successResultOf(first)
        assert outcomes(second) == [CancelledError]
        assert outcomes(event) == [CancelledError]
        assert (later, self.clock.calls) == ([False], [])

    def test_checkerMayShutDown(self) -> None:
        answers = iter([False, False])

        def checker() -> bool:
            if (answer := next(answers, None)) is None:
                self.delay.shutdown()
            return bool(answer)

        ending = self.delay.untilEvent(checker)
        other = self.delay.untilEvent(never)
        self.clock.advance(0)
        moveTo(self.clock, 1)
        assert self.successResultOf(ending) is False
        assert self.successResultOf(other) is False
        assert self.clock.calls == []

    def test_firstCheckMayShutDown(self) -> None:
        assert self.successResultOf(self.delay.untilEvent(self.delay.shutdown)) is False
        assert self.clock.calls == []
