"""
The search itself.
"""

from __future__ import annotations

import pytest

from tests.model.explorer import Counterexample, Explored, explore


class Jugs:
    """
    Two jugs, of three and five litres, which are filled, emptied and poured from one to the other.
    """

    def __init__(self, forbidden: int | None = None) -> None:
        self.small = self.large = 0
        self.forbidden = forbidden

    def actions(self) -> list[str]:
        return ["fill small", "fill large", "empty small", "empty large", "to small", "to large"]

    def do(self, action: str) -> None:
        if action == "fill small":
            self.small = 3
        elif action == "fill large":
            self.large = 5
        elif action == "empty small":
            self.small = 0
        elif action == "empty large":
            self.large = 0
        elif action == "to small":
            poured = min(self.large, 3 - self.small)
            self.small, self.large = self.small + poured, self.large - poured
        else:
            poured = min(self.small, 5 - self.large)
            self.small, self.large = self.small - poured, self.large + poured

    def check(self) -> None:
        assert self.large != self.forbidden, f"there are {self.forbidden} litres"

    def key(self) -> tuple[int, int]:
        return self.small, self.large


def test_everyStateIsVisitedOnce() -> None:
    # The states in which one of the jugs is full or empty: 2 * 4 + 2 * 6 - 4.
    assert explore(Jugs) == Explored(states=16, steps=16 * 6, depth=7)


def test_theShortestCounterexampleIsToldStepByStep() -> None:
    with pytest.raises(Counterexample) as caught:
        explore(lambda: Jugs(forbidden=4))
    assert len(caught.value.actions) == 6
    text = str(caught.value)
    assert text.startswith("AssertionError: there are 4 litres")
    assert text.endswith("  6. to small")


def test_aFirstStateThatIsWrongIsFoundToo() -> None:
    with pytest.raises(Counterexample) as caught:
        explore(lambda: Jugs(forbidden=0))
    assert caught.value.actions == []


def test_moreStatesThanAllowedAreAFailure() -> None:
    with pytest.raises(AssertionError, match="more than 9 states"):
        explore(Jugs, most=9)


def test_aWrongEndIsFoundWithTheActionsThatLeadToIt() -> None:
    def onward(jugs: Jugs) -> str | None:
        if jugs.large == 5:
            return "empty large"
        assert jugs.large != 2, "two litres are left"
        return None

    with pytest.raises(Counterexample, match="two litres are left") as caught:
        explore(Jugs, onward=onward)
    assert caught.value.actions == ["fill large", "to small"]


def test_whatNeverComesToAnEndIsFound() -> None:
    def onward(jugs: Jugs) -> str | None:
        return {0: "fill small", 3: "empty small"}.get(jugs.small)

    with pytest.raises(AssertionError, match="goes on for ever"):
        explore(Jugs, onward=onward)


def test_whatComesToAnEndIsSearchedAsWithoutLooking() -> None:
    def onward(jugs: Jugs) -> str | None:
        return "empty small" if jugs.small else "empty large" if jugs.large else None

    assert explore(Jugs, onward=onward) == explore(Jugs)
