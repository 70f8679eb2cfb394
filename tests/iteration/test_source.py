from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from asynqueue._iteration.sources import SourceState
from asynqueue.errors import NotReadyError
from asynqueue.iteration import ItemSource
from tests.iteration.ledger import Ledger, failureOf


class BufferTests(SynchronousTestCase):
    def test_itemsAreTakenInTheOrderOfArrival(self) -> None:
        source = ItemSource()
        source.add([1, 2])
        source.add(iter([3]))
        assert [source.take() for _ in range(3)] == [1, 2, 3]

    def test_takingFromAnEmptyBufferIsAnIndexError(self) -> None:
        source = Ledger(1)
        source.take()
        with self.assertRaises(IndexError):
            source.take()

    def test_whatHasArrivedCanBeTakenAfterTheEnd(self) -> None:
        source = Ledger(1)
        source.end()
        assert source.isOver
        assert source.take() == 1

    def test_failureIsKeptBehindTheItems(self) -> None:
        source = Ledger(1)
        failure = failureOf(ValueError())
        source.fail(failure)
        assert source.isOver
        assert source.failure is failure
        assert list(source.items) == [1]

    def test_feedingIsIgnoredWhenItIsOver(self) -> None:
        for over in (ItemSource.end, ItemSource.stop, lambda s: s.fail(failureOf(ValueError()))):
            source = Ledger()
            over(source)
            state, failure = source.state, source.failure
            source.add([1], 10)
            source.end()
            source.fail(failureOf(KeyError()))
            assert (source.state, source.failure) == (state, failure)
            assert not source.items
            assert source.reports == []

    def test_reprTellsHowFarItIs(self) -> None:
        assert repr(Ledger(1, 2)) == "<Ledger: open, 2 items waiting>"

    def test_anIterableThatRaisesAddsNothing(self) -> None:
        source = Ledger()
        with self.assertRaises(ZeroDivisionError):
            source.add(1 // n for n in (1, 0))
        assert not source.items


class StopTests(SynchronousTestCase):
    def test_stopDropsTheItemsAndTellsTheHookOnce(self) -> None:
        source = Ledger(1, 2)
        source.stop()
        source.stop()
        assert source.isOver
        assert not source.items
        assert source.stops == 1
        assert source.reports == []

    def test_stopAfterTheEndDropsTheItemsButNobodyNeedsToClose(self) -> None:
        source = Ledger(1)
        source.end()
        source.stop()
        assert not source.items
        assert source.state is SourceState.STOPPED
        assert source.stops == 0

    def test_stopDropsTheFailureThatWouldHaveComeAfterTheItems(self) -> None:
        source = Ledger(1)
        source.fail(failureOf(ValueError()))
        source.stop()
        assert source.failure is None

    def test_theListenerHearsOfAStopEvenIfTheHookRaises(self) -> None:
        class Broken(ItemSource):
            def stopped(self) -> None:
                raise ValueError

        source, heard = Broken(), list[bool]()
        source.listen(lambda: heard.append(source.isOver))
        with self.assertRaises(ValueError):
            source.stop()
        assert heard == [True]

    def test_anAbandonedSourceStopsAtOnceByDefault(self) -> None:
        source = Ledger(1)
        source.abandoned(source.stop)
        assert source.state is SourceState.STOPPED


class ListenerTests(SynchronousTestCase):
    def test_everyChangeIsHeardOnce(self) -> None:
        failure = failureOf(ValueError())
        for change in (ItemSource.end, ItemSource.stop, lambda s: s.fail(failure)):
            source, heard = Ledger(), list[tuple[int, bool]]()

            def listener(source: Ledger = source, heard: list[Any] = heard) -> None:
                heard.append((len(source.items), source.isOver))

            source.listen(listener)
            source.add([1, 2])
            source.add([])
            change(source)
            change(source)
            assert [over for _, over in heard] == [False, False, True]
            assert [count for count, _ in heard[:2]] == [2, 2]

    def test_thereIsOneListenerAtATime(self) -> None:
        source = Ledger()
        source.listen(source.want)
        source.listen(source.want)
        with self.assertRaises(NotReadyError):
            source.listen(source.stopped)
        assert source.listener == source.want
        source.listen(None)
        source.listen(source.stopped)
        source.add([1])
        assert (source.wanted, source.stops) == (0, 1)

    def test_theListenerMayTakeAndLeave(self) -> None:
        source, got = Ledger(), list[int]()

        def listener() -> None:
            source.listen(None)
            got.append(source.take())

        source.listen(listener)
        source.add([1, 2], 8)
        source.add([3], 4)
        assert got == [1]
        assert list(source.items) == [2, 3]
        assert source.reports == []

    def test_theListenerMayStop(self) -> None:
        source = Ledger()
        source.listen(source.stop)
        source.add([1, 2], 8)
        assert source.state is SourceState.STOPPED
        assert source.reports == []


class CreditTests(SynchronousTestCase):
    def test_batchIsReportedWhenItsLastItemIsTaken(self) -> None:
        source = Ledger()
        source.add([1, 2], 8)
        source.add([3], 4)
        seen = []
        for _ in range(3):
            source.take()
            seen.append(list(source.reports))
        assert seen == [[], [(2, 8)], [(2, 8), (1, 4)]]

    def test_itemsTakenInBulkAreReportedBatchByBatch(self) -> None:
        source = Ledger()
        source.add([1, 2], 8)
        source.add([3, 4], 4)
        for _ in range(3):
            source.items.popleft()
        source.taken(3)
        assert source.reports == [(2, 8)]
        source.take()
        assert source.reports == [(2, 8), (2, 4)]

    def test_itemsTakenInBulkNeedNoAccountAfterAStop(self) -> None:
        source = Ledger(1, 2)
        source.items.popleft()
        source.stop()
        source.taken(1)
        assert source.reports == []

    def test_emptyBatchIsReportedInItsTurn(self) -> None:
        source = Ledger()
        source.add([], 1)
        assert source.reports == [(0, 1)]
        source.add([1], 2)
        source.add([], 3)
        assert source.reports == [(0, 1)]
        source.take()
        assert source.reports == [(0, 1), (1, 2), (0, 3)]

    def test_acknowledgedItemsAreReportedOnceAndStay(self) -> None:
        source = Ledger()
        source.add([1, 2], 8)
        source.take()
        source.acknowledge()
        source.acknowledge()
        assert source.reports == [(2, 8)]
        source.add([3], 4)
        assert [source.take(), source.take()] == [2, 3]
        assert source.reports == [(2, 8), (1, 4)]

    def test_theReportMayBringMoreAtOnce(self) -> None:
        class Eager(Ledger):
            def consumed(self, count: int, cost: int) -> None:
                super().consumed(count, cost)
                if cost < 3:
                    self.add([cost + 1] * 2, cost + 1)

        source = Eager()
        source.add([0], 0)
        source.acknowledge()
        assert list(source.items) == [0, 1, 1]
        assert [source.take(), source.take()] == [0, 1]
        assert source.reports == [(1, 0)]
        assert [source.take() for _ in range(5)] == [1, 2, 2, 3, 3]
        assert source.reports == [(1, 0), (2, 1), (2, 2), (2, 3)]

    def test_theReportMayStop(self) -> None:
        class Sated(Ledger):
            def consumed(self, count: int, cost: int) -> None:
                super().consumed(count, cost)
                self.stop()

        source = Sated()
        for _ in range(3):
            source.add([1, 1], 8)
        for _ in range(5):
            source.items.popleft()
        source.taken(5)
        assert source.reports == [(2, 8)]


class Model:
    """
    The source as plain lists.
    """

    def __init__(self) -> None:
        self.items: list[int] = []
        self.state = SourceState.OPEN
        self.arrived = 0
        self.taken = 0
        # Where each batch ends, among all that has arrived, and what is to be reported of it.
        self.batches: list[tuple[int, tuple[int, int]]] = []
        self.reports: list[tuple[int, int]] = []
        self.changes = 0

    def report(self, until: int) -> None:
        while self.batches and self.batches[0][0] <= until:
            self.reports.append(self.batches.pop(0)[1])

    def add(self, count: int, cost: int) -> None:
        if self.state is SourceState.OPEN:
            self.items += range(self.arrived, self.arrived + count)
            self.arrived += count
            self.batches.append((self.arrived, (count, cost)))
            self.report(self.taken)
            self.changes += 1

    def take(self, count: int) -> list[int]:
        got, self.items = self.items[:count], self.items[count:]
        self.taken += count
        self.report(self.taken)
        return got

    def end(self, state: SourceState) -> None:
        if self.state is SourceState.OPEN:
            self.state = state
            self.changes += 1

    def stop(self) -> None:
        if self.state is not SourceState.STOPPED:
            self.state = SourceState.STOPPED
            self.items, self.batches = [], []
            self.changes += 1


STEPS = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 4), st.integers(0, 9)),
    st.tuples(st.sampled_from(["take", "bulk"]), st.integers(0, 6)),
    st.just(("acknowledge",)),
    st.sampled_from([("end",), ("fail",), ("stop",)]),
)


