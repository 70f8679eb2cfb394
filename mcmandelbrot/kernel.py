"""
The number of iterations of C{z*z + c} after which each point of a picture escapes.

Points are iterated side by side, one in each of L{LANES} lanes, so that the compiler turns a step
of all lanes into a few vector instructions. Every L{STEPS} steps the kernel looks whether any
lane is done. A point that was found to have escaped goes back over its last L{STEPS} steps
alone, for the exact count, and the next point takes its lane.

All arithmetic is that of IEEE 754 in the order that is written here, so that each count is the same
on every machine, in every lane, and in plain Python. Contracting products and sums into one
instruction was measured to gain 3 to 13 %, which is not worth that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from mcmandelbrot.view import Grid

F = TypeVar("F", bound=Callable[..., Any])

#: The number of points iterated side by side: two vectors of 512 bits or four of 256. Fewer
#: do not hide the latency of the arithmetic, and LLVM then uses no vectors at all. Measured with
#: AVX2 or AVX-512, 8 lanes run at 0.3 to 0.65 of the speed of 16, and with SSE2 as fast as 16.
LANES = 16

#: The number of steps between two checks of the lanes.
STEPS = 8

#: The square of the radius beyond which a point has escaped. The orbit of every point that leaves
#: radius 2 passes it. The larger it is, the smoother the colours: see L{smoothed}.
BAILOUT = 2.0**16

#: The count of a point that did not escape.
INSIDE = -1.0

_LOG_BAILOUT = math.log(BAILOUT)

# An age that is higher than any lane's.
_NEVER = 1 << 62


def compiled(function: F) -> F:
    """
    Make a function that numba compiles when it is first called. The result is kept on disk.

    Numba keeps it in C{__pycache__} next to this file or, if that cannot be written, in the user's
    cache folder. C{NUMBA_CACHE_DIR} names another folder.
    """
    # Some releases of numba have types and some have none. Imported this way, all have none.
    return cast("F", import_module("numba").njit(cache=True, nogil=True)(function))


@compiled
def isSurelyInside(a: float, b: float) -> bool:
    """
    Tell whether a point lies in the main cardioid or in the disc of period 2, which have formulas.
    """
    p = a - 0.25
    bb = b * b
    q = p * p + bb
    # With <=, points far outside would pass, because both sides are infinite there.
    return q * (q + p) < 0.25 * bb or (a + 1.0) * (a + 1.0) + bb <= 0.0625


@compiled
def smoothed(age: int, norm: float) -> float:
    """
    Compute a count without steps: a whole number if the orbit only just escapes, less if it goes
    farther.

    The formula is C{age + 1 - log2(log|z| / log(bailout radius))}. It holds because each further
    iteration squares C{|z|}, so its error shrinks with the square of the bailout radius.

    @param age: the first iteration after which the point is outside.
    @param norm: the square of C{|z|} after that iteration.
    """
    return max(0.0, age + 1.0 - math.log2(math.log(norm) / _LOG_BAILOUT))


@compiled
def follow(x: float, y: float, a: float, b: float, age: int, iterations: int) -> float:
    """
    Iterate one point until it escapes or has reached its last iteration.

    @param x: the real part of the orbit after C{age} iterations.
    @param y: the imaginary part.
    @return: the smoothed count, or L{INSIDE}.
    """
    norm = x * x + y * y
    while norm <= BAILOUT:
        if age >= iterations:
            return INSIDE
        x, y = x * x - y * y + a, (x + x) * y + b
        norm = x * x + y * y
        age += 1
    return smoothed(age, norm)


@compiled
def locate(row: int, column: int, firstRow: int, grid: Grid) -> tuple[float, float]:
    """
    Compute the point in the middle of a pixel.
    """
    left, top, columnStep, rowStep = grid
    return left + (column + 0.5) * columnStep, top - (firstRow + row + 0.5) * rowStep


@compiled
def findOpen(
    row: int, column: int, firstRow: int, grid: Grid, counts: NDArray[np.float32]
) -> tuple[int, int]:
    """
    Find the first pixel, from the given one onwards, that has to be iterated. Mark the pixels
    before it as inside. If the returned row is beyond the last one, there is no such pixel.
    """
    rows, columns = counts.shape
    while row < rows:
        while column < columns:
            a, b = locate(row, column, firstRow, grid)
            if not isSurelyInside(a, b):
                return row, column
            counts[row, column] = INSIDE
            column += 1
        column = 0
        row += 1
    return row, column


# This is one loop over arrays that nothing else refers to. Parts of it that were functions of their
# own ran at a third of the speed, because each call counts references, and LLVM cannot see that the
# arrays do not overlap.
@compiled
def countIterations(
    grid: Grid, firstRow: int, iterations: int, counts: NDArray[np.float32]
) -> None:
    """
    Compute the smoothed iteration counts of consecutive rows of a picture.

    If a lane's orbit comes back to exactly the place where it was at an earlier check, it is
    periodic, and its point is inside. From there the orbit can only repeat itself, so no point that
    would escape is taken to be inside. The remembered place is a new one each time the orbit's age
    doubles.

    @param grid: the grid of the picture's pixels.
    @param firstRow: the row of the picture that C{counts} begins with.
    @param iterations: a point that has not escaped after so many iterations is inside.
    @param counts: an array with the rows, which this fills with counts or L{INSIDE}.
    """
    rows = len(counts)
    # At first each lane has an orbit that has escaped and belongs to no pixel.
    x, y = np.full(LANES, np.inf), np.zeros(LANES)
    a, b = np.zeros(LANES), np.zeros(LANES)
    xBefore, yBefore = np.zeros(LANES), np.zeros(LANES)
    xPlace, yPlace = np.zeros(LANES), np.zeros(LANES)
    age, due = np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
    rowOf, columnOf = np.full(LANES, -1), np.zeros(LANES, np.int64)
    row, column = findOpen(0, 0, firstRow, grid, counts)
    busy = LANES
    while busy > 0:
        news = False
        for k in range(LANES):
            u, v, p, q = x[k], y[k], a[k], b[k]
            xBefore[k], yBefore[k] = u, v
            for _ in range(STEPS):
                u, v = u * u - v * v + p, (u + u) * v + q
            x[k], y[k] = u, v
            age[k] += STEPS
            # Far outside, an orbit becomes infinite and then NaN, which has to count as outside.
            news |= (
                (not (u * u + v * v <= BAILOUT))
                | ((u == xPlace[k]) & (v == yPlace[k]))
                | (age[k] >= due[k])
            )
        if not news:
            continue
        for k in range(LANES):
            escaped = not (x[k] * x[k] + y[k] * y[k] <= BAILOUT)
            settled = escaped or (x[k] == xPlace[k] and y[k] == yPlace[k])
            if not settled and age[k] < due[k]:
                continue
            if not settled and age[k] < iterations:
                xPlace[k], yPlace[k] = x[k], y[k]
                due[k] = min(iterations, 2 * age[k])
                continue
            if rowOf[k] >= 0:
                counts[rowOf[k], columnOf[k]] = (
                    follow(xBefore[k], yBefore[k], a[k], b[k], age[k] - STEPS, iterations)
                    if escaped
                    else INSIDE
                )
            if row < rows:
                a[k], b[k] = locate(row, column, firstRow, grid)
                x[k], y[k] = xPlace[k], yPlace[k] = a[k], b[k]
                age[k], due[k], rowOf[k], columnOf[k] = 1, STEPS, row, column
                row, column = findOpen(row, column + 1, firstRow, grid, counts)
            else:
                # No pixel is left for this lane. It stays at 0, and no check finds anything new.
                x[k], y[k], a[k], b[k], xPlace[k] = 0.0, 0.0, 0.0, 0.0, np.inf
                age[k], due[k] = -_NEVER, _NEVER
                busy -= 1


def compileKernel() -> None:
    """
    Compile the kernel, or load it if any process has compiled it before. If that fails, the files
    with the compiled code may be damaged: remove them, and compile the kernel again.
    """
    try:
        _callKernel()
    except Exception:
        # Numba reads them with pickle, which can raise anything for damaged bytes.
        removeCache()
        _callKernel()


def removeCache() -> None:
    """
    Remove the files with this module's compiled code.
    """
    stats = cast("Any", countIterations).stats
    for path in Path(stats.cache_path).glob("kernel.*.nb[ci]"):
        path.unlink(missing_ok=True)


def _callKernel() -> None:
    countIterations(Grid(-1.0, 1.0, 1.0, 1.0), 0, 1, np.empty((2, 2), np.float32))
