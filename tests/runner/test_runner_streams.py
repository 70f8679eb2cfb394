from __future__ import annotations

import io
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from asynqueue._runner import streams
from asynqueue._runner.messages import CREDIT_ITEMS, ITEMS
from asynqueue._runner.packing import LARGE, STANDARD, sizeOf
from tests.runner.stage import Stage
from tests.runner.streaming import StreamTestCase, credit


class ItemTests(StreamTestCase):
    def test_itemsComeInTheirOrderAndThenTheEnd(self) -> None:
        self.stage.call(1, self.generator(1, "two", [3], None))
        assert self.stage.run() == [
            ("begin", 1),
            ("STREAMING", 1),
            ("ITEMS", 1, [1, "two", [3], None]),
            ("ENDED", 1),
        ]
        assert (self.runner.hasStreams, self.closed) == (False, [True])

    def test_emptyIteratorIsAStreamWithoutItems(self) -> None:
        self.stage.call(1, lambda: iter(()))
        assert self.stage.run() == [("begin", 1), ("STREAMING", 1), ("ENDED", 1)]

    def test_everyIteratorIsStreamed(self) -> None:
        made: list[Callable[[], Any]] = [
            lambda: iter([1, 2]),
            lambda: map(int, "12"),
            lambda: zip([1, 2], strict=True),
            lambda: io.StringIO("1\n2\n"),
        ]
        for id, make in enumerate(made):
            self.stage.call(id, make)
            self.stage.run()
            assert self.stage.items(id) == list(make())

    def test_containersComeBackWhole(self) -> None:
        for id, value in enumerate(([1], (1,), {1}, range(2), "ab")):
            self.stage.call(id, lambda value: value, value)
            assert self.stage.run()[-1] == ("RETURNED", id, value)

    def test_iteratorThatIsOverIsForgotten(self) -> None:
        alive: weakref.WeakSet[Any] = weakref.WeakSet()

        def generate() -> Any:
            generator = self.generator(1)()
            alive.add(generator)
            return generator

        self.stage.call(1, generate)
        self.stage.run()
        assert len(alive) == 0

    def test_eachItemArrivesAsItWasWhenItWasYielded(self) -> None:
        def generate() -> Iterator[Any]:
            for size in (10, LARGE):
                array = np.zeros(size, np.uint8)
                for number in range(4):
                    array[:] = number
                    yield array

        self.stage.call(1, generate)
        self.stage.run()
        assert [(len(a), a[0], a[-1]) for a in self.stage.items(1)] == [
            (size, number, number) for size in (10, LARGE) for number in range(4)
        ]


class BatchTests(StreamTestCase):
    def batches(self, id: int = 1) -> list[Any]:
        return [message for message in self.stage.messages if message[:2] == (ITEMS, id)]

    def test_batchHasNoMoreThanSoManyItems(self) -> None:
        self.stage.call(1, lambda: iter(range(2 * streams.BATCH_ITEMS + 5)))
        self.stage.run()
        sizes = [len(batch[2]) for batch in self.batches()]
        assert sizes == [streams.BATCH_ITEMS, streams.BATCH_ITEMS, 5]

    def test_batchHasNotManyMoreThanSoManyBytes(self) -> None:
        item = "x" * 10_000
        self.stage.call(1, lambda: iter([item] * 100))
        self.stage.run()
        for *_, used in self.batches():
            assert used - sizeOf(item) < streams.BATCH_BYTES
        assert len(self.batches()) == 4

    def test_batchGoesOutAfterSoManySeconds(self) -> None:
        def generate() -> Iterator[int]:
            for number in range(10):
                self.stage.now += streams.BATCH_SECONDS / 4.5
                yield number

        self.stage.call(1, generate)
        self.stage.run()
        assert [len(batch[2]) for batch in self.batches()] == [5, 5]

    def test_slowItemsGoOutOneByOne(self) -> None:
        def generate() -> Iterator[int]:
            for number in range(3):
                self.stage.now += 1
                yield number

        self.stage.call(1, generate)
        for _ in range(3):
            self.runner.step()
        assert [len(batch[2]) for batch in self.batches()] == [1, 1, 1]

    def test_batchTellsHowMuchCreditItUsed(self) -> None:
        for id, then in enumerate([None, self.raising(ValueError())]):
            self.stage.call(id, self.generator("x" * 100, 3, [4], then=then))
            self.stage.run()
            ((*_, used),) = self.batches(id)
            assert used == sizeOf("x" * 100) + sizeOf(3) + sizeOf(STANDARD.pack([4]))


