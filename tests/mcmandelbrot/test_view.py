"""
The view: which pictures can be asked for, and where their pixels lie.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcmandelbrot.errors import BadRequest
from mcmandelbrot.view import LONGEST_SIDE, MOST_ITERATIONS, View

USUAL: dict[str, Any] = {
    "width": 100,
    "real": -0.5,
    "imaginary": 0.0,
    "realRadius": 1.5,
    "imaginaryRadius": 1.5,
    "iterations": 100,
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": 0}, "Nx"),
        ({"width": -3}, "Nx"),
        ({"width": LONGEST_SIDE + 1}, "Nx"),
        ({"iterations": 0}, "-N"),
        ({"iterations": MOST_ITERATIONS + 1}, "-N"),
        ({"real": math.nan}, "cr must be a finite number"),
        ({"imaginary": -math.inf}, "ci must be a finite number"),
        ({"realRadius": 0.0}, "crPM must be a finite number above 0"),
        ({"imaginaryRadius": -1.0}, "ciPM must be a finite number above 0"),
        ({"realRadius": math.inf}, "crPM must be a finite number above 0"),
        ({"imaginaryRadius": math.nan}, "ciPM must be a finite number above 0"),
        ({"realRadius": 9.9e-14}, "crPM must be at least 1e-13"),
        ({"imaginaryRadius": 9.9e-14}, "ciPM must be at least 1e-13"),
        ({"realRadius": 1e308}, "exceeds floating point"),
        ({"real": 1.7e308, "realRadius": 1e307}, "exceeds floating point"),
        ({"realRadius": 1e-5, "imaginaryRadius": 1.0}, "pixels high"),
        ({"realRadius": 1e-13, "imaginaryRadius": 1e300}, "pixels high"),
    ],
)
def test_impossibleViewIsRefusedInOneLine(change: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequest) as caught:
        View(**{**USUAL, **change})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("width", "realRadius", "imaginaryRadius", "height"),
    [
        (1000, 1.4, 1.2, 857),
        (100, 1.5, 1.5, 100),
        (100, 2.0, 1e-13, 1),
        (1, 1.0, 0.4, 1),
        (LONGEST_SIDE, 1.0, 1.0, LONGEST_SIDE),
    ],
)
def test_heightKeepsPixelsSquare(
    width: int, realRadius: float, imaginaryRadius: float, height: int
) -> None:
    view = View(width, 0.0, 0.0, realRadius, imaginaryRadius, 10)
    assert view.height == height


@given(
    width=st.integers(1, 5000),
    real=st.floats(-2, 2),
    imaginary=st.floats(-2, 2),
    realRadius=st.floats(0.01, 2),
    imaginaryRadius=st.floats(0.01, 2),
)
def test_gridFillsTheRectangle(
    width: int, real: float, imaginary: float, realRadius: float, imaginaryRadius: float
) -> None:
    view = View(width, real, imaginary, realRadius, imaginaryRadius, 10)
    grid = view.grid
    assert grid.left == real - realRadius
    assert grid.top == imaginary + imaginaryRadius
    assert grid.left + width * grid.columnStep == pytest.approx(real + realRadius)
    assert grid.top - view.height * grid.rowStep == pytest.approx(imaginary - imaginaryRadius)
