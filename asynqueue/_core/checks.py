"""
Checks of the numbers that callers give.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import TypeVar

_Count = TypeVar("_Count", bound=int | None)
_Seconds = TypeVar("_Seconds", bound=float | None)


def checkCount(name: str, value: _Count, least: int = 1, optional: bool = False) -> _Count:
    """
    Refuse a value that is not an integer, or that is too small.

    A C{bool} is refused, and so is a C{float} such as 2.0.

    @param name: the name of the value, for the error's text.
    @param value: the value.
    @param least: the smallest integer that is allowed.
    @param optional: whether C{None} is allowed.
    @return: the value, unchanged.
    @raise ValueError: if the value is refused.
    """
    if optional and value is None:
        return value
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        kind = "a positive integer" if least == 1 else f"an integer of {least} or more"
        alternative = " or None" if optional else ""
        raise ValueError(f"{name} must be {kind}{alternative}, not {value!r}")
    return value


def checkSeconds(
    name: str,
    value: _Seconds,
    positive: bool = False,
    finite: bool = False,
    optional: bool = False,
) -> _Seconds:
    """
    Refuse a value that is not a length of time.

    @param name: the name of the value, for the error's text.
    @param value: the length of time, in seconds.
    @param positive: whether 0 is refused.
    @param finite: whether infinity is refused.
    @param optional: whether C{None} is allowed.
    @return: the value, unchanged.
    @raise TypeError: if the value is not a number.
    @raise ValueError: if it is negative, not a number (NaN), or otherwise refused.
    """
    if optional and value is None:
        return value
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    if not (value > 0 if positive else value >= 0):
        least = "a positive number of" if positive else "0 or more"
        raise ValueError(f"{name} must be {least} seconds, not {value!r}")
    if finite and value == math.inf:
        raise ValueError(f"{name} must be a finite number of seconds, not {value!r}")
    return value
