from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.tools import DeferredLock
from tests.tools.clocks import noting, outcomes


class TurnTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lock = DeferredLock()

    def test_freeLockIsHadAtOnce(self) -> None:
        assert self.successResultOf(self.lock.acquire()) is self.lock

    def test_heldLockIsHadWhenReleased(self) -> None:
        self.lock.acquire()
        d = self.lock.acquire()
        assert not d.called
        self.lock.release()
        assert self.successResultOf(d) is self.lock

    def test_turnsComeInTheOrderOfAsking(self) -> None:
        self.lock.acquire()
        waits = [self.lock.acquire() for _ in range(5)]
        for k in range(5):
            self.lock.release()
            assert [d.called for d in waits] == [j <= k for j in range(5)]

    def test_vipsGoBeforeRegularsInTheirOwnOrder(self) -> None:
        self.lock.acquire()
        order: list[int] = []
        for k, vip in enumerate((False, True, False, True, True)):
            self.lock.acquire(vip).addCallback(noting(order, k))
        for _ in range(5):
            self.lock.release()
        assert order == [1, 3, 4, 0, 2]

    def test_cancelledWaitLosesItsTurnAndNoOtherDoes(self) -> None:
        self.lock.acquire()
        vip1, regular1 = self.lock.acquire(True), self.lock.acquire()
        vip2, regular2 = self.lock.acquire(True), self.lock.acquire()
        for d in (vip1, regular1):
            d.cancel()
            assert outcomes(d) == [CancelledError]
        late = self.lock.acquire(vip=True)
        expected = [vip2, late, regular2]
        for k in range(3):
            self.lock.release()
            assert [d.called for d in expected] == [j <= k for j in range(3)]

    def test_releasingWhatIsNotHeldIsAnErrorThatNamesIt(self) -> None:
        with self.assertRaisesRegex(RuntimeError, r"release <DeferredLock at .*FREE"):
            self.lock.release()
        self.lock.acquire()
        self.lock.release()
        with self.assertRaises(RuntimeError):
            self.lock.release()
        assert self.lock.acquire().called

    def test_acquireAndReleaseWaitsForATurnOnly(self) -> None:
        assert self.successResultOf(self.lock.acquireAndRelease()) is None
        self.lock.acquire()
        regular, vip = self.lock.acquireAndRelease(), self.lock.acquireAndRelease(vip=True)
        order: list[str] = []
        regular.addCallback(noting(order, "regular"))
        vip.addCallback(noting(order, "vip"))
        self.lock.release()
        assert order == ["vip", "regular"]
        assert self.lock.acquire().called

    def test_cancelledAcquireAndReleaseReleasesNothing(self) -> None:
        self.lock.acquire()
        d = self.lock.acquireAndRelease()
        d.cancel()
        assert outcomes(d) == [CancelledError]
        assert not self.lock.acquire().called

    def test_lineMayBeOfAnyLength(self) -> None:
        self.lock.acquire()
        waits = [self.lock.acquireAndRelease() for _ in range(5_000)]
        self.lock.release()
        assert all(d.called for d in waits)
        assert self.lock.acquire().called

    def test_askingAgainInOnesOwnTurnGoesToTheEndOfTheLine(self) -> None:
        self.lock.acquire()
        order: list[str] = []

        def again(lock: DeferredLock) -> None:
            order.append("first")
            lock.release()
            lock.acquire().addCallback(noting(order, "again"))

        self.lock.acquire().addCallback(again)
        self.lock.acquireAndRelease().addCallback(noting(order, "second"))
        self.lock.release()
        assert order == ["first", "second", "again"]

    def test_freeLockIsHadAtOnceEvenWhileAReleaseIsAtWork(self) -> None:
        self.lock.acquire()

        def again(lock: DeferredLock) -> bool:
            lock.release()
            return lock.acquire().called

        d = self.lock.acquire().addCallback(again)
        self.lock.release()
        assert self.successResultOf(d) is True
        assert not self.lock.acquire().called

    def test_exceptionInATurnLeavesTheLockHeld(self) -> None:
        self.lock.acquire()
        d = self.lock.acquire()
        d.addCallback(lambda _: 1 / 0)
        self.lock.release()
        assert outcomes(d) == [ZeroDivisionError]
        assert not self.lock.acquire().called

    def test_reprSaysHowManyWait(self) -> None:
        self.lock.acquire()
        self.lock.acquire()
        self.lock.acquire(vip=True)
        assert "HELD, 2 waiting" in repr(self.lock)

    def test_takesTheSettingOfAsynQueue09(self) -> None:
        assert DeferredLock(allowZombies=True).acquire().called


class LockMachine(RuleBasedStateMachine):
    """
    A lock against a model that is a list of VIPs, a list of regulars and a list of latecomers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lock = DeferredLock()
        self.stopperCalls = 0
        self.lock.addStopper(self.countStopper)
        self.deferreds: list[Deferred[Any]] = []
        self.fired: list[list[object]] = []
        self.expected: list[list[object]] = []
        self.passing: set[int] = set()
        self.vips: list[int] = []
        self.regulars: list[int] = []
        self.latecomers: list[int] = []
        self.isHeld = False
        self.isStopping = False
        self.stops: list[list[object]] = []

    def countStopper(self) -> None:
        self.stopperCalls += 1

    def isStopped(self) -> bool:
        return self.isStopping and not self.isHeld and not self.vips and not self.regulars

    def serveModel(self) -> None:
        while not self.isHeld and (self.vips or self.regulars):
            k = (self.vips or self.regulars).pop(0)
            self.isHeld = k not in self.passing
            self.expected[k] = [self.lock if self.isHeld else None]
        if self.isStopped():
            for k in self.latecomers:
                self.expected[k] = [None if k in self.passing else self.lock]
            self.latecomers.clear()

    @rule(vip=st.booleans(), isPassing=st.booleans())
    def acquire(self, vip: bool, isPassing: bool) -> None:
        k = len(self.deferreds)
        d: Deferred[Any]
        d = self.lock.acquireAndRelease(vip) if isPassing else self.lock.acquire(vip)
        self.deferreds.append(d)
        self.fired.append(outcomes(d))
        self.expected.append([])
        if isPassing:
            self.passing.add(k)
        line = self.vips if vip else self.regulars
        (self.latecomers if self.isStopping else line).append(k)
        self.serveModel()

    @precondition(lambda self: self.isHeld or self.isStopped())
    @rule()
    def release(self) -> None:
        self.isHeld = False
        self.lock.release()
        self.serveModel()

    @precondition(lambda self: not self.isHeld and not self.isStopping)
    @rule()
    def releaseUnheld(self) -> None:
        try:
            self.lock.release()
        except RuntimeError:
            pass
        else:
            raise AssertionError("it released what was not held")

    @precondition(lambda self: self.vips or self.regulars or self.latecomers)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        k = data.draw(st.sampled_from(self.vips + self.regulars + self.latecomers))
        for line in (self.vips, self.regulars, self.latecomers):
            if k in line:
                line.remove(k)
        self.expected[k] = [CancelledError]
        self.deferreds[k].cancel()

    @precondition(lambda self: len(self.deferreds) > 5)
    @rule()
    def stop(self) -> None:
        self.isStopping = True
        self.stops.append(outcomes(self.lock.stop()))
        self.serveModel()

    @invariant()
    def agreesWithTheModel(self) -> None:
        assert self.fired == self.expected
        assert self.stopperCalls == self.isStopped()
        assert all(fired == [None] * self.isStopped() for fired in self.stops)


LockMachineTests = LockMachine.TestCase
