"""
Tasks to CALL messages.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from types import FunctionType
from typing import Any, Protocol

from asynqueue.tasks.runtimes import isModuleBuiltin
from asynqueue.tasks.task import Task
from asynqueue.universe.messages import CALL, Message
from asynqueue.universe.packing import PLAIN, Packed, pack
from asynqueue.workers.channel.refusals import refusedCall, refusedContext

FUNCTIONS = 4096
"""How many functions one universe is taught; calls of others carry their function's pickle each
time."""


class Writer(Protocol):
    """
    Writes the calls of one conversation.
    """

    def write(self, id: int, task: Task) -> Message:
        """The message of a task's call. Raises C{CallNotPicklable}."""

    def unteach(self, task: Task, message: Message) -> None:
        """A message that was written has not been sent."""


class DirectWriter:
    """
    Writes calls for a universe that shares this side's memory: function and arguments as they are.
    """

    def write(self, id: int, task: Task) -> Message:
        """
        The message of a task's call.
        """
        arguments = (task.args, task.kwargs)
        return (CALL, id, task.function, arguments, task.options.raw, task.context)

    def unteach(self, task: Task, message: Message) -> None:
        """
        Nothing was taught.
        """


class CallWriter:
    """
    Writes the calls for one universe, and knows which functions it has been taught.

    A plain function, which is pickled by its name, is sent once and numbered. Anything else that
    can be called (a bound method, a C{partial}) may change between calls and is pickled each time.
    """

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        self._unused = count()

    def write(self, id: int, task: Task) -> Message:
        """
        @param id: the call's ID on its channel.
        @param task: what to call.
        @return: its message.
        @raise CallNotPicklable: naming the function or the argument that is at fault.
        """
        args = task.args
        arguments: Any
        if not task.kwargs and PLAIN.issuperset(map(type, args)):
            arguments = args
        else:
            arguments = self._pack((args, dict(task.kwargs)), task)
        context = None if task.context is None else self._packContext(task)
        # Only now, since a call that is not written teaches nothing.
        return (CALL, id, self._numberOf(task), arguments, task.options.raw, context)

    def unteach(self, task: Task, message: Message) -> None:
        """
        A message that was written has not been sent.
        """
        function = message[2]
        if type(function) is tuple and type(function[0]) is int:
            del self._numbers[task.function]

    def _numberOf(self, task: Task) -> Any:
        """
        A function as it is sent: by its number, with its number, or without one.
        """
        try:
            number = self._numbers.get(task.function)
        except Exception:
            # It cannot be hashed, and so was never taught.
            number = None
        return self._teach(task) if number is None else number

    def _teach(self, task: Task) -> Any:
        function = task.function
        data = self._pack(function, task)
        if not _isNamed(function) or len(self._numbers) >= FUNCTIONS:
            return data
        number = self._numbers[function] = next(self._unused)
        return number, data

    def _pack(self, value: Any, task: Task) -> Packed:
        try:
            return pack(value)
        except BaseException as error:
            refusal = refusedCall(task, error)
        # Raised here, so that the error itself is no context of it.
        raise refusal

    def _packContext(self, task: Task) -> Packed:
        try:
            return pack(task.context)
        except BaseException as error:
            refusal = refusedContext(task, error)
        raise refusal


def _isNamed(function: Callable[..., Any]) -> bool:
    return type(function) is FunctionType or isModuleBuiltin(function)
