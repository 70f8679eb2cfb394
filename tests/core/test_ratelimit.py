from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynqueue.rdq import RateLimit

# Multiples of these are exact, so that the limits can be checked to the last bit.
TICK = 2.0**-10

rates = st.integers(1, 8)
pers = st.integers(1, 4096).map(lambda ticks: ticks * TICK)
bursts = st.none() | st.integers(1, 9)
numbers = st.tuples(rates, pers, bursts)
# How long to wait before each look, in ticks; None is until the next one may start.
waits = st.lists(st.none() | st.just(0) | st.integers(0, 4096), max_size=60)


def startsOf(limit: RateLimit, waits: list[int | None], now: float = 0.0) -> list[float]:
    """
    Try to start one after each wait.

    @return: when one started.
    """
    starts = []
    for wait in waits:
        now = max(now, limit.earliest()) if wait is None else now + wait * TICK
        if limit.take(now):
            starts.append(now)
    return starts


def assertWindowHolds(starts: list[float], rate: int, per: float) -> None:
    """
    Of so many in a row, the last began when the first was no longer in its window.
    """
    for first, later in zip(starts, starts[rate:], strict=False):
        assert first + per <= later


def assertBucketHolds(starts: list[float], rate: int, per: float, burst: int) -> None:
    """
    In any length of time there start no more than the burst and what is refilled in the meantime.
    """
    pace = Fraction(rate) / Fraction(per)
    for i, first in enumerate(starts):
        for j in range(i, len(starts)):
            refilled = Fraction(starts[j] - first) * pace
            assert j - i + 1 <= burst + refilled + Fraction(1, 10**9)


@given(numbers, waits)
def test_noMoreThanTheRateStartInAnyWindow(
    numbers: tuple[int, float, int | None], waits: list[int | None]
) -> None:
    rate, per, _ = numbers
    assertWindowHolds(startsOf(RateLimit(*numbers), waits), rate, per)


@given(rates, pers, st.integers(1, 9), waits)
def test_noMoreThanTheBurstStartAtOnceAndTheOthersAtTheAveragePace(
    rate: int, per: float, burst: int, waits: list[int | None]
) -> None:
    starts = startsOf(RateLimit(rate, per, burst), waits)
    assertBucketHolds(starts, rate, per, min(burst, rate))
    assert all(starts.count(time) <= min(burst, rate) for time in starts)


@given(numbers, st.lists(st.floats(0, 10), max_size=40), st.floats(0, 2e9))
def test_earliestIsExactWhateverTheTime(
    numbers: tuple[int, float, int | None], waits: list[float], now: float
) -> None:
    limit = RateLimit(*numbers)
    for wait in waits:
        now += wait
        earliest = limit.earliest()
        if earliest > now:
            assert not limit.take(now)
            assert not limit.take(math.nextafter(earliest, -math.inf))
            now = earliest
        assert limit.take(now)


@given(rates, pers, waits)
def test_whatTheWindowAllowsStarts(rate: int, per: float, waits: list[int | None]) -> None:
    limit = RateLimit(rate, per)
    starts: list[float] = []
    now = 0.0
    for wait in waits:
        now = max(now, limit.earliest()) if wait is None else now + wait * TICK
        isAllowed = sum(now - per < start for start in starts) < rate
        assert limit.take(now) is isAllowed
        if isAllowed:
            starts.append(now)


@given(numbers, st.lists(st.floats(0, 1e3), max_size=40))
def test_clockThatGoesBackAllowsNoMoreThanOneThatStands(
    numbers: tuple[int, float, int | None], times: list[float]
) -> None:
    limit, other = RateLimit(*numbers), RateLimit(*numbers)
    latest = 0.0
    for time in times:
        latest = max(latest, time)
        isAllowed = limit.take(time)
        if isAllowed:
            assert other.take(latest)


def test_burstStartsAtOnceAtAnyTime() -> None:
    for now in (0.0, 0.1, 1e9 + 0.3):
        for burst in range(1, 8):
            limit = RateLimit(7, 0.3, burst)
            assert [limit.take(now) for _ in range(9)] == [True] * burst + [False] * (9 - burst)


