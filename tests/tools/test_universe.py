"""
AsynQueue 0.9's loop of a child process.
"""

from __future__ import annotations

import pickle
from multiprocessing import Pipe
from threading import Thread
from typing import Any

import pytest

from asynqueue.process import ProcessUniverse
from asynqueue.testing import far


@pytest.fixture
def universe() -> ProcessUniverse:
    return ProcessUniverse(callStats=True)


def test_theRunnerTellsWhatCameOfACall(universe: ProcessUniverse) -> None:
    assert universe.runner((far.add, (1, 2), {})) == (b"r", 3)
    status, text = universe.runner((far.refuse, (), {}))
    assert status == b"e"
    assert "ValueError" in text
    status, iterator = universe.runner((far.numbers, (2,), {}))
    assert (status, list(iterator)) == (b"i", [0, 1])


def test_rawGivesAnIteratorAsItIs(universe: ProcessUniverse) -> None:
    assert universe.runner((far.numbers, (2,), {"raw": True}))[0] == b"r"
    assert ProcessUniverse(raw=True).runner((far.numbers, (2,), {}))[0] == b"r"
    assert ProcessUniverse(raw=True).runner((far.numbers, (2,), {"raw": False}))[0] == b"i"


def test_nextAdvancesAnIterator(universe: ProcessUniverse) -> None:
    universe.iterators["x"] = iter("ab")
    answers = [universe.next("x") for _ in range(4)]
    assert answers == [("a", True), ("b", True), (None, False), (None, False)]
    assert universe.next("unknown") == (None, False)
    assert not universe.iterators


def test_anIteratorThatRaisesIsOver(universe: ProcessUniverse) -> None:
    universe.iterators["x"] = far.numbersUntilRefused(0)
    with pytest.raises(ValueError, match="no"):
        universe.next("x")
    assert universe.next("x") == (None, False)


def test_theLoopAnswersUntilNoneComes(universe: ProcessUniverse) -> None:
    here, there = Pipe()
    thread = Thread(target=universe.loop, args=(there,))
    thread.start()

    def ask(order: Any) -> Any:
        here.send(order)
        assert here.poll(10)
        return here.recv()

    assert ask((far.add, (1, 2), {})) == (b"r", 3)
    status, ID = ask((far.numbers, (2,), {}))
    assert status == b"i"
    assert [ask(ID) for _ in range(3)] == [(0, True), (1, True), (None, False)]
    status, ID = ask((far.numbersUntilRefused, (0,), {}))
    assert ask(ID) == (None, False)
    times, isValid = ask("")
    assert isValid
    assert len(times) == 3
    here.send(None)
    thread.join(10)
    assert not thread.is_alive()
    assert there.closed
    here.close()


def test_itRunsNoReactor() -> None:
    ProcessUniverse(useReactor=False)
    with pytest.raises(ValueError, match="ProcessWorker"):
        ProcessUniverse(raw=True, useReactor=True)


def test_itTravelsToAProcessOfItsOwn(universe: ProcessUniverse) -> None:
    pickled = pickle.dumps(universe.loop)
    assert b"itertools" not in pickled
    there = pickle.loads(pickled).__self__
    assert there.runner((far.add, (1, 2), {})) == (b"r", 3)
