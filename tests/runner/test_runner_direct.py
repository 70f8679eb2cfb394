"""
A runner that shares its memory with the near side.
"""

from __future__ import annotations

import traceback
import weakref
from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import succeed

from asynqueue._runner.codecs import DIRECT
from asynqueue._runner.messages import CREDIT_BYTES, CREDIT_ITEMS, ITEMS
from asynqueue.errors import ResultNotPicklable
from tests.runner.stage import Stage, StageTestCase, Unpicklable


class Sized:
    """
    Something that says how large it is.
    """

    def __init__(self, size: int) -> None:
        self._size = size

    def __sizeof__(self) -> int:
        return self._size


class SizeUnknown:
    """
    Something that cannot even say that.
    """

    def __sizeof__(self) -> int:
        raise OSError("not connected")


class DirectCase(StageTestCase):
    def setUp(self) -> None:
        self.stage = Stage(codec=DIRECT)
        self.runner = self.stage.runner


class CallTests(DirectCase):
    def test_argumentsAndResultsAreTheVeryObjects(self) -> None:
        first, second = Unpicklable(), [Unpicklable()]
        self.stage.call(1, lambda one, two: (one, two), first, two=second)
        _, (_, _, result) = self.stage.run()
        assert result[0] is first
        assert result[1] is second

    def test_aFunctionOfAnyKindIsCalled(self) -> None:
        self.stage.call(1, lambda: "local")
        assert self.stage.run()[1] == ("RETURNED", 1, "local")

    def test_anExceptionIsTheVeryOneWithItsOwnTraceback(self) -> None:
        error = ValueError("mine")

        def refuse() -> None:
            raise error

        self.stage.call(1, refuse)
        _, (_, _, raised) = self.stage.run()
        assert raised is error
        names = [entry.name for entry in traceback.extract_tb(error.__traceback__)]
        assert names == ["refuse"]
        assert error.__cause__ is None

    def test_aCallThatFailsBeforeItsFirstLineHasNoTraceback(self) -> None:
        self.stage.call(1, lambda: None, 1)
        assert "takes 0 positional" in self.raised(self.stage.run()[1], 1, TypeError)
        self.stage.call(2, len, 1)
        assert self.stage.run()[1][2].__traceback__ is None

    def test_aDeferredIsRefusedAndSaysWhatToDo(self) -> None:
        self.stage.call(1, succeed, 1)
        assert "useReactor=True" in self.raised(self.stage.run()[1], 1, ResultNotPicklable)

    def test_nothingOfACallIsKeptWithoutCollectingGarbage(self) -> None:
        alive: weakref.WeakSet[Any] = weakref.WeakSet()

        def make(argument: Any) -> Any:
            result = Sized(1)
            alive.update((argument, result))
            return result

        self.stage.call(1, make, Sized(1))
        self.stage.run()
        self.stage.messages.clear()
        assert len(alive) == 0


class StreamTests(DirectCase):
    def test_itemsAreTheVeryObjects(self) -> None:
        items = [Unpicklable() for _ in range(5)]
        self.stage.call(1, lambda: iter(items))
        self.stage.run()
        assert all(came is item for came, item in zip(self.stage.items(1), items, strict=True))

    def test_tuplesDoNotBreakBatches(self) -> None:
        self.stage.call(1, lambda: ((number, [number]) for number in range(100)))
        events = self.stage.run()
        batches = [event for event in events if event[0] == "ITEMS"]
        assert len(batches) == 1
        assert self.stage.items(1) == [(number, [number]) for number in range(100)]

    def test_anItemsFailureComesAfterTheItemsWithItsOwnTraceback(self) -> None:
        error = ValueError("no more")

        def some() -> Iterator[Any]:
            yield []
            raise error

        self.stage.call(1, some)
        *_, items, failure = self.stage.run()
        assert items == ("ITEMS", 1, [[]])
        assert failure[2] is error
        assert traceback.extract_tb(error.__traceback__)[-1].name == "some"

    def test_creditInItemsHoldsThemBack(self) -> None:
        taken: list[int] = []

        def some() -> Iterator[Any]:
            for number in range(CREDIT_ITEMS + 10):
                taken.append(number)
                yield [number]

        self.stage.call(1, some)
        self.stage.run()
        assert len(taken) == CREDIT_ITEMS
        self.stage.grant(1, 3, CREDIT_BYTES)
        self.stage.run()
        assert len(taken) == CREDIT_ITEMS + 3

    def test_creditInBytesHoldsLargeItemsBack(self) -> None:
        size = CREDIT_BYTES // 4
        self.stage.call(1, lambda: (Sized(size) for _ in range(50)))
        self.stage.run()
        assert len(self.stage.items(1)) in (4, 5)
        used = sum(message[3] for message in self.stage.messages if message[0] == ITEMS)
        assert used >= CREDIT_BYTES

    def test_anItemThatCannotSayItsSizeIsAnItemAllTheSame(self) -> None:
        self.stage.call(1, lambda: iter([SizeUnknown(), SizeUnknown()]))
        assert self.stage.run()[-1] == ("ENDED", 1)
        assert len(self.stage.items(1)) == 2

    def test_aDeferredAmongTheItemsIsRefused(self) -> None:
        self.stage.call(1, lambda: iter([[], succeed(1)]))
        *_, items, failure = self.stage.run()
        assert items == ("ITEMS", 1, [[]])
        assert "an item" in self.raised(failure, 1, ResultNotPicklable)
