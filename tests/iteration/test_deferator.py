from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks, succeed
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.errors import IterationStopped, NotReadyError
from asynqueue.iteration import Deferator, ItemSource, Prefetcherator, isIterator
from tests.iteration.ledger import Ledger, ended, failureOf, outcomesOf


@inlineCallbacks
def collect(deferator: Deferator) -> Generator[Deferred[Any], Any, list[Any]]:
    items = []
    for d in deferator:
        item = yield d
        items.append(item)
    return items


class LoopTests(SynchronousTestCase):
    def test_itemsComeInOrderAndTheOwnDeferredFiresWithTrue(self) -> None:
        deferator = Deferator(ended(1, 2, 3))
        assert self.successResultOf(collect(deferator)) == [1, 2, 3]
        assert self.successResultOf(deferator.d) is True

    def test_itemsThatArriveOneByOneComeInOrder(self) -> None:
        source = Ledger()
        d = collect(Deferator(source))
        for item in range(5):
            self.assertNoResult(d)
            source.add([item])
        source.end()
        assert self.successResultOf(d) == [0, 1, 2, 3, 4]

    def test_anItemsDeferredFiresWhenItIsKnownWhatFollows(self) -> None:
        for follow in (
            lambda s: s.add([2]),
            ItemSource.end,
            lambda s: s.fail(failureOf(OSError())),
        ):
            source = Ledger(1)
            d = next(Deferator(source))
            self.assertNoResult(d)
            follow(source)
            assert self.successResultOf(d) == 1

    def test_aSourceThatPromisesMoreNeedsNoLookAhead(self) -> None:
        source = Ledger(1)
        source.promisesMore = True
        assert self.successResultOf(next(Deferator(source))) == 1
        assert source.wanted == 0

    def test_whatEndsAtOnceYieldsNothing(self) -> None:
        deferator = Deferator(ended())
        assert self.successResultOf(deferator.d) is True
        assert list(deferator) == []

    def test_firstDeferredOfWhatTurnsOutEmptyFiresWithNone(self) -> None:
        source = Ledger()
        deferator = Deferator(source)
        d = next(deferator)
        source.end()
        assert self.successResultOf(d) is None
        assert list(deferator) == []
        assert self.successResultOf(deferator.d) is True

    def test_theOwnDeferredFiresNotBeforeTheLoopHasEnded(self) -> None:
        deferator = Deferator(ended(1))
        assert self.successResultOf(next(deferator)) == 1
        self.assertNoResult(deferator.d)
        with self.assertRaises(StopIteration):
            next(deferator)
        assert self.successResultOf(deferator.d) is True

    def test_askingBeforeTheLastDeferredHasFiredIsNotReady(self) -> None:
        source = Ledger()
        deferator = Deferator(source)
        d = next(deferator)
        with self.assertRaises(NotReadyError):
            next(deferator)
        source.add([1, 2])
        assert self.successResultOf(d) == 1
        assert self.successResultOf(next(Deferator(ended(1)))) == 1

    def test_askingWhileSomebodyElseIsWaitingIsNotReady(self) -> None:
        source = Ledger(1, 2)
        source.listen(source.stopped)
        deferator = Deferator(source)
        with self.assertRaises(NotReadyError):
            next(deferator)
        assert list(source.items) == [1, 2]
        source.listen(None)
        assert self.successResultOf(next(deferator)) == 1

    def test_whileItWaitsTheProducerGetsItsCreditBack(self) -> None:
        # With credit for one item, the second would otherwise never come.
        class Stingy(Ledger):
            def consumed(self, count: int, cost: int) -> None:
                super().consumed(count, cost)
                later.append(cost + 1)

        later: list[int] = []
        source = Stingy()
        d = collect(Deferator(source))
        source.add([0], 0)
        while later and later[0] < 5:
            item = later.pop()
            source.add([item], item)
        source.end()
        assert self.successResultOf(d) == [0, 1, 2, 3, 4]
        assert source.reports == [(1, n) for n in range(5)]

    def test_callbackMayAskForTheNext(self) -> None:
        deferator, got = Deferator(ended(1, 2, 3)), list[Any]()

        def step(item: Any) -> None:
            got.append(item)
            for d in deferator:
                d.addCallback(step)
                return

        next(deferator).addCallback(step)
        assert got == [1, 2, 3]
        assert self.successResultOf(deferator.d) is True


