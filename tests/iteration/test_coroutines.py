from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.errors import NotReadyError
from asynqueue.iteration import Deferator, ItemSource
from tests.iteration.ledger import Ledger, ended, failureOf


class AsyncForTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.got: list[Any] = []

    def loop(self, source: ItemSource) -> Deferred[str]:
        self.deferator = Deferator(source)

        async def loop() -> str:
            async for item in self.deferator:
                self.got.append(item)
            return "over"

        return Deferred.fromCoroutine(loop())

    def test_eachItemComesAsSoonAsItHasArrived(self) -> None:
        source = Ledger(0)
        d = self.loop(source)
        assert self.got == [0]
        source.add([1])
        assert self.got == [0, 1]
        source.add([])
        source.add([2, 3])
        assert self.got == [0, 1, 2, 3]
        self.assertNoResult(d)
        source.end()
        assert self.successResultOf(d) == "over"
        assert self.successResultOf(self.deferator.d) is True

    def test_whatIsOverNeedsNoWait(self) -> None:
        assert self.successResultOf(self.loop(ended(1, 2))) == "over"
        assert self.got == [1, 2]

    def test_whatTurnsOutEmptyGivesNothing(self) -> None:
        source = Ledger()
        d = self.loop(source)
        source.end()
        assert self.successResultOf(d) == "over"
        assert self.got == []

    def test_failureIsRaisedOnceAfterTheItems(self) -> None:
        source = Ledger(1)
        d = self.loop(source)
        source.add([2])
        source.fail(failureOf(ValueError()))
        self.failureResultOf(d, ValueError)
        assert self.got == [1, 2]
        assert self.successResultOf(self.deferator.d) is False
        with self.assertRaises(StopAsyncIteration):
            self.deferator.__anext__().send(None)

    def test_stopEndsTheLoopThatIsWaiting(self) -> None:
        source = Ledger(1)
        d = self.loop(source)
        self.deferator.stop()
        assert self.successResultOf(d) == "over"
        assert self.successResultOf(self.deferator.d) is False

    def test_cancellingTheCoroutineLosesNoItem(self) -> None:
        source = Ledger()
        d = self.loop(source)
        d.cancel()
        self.failureResultOf(d, CancelledError)
        source.add([1, 2])
        assert self.got == []
        assert list(source.items) == [1, 2]
        assert self.successResultOf(next(self.deferator)) == 1

    def test_askingWhileWaitingIsNotReady(self) -> None:
        source = Ledger()
        self.loop(source)
        with self.assertRaises(NotReadyError):
            next(self.deferator)
        with self.assertRaises(NotReadyError):
            self.deferator.__anext__().send(None)

    def test_itAsksTheSourceForWhatItWants(self) -> None:
        source = Ledger()
        self.loop(source)
        assert source.wanted == 1
        source.add([1])
        assert source.wanted == 2

    def test_bothWaysMayBeMixed(self) -> None:
        deferator = Deferator(ended(1, 2, 3, 4))

        async def mixed() -> list[Any]:
            got = [await next(deferator)]
            async for item in deferator:
                got.append(item)
                break
            for d in deferator:
                got.append(await d)
            return got

        assert self.successResultOf(Deferred.fromCoroutine(mixed())) == [1, 2, 3, 4]


class AsyncWithTests(SynchronousTestCase):
    def test_leavingEarlyStops(self) -> None:
        source = Ledger(1, 2)

        async def first() -> Any:
            async with Deferator(source) as deferator:
                async for item in deferator:
                    return item

        assert self.successResultOf(Deferred.fromCoroutine(first())) == 1
        assert source.stops == 1

    def test_leavingByAnErrorStopsAndTheErrorGoesOn(self) -> None:
        source = Ledger(1, 2)

        async def fail() -> None:
            async with Deferator(source):
                raise ZeroDivisionError

        self.failureResultOf(Deferred.fromCoroutine(fail()), ZeroDivisionError)
        assert source.stops == 1

    def test_leavingAtTheEndIsNoStop(self) -> None:
        deferator = Deferator(ended(1))

        async def whole() -> None:
            async with deferator:
                async for _ in deferator:
                    pass

        self.successResultOf(Deferred.fromCoroutine(whole()))
        assert self.successResultOf(deferator.d) is True
