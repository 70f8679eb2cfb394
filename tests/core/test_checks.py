from __future__ import annotations

import math
from typing import Any

import pytest

from asynqueue._core.checks import checkCount, checkSeconds


def test_aCountThatIsLargeEnoughPassesUnchanged() -> None:
    assert checkCount("slots", 1) == 1
    assert checkCount("width", 0, least=0) == 0
    assert checkCount("size", None, optional=True) is None


@pytest.mark.parametrize("value", [0, -1, 2.0, True, "2", None])
def test_anyOtherCountIsRefusedByName(value: Any) -> None:
    with pytest.raises(ValueError, match=f"slots must be a positive integer, not {value!r}"):
        checkCount("slots", value)


def test_theRefusalSaysWhatWouldDo() -> None:
    with pytest.raises(ValueError, match="size must be a positive integer or None, not 0"):
        checkCount("size", 0, optional=True)
    with pytest.raises(ValueError, match="width must be an integer of 0 or more, not -1"):
        checkCount("width", -1, least=0)


@pytest.mark.parametrize("seconds", [0, 0.001, 3, math.inf])
def test_aLengthOfTimePassesUnchanged(seconds: float) -> None:
    assert checkSeconds("timeout", seconds) == seconds


@pytest.mark.parametrize("seconds", [-1, -1e-9, math.nan, -math.inf])
def test_aNegativeTimeIsRefusedByName(seconds: float) -> None:
    with pytest.raises(ValueError, match=f"timeout must be 0 or more seconds, not {seconds!r}"):
        checkSeconds("timeout", seconds)


def test_aTimeMayHaveToBePositiveOrFinite() -> None:
    assert checkSeconds("timeout", None, optional=True) is None
    with pytest.raises(ValueError, match="timeout must be a positive number of seconds, not 0"):
        checkSeconds("timeout", 0, positive=True)
    with pytest.raises(ValueError, match="per must be a finite number of seconds, not inf"):
        checkSeconds("per", math.inf, positive=True, finite=True)


@pytest.mark.parametrize("value", ["1", None, [], 1j])
def test_aTimeThatIsNotANumberIsATypeError(value: Any) -> None:
    with pytest.raises(TypeError, match="timeout must be a number of seconds, not"):
        checkSeconds("timeout", value)
