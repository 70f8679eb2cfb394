"""
The kernel: exact counts, whichever lane a point was in.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mcmandelbrot import kernel
from mcmandelbrot.kernel import (
    BAILOUT,
    INSIDE,
    LANES,
    STEPS,
    compileKernel,
    countIterations,
    follow,
    isSurelyInside,
    smoothed,
)
from mcmandelbrot.view import Grid
from tests.mcmandelbrot.references import countPlainly, gridAt, pointsOf

# Centres near the set's edge, where counts are of all sizes, and some elsewhere.
centres = st.one_of(
    st.sampled_from(
        [
            -0.7453 + 0.1127j,
            -0.743643887037151 + 0.131825904205330j,
            0.2865 + 0.0122j,
            -1.7497 + 0j,
            -0.16 + 1.0405j,
            -1.25 + 0j,
            0.25 + 0j,
            -0.75 + 0j,
            -2 + 0j,
        ]
    ),
    st.complex_numbers(max_magnitude=2.5),
)
radii = st.floats(-12, 0.5).map(lambda exponent: float(10**exponent))


def count(grid: Grid, rows: int, columns: int, iterations: int) -> NDArray[np.float32]:
    """
    Run the kernel over the first rows of a grid.
    """
    counts = np.full((rows, columns), np.nan, np.float32)
    countIterations(grid, 0, iterations, counts)
    return counts


@pytest.mark.parametrize(
    "c",
    [0, -1, -2, 0.25, 1j, -1j, -0.125 + 0.75j, -1.3125, -1.75, 0.25 + 0.5j, -0.75],
)
def test_pointsOfTheSetAreInside(c: complex) -> None:
    assert count(gridAt(complex(c)), 1, 1, 5000)[0, 0] == INSIDE


@pytest.mark.parametrize(
    ("c", "age"),
    [(0.5, 8), (1, 5), (1 + 1j, 5), (2, 4), (-2.5, 5), (16, 2), (15, 3), (256, 2), (257, 1)],
)
def test_pointsOutsideEscapeAfterAsManyIterationsAsByHand(c: complex, age: int) -> None:
    grid = gridAt(complex(c))
    assert age - 0.001 <= count(grid, 1, 1, age)[0, 0] <= age + 1
    assert age == 1 or count(grid, 1, 1, age - 1)[0, 0] == INSIDE


def test_pointsFarOutsideEscapeAtOnce() -> None:
    grid = Grid(1e200, 1e200, 1e199, 1e199)
    assert (count(grid, 2, 20, 50) == 0).all()
    assert (count(Grid(1e308, 0.0, 1e300, 1.0), 1, 1, 50) == 0).all()


@settings(max_examples=60)
@given(
    centre=centres,
    radius=radii,
    rows=st.integers(1, 5),
    columns=st.integers(1, 2 * LANES + 3),
    iterations=st.integers(1, 600),
)
def test_countsAreThoseOfPlainPython(
    centre: complex, radius: float, rows: int, columns: int, iterations: int
) -> None:
    step = 2 * radius / columns
    grid = gridAt(centre - complex(radius, -radius), step)
    counts = count(grid, rows, columns, iterations)
    for row, points in enumerate(pointsOf(grid, 0, rows, columns)):
        for column, c in enumerate(points):
            expected = countPlainly(c, iterations)
            if expected is None:
                assert counts[row, column] == INSIDE, c
            else:
                assert counts[row, column] == pytest.approx(expected[1], rel=2e-7), c


@settings(max_examples=60)
@given(centre=centres, radius=radii, data=st.data())
def test_lastIterationCountsAndNoLaterOne(
    centre: complex, radius: float, data: st.DataObject
) -> None:
    grid = gridAt(centre - complex(radius, -radius), radius / 10)
    points = pointsOf(grid, 0, 1, 20)[0]
    ages = [escape[0] if (escape := countPlainly(c, 400)) else math.inf for c in points]
    limit = data.draw(st.sampled_from([age for age in ages if age < math.inf] or [400]))
    for iterations in {limit, max(1, int(limit) - 1)}:
        isInside = count(grid, 1, 20, int(iterations))[0] == INSIDE
        assert isInside.tolist() == [age > iterations for age in ages]


@settings(max_examples=40)
@given(centre=centres, radius=radii, cut=st.integers(1, 11))
def test_countsDoNotDependOnHowThePictureIsCut(centre: complex, radius: float, cut: int) -> None:
    grid = gridAt(centre - complex(radius, -radius), radius / 20)
    whole = count(grid, 12, 40, 1000)
    parts = [np.empty((rows, 40), np.float32) for rows in (cut, 12 - cut)]
    countIterations(grid, 0, 1000, parts[0])
    countIterations(grid, cut, 1000, parts[1])
    assert np.array_equal(np.concatenate(parts), whole)


@settings(max_examples=200)
@given(c=st.complex_numbers(max_magnitude=2))
@example(c=0.25 + 0j)
@example(c=-0.75 + 0j)
@example(c=-1.25 + 0j)
@example(c=-0.125 + 0.649519052838329j)
def test_whatIsTakenToBeInsideWithoutLookingDoesNotEscape(c: complex) -> None:
    if isSurelyInside(c.real, c.imag):
        assert countPlainly(c, 2000) is None


@pytest.mark.parametrize("c", [0j, 0.24 + 0j, -0.7 + 0j, -1 + 0.2j, -1.2 + 0j, 0.3 + 0.4j])
def test_cardioidAndDiscAreRecognized(c: complex) -> None:
    assert isSurelyInside(c.real, c.imag)


@pytest.mark.parametrize("c", [0.26 + 0j, -0.75 + 0.01j, -1.26 + 0j, 1j, -0.125 + 0.75j])
def test_otherPointsAreNotTakenToBeInsideWithoutLooking(c: complex) -> None:
    assert not isSurelyInside(c.real, c.imag)


@settings(max_examples=100)
@given(c=st.complex_numbers(max_magnitude=2), age=st.integers(1, STEPS))
def test_followingAnOrbitGivesTheSameCountFromAnywhereOnIt(c: complex, age: int) -> None:
    x, y = c.real, c.imag
    for _ in range(age - 1):
        if x * x + y * y > BAILOUT:
            return
        x, y = x * x - y * y + c.real, (x + x) * y + c.imag
    expected = countPlainly(c, 300)
    followed = follow(x, y, c.real, c.imag, age, 300)
    assert followed == pytest.approx(INSIDE if expected is None else expected[1], rel=1e-12)


@given(age=st.integers(1, 10**9), excess=st.floats(1.0000001, 2.0))
def test_smoothedCountsHaveNoSteps(age: int, excess: float) -> None:
    # With c small beside it, |z| is squared by an iteration.
    now = smoothed(age, BAILOUT**excess)
    assert now == pytest.approx(smoothed(age + 1, BAILOUT ** (2 * excess)), rel=1e-9, abs=1e-6)
    assert age <= now <= age + 1


# A kernel that is compiled in a moment.
STAND_IN = """
from mcmandelbrot.kernel import compiled

