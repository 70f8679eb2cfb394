from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.tools import DeferredLock
from tests.tools.clocks import outcomes


class GeneratorTests(SynchronousTestCase):
    """
    C{with}, in a function with C{inlineCallbacks}.
    """

    def setUp(self) -> None:
        self.lock = DeferredLock()
        self.order: list[str] = []
        self.work: Deferred[None] = Deferred()

    @inlineCallbacks
    def hold(
        self, name: str, work: Deferred[None] | None = None, vip: bool = False
    ) -> Generator[Deferred[Any], Any, None]:
        with self.lock.context(vip) as d:
            lock = yield d
            assert lock is self.lock
            self.order.append(name)
            if work is not None:
                yield work
            self.order.append(f"{name} ends")

    def test_holdsForTheLengthOfTheBlock(self) -> None:
        first, second = self.hold("first", self.work), self.hold("second")
        assert self.order == ["first"]
        self.work.callback(None)
        assert self.order == ["first", "first ends", "second", "second ends"]
        self.successResultOf(first)
        self.successResultOf(second)
        assert self.lock.acquire().called

    def test_vipsGoFirst(self) -> None:
        self.lock.acquire()
        self.hold("regular")
        self.hold("vip", vip=True)
        self.lock.release()
        assert self.order == ["vip", "vip ends", "regular", "regular ends"]

    def test_exceptionReleases(self) -> None:
        d, other = self.hold("first", self.work), self.hold("second")
        self.work.errback(ZeroDivisionError())
        assert outcomes(d) == [ZeroDivisionError]
        self.successResultOf(other)

    def test_cancellingInTheBlockReleases(self) -> None:
        d, other = self.hold("first", self.work), self.hold("second")
        d.cancel()
        assert outcomes(d) == [CancelledError]
        self.successResultOf(other)

    def test_cancellingWhileWaitingLeavesTheLine(self) -> None:
        self.lock.acquire()
        d, other = self.hold("first"), self.hold("second")
        d.cancel()
        assert outcomes(d) == [CancelledError]
        assert not other.called
        self.lock.release()
        self.successResultOf(other)
        assert self.order == ["second", "second ends"]
        assert self.lock.acquire().called

    def test_leavingBeforeTheTurnLeavesTheLine(self) -> None:
        self.lock.acquire()
        with self.assertRaises(ZeroDivisionError), self.lock.context() as d:
            raise ZeroDivisionError
        assert d.called
        other = self.lock.acquire()
        self.lock.release()
        assert other.called

    def test_leavingWithoutWaitingReleasesWhatWasHadAtOnce(self) -> None:
        with self.lock.context():
            assert not self.lock.acquireAndRelease().called
        assert self.lock.acquire().called

    def test_turnThatCameUnheededIsReleased(self) -> None:
        self.lock.acquire()
        with self.lock.context():
            self.lock.release()
            other = self.lock.acquire()
            assert not other.called
        assert other.called

    def test_callbacksOfADeferredThatLeftTheLineSeeTheCancelling(self) -> None:
        self.lock.acquire()
        with self.lock.context() as d:
            fired = outcomes(d)
        assert fired == [CancelledError]

    def test_mayBeEnteredAgainButNotTwiceAtOnce(self) -> None:
        context = self.lock.context()
        for _ in range(2):
            with context as d:
                assert self.successResultOf(d) is self.lock
                with (
                    self.assertRaisesRegex(RuntimeError, "was entered before: make another"),
                    context,
                ):
                    pass
                assert not self.lock.acquireAndRelease().called

    def test_turnOfAnEarlierEntryCountsNoMore(self) -> None:
        context = self.lock.context()
        with context:
            pass
        self.lock.acquire()
        with context as d:
            fired = outcomes(d)
        assert fired == [CancelledError]

    def test_stopWaitsForTheBlock(self) -> None:
        self.hold("first", self.work)
        stopping = self.lock.stop()
        assert not stopping.called
        self.work.callback(None)
        self.successResultOf(stopping)

    def test_stoppedLockLetsEveryoneIn(self) -> None:
        self.lock.stop()
        with self.lock.context() as first, self.lock.context() as second:
            assert self.successResultOf(first) is self.successResultOf(second) is self.lock


class CoroutineTests(SynchronousTestCase):
    """
    C{async with}, in a coroutine.
    """

    def setUp(self) -> None:
        self.lock = DeferredLock()
        self.order: list[str] = []
        self.work: Deferred[None] = Deferred()

    def hold(
        self, name: str, work: Deferred[None] | None = None, vip: bool = False
    ) -> Deferred[None]:
        async def holding() -> None:
            async with self.lock.context(vip) as lock:
                assert lock is self.lock
                self.order.append(name)
                if work is not None:
                    await work
                self.order.append(f"{name} ends")

        return Deferred.fromCoroutine(holding())

    def test_holdsForTheLengthOfTheBlock(self) -> None:
        first, second = self.hold("first", self.work), self.hold("second")
        vip = self.hold("vip", vip=True)
        assert self.order == ["first"]
        self.work.callback(None)
        assert self.order[1:] == ["first ends", "vip", "vip ends", "second", "second ends"]
        for d in (first, second, vip):
            self.successResultOf(d)
        assert self.lock.acquire().called

    def test_exceptionReleases(self) -> None:
        d, other = self.hold("first", self.work), self.hold("second")
        self.work.errback(ZeroDivisionError())
        assert outcomes(d) == [ZeroDivisionError]
        self.successResultOf(other)

    def test_cancellingInTheBlockReleases(self) -> None:
        d, other = self.hold("first", self.work), self.hold("second")
        d.cancel()
        assert outcomes(d) == [CancelledError]
        self.successResultOf(other)

    def test_cancellingWhileWaitingLeavesTheLine(self) -> None:
        self.lock.acquire()
        d, other = self.hold("first"), self.hold("second")
        d.cancel()
        assert outcomes(d) == [CancelledError]
        self.lock.release()
        self.successResultOf(other)
        assert self.order == ["second", "second ends"]

    def test_coroutineThatIsClosedWhileWaitingLeavesTheLine(self) -> None:
        async def holding() -> None:
            async with self.lock.context():
                raise AssertionError("its turn never comes")

        self.lock.acquire()
        coroutine = holding()
        coroutine.send(None)
        coroutine.close()
        self.lock.release()
        assert self.lock.acquire().called
