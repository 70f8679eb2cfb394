"""
How long a function's calls take, estimated from measured ones.
"""

from __future__ import annotations

from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final

UNKNOWN: Final = 3600.0
"""The estimate in seconds for a function that was never measured: long."""


class RunTimes:
    """
    An estimate of the run time, in seconds, of each function, rather too high than too low.

    A run that takes longer than the estimate raises it at once. A shorter run lowers it by a tenth
    of the difference. So one slow run among quick ones is remembered for some dozens of runs.

    Functions are told apart by their code, so that no closure or instance is kept alive. Other
    callables are never estimated. When there are more than C{limit} functions, the estimates that
    were made first are forgotten.

    @ivar limit: how many functions to remember.
    @ivar estimates: the estimate of each function that is known, by its code.
    """

    __slots__ = ("estimates", "limit")

    def __init__(self, limit: int = 256) -> None:
        self.limit = limit
        self.estimates: dict[Any, float] = {}

    def note(self, function: Callable[..., Any], seconds: float) -> None:
        """
        Note that a call of C{function} took this many seconds.
        """
        estimates = self.estimates
        # Most callables are functions, which need no further call to be told apart.
        key = function.__code__ if type(function) is FunctionType else keyOf(function)
        known = estimates.get(key)
        if known is None:
            if key is None:
                return
            if len(estimates) >= self.limit:
                del estimates[next(iter(estimates))]
            estimates[key] = seconds
        elif seconds >= known:
            estimates[key] = seconds
        else:
            estimates[key] = known + (seconds - known) * 0.1

    def expect(self, function: Callable[..., Any]) -> float:
        """
        @return: the estimate in seconds; L{UNKNOWN} if there is none.
        """
        key = function.__code__ if type(function) is FunctionType else keyOf(function)
        return self.estimates.get(key, UNKNOWN)


def keyOf(function: Any) -> Any:
    """
    @return: what tells a callable apart from others without keeping a closure or an instance
        alive; C{None} for one that is never estimated.
    """
    kind = type(function)
    if kind is FunctionType:
        return function.__code__
    if kind is MethodType:
        return getattr(function.__func__, "__code__", None)
    if isModuleBuiltin(function):
        return function
    return None


def isModuleBuiltin(function: Any) -> bool:
    """
    @return: whether a callable is a built-in function of a module, rather than a method.
    """
    return type(function) is BuiltinFunctionType and isinstance(function.__self__, ModuleType)