class FailureTests(SynchronousTestCase):
    def test_failureComesOnceAfterTheItems(self) -> None:
        source = Ledger(1, 2)
        source.fail(failureOf(ValueError("far")))
        deferator = Deferator(source)
        got = [outcomesOf(d)[0] for d in deferator]
        assert got[:2] == [1, 2]
        assert isinstance(got[2], ValueError)
        assert len(got) == 3
        assert self.successResultOf(deferator.d) is False

    def test_failureReachesTheDeferredThatIsOut(self) -> None:
        source = Ledger()
        deferator = Deferator(source)
        d = next(deferator)
        source.fail(failureOf(ValueError()))
        self.failureResultOf(d, ValueError)
        assert list(deferator) == []

    def test_anInlineCallbacksLoopRaisesIt(self) -> None:
        source = Ledger(1)
        d = collect(Deferator(source))
        source.fail(failureOf(ValueError()))
        self.failureResultOf(d, ValueError)


class StopTests(SynchronousTestCase):
    def test_stopDropsWhatIsThereAndTellsTheSource(self) -> None:
        source = Ledger(1, 2, 3)
        deferator = Deferator(source)
        d = next(deferator)
        d.stop()
        deferator.stop()
        assert list(deferator) == []
        assert (source.stops, len(source.items)) == (1, 0)
        assert self.successResultOf(deferator.d) is False

    def test_stopInALoopEndsIt(self) -> None:
        source, got = ended(1, 2, 3), []
        for d in Deferator(source):
            got.append(self.successResultOf(d))
            d.stop()
        assert got == [1]

    def test_stopAfterTheEndChangesNothing(self) -> None:
        deferator = Deferator(ended(1))
        for _ in deferator:
            pass
        deferator.stop()
        assert self.successResultOf(deferator.d) is True

    def test_stopFailsTheDeferredThatIsOut(self) -> None:
        for items in ((), (1,)):
            deferator = Deferator(Ledger(*items))
            d = next(deferator)
            deferator.stop()
            self.failureResultOf(d, IterationStopped)
            assert self.successResultOf(deferator.d) is False
            assert list(deferator) == []

    def test_stopByTheSourceEndsTheLoop(self) -> None:
        source = Ledger(1, 2)
        deferator = Deferator(source)
        assert self.successResultOf(next(deferator)) == 1
        source.stop()
        assert list(deferator) == []
        assert self.successResultOf(deferator.d) is False

    def test_stopFromACallbackOfTheDeferredThatIsOut(self) -> None:
        source = Ledger()
        deferator = Deferator(source)
        d = next(deferator).addCallback(lambda _: deferator.stop())
        source.add([1, 2])
        assert self.successResultOf(d) is None
        assert source.stops == 1

    def test_ownDeferredFiresEvenIfClosingRaises(self) -> None:
        def generate() -> Generator[int, None, None]:
            try:
                yield 1
                yield 2
            finally:
                raise KeyError("closing")

        deferator = Deferator(generate())
        next(deferator)
        with self.assertRaises(KeyError):
            deferator.stop()
        assert self.successResultOf(deferator.d) is False


class CancelTests(SynchronousTestCase):
    def test_cancellingAnItemsDeferredLosesNoItem(self) -> None:
        source = Ledger(1)
        deferator = Deferator(source)
        d = next(deferator)
        d.cancel()
        self.failureResultOf(d, CancelledError)
        assert source.listener is None
        source.add([2, 3])
        assert self.successResultOf(next(deferator)) == 1
        assert self.successResultOf(next(deferator)) == 2
        assert source.stops == 0

    def test_cancellingAFiredDeferredChangesNothing(self) -> None:
        source = Ledger(1, 2)
        deferator = Deferator(source)
        first = next(deferator)
        second = next(deferator)
        first.cancel()
        source.end()
        assert self.successResultOf(second) == 2

    def test_cancellingTheOwnDeferredStops(self) -> None:
        source = Ledger(1, 2)
        deferator = Deferator(source)
        deferator.cancel()
        assert self.successResultOf(deferator.d) is False
        assert source.stops == 1
        assert list(deferator) == []

    def test_cancellingTheOwnDeferredWhileACallbackStopsFiresItOnce(self) -> None:
        deferator = Deferator(Ledger())
        next(deferator).addErrback(lambda _: deferator.stop())
        deferator.cancel()
        assert self.successResultOf(deferator.d) is False


