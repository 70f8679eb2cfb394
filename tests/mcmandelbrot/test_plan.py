"""
The plan: every row once, in order, in stripes that follow what the rows cost.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcmandelbrot.plan import (
    ALIGNED,
    FEWEST_ITERATIONS,
    FEWEST_PIXELS,
    GROWTH,
    SHARE,
    TARGET,
    StripePlan,
)
from mcmandelbrot.view import View


def makeView(width: int, height: int, iterations: int = 100) -> View:
    return View(width, 0.0, 0.0, 1.0, height / width, iterations)


@given(
    width=st.integers(1, 3000),
    height=st.integers(1, 3000),
    iterations=st.integers(1, 10**6),
    processes=st.integers(1, 64),
    costs=st.lists(st.floats(0, 1), max_size=50),
)
def test_stripesCoverThePictureOnceAndInOrder(
    width: int, height: int, iterations: int, processes: int, costs: list[float]
) -> None:
    view = makeView(width, height, iterations)
    plan = StripePlan(view, processes)
    assert 1 <= plan.processes <= processes
    row = 0
    for stripe in plan:
        assert stripe.view is view
        assert stripe.firstRow == row
        assert stripe.rows >= 1
        row += stripe.rows
        if costs:
            plan.learn(stripe.rows, costs.pop())
    assert row == view.height
    assert list(plan) == []


@pytest.mark.parametrize("secondsPerRow", [1e-5, 1e-4, 1e-3, 0.1])
def test_stripesBecomeWorthTheTarget(secondsPerRow: float) -> None:
    plan = StripePlan(makeView(1000, 100_000), 2)
    for _ in range(10):
        rows = next(plan).rows
        plan.learn(rows, rows * secondsPerRow)
    expected = max(1, round(TARGET / secondsPerRow))
    # Long stripes end where a band of 16 rows does.
    assert next(plan).rows == pytest.approx(expected, abs=1 if expected < ALIGNED * 16 else 15)


def test_stripesGrowOnlyBySteps() -> None:
    plan = StripePlan(makeView(1000, 100_000), 2)
    first = next(plan).rows
    plan.learn(first, 1e-9)
    assert next(plan).rows == GROWTH * first
    plan.learn(1, 0.0)
    assert next(plan).rows == GROWTH


def test_firstStripeIsSmall() -> None:
    assert next(StripePlan(makeView(1000, 1000), 2)).rows == FEWEST_PIXELS // 1000
    # So that it is soon done even where every point is inside and takes all iterations.
    assert next(StripePlan(makeView(100, 100, 10**9), 2)).rows == 1
    assert next(StripePlan(makeView(10, 10, FEWEST_ITERATIONS // 20), 2)).rows == 2


def test_stripesShrinkTowardsTheEnd() -> None:
    plan = StripePlan(makeView(4000, 400), 4)
    rows = [next(plan).rows]
    plan.learn(100, 1e-9)
    rows += [stripe.rows for stripe in plan]
    share = (400 - rows[0]) // (SHARE * 4)
    assert max(rows[1:]) == rows[1] == share - share % 4
    assert rows[-1] == min(rows)
    assert rows[1:-1] == sorted(rows[1:-1], reverse=True)


def test_noMoreProcessesThanStripes() -> None:
    assert StripePlan(makeView(10, 10), 8).processes == 1
    assert StripePlan(makeView(10, 10, 10**9), 8).processes == 8
    assert StripePlan(makeView(100_000, 3), 8).processes == 3
    assert StripePlan(makeView(1000, 1000), 8).processes == 8
