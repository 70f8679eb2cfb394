from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynqueue.tools.ordered import ReorderBuffer


@given(st.permutations(range(12)), st.data())
def test_takenInTheOrderAnnouncedHoweverTheyArrive(order: list[int], data: st.DataObject) -> None:
    turns = ReorderBuffer()
    announced = 0
    taken: list[str] = []
    for number in order:
        while announced <= number or (announced < 12 and data.draw(st.booleans())):
            assert turns.announce() == announced
            announced += 1
        turns.arrive(number, f"thing {number}")
        while turns.isReady and data.draw(st.booleans()):
            taken.append(turns.take())
        assert len(turns) == announced - len(taken)
    while turns.isReady:
        taken.append(turns.take())
    assert taken == [f"thing {number}" for number in range(12)]
    assert len(turns) == 0


def test_nothingIsTakenBeforeItsTurn() -> None:
    turns = ReorderBuffer()
    turns.announce()
    turns.announce()
    turns.arrive(1, "second")
    assert not turns.isReady
    with pytest.raises(LookupError):
        turns.take()


@pytest.mark.parametrize("number", [-1, 0, 1, 2])
def test_arrivesOnlyOnceAndWhereAnnounced(number: int) -> None:
    turns = ReorderBuffer()
    for expected in (0, 1):
        turns.announce()
        turns.arrive(expected, None)
    turns.take()
    with pytest.raises(ValueError):
        turns.arrive(number, None)