class ConstructionTests(SynchronousTestCase):
    def test_fromAnIterator(self) -> None:
        assert self.successResultOf(collect(Deferator(iter("abc")))) == ["a", "b", "c"]

    def test_fromAPrefetcherator(self) -> None:
        prefetcherator = Prefetcherator()
        prefetcherator.setup(iter("abc"))
        assert self.successResultOf(collect(Deferator(prefetcherator))) == ["a", "b", "c"]

    def test_fromAFunctionWithItsArguments(self) -> None:
        calls: list[Any] = []

        def getMore(*args: Any, **kw: Any) -> tuple[int, bool, bool]:
            calls.append((args, kw))
            return len(calls), True, len(calls) < 3

        deferator = Deferator("<things>", getMore, 1, two=2)
        assert self.successResultOf(collect(deferator)) == [1, 2, 3]
        assert calls == [((1,), {"two": 2})] * 3

    def test_fromAFunctionThatReturnsDeferreds(self) -> None:
        waiting: list[Deferred[Any]] = []

        def getMore() -> Deferred[Any]:
            waiting.append(Deferred())
            return waiting[-1]

        d = collect(Deferator(None, getMore))
        waiting.pop().callback((1, True, True))
        assert len(waiting) == 1
        waiting.pop().callback((2, True, False))
        assert self.successResultOf(d) == [1, 2]
        assert waiting == []

    def test_functionThatHasNothingGivesNoneIfItSaysSoLate(self) -> None:
        answer: Deferred[Any] = Deferred()
        d = collect(Deferator("late", lambda: answer))
        answer.callback((None, False, False))
        assert self.successResultOf(d) == [None]
        now = Deferator("at once", lambda: succeed((None, False, False)))
        assert self.successResultOf(collect(now)) == []

    def test_aFunctionMustBeCallable(self) -> None:
        with self.assertRaisesRegex(TypeError, "'more'"):
            Deferator("things", "more")

    def test_anythingElseCountsAsEmpty(self) -> None:
        others: list[Any] = [None, 3, "text", [1, 2], {1: 2}, object, Deferred()]
        for other in others:
            deferator = Deferator(other)
            assert self.successResultOf(deferator.d) is True
            assert list(deferator) == []

    def test_isIteratorIsTheRunnersOwn(self) -> None:
        assert Deferator.isIterator is isIterator
        assert Deferator.isIterator(iter([]))
        assert not Deferator(None).isIterator([])


class AttributeTests(SynchronousTestCase):
    def test_theOwnDeferredsMethodsAreReachable(self) -> None:
        deferator, results = Deferator(ended(1)), list[bool]()
        deferator.addCallback(results.append)
        assert not deferator.called
        deferator.stop()
        assert results == [False]
        assert deferator.called

    def test_unknownAttributesAreErrors(self) -> None:
        with self.assertRaises(AttributeError):
            Deferator(None).nonsense  # noqa: B018
        with self.assertRaises(AttributeError):
            Deferator.__new__(Deferator).called  # noqa: B018

    def test_reprTellsOfWhatAndHowFar(self) -> None:
        assert repr(Deferator("<far things>", len)) == (
            "<Deferator of far things: open, 0 items waiting>"
        )
        assert repr(Deferator(ended(1))) == "<Deferator of Ledger: ended, 1 items waiting>"
        assert "list_iterator object" in repr(Deferator(iter([])))

    def test_reprOfAnObjectWithABrokenReprWorks(self) -> None:
        class Broken:
            def __repr__(self) -> str:
                raise ValueError

        assert "Broken" in repr(Deferator(Broken(), len))
