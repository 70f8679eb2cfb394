"""
How an exception travels.
"""

from __future__ import annotations

import traceback
from typing import Any

from asynqueue._runner.packing import Packed, pack, unpack
from asynqueue.errors import RemoteError, textOf, typeName, withTraceback


class TaskInterrupted(BaseException):
    """
    Raised within a running task that is no longer wanted, to ask it to end. It is no C{Exception},
    so that a task's usual error handling lets it pass.
    """


Described = tuple[Packed, str, str, str]
"""The packed exception (C{None} if it cannot be pickled), its type's name, its text, and its
traceback's text."""


def describe(error: BaseException) -> Described:
    """
    @param error: an exception that was caught in the function that calls this one. That function's
        own entry is left out of the traceback.
    @return: what L{rebuild} makes an exception of. That works for every exception, in one way or
        another.
    """
    text = _tracebackOf(error)
    packed: Packed = None
    try:
        packed = pack(error)
    except BaseException as unpicklable:
        why = f"{typeName(type(unpicklable))}: {textOf(unpicklable)}"
        text += f"\n(The exception itself cannot be pickled: {why})\n"
    return packed, typeName(type(error)), textOf(error), text


def rebuild(described: Described) -> BaseException:
    """
    @param described: what L{describe} returned, after its journey.
    @return: the exception, with its own type if that can be rebuilt, else a C{RemoteError}. The
        traceback's text is its C{__cause__}.
    """
    packed, name, text, trace = described
    exception: Any = None
    if packed is not None:
        try:
            exception = unpack(packed)
        except BaseException:
            # Its type cannot be rebuilt from what it pickles as. Its name, text and traceback came
            # beside it.
            exception = None
    if not isinstance(exception, BaseException):
        exception = RemoteError(name, text, trace)
    return withTraceback(exception, trace)


def explained(kind: type[Exception], what: str, error: BaseException) -> Exception:
    """
    Make an error of this library from one that was raised when something was done for a task.

    @param kind: our error.
    @param what: what could not be done.
    @param error: why.
    """
    ours = kind(f"could not {what}: {typeName(type(error))}: {textOf(error)}")
    ours.__traceback__ = error.__traceback__
    return ours


def caughtHere(error: BaseException) -> BaseException:
    """
    Raise and catch an exception that was caught elsewhere, because the frame of the function that
    caught it is left out when it is described.
    """
    context = error.__context__
    try:
        raise error
    except BaseException as caught:
        caught.__context__ = context
        return caught


def withoutFrames(error: BaseException) -> BaseException:
    """
    Make of an exception what it would be if it came from afar, with a traceback that is a text. The
    frames of a real one hold the task that fails; as the task holds its failure, both would last
    until garbage is collected.

    @param error: as caught by the caller, or by the caller's caller.
    """
    return rebuild(describe(error))


def _tracebackOf(error: BaseException) -> str:
    within = error.__traceback__.tb_next if error.__traceback__ else None
    try:
        return "".join(traceback.format_exception(type(error), error, within))
    except BaseException as unprintable:
        where = "".join(traceback.format_tb(within))
        return (
            f"Traceback (most recent call last):\n{where}{typeName(type(error))}: {textOf(error)}\n"
            f"(The rest cannot be shown: {typeName(type(unprintable))})\n"
        )
