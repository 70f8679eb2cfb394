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

#: The largest number of iterations of a point.
MOST_ITERATIONS = 1_000_000_000

#: Half a side of the smallest rectangle. Neighbouring float64 numbers near the set lie up to
#: 2.2e-16 apart, so a thousand pixels of a smaller rectangle would show blocks. L{View} checks how
#: many columns and rows a rectangle can have where it is.
SMALLEST_RADIUS = 1e-13


# Steps of so many times the distance of neighbouring numbers lead to different numbers, however
# their sums are rounded.
_CERTAIN = 4


class Grid(NamedTuple):
    """
    The positions of a picture's pixels. The middle of the pixel in a column and a row, both counted
    from 0, is at C{left + (column + 0.5) * columnStep} and C{top - (row + 0.5) * rowStep}.
    """

    left: float
    top: float
    columnStep: float
    rowStep: float


@dataclass(frozen=True, slots=True)
class View:
    """
    The view that a picture shows. The values are checked: a wrong one raises L{BadRequest}, and so
    does a picture of which two columns or two rows would have the same coordinate.

    @ivar width: pixels in a row, from 1 to L{LONGEST_SIDE}.
    @ivar real: the real part of the point in the middle.
    @ivar imaginary: the imaginary part of the point in the middle.
    @ivar realRadius: the distance from the middle to the left and right edges.
    @ivar imaginaryRadius: the distance from the middle to the upper and lower edges.
    @ivar iterations: a point that has not escaped after so many iterations counts as inside.
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
        grid = self.grid
        self._checkDetail("crPM", self.width, grid.left, grid.columnStep)
        self._checkDetail("ciPM", self.height, grid.top, -grid.rowStep)

    @staticmethod
    def _checkDetail(name: str, count: int, start: float, step: float) -> None:
        spacing = math.ulp(max(abs(start), abs(start + count * step)))
        if abs(step) >= _CERTAIN * spacing:
            return
        isDistinct = abs(step) >= spacing / 2 and all(
            start + (number - 0.5) * step != start + (number + 0.5) * step
            for number in range(1, count)
        )
        if not isDistinct:
            raise BadRequest(
                f"{name} must be at least {count * spacing:.2g} for {count:,} pixels here: "
                "64-bit floating point cannot tell points apart in a smaller picture"
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
        # The grid adds up to twice the radius to a number near the middle.
        if not math.isfinite(abs(middle) + 2 * radius):
            raise BadRequest(f"{name} must be smaller, because {radius} exceeds floating point")

    def _idealHeight(self) -> float:
        return self.width * (self.imaginaryRadius / self.realRadius)

    @property
    def height(self) -> int:
        """
        The number of rows, at least 1. It makes the pixels as square as possible.
        """
        return max(1, round(self._idealHeight()))

    @property
    def texts(self) -> dict[str, str]:
        """
        The texts of the picture's file, by keyword. The numbers are exact, so they make the same
        picture again.
        """
        numbers = {
            "cr": self.real,
            "ci": self.imaginary,
            "crPM": self.realRadius,
            "ciPM": self.imaginaryRadius,
        }
        texts = {name: repr(float(number)) for name, number in numbers.items()}
        command = f"mcm {self.width} {' '.join(texts.values())} -N {self.iterations}"
        return {
            "Title": "The Mandelbrot set",
            "Software": "mcm",
            "Comment": command,
            **texts,
            "N": str(self.iterations),
        }

    @property
    def grid(self) -> Grid:
        """
        The positions of the pixels.
        """
        return Grid(
            left=self.real - self.realRadius,
            top=self.imaginary + self.imaginaryRadius,
            columnStep=2 * self.realRadius / self.width,
            rowStep=2 * self.imaginaryRadius / self.height,
        )
