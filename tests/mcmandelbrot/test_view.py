"""
The view: which pictures can be asked for, and where their pixels lie.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcmandelbrot.cli import parseArguments
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

SMALL: dict[str, Any] = {"realRadius": 1e-13, "imaginaryRadius": 1e-13}


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
        ({**SMALL, "width": 3000}, "crPM must be at least 3.3e-13 for 3,000 pixels"),
        ({**SMALL, "real": 0.0, "imaginary": 1e4}, "ciPM must be at least"),
        ({"real": 1e17}, "crPM must be at least"),
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


@given(
    width=st.integers(1, 3000),
    real=st.floats(-2, 2),
    imaginary=st.floats(-2, 2),
    radius=st.floats(-13, -10).map(lambda exponent: float(10**exponent)),
)
@example(3000, -0.75, 0.1, 1e-13)
@example(1802, -0.75, 0.1, 1e-13)
@example(1700, -0.75, 0.0, 1e-13)
def test_columnsAndRowsHaveDistinctCoordinatesOrThereIsNoPicture(
    width: int, real: float, imaginary: float, radius: float
) -> None:
    try:
        view = View(width, real, imaginary, radius, radius, 10)
    except BadRequest:
        # It is refused only where neighbours would be about as near as floating point goes.
        assert 2 * radius / width < 2 * math.ulp(2.0)
        return
    grid = view.grid
    columns = {grid.left + (column + 0.5) * grid.columnStep for column in range(width)}
    rows = {grid.top - (row + 0.5) * grid.rowStep for row in range(view.height)}
    assert (len(columns), len(rows)) == (width, view.height)


def test_commandOfAPictureMakesItAgain() -> None:
    view = View(30, -0.743643887037151, 0.1, 1 / 3, 2.5e-7, 300)
    command = view.texts["Comment"].split()
    assert command[0] == "mcm"
    assert parseArguments(command[1:]).view == view
    assert (view.texts["cr"], view.texts["N"]) == ("-0.743643887037151", "300")
