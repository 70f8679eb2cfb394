from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.tools import DeferredPool
from tests.tools.clocks import noting, outcomes


class PoolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.pool = DeferredPool()

    def test_emptyPoolNotifiesAtOnce(self) -> None:
        assert self.successResultOf(self.pool.notifyWhenEmpty()) is None

    def test_emptyPoolMayHaveToBecomeEmptyOnceMore(self) -> None:
        d = self.pool.notifyWhenEmpty(testImmediately=False)
        self.assertNoResult(d)
        first: Deferred[None] = self.pool.add(Deferred())
        self.assertNoResult(d)
        first.callback(None)
        assert self.successResultOf(d) is None

    def test_notifiesWhenTheLastHasFired(self) -> None:
        many: list[Deferred[None]] = [self.pool.add(Deferred()) for _ in range(3)]
        waiting = self.pool.notifyWhenEmpty()
        for d in reversed(many):
            self.assertNoResult(waiting)
            d.callback(None)
        assert self.successResultOf(waiting) is None

    def test_addReturnsTheDeferredAndLeavesItsResultAlone(self) -> None:
        d: Deferred[int] = Deferred()
        assert self.pool.add(d) is d
        d.callback(3)
        assert self.successResultOf(d) == 3

    def test_failurePassesThroughAndCountsAsFired(self) -> None:
        d: Deferred[int] = self.pool.add(Deferred())
        d.errback(ValueError("no"))
        assert self.pool.status() == (0, 0)
        self.failureResultOf(d, ValueError)

    def test_deferredThatHasFiredCountsAsFiringNow(self) -> None:
        waiting = self.pool.notifyWhenEmpty(testImmediately=False)
        assert self.successResultOf(self.pool.add(succeed(1))) == 1
        self.successResultOf(waiting)
        self.failureResultOf(self.pool.add(fail(ValueError())), ValueError)
        assert self.pool.status() == (0, 0)

    def test_deferredThatIsAddedTwiceCountsTwice(self) -> None:
        d: Deferred[int] = Deferred()
        self.pool.add(self.pool.add(d))
        assert self.pool.status() == (2, 0)
        d.callback(1)
        assert self.pool.status() == (0, 0)

    def test_statusTellsHowManyAreOutstandingAndHowManyWait(self) -> None:
        self.pool.add(Deferred())
        self.pool.notifyWhenEmpty()
        self.pool.notifyWhenEmpty()
        assert self.pool.status() == (1, 2)
        assert repr(self.pool) == "<DeferredPool: 1 outstanding, 2 waiting>"

    def test_whoWaitsMayCancel(self) -> None:
        d: Deferred[int] = self.pool.add(Deferred())
        first, second = self.pool.notifyWhenEmpty(), self.pool.notifyWhenEmpty()
        first.cancel()
        assert self.pool.status() == (1, 1)
        self.failureResultOf(first, CancelledError)
        d.callback(1)
        self.successResultOf(second)

    def test_callbackMayCancelAnotherThatWaits(self) -> None:
        d: Deferred[int] = self.pool.add(Deferred())
        first, second = self.pool.notifyWhenEmpty(), self.pool.notifyWhenEmpty()
        fired = outcomes(second)
        first.addCallback(lambda _: second.cancel())
        d.callback(1)
        assert fired == [CancelledError]

    def test_firesInTheOrderOfAsking(self) -> None:
        d: Deferred[int] = self.pool.add(Deferred())
        notes: list[int] = []
        for k in range(3):
            self.pool.notifyWhenEmpty().addCallback(noting(notes, k))
        d.callback(1)
        assert notes == [0, 1, 2]

    def test_whatACallbackAddsIsWaitedForByTheOthers(self) -> None:
        d: Deferred[int] = self.pool.add(Deferred())
        more: Deferred[int] = Deferred()
        first, second = self.pool.notifyWhenEmpty(), self.pool.notifyWhenEmpty()

        def addMore(_: None) -> None:
            self.pool.add(more)

        first.addCallback(addMore)
        d.callback(1)
        self.successResultOf(first)
        self.assertNoResult(second)
        more.callback(1)
        self.successResultOf(second)

    def test_whoBeginsToWaitForTheNextTimeInACallbackWaitsForThat(self) -> None:
        d: Deferred[int] = self.pool.add(Deferred())
        later: list[Deferred[None]] = []
        self.pool.notifyWhenEmpty().addCallback(
            lambda _: later.append(self.pool.notifyWhenEmpty(testImmediately=False))
        )
        d.callback(1)
        assert not later[0].called
        self.pool.add(succeed(None))
        self.successResultOf(later[0])


class PoolMachine(RuleBasedStateMachine):
    """
    A pool beside the plain list of what is outstanding.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pool = DeferredPool()
        self.outstanding: list[Deferred[int]] = []
        self.waiting: list[list[object]] = []

    @rule()
    def add(self) -> None:
        self.outstanding.append(self.pool.add(Deferred()))

    @rule(which=st.integers(0, 9))
    def fire(self, which: int) -> None:
        if which < len(self.outstanding):
            self.outstanding.pop(which).callback(which)
            if not self.outstanding:
                assert all(fired == [None] for fired in self.waiting)
                self.waiting.clear()

    @rule(testImmediately=st.booleans())
    def notify(self, testImmediately: bool) -> None:
        fired = outcomes(self.pool.notifyWhenEmpty(testImmediately))
        if testImmediately and not self.outstanding:
            assert fired == [None]
        else:
            self.waiting.append(fired)

    @invariant()
    def tells(self) -> None:
        assert self.pool.status() == (len(self.outstanding), len(self.waiting))
        assert not any(self.waiting)


TestPoolMachine = PoolMachine.TestCase
