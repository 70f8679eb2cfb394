from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pickle import dumps
from typing import Any, ClassVar

import numpy as np

from asynqueue._runner.packing import LARGE, STANDARD
from asynqueue.errors import CallNotRebuilt
from tests.runner.stage import StageTestCase


def double(number: Any) -> Any:
    return number * 2


def fail(error: BaseException) -> None:
    raise error


class Counted:
    """
    Counts how often it is rebuilt.
    """

    count: ClassVar[int] = 0

    def __reduce__(self) -> Any:
        return Counted.make, ()

    @staticmethod
    def make() -> Counted:
        Counted.count += 1
        return Counted()

    def __call__(self) -> str:
        return "called"


class RebuildsAs:
    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.reduced = function, args

    def __reduce__(self) -> Any:
        return self.reduced

    def __call__(self) -> None: ...


def large(values: Any, factor: int) -> int:
    return int(values.sum()) * factor


class RebuildingTests(StageTestCase):
    def test_functionThatCannotBeRebuiltFailsTheCall(self) -> None:
        self.stage.call(1, dumps(double).replace(b"double", b"dubble"))
        self.stage.call(2, double, 4)
        _, event, *rest = self.stage.run()
        text = self.raised(event, 1, CallNotRebuilt)
        assert text.startswith("could not rebuild the call: AttributeError: ")
        assert "dubble" in text
        assert rest == [("begin", 2), ("RETURNED", 2, 8)]

    def test_argumentsThatCannotBeRebuiltFailTheCall(self) -> None:
        self.stage.call(1, double, RebuildsAs(fail, ValueError("no")))
        text = self.raised(self.stage.run()[-1], 1, CallNotRebuilt)
        assert text == "could not rebuild the call: ValueError: no"

    def test_whatExitsWhileItIsRebuiltFailsThatCallOnly(self) -> None:
        self.stage.call(1, STANDARD.pack(RebuildsAs(sys.exit, 3)))
        self.stage.call(2, double, RebuildsAs(sys.exit, 3))
        self.stage.call(3, double, 4)
        _, one, _, two, *rest = self.stage.run()
        for id, event in ((1, one), (2, two)):
            assert "SystemExit: 3" in self.raised(event, id, CallNotRebuilt)
        assert rest == [("begin", 3), ("RETURNED", 3, 8)]

    def test_numberThatWasNeverDefinedFailsTheCall(self) -> None:
        self.stage.call(1, 77)
        assert "77" in self.raised(self.stage.run()[-1], 1, CallNotRebuilt)

    def test_functionIsDefinedWithItsFirstCallAndNamedByItsNumberLater(self) -> None:
        self.stage.call(1, (0, STANDARD.pack(double)), 1)
        self.stage.call(2, 0, 2)
        self.stage.run()
        self.stage.call(3, 0, 3)
        self.stage.run()
        assert [message[3] for message in self.stage.messages] == [2, 4, 6]

    def test_definitionsAreKeptApart(self) -> None:
        self.stage.call(1, (0, STANDARD.pack(double)), "a")
        self.stage.call(2, (1, STANDARD.pack(len)), "a")
        self.stage.call(3, 0, "b")
        self.stage.call(4, 1, "b")
        self.stage.run()
        assert [message[3] for message in self.stage.messages] == ["aa", 1, "bb", 1]

    def test_definedFunctionIsRebuiltOnce(self) -> None:
        Counted.count = 0
        self.stage.call(1, (0, STANDARD.pack(Counted())))
        self.stage.call(2, 0)
        self.stage.call(3, 0)
        self.stage.run()
        assert [message[3] for message in self.stage.messages] == ["called"] * 3
        assert Counted.count == 1

    def test_definitionOfACallThatWasGivenBackIsKept(self) -> None:
        for giveBack in (lambda stage: stage.recall(), lambda stage: stage.cancel(1)):
            self.setUp()
            self.stage.call(1, (0, STANDARD.pack(double)), 1)
            giveBack(self.stage)
            self.stage.call(2, 0, 2)
            assert self.stage.run() == [("UNBEGUN", [1]), ("begin", 2), ("RETURNED", 2, 4)]

    def test_definitionThatCannotBeRebuiltFailsEachCallOfIt(self) -> None:
        self.stage.call(1, (0, b"garbage"))
        self.stage.call(2, 0)
        self.stage.call(3, (1, STANDARD.pack(double)), 3)
        _, one, _, two, *rest = self.stage.run()
        for id, event in ((1, one), (2, two)):
            self.raised(event, id, CallNotRebuilt)
        assert rest == [("begin", 3), ("RETURNED", 3, 6)]

    def test_functionThatCarriesALargeArrayIsNotMistakenForADefinition(self) -> None:
        function = partial(large, np.ones(LARGE, np.uint8))
        self.stage.call(1, STANDARD.pack(function), 3)
        self.stage.call(2, STANDARD.pack(function), 4)
        assert self.stage.run()[1::2] == [("RETURNED", 1, LARGE * 3), ("RETURNED", 2, LARGE * 4)]

    def test_functionWithALargePickleIsRebuilt(self) -> None:
        self.stage.call(1, STANDARD.pack(partial(len, b"x" * LARGE)))
        assert self.stage.run()[-1] == ("RETURNED", 1, LARGE)

    def test_functionWithALargePickleIsRebuiltFromItsDefinitionToo(self) -> None:
        self.stage.call(1, (0, STANDARD.pack(partial(len, b"x" * LARGE))))
        self.stage.call(2, 0)
        assert self.stage.run()[1::2] == [("RETURNED", 1, LARGE), ("RETURNED", 2, LARGE)]
