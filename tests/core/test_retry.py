from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.application.internet import backoffPolicy

from asynqueue import Retry, backoff


class Fixed(Random):
    """
    Chance that is none.
    """

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def random(self) -> float:
        return self.value


def test_delaysGrowByTheFactorUpToTheLongest() -> None:
    delay = backoff(1.0, 10.0, 2.0, jitter=0.0)
    assert [delay(n) for n in range(1, 7)] == [1, 2, 4, 8, 10, 10]


def test_firstDelayIsThatOfOneFailure() -> None:
    delay = backoff(3.0, jitter=0.0)
    assert delay(0) == delay(1) == 3.0


@given(
    st.floats(0, 100),
    st.floats(100, 1000),
    st.floats(1, 1e6),
    st.floats(0, 1),
    st.integers(1, 10**6),
    st.floats(0, 1, exclude_max=True),
)
def test_jitterTakesAPartOfTheDelayAwayAndNoMore(
    initial: float, longest: float, factor: float, jitter: float, failures: int, chance: float
) -> None:
    whole = backoff(initial, longest, factor, 0.0)(failures)
    delay = backoff(initial, longest, factor, jitter, Fixed(chance))(failures)
    assert 0 <= whole <= longest
    assert whole * (1 - jitter) - 1e-9 <= delay <= whole
    assert delay == pytest.approx(whole * (1 - jitter * chance))


def test_whatFailedTogetherIsNotTriedAgainTogether() -> None:
    delay = backoff()
    assert len({delay(1) for _ in range(20)}) > 1


@pytest.mark.parametrize(
    ("keywords", "name"),
    [
        ({"initial": -1.0}, "initial"),
        ({"initial": 61.0}, "longest"),
        ({"initial": math.nan}, "initial"),
        ({"factor": 0.9}, "factor"),
        ({"factor": math.nan}, "factor"),
        ({"jitter": 1.1}, "jitter"),
        ({"jitter": -0.1}, "jitter"),
    ],
)
def test_numberOutOfItsRangeIsRefusedByName(keywords: dict[str, float], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        backoff(**keywords)  # type: ignore[arg-type]


# The policy


def test_thereAreSoManyAttemptsInAll() -> None:
    retry = Retry(3, delays=float)
    error = ValueError()
    assert [retry.delayAfter(error, attempts) for attempts in (1, 2, 3, 4)] == [1, 2, None, None]


def test_onlyTheNamedErrorsAreTriedAgain() -> None:
    retry = Retry(5, delays=float, errors=(OSError, KeyError))
    assert retry.delayAfter(ConnectionError(), 1) == 1
    assert retry.delayAfter(KeyError(), 1) == 1
    assert retry.delayAfter(ValueError(), 1) is None


def test_whatIsNoOrdinaryExceptionIsNotTriedAgain() -> None:
    assert Retry(5).delayAfter(SystemExit(), 1) is None


def test_theQuestionIsAskedOnlyWhereItDecides() -> None:
    asked: list[BaseException] = []

    def isWorthwhile(error: BaseException) -> bool:
        asked.append(error)
        return error.args == ("busy",)

    retry = Retry(3, delays=float, errors=(OSError,), isWorthwhile=isWorthwhile)
    busy, gone = OSError("busy"), OSError("gone")
    assert retry.delayAfter(busy, 1) == 1
    assert retry.delayAfter(gone, 1) is None
    assert retry.delayAfter(busy, 3) is None
    assert retry.delayAfter(ValueError("busy"), 1) is None
    assert asked == [busy, gone]


def test_backoffPolicyOfTwistedWillDo() -> None:
    retry = Retry(10, delays=backoffPolicy(1.0, 60.0, jitter=lambda: 0.25))
    assert retry.delayAfter(OSError(), 2) == pytest.approx(1.5**2 + 0.25)


@pytest.mark.parametrize("attempts", [0, -1, 1.5, "3", None, True])
def test_attemptsThatAreNoPositiveIntegerAreRefused(attempts: Any) -> None:
    with pytest.raises(ValueError, match="attempts must be a positive integer, not"):
        Retry(attempts)