@compiled
def add(first, second):
    return first + second

@compiled
def countIterations(grid, firstRow, iterations, counts):
    counts[:] = add(firstRow, iterations)
"""


def compileIn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """
    Compile a kernel that a folder has the source of, as a new process would, or load what was
    compiled before.

    @return: the folder of the compiled code.
    """
    spec = spec_from_file_location("kernel", folder / "kernel.py")
    assert spec is not None and spec.loader is not None
    standIn: Any = module_from_spec(spec)
    spec.loader.exec_module(standIn)
    monkeypatch.setattr(kernel, "countIterations", standIn.countIterations)
    compileKernel()
    return Path(standIn.countIterations.stats.cache_path)


@pytest.mark.parametrize(("ending", "left"), [("nbi", b""), ("nbi", b"text"), ("nbc", b"\x80\x04")])
def test_damagedCacheIsRebuilt(
    ending: str, left: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kernel.py").write_text(STAND_IN)
    folder = compileIn(tmp_path, monkeypatch)
    damaged = list(folder.glob(f"kernel.*.{ending}"))
    assert damaged
    for path in damaged:
        path.write_bytes(left)
    compileIn(tmp_path, monkeypatch)
    rebuilt = list(folder.glob(f"kernel.countIterations-*.{ending}"))
    assert rebuilt and all(path.stat().st_size > 100 for path in rebuilt)


DAMAGING = """
import sys
from pathlib import Path
from mcmandelbrot import kernel

folder = Path(kernel.countIterations.stats.cache_path)
folder.mkdir(parents=True, exist_ok=True)
for name in sys.argv[1:]:
    (folder / name).write_text("text")
kernel.compileKernel()
print(folder)
"""


@pytest.mark.slow
def test_damagedCacheOfTheWholeKernelIsRebuilt(tmp_path: Path) -> None:
    compileKernel()
    known: Any = countIterations
    names = [path.name for path in Path(known.stats.cache_path).glob("kernel.*.nb[ci]")]
    assert names
    done = subprocess.run(
        [sys.executable, "-c", DAMAGING, *names],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=50,
        check=True,
    )
    rebuilt = list(Path(done.stdout.strip()).glob("kernel.countIterations-*.nb[ci]"))
    assert len(rebuilt) > 1 and all(path.stat().st_size > 100 for path in rebuilt)