class ModelTests(SynchronousTestCase):
    @given(st.lists(STEPS, max_size=40))
    def test_everyInterleavingAgreesWithAListAndReportsEachBatchOnce(
        self, steps: list[tuple[Any, ...]]
    ) -> None:
        source, model, heard = Ledger(), Model(), list[None]()
        source.listen(lambda: heard.append(None))
        for step in steps:
            self.do(source, model, *step)
            assert list(source.items) == model.items
            assert source.state is model.state
            assert source.isOver is (model.state is not SourceState.OPEN)
            assert (source.failure is not None) is (model.state is SourceState.FAILED)
            assert source.reports == model.reports
            assert len(heard) == model.changes

    def do(self, source: Ledger, model: Model, step: str, *numbers: int) -> None:
        if step == "add":
            count, cost = numbers
            source.add(range(model.arrived, model.arrived + count), cost)
            model.add(count, cost)
        elif step == "take":
            count = min(numbers[0], len(model.items))
            assert [source.take() for _ in range(count)] == model.take(count)
        elif step == "bulk":
            count = min(numbers[0], len(model.items))
            got = [source.items.popleft() for _ in range(count)]
            source.taken(count)
            assert got == model.take(count)
        elif step == "acknowledge":
            source.acknowledge()
            model.report(model.arrived)
        elif step == "end":
            source.end()
            model.end(SourceState.ENDED)
        elif step == "fail":
            source.fail(failureOf(ValueError()))
            model.end(SourceState.FAILED)
        else:
            source.stop()
            model.stop()
