from __future__ import annotations

import sys
from collections.abc import Callable
from pickle import dumps, loads
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from asynqueue._runner.chunks import runChunk
from asynqueue._runner.exceptions import rebuild
from asynqueue._runner.packing import STANDARD, unpack
from tests.runner.travel import journey


def reciprocal(number: float) -> float:
    return 1 / number


def exitAt3(number: int) -> int:
    if number == 3:
        sys.exit("three")
    return number


class ChunkTests(SynchronousTestCase):
    @given(st.lists(st.integers()))
    def test_isTheFunctionOfEachItemInOrder(self, items: list[int]) -> None:
        results, seconds, failures = runChunk(str, items)
        assert (results, failures) == (list(map(str, items)), {})
        assert seconds >= 0

    def test_resultsBeforeTheFirstFailureAreKeptAndNoneComesAfterIt(self) -> None:
        called = []

        def divide(number: float) -> float:
            called.append(number)
            return 1 / number

        results, _, failures = runChunk(divide, [1, 2, 0, 4])
        assert (results, called) == ([1.0, 0.5], [1, 2, 0])
        assert isinstance(rebuild(failures.pop(2)), ZeroDivisionError)
        assert failures == {}

    @given(st.lists(st.integers(0, 2)), st.booleans())
    def test_goingOnEachFailureHasItsPlace(self, items: list[int], isApart: bool) -> None:
        calls = [(item,) for item in items] if isApart else items
        results, _, failures = runChunk(reciprocal, calls, isApart, True)
        assert results == [1 / item if item else None for item in items]
        assert [*failures] == [place for place, item in enumerate(items) if not item]
        for described in failures.values():
            assert isinstance(rebuild(described), ZeroDivisionError)

    def test_goingOnARequestToEndEndsIt(self) -> None:
        results, _, failures = runChunk(exitAt3, [1, 3, 2], False, True)
        assert results == [1]
        assert isinstance(rebuild(failures[1]), SystemExit)

    def test_whateverIsRaisedTheResultsBeforeItAreKept(self) -> None:
        def raising(error: BaseException) -> Callable[[int], int]:
            def function(number: int) -> int:
                if number == 2:
                    raise error
                return number

            return function

        for error in (SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(4)):
            results, _, failures = runChunk(raising(error), [0, 1, 2, 3])
            assert (results, [*failures]) == ([0, 1], [2])
            assert type(rebuild(failures[2])) is type(error)

    def test_failureThatIsAnItemIsNoFailure(self) -> None:
        error = ValueError()
        assert runChunk(lambda item: item, [error])[::2] == ([error], {})

    def test_outcomeTravelsWhole(self) -> None:
        results, seconds, failures = unpack(journey(STANDARD.pack(runChunk(exitAt3, [1, 2, 3]))))
        error = rebuild(failures[2])
        assert (results, type(error), error.args) == ([1, 2], SystemExit, ("three",))
        assert "sys.exit" in str(error.__cause__)
        assert seconds < 60

    def test_isPickledByItsName(self) -> None:
        copy: Any = loads(dumps(runChunk))
        assert copy is runChunk
