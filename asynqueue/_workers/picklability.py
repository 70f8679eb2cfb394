"""
Checks whether a call can be pickled, and finds the part that cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pickle import PickleBuffer, Pickler, dumps
from types import FunctionType
from typing import Final

from asynqueue._core.description import shortly
from asynqueue._core.task import Task, functionName
from asynqueue._runner.context import Pairs
from asynqueue._runner.exceptions import withoutFrames
from asynqueue._runner.packing import PLAIN, refuseDescriptors
from asynqueue.errors import CallNotPicklable, textOf


def pickleAll(value: object) -> None:
    """
    Pickle all of a value.

    @raise BaseException: anything that pickling raises.
    """
    dumps(value, 5)
    refuseDescriptors(value)


def refusedCall(
    task: Task, error: BaseException, attempt: Callable[[object], None] = pickleAll
) -> CallNotPicklable:
    """
    Make the error of a task whose function or arguments cannot be pickled.

    @param error: the exception that pickling them raised.
    @param attempt: pickles one value, to find out whether it is the culprit.
    """
    refusal = _blameCall(task, error, attempt)
    refusal.__cause__ = withoutFrames(error)
    return refusal


def refusedContext(
    task: Task, error: BaseException, attempt: Callable[[object], None] = pickleAll
) -> CallNotPicklable:
    """
    Make the error of a task whose context variables cannot be pickled. See L{refusedCall}.
    """
    refusal = CallNotPicklable(
        f"{_blameContext(task.context or (), attempt)} cannot be pickled. The queue's contextvars "
        f"make it travel with the call of {functionName(task.function)}: {textOf(error)}"
    )
    refusal.__cause__ = withoutFrames(error)
    return refusal


def _blameCall(
    task: Task, error: BaseException, attempt: Callable[[object], None]
) -> CallNotPicklable:
    """
    Find the part of a call that cannot be pickled.
    """
    name = functionName(task.function)
    parts: list[tuple[str, object]] = [(f"the function {name}", task.function)]
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


def _blameContext(pairs: Pairs, attempt: Callable[[object], None]) -> str:
    """
    Find the context variable of a call that cannot be pickled.
    """
    for name, value in pairs:
        try:
            attempt(value)
        except BaseException:
            return f"the value of the context variable {name}, {shortly(value)}"
    return "the values of " + ", ".join(name for name, _ in pairs)


EACH: Final = 1 << 16
"""How many bytes of one value's pickle are checked. This is what the pickler hands on at a time. It
takes about 0.2 ms for numbers or short strings."""

ALL: Final = 16 * EACH
"""How many bytes of one call's pickles are checked."""

FUNCTIONS: Final = 4096
"""The largest number of functions that are remembered as picklable."""


class CallCheck:
    """
    Finds calls that a L{CallWriter<asynqueue._workers.protocol.CallWriter>} could not write,
    without writing them.

    The check is cheap even if arguments are large, because it pickles only the first L{EACH} bytes
    of each, and no buffers that would travel beside the pickle. Errors beyond that are found when
    the call is written. A plain function is checked once only.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: set[FunctionType] = set()

    def refusal(self, task: Task) -> CallNotPicklable | None:
        """
        @return: the error that writing the task's call would raise, or C{None} if the check finds
            none.
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
        return self._check(task)

    def _check(self, task: Task) -> CallNotPicklable | None:
        beginnings = _Beginnings()
        refused = refusedCall
        # In the order in which the call is written, so that the same error is found first.
        try:
            beginnings.takeAll(task.args)
            if task.kwargs:
                beginnings.takeAll(task.kwargs.values())
            if task.context is not None:
                refused = refusedContext
                beginnings.takeAll(value for _, value in task.context)
                refused = refusedCall
            self._checkFunction(task.function, beginnings)
        except BaseException as error:
            return refused(task, error, _pickleBeginning)
        return None

    def _checkFunction(self, function: Callable[..., object], beginnings: _Beginnings) -> None:
        if not isinstance(function, FunctionType):
            beginnings.take(function)
        elif function not in self._known:
            beginnings.take(function)
            if len(self._known) < FUNCTIONS:
                self._known.add(function)


class _Enough(Exception):
    """
    Stops a pickler, because enough of its pickle was checked.
    """


class _Beginnings:
    """
    Makes the beginnings of the pickles of some values, and drops them.
    """

    __slots__ = ("_end", "_taken")

    def __init__(self) -> None:
        self._taken = self._end = 0

    def takeAll(self, values: Iterable[object]) -> None:
        """
        Pickle the beginning of each value, but for plain ones, which need no check.

        @raise BaseException: anything that pickling raises.
        """
        for value in values:
            if type(value) not in PLAIN:
                self.take(value)

    def take(self, value: object) -> None:
        """
        Pickle the beginning of a value.

        @raise BaseException: anything that pickling raises.
        """
        if self._taken >= ALL:
            return
        self._end = self._taken + EACH
        try:
            Pickler(self, 5, buffer_callback=_leaveOut).dump(value)
        except _Enough:
            self._taken = self._end

    def write(self, data: bytes | PickleBuffer) -> None:
        """
        Count the bytes that the pickler has made.
        """
        self._taken += memoryview(data).nbytes
        if self._taken > self._end:
            raise _Enough


def _pickleBeginning(value: object) -> None:
    _Beginnings().take(value)


def _leaveOut(buffer: PickleBuffer) -> None:
    """
    Leave a buffer out of the pickle, because it would travel beside it.

    @raise BufferError: if the buffer could not travel that way.
    """
    buffer.raw()
