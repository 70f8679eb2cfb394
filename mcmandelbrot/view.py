"""
The view of a picture: a rectangle of the complex plane, its grid of pixels, and how far to iterate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from mcmandelbrot.errors import BadRequest

#: The longest side of a picture in pixels. PNG would allow 2**31 - 1, but a worker holds whole rows
#: of a picture, at about 20 bytes a pixel.
LONGEST_SIDE = 1_000_000

#: How often a point may be iterated at most.
MOST_ITERATIONS = 1_000_000_000

#: Half a side of the smallest rectangle. Neighbouring float64 numbers near the set lie up to
#: 2.2e-16 apart, so that a thousand pixels of a smaller one would show blocks.
SMALLEST_RADIUS = 1e-13


class Grid(NamedTuple):
    """
    Where a picture's pixels lie. The middle of the pixel in a column and a row, both counted from
    0, is at C{left + (column + 0.5) * columnStep} and C{top - (row + 0.5) * rowStep}.
    """

    left: float
    top: float
    columnStep: float
    rowStep: float


@dataclass(frozen=True, slots=True)
class View:
    """
    The view that a picture shows. The values are checked: a wrong one raises L{BadRequest}.

    @ivar width: pixels in a row, from 1 to L{LONGEST_SIDE}.
    @ivar real: the real part of the point in the middle.
    @ivar imaginary: the imaginary part of the point in the middle.
    @ivar realRadius: how far the picture goes to either side of the middle.
    @ivar imaginaryRadius: how far it goes up and down from there.
    @ivar iterations: a point that has not escaped after so many counts as inside.
    """

    width: int
    real: float
    imaginary: float
    realRadius: float
    imaginaryRadius: float
    iterations: int

    def __post_init__(self) -> None:
        if not 1 <= self.width <= LONGEST_SIDE:
            raise BadRequest(f"Nx must be from 1 to {LONGEST_SIDE:,} pixels, not {self.width:,}")
        if not 1 <= self.iterations <= MOST_ITERATIONS:
            raise BadRequest(f"-N must be from 1 to {MOST_ITERATIONS:,}, not {self.iterations:,}")
        for name, value in ("cr", self.real), ("ci", self.imaginary):
            if not math.isfinite(value):
                raise BadRequest(f"{name} must be a finite number, not {value}")
        self._checkRadius("crPM", self.realRadius, self.real)
        self._checkRadius("ciPM", self.imaginaryRadius, self.imaginary)
        if self._idealHeight() >= LONGEST_SIDE + 0.5:
            raise BadRequest(
                f"the picture would be more than {LONGEST_SIDE:,} pixels high: "
                "ciPM is too large for this Nx and crPM"
            )

    @staticmethod
    def _checkRadius(name: str, radius: float, middle: float) -> None:
        if not (math.isfinite(radius) and radius > 0):
            raise BadRequest(f"{name} must be a finite number above 0, not {radius}")
        if radius < SMALLEST_RADIUS:
            raise BadRequest(
                f"{name} must be at least {SMALLEST_RADIUS}, not {radius}: "
                "64-bit floating point cannot tell points apart in a smaller picture"
            )
        # The range is twice the radius, and its end is the radius away from the middle.
        if not math.isfinite(abs(middle) + 2 * radius):
            raise BadRequest(f"{name} must be smaller, since {radius} exceeds floating point")

    def _idealHeight(self) -> float:
        return self.width * (self.imaginaryRadius / self.realRadius)

    @property
    def height(self) -> int:
        """
        How many rows I have: such that pixels are as square as can be, and at least 1.
        """
        return max(1, round(self._idealHeight()))

    @property
    def grid(self) -> Grid:
        """
        Where my pixels lie.
        """
        return Grid(
            left=self.real - self.realRadius,
            top=self.imaginary + self.imaginaryRadius,
            columnStep=2 * self.realRadius / self.width,
            rowStep=2 * self.imaginaryRadius / self.height,
        )
