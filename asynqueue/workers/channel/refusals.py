"""
Why a call cannot be pickled: which part of it is at fault.
"""

from __future__ import annotations

from collections.abc import Callable
from pickle import dumps
from typing import Any

from asynqueue.errors import CallNotPicklable
from asynqueue.tasks.description import shortly
from asynqueue.tasks.task import Task, functionName
from asynqueue.universe.context import Pairs
from asynqueue.universe.exceptions import textOf, withoutFrames


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
