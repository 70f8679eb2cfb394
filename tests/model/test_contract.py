"""
The check of a history finds what is wrong with it.
"""

from __future__ import annotations

import pytest

from tests.model.contract import (
    BEGAN,
    BLAMED,
    FIRED,
    GIVEN_BACK,
    IDLE,
    ITEMS,
    OVER,
    RETURNED,
    SENT,
    SPARED,
    STREAM_ENDED,
    YIELDED,
    Contract,
    Fact,
    checkHistory,
)

GOOD = [
    Fact(SENT, "one", 1),
    Fact(SENT, "one", 2),
    Fact(SENT, "one", 3),
    Fact(BEGAN, "one", 1),
    Fact(YIELDED, "one", 1),
    Fact(ITEMS, "one", 1, 2),
    Fact(STREAM_ENDED, "one", 1),
    Fact(GIVEN_BACK, "one", 3),
    Fact(BEGAN, "one", 2),
    Fact(SENT, "one", 3),
    Fact(BLAMED, "one", 2),
    Fact(SPARED, "one", 3),
    Fact(OVER, "one"),
    Fact(SENT, "two", 3),
    Fact(BEGAN, "two", 3),
    Fact(RETURNED, "two", 3),
    Fact(IDLE, "two"),
    Fact(FIRED, None, 3),
]


def test_aHistoryThatKeepsTheContractPasses() -> None:
    contract = checkHistory(GOOD, Contract())
    assert contract.fates == {1: YIELDED, 2: BLAMED, 3: RETURNED}


@pytest.mark.parametrize("missing", [0, 3, 6, 7, 8, 10, 11, 13, 14, 15])
def test_aHistoryThatLacksAFactIsFoundOut(missing: int) -> None:
    with pytest.raises(AssertionError):
        checkHistory([*GOOD[:missing], *GOOD[missing + 1 :]], Contract())


@pytest.mark.parametrize("twice", range(len(GOOD)))
def test_aHistoryInWhichAFactComesTwiceIsFoundOut(twice: int) -> None:
    if GOOD[twice].kind in (IDLE, ITEMS, OVER):
        # These may.
        checkHistory([*GOOD[: twice + 1], *GOOD[twice:]], Contract())
        return
    with pytest.raises(AssertionError):
        checkHistory([*GOOD[: twice + 1], *GOOD[twice:]], Contract())
