"""
Functions that tell what they are called with and what they give.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from functools import wraps
from itertools import count
from threading import current_thread
from typing import Any, TypeVar, overload

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from asynqueue.tasks.description import describeCall, describeError, describeValue

Function = TypeVar("Function", bound=Callable[..., Any])
Write = Callable[[str], Any]

_MARK = "_asynqueueShowsThread"


@overload
def showResult(function: Function) -> Function: ...
@overload
def showResult(*, write: Write) -> Callable[[Function], Function]: ...
def showResult(function: Any = None, *, write: Write | None = None) -> Any:
    """
    Decorate a function or a method, so that each call of it writes a line::

        @showResult
        def add(first, second): ...

        001: add(1, second=2) -> 3

    A Deferred and a coroutine are followed: the line comes when their result is there. So is an
    exception or a failure, which goes its way.

    @param function: the function.
    @param write: takes each line, from the thread in which the call ends; C{print}, say. Default:
        the logger C{asynqueue}, at level INFO.
    """
    if function is None:
        return lambda later: showResult(later, write=write)  # type: ignore[call-overload]
    say = logging.getLogger("asynqueue").info if write is None else write
    numbers = count(1)

    def describe(args: tuple[Any, ...], kw: dict[str, Any]) -> str:
        text = f"{next(numbers):03d}: {describeCall(function, args, kw)}"
        if getattr(shown, _MARK, False):
            text += f" <Thread: {current_thread().name}>"
        return text

    async def follow(call: str, awaitable: Awaitable[Any]) -> Any:
        try:
            result = await awaitable
        except BaseException as error:
            say(f"{call} raised {describeError(error)}")
            raise
        say(f"{call} -> {describeValue(result)}")
        return result

    def came(result: Any, call: str) -> Any:
        if isinstance(result, Failure):
            say(f"{call} failed with {describeError(result.value)}")
        else:
            say(f"{call} -> {describeValue(result)}")
        return result

    def run(args: tuple[Any, ...], kw: dict[str, Any]) -> Any:
        call = describe(args, kw)
        try:
            result = function(*args, **kw)
        except BaseException as error:
            say(f"{call} raised {describeError(error)}")
            raise
        if isinstance(result, Deferred):
            return result.addBoth(came, call)
        if inspect.iscoroutine(result):
            return follow(call, result)
        return came(result, call)

    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def shown(*args: Any, **kw: Any) -> Any:
            return await run(args, kw)

    else:

        @wraps(function)
        def shown(*args: Any, **kw: Any) -> Any:
            return run(args, kw)

    return shown


def whichThread(function: Function) -> Function:
    """
    Decorate a function that has L{showResult}, in either order, so that its lines name the thread
    in which it was called.
    """
    setattr(function, _MARK, True)
    return function
