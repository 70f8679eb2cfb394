"""
The palette: black inside, and colours that follow the counts without jumps.
"""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mcmandelbrot.kernel import INSIDE
from mcmandelbrot.palette import colorize, findPlaces, makeTable


def test_insideIsBlackAndNothingElseIs() -> None:
    counts = np.array([[INSIDE, 0, 1e-6, 5, 2001]], np.float32)
    colors = colorize(counts, 2000)
    assert colors.shape == (1, 5, 3)
    assert colors.dtype == np.uint8
    assert colors[0, 0].tolist() == [0, 0, 0]
    assert makeTable(2000)[1:].any(axis=1).all()


@given(st.lists(st.floats(0, 2**30, width=32), min_size=2))
def test_greaterCountsHaveNoEarlierPlaces(counts: list[float]) -> None:
    places = findPlaces(np.sort(np.array(counts, np.float32)))
    assert (places >= 1).all()
    assert (np.diff(places) >= 0).all()


@given(st.integers(1, 10**9))
def test_tableHasAPlaceForEveryCount(iterations: int) -> None:
    table = makeTable(iterations)
    # A smoothed count exceeds the count by up to 1.
    highest = findPlaces(np.array([iterations + 1], np.float32))[0]
    assert highest == len(table) - 1


def test_coloursOfSmallCountsHaveNoJumps() -> None:
    colors = colorize((np.arange(51200) / 512).astype(np.float32), 100).astype(int)
    assert abs(np.diff(colors, axis=0)).max() <= 3


def test_wholeSetIsSeenFromNightToDay() -> None:
    # The counts of the first picture's corner, of its surroundings, and of the set's edge.
    corner, near, edge = colorize(np.array([4, 12, 40], np.float32), 2000).astype(int)
    assert corner.sum() < 200
    assert near[2] > near[0] + 40
    assert edge.sum() > 400
