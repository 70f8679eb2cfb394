from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.errors import NotReadyError
from asynqueue.iteration import Prefetcherator


class PrefetcheratorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.prefetcherator = Prefetcherator("the ID")

    def setup(self, *args: Any, **kw: Any) -> bool:
        return self.successResultOf(self.prefetcherator.setup(*args, **kw))

    def get(self) -> tuple[Any, bool, bool]:
        return self.successResultOf(self.prefetcherator.getNext())

    def test_eachItemComesWithWhetherMoreAreLeft(self) -> None:
        assert self.setup(iter([1, 2]))
        assert self.get() == (1, True, True)
        assert self.get() == (2, True, False)
        assert self.get() == (None, False, False)
        assert self.get() == (None, False, False)

    def test_firstItemIsFetchedBySetup(self) -> None:
        iterator = iter([1, 2])
        self.setup(iterator)
        assert next(iterator) == 2

    def test_callableIsCalledForEachItem(self) -> None:
        calls: list[Any] = []

        def getMore(*args: Any, **kw: Any) -> int:
            calls.append((args, kw))
            if len(calls) > 2:
                raise StopIteration
            return len(calls)

        assert self.setup(getMore, 1, two=2)
        assert self.get() == (1, True, True)
        assert self.get() == (2, True, False)
        assert calls == [((1,), {"two": 2})] * 3

    def test_generatorFunctionIsCalledOnce(self) -> None:
        def generate(start: int, stop: int) -> Generator[int, None, None]:
            yield from range(start, stop)

        assert self.setup(generate, 1, stop=2)
        assert self.get() == (1, True, False)

    def test_callableMayReturnDeferreds(self) -> None:
        waiting: list[Deferred[Any]] = []

        def getMore() -> Deferred[Any]:
            waiting.append(Deferred())
            return waiting[-1]

        isSetUp = self.prefetcherator.setup(getMore)
        self.assertNoResult(isSetUp)
        waiting.pop().callback("first")
        assert self.successResultOf(isSetUp)
        d = self.prefetcherator.getNext()
        self.assertNoResult(d)
        waiting.pop().errback(StopIteration())
        assert self.successResultOf(d) == ("first", True, False)

    def test_emptyIteratorAndNoIteratorAreFalse(self) -> None:
        nothings: list[Any] = [iter([]), [1], None, 3]
        for nothing in nothings:
            assert not self.setup(nothing)
            assert not self.prefetcherator.isBusy()
        assert not self.setup()
        assert self.get() == (None, False, False)

    def test_busyUntilTheLastItemWasGotten(self) -> None:
        assert not self.prefetcherator.isBusy()
        self.setup(iter([1, 2]))
        assert self.prefetcherator.isBusy()
        self.get()
        assert self.prefetcherator.isBusy()
        assert not self.setup(iter([3]))
        assert self.get() == (2, True, False)
        assert not self.prefetcherator.isBusy()
        assert self.setup(iter([3]))
        assert self.get() == (3, True, False)

    def test_aGeneratorFunctionIsNotCalledWhileBusy(self) -> None:
        def generate() -> Generator[int, None, None]:
            yield 1

        self.setup(iter([1]))
        assert not self.setup(generate)

    def test_errorComesOnceAfterTheLastGoodItem(self) -> None:
        self.setup(1 // n for n in (1, 0))
        assert self.get() == (1, True, True)
        assert self.prefetcherator.isBusy()
        assert not self.setup(iter([1]))
        self.failureResultOf(self.prefetcherator.getNext(), ZeroDivisionError)
        assert not self.prefetcherator.isBusy()
        assert self.get() == (None, False, False)

    def test_errorInsteadOfAFirstItemIsSomethingToGet(self) -> None:
        assert self.setup(1 // n for n in (0,))
        self.failureResultOf(self.prefetcherator.getNext(), ZeroDivisionError)

    def test_askingDuringAFetchIsNotReadyAndLosesNothing(self) -> None:
        waiting: list[Deferred[Any]] = []

        def getMore() -> Deferred[Any]:
            waiting.append(Deferred())
            return waiting[-1]

        self.prefetcherator.setup(getMore)
        self.failureResultOf(self.prefetcherator.getNext(), NotReadyError)
        waiting.pop().callback(1)
        d = self.prefetcherator.getNext()
        self.failureResultOf(self.prefetcherator.getNext(), NotReadyError)
        waiting.pop().callback(2)
        assert self.successResultOf(d) == (1, True, True)

    def test_itHasSlotsAndAnID(self) -> None:
        assert self.prefetcherator.ID == "the ID"
        assert not hasattr(self.prefetcherator, "__dict__")

    def test_reprTellsWhatIsCalled(self) -> None:
        assert repr(self.prefetcherator) == "<Prefetcherator 'the ID'>"
        self.setup(iter([1]))
        assert "list_iterator" in repr(self.prefetcherator)
