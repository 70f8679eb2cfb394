"""
Whether a call can be pickled, and which part of it is at fault if it cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pickle import PickleBuffer, Pickler, dumps
from types import FunctionType
from typing import Any, Final

from asynqueue._core.description import shortly
from asynqueue._core.task import Task, functionName
from asynqueue._runner.context import Pairs
from asynqueue._runner.exceptions import withoutFrames
from asynqueue._runner.packing import PLAIN
from asynqueue.errors import CallNotPicklable, textOf


def wholly(value: Any) -> None:
    """
    Pickle all of a value.

    @raise BaseException: whatever that raises.
    """
    dumps(value, 5)


def refusedCall(
    task: Task, error: BaseException, attempt: Callable[[Any], None] = wholly
) -> CallNotPicklable:
    """
    Make the error of a task whose function or arguments cannot be pickled.

    @param error: what pickling them has raised, as caught by the caller, or by the caller's caller.
    @param attempt: pickles a value, to see whether it is at fault.
    """
    refusal = _blame(task, error, attempt)
    refusal.__cause__ = withoutFrames(error)
    return refusal


def refusedContext(
    task: Task, error: BaseException, attempt: Callable[[Any], None] = wholly
) -> CallNotPicklable:
    """
    Make the error of a task whose context variables cannot be pickled. See L{refusedCall}.
    """
    refusal = CallNotPicklable(
        f"{_blamed(task.context or (), attempt)}, which is declared to travel with the call of "
        f"{functionName(task.function)}, cannot be pickled: {textOf(error)}"
    )
    refusal.__cause__ = withoutFrames(error)
    return refusal


def _blame(task: Task, error: BaseException, attempt: Callable[[Any], None]) -> CallNotPicklable:
    """
    Find what of a call cannot be pickled.
    """
    name = functionName(task.function)
    parts: list[tuple[str, Any]] = [(f"the function {name}", task.function)]
    parts += [
        (f"argument {place} of {name}, {shortly(value)},", value)
        for place, value in enumerate(task.args, 1)
    ]
    parts += [
        (f"argument {key!r} of {name}, {shortly(value)},", value)
        for key, value in task.kwargs.items()
    ]
    for what, value in parts:
        try:
            attempt(value)
        except BaseException as own:
            return CallNotPicklable(f"{what} cannot be pickled: {textOf(own)}")
    return CallNotPicklable(f"the call of {name} cannot be pickled: {textOf(error)}")


def _blamed(pairs: Pairs, attempt: Callable[[Any], None]) -> str:
    """
    Find what of a call's context cannot be pickled.
    """
    for name, value in pairs:
        try:
            attempt(value)
        except BaseException:
            return f"the value of the context variable {name}, {shortly(value)}"
    return "the values of " + ", ".join(name for name, _ in pairs)


EACH: Final = 1 << 16
"""How many bytes of one value's pickle are looked at. It is what the pickler hands on at a time; to
make so many takes about 0.2 ms of numbers or short strings."""

ALL: Final = 16 * EACH
"""How many bytes of one call's pickles are looked at."""

FUNCTIONS: Final = 4096
"""How many functions are remembered as picklable."""


class CallCheck:
    """
    Finds calls that a L{CallWriter<asynqueue._workers.protocol.CallWriter>} could not write,
    without writing them.

    To be cheap, however large the arguments are, it looks at the first L{EACH} bytes of each one's
    pickle only, and at no buffer that would travel beside it. What is wrong beyond that is found
    when the call is written. A plain function is looked at once.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: set[FunctionType] = set()

    def refusal(self, task: Task) -> CallNotPicklable | None:
        """
        @param task: what to call.
        @return: the error that writing its call would raise, or C{None} if nothing was found.
        """
        function = task.function
        if (
            type(function) is FunctionType
            and function in self._known
            and not task.kwargs
            and task.context is None
            and PLAIN.issuperset(map(type, task.args))
        ):
            return None
        return self._look(task)

    def _look(self, task: Task) -> CallNotPicklable | None:
        beginnings = _Beginnings()
        refused = refusedCall
        # In the order in which the call is written, so that the same is found first.
        try:
            beginnings.takeAll(task.args)
            if task.kwargs:
                beginnings.takeAll(task.kwargs.values())
            if task.context is not None:
                refused = refusedContext
                beginnings.takeAll(value for _, value in task.context)
                refused = refusedCall
            self._lookAtFunction(task.function, beginnings)
        except BaseException as error:
            return refused(task, error, _begin)
        return None

    def _lookAtFunction(self, function: Any, beginnings: _Beginnings) -> None:
        if type(function) is not FunctionType:
            beginnings.take(function)
        elif function not in self._known:
            beginnings.take(function)
            if len(self._known) < FUNCTIONS:
                self._known.add(function)


class _Enough(Exception):
    """
    No more is looked at of a pickle.
    """


class _Beginnings:
    """
    Takes the beginnings of some pickles, and keeps nothing of them.
    """

    __slots__ = ("_end", "_taken")

    def __init__(self) -> None:
        self._taken = self._end = 0

    def takeAll(self, values: Iterable[Any]) -> None:
        """
        Pickle the beginning of each value, unless it travels as it is.

        @raise BaseException: whatever that raises.
        """
        for value in values:
            if type(value) not in PLAIN:
                self.take(value)

    def take(self, value: Any) -> None:
        """
        Pickle the beginning of a value.

        @raise BaseException: whatever that raises.
        """
        if self._taken >= ALL:
            return
        self._end = self._taken + EACH
        try:
            Pickler(self, 5, buffer_callback=_leaveOut).dump(value)
        except _Enough:
            self._taken = self._end

    def write(self, data: Any) -> None:
        """
        The pickler has so much.
        """
        self._taken += len(data)
        if self._taken > self._end:
            raise _Enough


def _begin(value: Any) -> None:
    _Beginnings().take(value)


def _leaveOut(buffer: PickleBuffer) -> None:
    """
    Have a buffer travel beside the pickle, which says nothing of its content.

    @raise BufferError: if it could not.
    """
    buffer.raw()