def test_thePaceBehindABurstDoesNotDrift() -> None:
    limit = RateLimit(3, 1.0, 1)
    times = []
    for _ in range(3000):
        times.append(max(0.0, limit.earliest()))
        assert limit.take(times[-1])
    assert times[-1] == pytest.approx(2999 / 3, abs=1e-9)


def test_burstIsNoMoreThanTheRate() -> None:
    assert RateLimit(3, 1.0, 10).burst == 3
    assert RateLimit(3).burst == 3


# Other numbers


@given(numbers, numbers, waits, waits)
def test_newNumbersHoldTogetherWithTheLatestStarts(
    old: tuple[int, float, int | None],
    new: tuple[int, float, int | None],
    before: list[int | None],
    after: list[int | None],
) -> None:
    limit = RateLimit(*old)
    early = startsOf(limit, before)
    limit = limit.changed(*new)
    rate, per, _ = new
    now = early[-1] if early else 0.0
    known = early[-old[0] :]
    late = startsOf(limit, after, now)
    assertWindowHolds([*known, *late][-len(late) - rate :], rate, per)
    assertBucketHolds(late, rate, per, limit.burst)


@given(numbers, waits)
def test_theSameNumbersChangeNothing(
    numbers: tuple[int, float, int | None], waits: list[int | None]
) -> None:
    limit = RateLimit(*numbers)
    now = 0.0
    for wait in waits:
        now += (wait or 0) * TICK
        limit.take(now)
    assert limit.changed(*numbers).earliest() == pytest.approx(limit.earliest(), abs=1e-9)


def test_narrowerLimitHoldsAtOnce() -> None:
    limit = RateLimit(10)
    assert all(limit.take(0.5) for _ in range(6))
    limit = limit.changed(2, 10.0)
    assert limit.earliest() == 10.5
    assert [limit.take(10.0), limit.take(10.5), limit.take(10.5)] == [False, True, True]


def test_wideningGivesNoTokensThatWereSpent() -> None:
    limit = RateLimit(10, 1.0, 1)
    assert limit.take(0.0)
    limit = limit.changed(10, 1.0, 5)
    assert not limit.take(0.0)
    assert limit.take(0.1)
    assert not limit.take(0.1)
    assert [limit.take(1.0) for _ in range(6)] == [True] * 5 + [False]


def test_changeOfOneThatWasNeverUsedIsANewOne() -> None:
    limit = RateLimit(1).changed(3, 2.0, 2)
    assert (limit.rate, limit.per, limit.burst) == (3, 2.0, 2)
    assert [limit.take(0.0) for _ in range(3)] == [True, True, False]


@given(numbers, waits, st.integers(0, 8192))
def test_idleOneForbidsNoMoreThanANewOne(
    numbers: tuple[int, float, int | None], waits: list[int | None], more: int
) -> None:
    limit = RateLimit(*numbers)
    assert limit.isIdle(0.0)
    starts = startsOf(limit, waits)
    now = (starts[-1] if starts else 0.0) + more * TICK
    if limit.isIdle(now):
        fresh = RateLimit(*numbers)
        # A token may be late by a rounding error.
        later = now + 1e-9
        burst = [limit.take(later) for _ in range(10)]
        assert burst == [fresh.take(later) for _ in range(10)]
    else:
        assert starts[-1] + limit.per > now


@pytest.mark.parametrize("rate", [0, -1, 1.5, "3", True, None])
def test_rateThatIsNoPositiveIntegerIsRefused(rate: Any) -> None:
    with pytest.raises(ValueError, match="rate must be a positive integer, not"):
        RateLimit(rate)


@pytest.mark.parametrize("burst", [0, -1, 1.5, "3", True])
def test_burstThatIsNoPositiveIntegerIsRefused(burst: Any) -> None:
    with pytest.raises(ValueError, match="burst must be a positive integer, not"):
        RateLimit(3, 1.0, burst)


@pytest.mark.parametrize("per", [0, -1.0, math.inf, math.nan])
def test_windowThatIsNoLengthOfTimeIsRefused(per: float) -> None:
    with pytest.raises(ValueError, match=r"per must be a (positive|finite) number of seconds, not"):
        RateLimit(3, per)


@pytest.mark.parametrize("per", ["3", None])
def test_windowThatIsNotANumberIsRefused(per: Any) -> None:
    with pytest.raises(TypeError, match="per must be a number of seconds, not"):
        RateLimit(3, per)