class CreditTests(StreamTestCase):
    def test_streamBeginsWithTheCreditThatBothSidesKnow(self) -> None:
        self.stage.call(1, self.endless)
        self.stage.run()
        assert self.stage.items(1) == list(range(CREDIT_ITEMS))

    def test_withoutCreditTheGeneratorStandsStill(self) -> None:
        with credit(3):
            self.stage.call(1, self.endless)
            self.stage.run()
        assert self.stage.items(1) == [0, 1, 2]
        assert (self.runner.hasWork, self.runner.hasStreams) == (False, True)
        self.runner.step()
        assert self.stage.taken() == []

    def test_grantsAddUp(self) -> None:
        with credit(1):
            self.stage.call(1, self.endless)
            self.stage.run()
        self.stage.grant(1, 2, 0)
        self.stage.grant(1, 3, 0)
        assert self.runner.hasWork
        self.stage.run()
        assert self.stage.items(1) == list(range(6))

    def test_streamStopsBelowSoManyBytesButForItsLastItem(self) -> None:
        size = sizeOf("x" * 92)
        with credit(1000, 3 * size + 1):
            self.stage.call(1, lambda: iter(["x" * 92] * 100))
            self.stage.run()
        assert len(self.stage.items(1)) == 4
        # What the last item was too large is made up for first.
        self.stage.grant(1, 0, size - 1)
        self.stage.run()
        assert len(self.stage.items(1)) == 4
        self.stage.grant(1, 0, 1)
        self.stage.run()
        assert len(self.stage.items(1)) == 5

    def test_bytesThatAreUsedUpExactlyAllowNoMore(self) -> None:
        with credit(1000, 3 * sizeOf("x" * 92)):
            self.stage.call(1, lambda: iter(["x" * 92] * 100))
            self.stage.run()
        assert len(self.stage.items(1)) == 3

    def test_grantsForAnotherStreamAreNotItsOwn(self) -> None:
        with credit(1):
            self.stage.call(1, self.endless)
            self.stage.call(2, self.endless)
            self.stage.run()
        self.stage.grant(2, 2, 0)
        self.stage.run()
        assert (self.stage.items(1), self.stage.items(2)) == ([0], [0, 1, 2])

    def test_grantForWhatIsOverOrUnknownIsIgnored(self) -> None:
        self.stage.call(1, self.generator())
        self.stage.run()
        self.stage.grant(1, 5, 5)
        self.stage.grant(99, 5, 5)
        assert self.stage.run() == []

    @given(
        st.integers(1, 10),
        st.integers(1, 400),
        st.lists(st.tuples(st.integers(0, 6), st.integers(0, 300)), max_size=10),
        st.lists(st.integers(0, 60), max_size=40),
    )
    def test_creditIsNeverExceededAndAlwaysUsed(
        self, items: int, size: int, grants: list[tuple[int, int]], lengths: list[int]
    ) -> None:
        values = ["x" * length for length in lengths]
        stage = Stage()
        with credit(items, size):
            stage.call(1, lambda: iter(values))
            stage.run()
        for moreItems, moreBytes in [(0, 0), *grants]:
            stage.grant(1, moreItems, moreBytes)
            stage.run()
            items, size = items + moreItems, size + moreBytes
            sizes = list(map(sizeOf, stage.items(1)))
            assert len(sizes) <= items
            assert sum(sizes[:-1]) < size
            if stage.runner.hasStreams:
                assert len(sizes) == items or sum(sizes) >= size
        assert stage.items(1) == values[: len(stage.items(1))]
