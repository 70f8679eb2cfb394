from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.tools import DeferredLock
from tests.tools.clocks import noting, outcomes


class StopTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lock = DeferredLock()
        self.order: list[object] = []

    def test_freeLockStopsAtOnce(self) -> None:
        self.lock.addStopper(self.order.append, 1)
        assert self.successResultOf(self.lock.stop()) is None
        assert self.order == [1]

    def test_waitsForTheHolderAndAllWhoWait(self) -> None:
        self.lock.addStopper(self.order.append, "stopper")
        self.lock.acquire()
        for name, vip in (("regular", False), ("vip", True)):
            self.lock.acquire(vip).addCallback(noting(self.order, name))
        stopping = self.lock.stop()
        for _ in range(3):
            assert not stopping.called
            self.lock.release()
        assert self.successResultOf(stopping) is None
        assert self.order == ["vip", "regular", "stopper"]

    def test_doesNotWaitForOneWhoLeaves(self) -> None:
        self.lock.acquire()
        d = self.lock.acquire()
        stopping = self.lock.stop()
        d.cancel()
        assert outcomes(d) == [CancelledError]
        self.lock.release()
        self.successResultOf(stopping)

    def test_stoppersGetTheirArgumentsAndAreAwaitedInOrder(self) -> None:
        first: Deferred[None] = Deferred()
        inner: Deferred[None] = Deferred()

        def stopper(*args: object, **kw: object) -> Deferred[None]:
            self.order.append((args, kw))
            return first

        async def coroutine() -> None:
            self.order.append("second")
            await inner

        self.lock.addStopper(stopper, 1, key=2)
        self.lock.addStopper(coroutine)
        self.lock.addStopper(self.order.append, "third")
        stopping = self.lock.stop()
        assert self.order == [((1,), {"key": 2})]
        first.callback(None)
        assert self.order[1:] == ["second"]
        inner.callback(None)
        assert self.order[1:] == ["second", "third"]
        assert self.successResultOf(stopping) is None

    def test_afterwardsTheLockLocksNothing(self) -> None:
        self.lock.stop()
        for _ in range(2):
            assert self.successResultOf(self.lock.acquire()) is self.lock
        self.lock.release()
        self.lock.release()
        self.lock.release()
        assert self.successResultOf(self.lock.acquireAndRelease()) is None

    def test_stopperMayAskForTheLock(self) -> None:
        self.lock.addStopper(self.lock.acquireAndRelease)
        self.successResultOf(self.lock.stop())

    def test_whoAsksMeanwhileWaitsForTheTurnsButNotForTheStoppers(self) -> None:
        stopper: Deferred[None] = Deferred()
        self.lock.addStopper(lambda: stopper)
        self.lock.acquire()
        self.lock.stop()
        late = [self.lock.acquire(vip=True), self.lock.acquire()]
        assert [d.called for d in late] == [False, False]
        self.lock.release()
        for d in late:
            assert self.successResultOf(d) is self.lock
        assert self.lock.acquire().called
        stopper.callback(None)

    def test_whoAsksMeanwhileMayLeave(self) -> None:
        self.lock.acquire()
        stopping = self.lock.stop()
        late = self.lock.acquire()
        late.cancel()
        assert outcomes(late) == [CancelledError]
        self.lock.release()
        self.successResultOf(stopping)

    def test_stoppingAgainFiresToo(self) -> None:
        stopper: Deferred[None] = Deferred()
        self.lock.addStopper(lambda: stopper)
        self.lock.acquire()
        stops = [self.lock.stop(), self.lock.stop()]
        self.lock.release()
        stops.append(self.lock.stop())
        assert [d.called for d in stops] == [False] * 3
        stopper.callback(None)
        stops.append(self.lock.stop())
        for d in stops:
            assert self.successResultOf(d) is None

    def test_stopInATurn(self) -> None:
        self.lock.addStopper(self.order.append, "stopper")

        def turn(lock: DeferredLock) -> Deferred[None]:
            self.order.append("turn")
            lock.release()
            return lock.stop()

        self.lock.acquire()
        stopping = self.lock.acquire().addCallback(turn)
        self.lock.acquireAndRelease().addCallback(noting(self.order, "next"))
        self.lock.release()
        self.successResultOf(stopping)
        assert self.order == ["turn", "next", "stopper"]

    def test_whoAsksBetweenTwoTurnsIsALatecomer(self) -> None:
        late: list[Deferred[DeferredLock]] = []

        def turn(lock: DeferredLock) -> None:
            lock.release()
            late.append(lock.acquire())

        self.lock.acquire()
        self.lock.acquire().addCallback(turn)
        self.lock.acquireAndRelease().addCallback(noting(self.order, "next"))
        stopping = self.lock.stop()
        self.lock.release()
        assert late[0].called
        assert self.order == ["next"]
        self.successResultOf(stopping)

    def test_cancellingDoesNotEndTheStopping(self) -> None:
        self.lock.addStopper(self.order.append, 1)
        self.lock.acquire()
        stopping, again = self.lock.stop(), self.lock.stop()
        stopping.cancel()
        assert outcomes(stopping) == [CancelledError]
        self.lock.release()
        self.successResultOf(again)
        assert self.order == [1]


class FailingStopperTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lock = DeferredLock()
        self.order: list[object] = []
        self.lock.addStopper(lambda: 1 / 0)
        self.lock.addStopper(fail, KeyError("second"))
        self.lock.addStopper(self.order.append, "last")

    def test_laterOnesAreCalledAndTheFirstFailureComesBack(self) -> None:
        assert outcomes(self.lock.stop()) == [ZeroDivisionError]
        assert self.order == ["last"]
        assert len(self.flushLoggedErrors(KeyError)) == 1
        assert self.lock.acquire().called

    def test_onlyTheFirstStopReportsIt(self) -> None:
        self.lock.acquire()
        first, second = self.lock.stop(), self.lock.stop()
        self.lock.release()
        assert outcomes(first) == [ZeroDivisionError]
        assert outcomes(second) == [None]
        self.flushLoggedErrors(KeyError)

    def test_failureIsLoggedIfNobodyWaitsForTheStop(self) -> None:
        self.lock.acquire()
        stopping = self.lock.stop()
        stopping.cancel()
        assert outcomes(stopping) == [CancelledError]
        self.lock.release()
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1
        assert len(self.flushLoggedErrors(KeyError)) == 1


class AddStopperTests(SynchronousTestCase):
    def test_stopperAddedByAStopperIsCalled(self) -> None:
        lock = DeferredLock()
        called: list[int] = []
        lock.addStopper(lambda: lock.addStopper(called.append, 1))
        self.successResultOf(lock.stop())
        assert called == [1]

    def test_stopperThatWouldNeverBeCalledIsAnErrorThatNamesIt(self) -> None:
        lock = DeferredLock()
        lock.stop()
        with self.assertRaisesRegex(RuntimeError, "STOPPED.*built-in function print"):
            lock.addStopper(print)
