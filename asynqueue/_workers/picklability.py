"""
Checks whether a call can be pickled, and finds the part that cannot.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from io import BytesIO
from pickle import PickleBuffer, Pickler, PicklingError
from types import FunctionType
from typing import Any, Final

from asynqueue._core.description import shortly
from asynqueue._core.task import Task, functionName
from asynqueue._runner.context import Pairs
from asynqueue._runner.exceptions import withoutFrames
from asynqueue._runner.packing import CLOUDPICKLE, PLAIN, STANDARD, Packer
from asynqueue.errors import CallNotPicklable, textOf

_WHERE: Final = (
    "it is defined in the main module, and that is in no file that other processes import, as with "
    "python -c, on the standard input, in a notebook, or in the __main__.py of a package"
)

_REMEDY: Final = (
    ". Other processes find functions and classes by their names. Define it at the top of another "
    "module, or have it sent by value: pip install 'asynqueue2[cloudpickle]' and make a "
    "ProcessQueue, a RemoteQueue, or one of their workers, with pickler='cloudpickle'"
)


class _WithoutMain(Pickler):
    """
    Refuses what is defined in the main module.
    """

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, FunctionType | type) and value.__module__ == "__main__":
            raise PicklingError(f"Can't pickle {value.__qualname__!r}: {_WHERE}")
        return NotImplemented


WITHOUT_MAIN: Final = Packer(lambda: _WithoutMain)
"""Packs like L{STANDARD}, in a program whose main module no other process can import."""


class _NameFinder(Pickler):
    """
    Pickles all but the functions and classes that cannot be found by their names.

    @ivar hasMissed: whether there was one.
    """

    def __init__(self) -> None:
        super().__init__(BytesIO(), 5, buffer_callback=lambda _: None)
        self.hasMissed = False

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, FunctionType | type):
            return NotImplemented
        if value.__module__ != "__main__" and isImportable(value):
            return NotImplemented
        self.hasMissed = True
        return str, ()


def isImportable(value: FunctionType | type) -> bool:
    """
    Whether a function or a class is found in its module by its name.
    """
    found: object = sys.modules.get(value.__module__)
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is value


def _remedy(value: object, error: BaseException, packer: Packer) -> str:
    """
    @param error: what pickling the value raised.
    @return: what to do about it; an empty text if nothing is known.
    """
    # Before Python 3.14 it is an AttributeError for what is defined within a function.
    if packer is not CLOUDPICKLE and isinstance(error, PicklingError | AttributeError):
        finder = _NameFinder()
        with suppress(BaseException):
            # What else is wrong with the value is no concern of this.
            finder.dump(value)
            if finder.hasMissed:
                return _REMEDY
    return ""


def refusedCall(
    task: Task,
    error: BaseException,
    packer: Packer,
    attempt: Callable[[object], object] | None = None,
) -> CallNotPicklable:
    """
    Make the error of a task whose function or arguments cannot be pickled.

    @param error: the exception that pickling them raised.
    @param packer: pickles them.
    @param attempt: pickles one value, to find out whether it is the culprit. Default: the packer
        pickles all of it.
    """
    refusal = _blameCall(task, error, packer, attempt or packer.pack)
    refusal.__cause__ = withoutFrames(error)
    return refusal


def refusedContext(
    task: Task,
    error: BaseException,
    packer: Packer,
    attempt: Callable[[object], object] | None = None,
) -> CallNotPicklable:
    """
    Make the error of a task whose context variables cannot be pickled. See L{refusedCall}.
    """
    refusal = CallNotPicklable(
        f"{_blameContext(task.context or (), attempt or packer.pack)} cannot be pickled. The "
        "queue's contextvars make it travel with the call of "
        f"{functionName(task.function)}: {textOf(error)}{_remedy(task.context, error, packer)}"
    )
    refusal.__cause__ = withoutFrames(error)
    return refusal


def _blameCall(
    task: Task, error: BaseException, packer: Packer, attempt: Callable[[object], object]
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
            remedy = _remedy(value, own, packer)
            return CallNotPicklable(f"{what} cannot be pickled: {textOf(own)}{remedy}")
    return CallNotPicklable(f"the call of {name} cannot be pickled: {textOf(error)}")


def _blameContext(pairs: Pairs, attempt: Callable[[object], object]) -> str:
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
    the call is written. A function that can be imported is checked once only.
    """

    __slots__ = ("_known", "_packer")

    def __init__(self, packer: Packer = STANDARD) -> None:
        """
        @param packer: what the writer packs with.
        """
        self._packer = packer
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
        beginnings = _Beginnings(self._packer)
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
            return refused(task, error, self._packer, partial(_pickleBeginning, self._packer))
        return None

    def _checkFunction(self, function: Callable[..., object], beginnings: _Beginnings) -> None:
        if not isinstance(function, FunctionType):
            beginnings.take(function)
        elif function not in self._known:
            beginnings.take(function)
            # What is sent by value may be large, and is not kept alive here.
            if len(self._known) < FUNCTIONS and isImportable(function):
                self._known.add(function)


CHECKS: Final[Mapping[Packer, Callable[[], CallCheck]]] = {
    packer: partial(CallCheck, packer) for packer in (STANDARD, WITHOUT_MAIN, CLOUDPICKLE)
}
"""What makes the checks of the calls that each packer packs."""


class _Enough(Exception):
    """
    Stops a pickler, because enough of its pickle was checked.
    """


class _Beginnings:
    """
    Makes the beginnings of the pickles of some values, and drops them.
    """

    __slots__ = ("_end", "_packer", "_taken")

    def __init__(self, packer: Packer) -> None:
        self._packer = packer
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
            self._packer.pickler(self, 5, buffer_callback=_leaveOut).dump(value)
        except _Enough:
            self._taken = self._end

    def write(self, data: bytes | PickleBuffer) -> None:
        """
        Count the bytes that the pickler has made.
        """
        self._taken += memoryview(data).nbytes
        if self._taken > self._end:
            raise _Enough


def _pickleBeginning(packer: Packer, value: object) -> None:
    _Beginnings(packer).take(value)


def _leaveOut(buffer: PickleBuffer) -> None:
    """
    Leave a buffer out of the pickle, because it would travel beside it.

    @raise BufferError: if the buffer could not travel that way.
    """
    buffer.raw()
