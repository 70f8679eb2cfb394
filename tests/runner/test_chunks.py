from __future__ import annotations

import sys
from collections.abc import Callable
from pickle import dumps, loads
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from asynqueue._runner.chunks import describing, raisedIn, runChunk
from asynqueue._runner.codecs import DIRECT, PICKLED, PICKLED_BY_VALUE
from asynqueue._runner.packing import unpack
from asynqueue.errors import RemoteError
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
        assert isinstance(failures.pop(2), ZeroDivisionError)
        assert failures == {}

    @given(st.lists(st.integers(0, 2)), st.booleans())
    def test_goingOnEachFailureHasItsPlace(self, items: list[int], isApart: bool) -> None:
        calls = [(item,) for item in items] if isApart else items
        results, _, failures = runChunk(reciprocal, calls, isApart, True)
        assert results == [1 / item if item else None for item in items]
        assert [*failures] == [place for place, item in enumerate(items) if not item]
        for error in failures.values():
            assert isinstance(error, ZeroDivisionError)

    def test_goingOnARequestToEndEndsIt(self) -> None:
        results, _, failures = runChunk(exitAt3, [1, 3, 2], False, True)
        assert results == [1]
        assert isinstance(failures[1], SystemExit)

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
            assert failures[2] is error

    def test_failureThatIsAnItemIsNoFailure(self) -> None:
        error = ValueError()
        assert runChunk(lambda item: item, [error])[::2] == ([error], {})

    def test_outcomeTravelsWhole(self) -> None:
        run = describing(runChunk, PICKLED.describe)
        results, seconds, failures = unpack(journey(PICKLED.pack(run(exitAt3, [1, 2, 3]))))
        error = raisedIn(failures[2])
        assert (results, type(error), error.args) == ([1, 2], SystemExit, ("three",))
        assert "sys.exit" in str(error.__cause__)
        assert seconds < 60

    def test_eachCodecPacksItsExceptions(self) -> None:
        class Local(Exception):
            pass

        def fail(number: int) -> None:
            raise Local(number)

        for codec, kind in ((PICKLED, RemoteError), (PICKLED_BY_VALUE, Local), (DIRECT, Local)):
            _, _, failures = describing(runChunk, codec.describe)(fail, [5])
            error: Any = raisedIn(failures[0])
            assert type(error).__name__ == kind.__name__
            assert "5" in str(error)

    def test_otherFunctionsStayWhatTheyAre(self) -> None:
        assert describing(reciprocal, PICKLED.describe) is reciprocal

    def test_isPickledByItsName(self) -> None:
        copy: Any = loads(dumps(runChunk))
        assert copy is runChunk
