from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynqueue._core.options import OPTION_NAMES, USUAL
from asynqueue.tasks import TaskOptions


def test_theNamesAreThoseThatACallTakesForItself() -> None:
    promised = "niceness series doNext doLast timeout consumer returnFailure raw"
    assert set(promised.split()) == OPTION_NAMES


def test_usualIsNobodysWish() -> None:
    assert TaskOptions() == USUAL
    assert (USUAL.niceness, USUAL.series, USUAL.doNext, USUAL.doLast) == (0, None, False, False)
    assert (USUAL.timeout, USUAL.consumer, USUAL.raw, USUAL.returnFailure) == (
        None,
        None,
        None,
        True,
    )


@given(st.integers(-20, 20))
def test_everyNicenessFromMinus20To20IsTaken(niceness: int) -> None:
    assert TaskOptions(niceness=niceness).niceness == niceness


@pytest.mark.parametrize("niceness", [-21, 21, 10**9, 0.0, 1.5, "0", None, True, math.nan])
def test_anyOtherNicenessIsRefusedByName(niceness: Any) -> None:
    with pytest.raises(ValueError, match=r"integer from -20 to 20, not ") as caught:
        TaskOptions(niceness=niceness)
    assert repr(niceness) in str(caught.value)


def test_doNextAndDoLastExcludeEachOther() -> None:
    with pytest.raises(ValueError, match="doNext and doLast exclude each other"):
        TaskOptions(doNext=True, doLast=True)


@pytest.mark.parametrize("timeout", [0, -1, -0.001, math.nan, -math.inf])
def test_timeoutThatIsNotPositiveIsRefused(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout must be a positive number of seconds, not"):
        TaskOptions(timeout=timeout)


@pytest.mark.parametrize("timeout", [None, 1, 0.001, math.inf])
def test_positiveTimeoutOrNoneIsTaken(timeout: float | None) -> None:
    assert TaskOptions(timeout=timeout).timeout == timeout


def test_seriesThatCannotBeHashedIsRefused() -> None:
    series: Any = ["a"]
    with pytest.raises(TypeError, match="unhashable"):
        TaskOptions(series=series)


def test_changedIsACopyAndIsCheckedToo() -> None:
    nice = USUAL.changed(niceness=5, series="a")
    assert (nice.niceness, nice.series, USUAL.niceness) == (5, "a", 0)
    assert nice.changed(niceness=0, series=None) == USUAL
    with pytest.raises(ValueError, match="niceness"):
        nice.changed(niceness=21)
    with pytest.raises(TypeError, match="nicness"):
        nice.changed(nicness=2)


def test_optionsCannotBeChangedInPlace() -> None:
    with pytest.raises(FrozenInstanceError):
        USUAL.niceness = 5  # type: ignore[misc]
