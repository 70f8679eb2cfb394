from __future__ import annotations

import io
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from asynqueue.errors import ResultNotPicklable
from asynqueue.universe import streams
from asynqueue.universe.messages import CREDIT_BYTES, CREDIT_ITEMS, ITEMS
from asynqueue.universe.packing import LARGE, pack, sizeOf
from asynqueue.universe.universe import TaskInterrupted
from tests.universe.stage import Stage, StageTestCase, Unpicklable


def credit(items: int, size: int = CREDIT_BYTES) -> Any:
    """
    With another credit to begin with.
    """
    return mock.patch.multiple(streams, CREDIT_ITEMS=items, CREDIT_BYTES=size)


class StreamTestCase(StageTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.closed: list[object] = []

    def generator(self, *items: Any, then: Callable[[], object] | None = None) -> Any:
        """
        @return: a function whose generator yields these items, and notes when it is closed.
        """

        def generate() -> Iterator[Any]:
            try:
                yield from items
                if then is not None:
                    yield then()
            finally:
                self.closed.append(True)

        return generate

    def endless(self) -> Iterator[int]:
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            self.closed.append(True)

    def raising(self, error: BaseException) -> Callable[[], object]:
        def fail() -> object:
            raise error

        return fail


class ItemTests(StreamTestCase):
    def test_itemsComeInTheirOrderAndThenTheEnd(self) -> None:
        self.stage.call(1, self.generator(1, "two", [3], None))
        assert self.stage.run() == [
            ("begin", 1),
            ("STREAMING", 1),
            ("ITEMS", 1, [1, "two", [3], None]),
            ("ENDED", 1),
        ]
        assert (self.universe.hasStreams, self.closed) == (False, [True])

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
            self.universe.step()
        assert [len(batch[2]) for batch in self.batches()] == [1, 1, 1]

    def test_batchTellsHowMuchCreditItUsed(self) -> None:
        for id, then in enumerate([None, self.raising(ValueError())]):
            self.stage.call(id, self.generator("x" * 100, 3, [4], then=then))
            self.stage.run()
            ((*_, used),) = self.batches(id)
            assert used == sizeOf("x" * 100) + sizeOf(3) + sizeOf(pack([4]))


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
        assert (self.universe.hasWork, self.universe.hasStreams) == (False, True)
        self.universe.step()
        assert self.stage.taken() == []

    def test_grantsAddUp(self) -> None:
        with credit(1):
            self.stage.call(1, self.endless)
            self.stage.run()
        self.stage.grant(1, 2, 0)
        self.stage.grant(1, 3, 0)
        assert self.universe.hasWork
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
            if stage.universe.hasStreams:
                assert len(sizes) == items or sum(sizes) >= size
        assert stage.items(1) == values[: len(stage.items(1))]


class FailureTests(StreamTestCase):
    def test_itemsBeforeTheFailureComeFirst(self) -> None:
        self.stage.call(1, self.generator(1, 2, then=self.raising(ValueError("after two"))))
        *events, failure = self.stage.run()
        assert events == [("begin", 1), ("STREAMING", 1), ("ITEMS", 1, [1, 2])]
        assert self.raised(failure, 1, ValueError) == "after two"
        assert (self.universe.hasStreams, self.closed) == (False, [True])

    def test_whateverIsRaisedFailsThatStreamOnly(self) -> None:
        for error in (SystemExit(3), KeyboardInterrupt(), MemoryError()):
            self.stage.call(1, self.generator(1, then=self.raising(error)))
            self.stage.call(2, self.generator(5))
            events = self.stage.run()
            failure = self.only(event for event in events if event[0] == "RAISED")
            self.raised(failure, 1, type(error))
            assert [event for event in events if event[1] == 2][-2:] == [
                ("ITEMS", 2, [5]),
                ("ENDED", 2),
            ]

    def test_itemThatCannotBePickledFailsTheStreamAfterTheEarlierOnes(self) -> None:
        self.stage.call(1, self.generator(1, [2], Unpicklable(), 4))
        *events, failure = self.stage.run()
        assert events[-1] == ("ITEMS", 1, [1, [2]])
        text = self.raised(failure, 1, ResultNotPicklable)
        assert "could not pickle an item, of type " in text
        assert text.endswith("Unpicklable: TypeError: not me")
        assert (self.universe.hasStreams, self.closed) == (False, [True])

    def test_itemThatExitsWhileItIsPickledFailsTheStreamOnly(self) -> None:
        class Exits:
            def __reduce__(self) -> Any:
                raise SystemExit

        self.stage.call(1, self.generator(1, Exits()))
        self.stage.call(2, self.generator(5))
        events = self.stage.run()
        failure = self.only(event for event in events if event[0] == "RAISED")
        assert "Exits: SystemExit" in self.raised(failure, 1, ResultNotPicklable)
        assert ("ITEMS", 1, [1]) in events
        assert events[-1] == ("ENDED", 2)

    def test_whatClosingAddsToAFailureIsShownAndDoesNoHarm(self) -> None:
        def generate() -> Iterator[Any]:
            try:
                yield Unpicklable()
            finally:
                raise KeyError("while closing")

        hook = mock.Mock()
        self.patch(sys, "excepthook", hook)
        self.stage.call(1, generate)
        self.raised(self.stage.run()[-1], 1, ResultNotPicklable)
        ((kind, error, traceback),) = [call.args for call in hook.call_args_list]
        assert (kind, error.args, traceback) == (KeyError, ("while closing",), error.__traceback__)


class ClosingTests(StreamTestCase):
    def start(self, function: Any, id: int = 1) -> None:
        """
        Begin a stream, and take what it sends at first.
        """
        self.stage.call(id, function)
        self.universe.step()
        self.stage.taken()

    def test_cancelledStreamIsClosedAndEnded(self) -> None:
        self.start(self.endless)
        self.stage.cancel(1)
        assert self.universe.hasWork
        assert (self.stage.run(), self.closed) == ([("ENDED", 1)], [True])

    def test_streamWithoutCreditIsClosedToo(self) -> None:
        with credit(2):
            self.start(self.endless)
        self.stage.cancel(1)
        assert (self.stage.run(), self.closed) == ([("ENDED", 1)], [True])

    def test_cancellingTwiceEndsItOnce(self) -> None:
        self.start(self.endless)
        self.stage.cancel(1)
        self.stage.cancel(1)
        assert self.stage.run() == [("ENDED", 1)]
        self.stage.cancel(1)
        assert self.stage.run() == []

    def test_exceptionWhileClosingFailsTheStream(self) -> None:
        def generate() -> Iterator[int]:
            try:
                while True:
                    yield 1
            finally:
                raise KeyError("while closing")

        self.start(generate)
        self.stage.cancel(1)
        assert self.raised(self.only(self.stage.run()), 1, KeyError) == "'while closing'"
        assert not self.universe.hasStreams

    def test_generatorThatRefusesToCloseFails(self) -> None:
        def generate() -> Iterator[int]:
            try:
                yield 1
                yield 2
            except GeneratorExit:
                yield 3

        with credit(1):
            self.start(generate)
        self.stage.cancel(1)
        self.raised(self.only(self.stage.run()), 1, RuntimeError)

    def test_exitWhileClosingFailsThatStreamOnly(self) -> None:
        def generate() -> Iterator[int]:
            try:
                while True:
                    yield 1
            finally:
                sys.exit()

        self.start(generate, 1)
        self.start(self.endless, 2)
        self.stage.quit()
        self.universe.close()
        (one, two) = [event for event in self.stage.taken() if event[0] != "ITEMS"]
        self.raised(one, 1, SystemExit)
        assert two == ("ENDED", 2)

    def test_iteratorThatHasNothingToCloseJustEnds(self) -> None:
        with credit(1):
            self.start(lambda: iter([1, 2, 3]))
        self.stage.cancel(1)
        assert self.stage.run() == [("ENDED", 1)]

    def test_fileIsClosed(self) -> None:
        file = io.StringIO("1\n2\n3\n")
        with credit(1):
            self.start(lambda: file)
        self.stage.cancel(1)
        self.stage.run()
        assert file.closed

    def test_generatorThatRunsIsInterruptedAndEnds(self) -> None:
        def interrupted() -> None:
            self.stage.cancel(1)
            self.universe.interrupt()
            raise AssertionError

        self.stage.call(1, self.generator(1, 2, then=interrupted))
        assert self.stage.run()[2:] == [("ITEMS", 1, [1, 2]), ("ENDED", 1)]
        assert (self.closed, self.universe.hasStreams) == ([True], False)

    def test_generatorThatIsNotInterruptedSendsItsBatchAndEnds(self) -> None:
        with credit(3):
            self.stage.call(1, self.generator(1, then=lambda: self.stage.cancel(1)))
            assert self.stage.run()[2:] == [("ITEMS", 1, [1, None]), ("ENDED", 1)]

    def test_interruptionThatTheGeneratorSurvivesEndsItAllTheSame(self) -> None:
        def survive() -> str:
            self.stage.cancel(1)
            try:
                self.universe.interrupt()
            except TaskInterrupted:
                return "survived"
            return "was not interrupted"

        with credit(2):
            self.stage.call(1, self.generator(1, then=survive))
            assert self.stage.run()[2:] == [("ITEMS", 1, [1, "survived"]), ("ENDED", 1)]

    def test_cancellationOfAStreamThatIsOverInterruptsNoCallOfItsNumber(self) -> None:
        self.stage.call(1, self.generator(1, then=lambda: self.stage.cancel(1)))
        self.stage.run()
        self.stage.call(1, lambda: self.universe.interrupt())
        assert self.stage.run()[-1] == ("RETURNED", 1, None)

    def test_cancellingOneStreamInterruptsNoOther(self) -> None:
        def generate() -> Iterator[str]:
            self.stage.cancel(1)
            self.universe.interrupt()
            yield "went on"

        self.start(self.endless)
        self.stage.call(2, generate)
        self.stage.run()
        assert (self.stage.items(2), self.closed) == (["went on"], [True])


class SharingTests(StreamTestCase):
    def test_callsRunWhileStreamsProduce(self) -> None:
        self.stage.call(1, self.endless)
        self.universe.step()
        for id in range(2, 5):
            self.stage.call(id, lambda: "between")
        for id in range(2, 5):
            self.stage.taken()
            self.universe.step()
            kinds = [event[:2] for event in self.stage.events]
            assert kinds == [("begin", id), ("RETURNED", id), ("ITEMS", 1)]

    def test_streamsTakeTurns(self) -> None:
        for id in range(3):
            self.stage.call(id, lambda: iter(range(2 * streams.BATCH_ITEMS)))
        self.universe.step()
        self.universe.step()
        self.stage.taken()
        self.universe.step()
        kinds = [event[:2] for event in self.stage.taken()]
        assert kinds == [("begin", 2), ("STREAMING", 2), ("ENDED", 0), ("ITEMS", 1), ("ITEMS", 2)]

    def test_runningIsTheStreamWhoseCodeRunsAtThisMoment(self) -> None:
        def generate() -> Iterator[Any]:
            yield self.universe.running

        self.stage.call(7, generate)
        self.stage.run()
        assert (self.stage.items(7), self.universe.running) == ([7], None)
