"""
How long a function's calls take, judged by those that were measured.
"""

from __future__ import annotations

from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final

UNKNOWN: Final = 3600.0
"""Seconds that are expected of a function never measured: long."""


class RunTimes:
    """
    An estimate of the run time, in seconds, of each function, rather too high than too low.

    A run that takes longer than the estimate raises it at once; one that is shorter lowers it by a
    tenth of the difference. So one slow run among quick ones is remembered for some dozens of runs.

    Functions are told apart by their code, so that no closure or instance is kept alive; other
    callables are never estimated. The estimates that were made first are forgotten when there are
    more than C{limit}.

    @ivar limit: how many functions to remember.
    """

    __slots__ = ("_seconds", "limit")

    def __init__(self, limit: int = 256) -> None:
        self.limit = limit
        self._seconds: dict[Any, float] = {}

    def note(self, function: Callable[..., Any], seconds: float) -> None:
        """
        A call of C{function} took this many seconds.
        """
        key = _keyOf(function)
        if key is None:
            return
        known = self._seconds.get(key)
        if known is None:
            if len(self._seconds) >= self.limit:
                del self._seconds[next(iter(self._seconds))]
            self._seconds[key] = seconds
        elif seconds >= known:
            self._seconds[key] = seconds
        else:
            self._seconds[key] = known + (seconds - known) * 0.1

    def expect(self, function: Callable[..., Any]) -> float:
        """
        @return: the estimate in seconds; L{UNKNOWN} if there is none.
        """
        return self._seconds.get(_keyOf(function), UNKNOWN)


def isModuleBuiltin(function: Any) -> bool:
    """
    @return: whether a callable is a built-in function of a module, rather than a method.
    """
    return type(function) is BuiltinFunctionType and isinstance(function.__self__, ModuleType)


def _keyOf(function: Any) -> Any:
    kind = type(function)
    if kind is FunctionType:
        return function.__code__
    if kind is MethodType:
        return getattr(function.__func__, "__code__", None)
    if isModuleBuiltin(function):
        return function
    return None
