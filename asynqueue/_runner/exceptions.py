"""
How an exception travels.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pickle import Unpickler
from typing import Any

from asynqueue._runner.packing import CLOUDPICKLE, STANDARD, Packed, unpack
from asynqueue.errors import RemoteError, textOf, typeName, withTraceback


class TaskInterrupted(BaseException):
    """
    Raised within a running task that is no longer wanted, to ask it to end. It is no C{Exception},
    so that a task's usual error handling lets it pass.
    """


Described = tuple[Packed, str, str, str]
"""The packed exception (C{None} if it cannot be pickled), its type's name, its text, and its
traceback's text."""


def packByValue(error: BaseException) -> Packed:
    """
    Pack an exception by its class's name, or by value if that cannot be imported.
    """
    try:
        return STANDARD.pack(error)
    except Exception:
        return CLOUDPICKLE.pack(error)


def describe(
    error: BaseException, pack: Callable[[BaseException], Packed] = STANDARD.pack
) -> Described:
    """
    @param error: an exception that was caught in the function that calls this one. That function's
        own entry is left out of the traceback.
    @param pack: packs the exception, or raises.
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
    # A child calls the main module so.
    name = typeName(type(error)).replace("__mp_main__.", "__main__.")
    return packed, name, textOf(error), text.replace("__mp_main__.", "__main__.")


def rebuild(described: Described) -> BaseException:
    """
    @param described: what L{describe} returned, after its journey.
    @return: the exception, with its own type if that can be rebuilt, else a C{RemoteError}. The
        traceback's text is its C{__cause__}.
    """
    packed, name, text, trace = described
    exception: object = None
    if packed is not None:
        try:
            exception = unpack(packed)
            if isinstance(exception, BaseException) and not _isTrue(exception, text):
                exception = _asItWas(packed, exception, text)
        except BaseException:
            # Its type cannot be rebuilt from what it pickles as. Its name, text and traceback came
            # beside it.
            exception = None
    if not isinstance(exception, BaseException):
        exception = RemoteError(name, text, trace)
    return withTraceback(exception, trace)


def _isTrue(exception: BaseException, text: str) -> bool:
    """
    Whether an exception, and each exception of a group, is what it was before its journey.
    """
    if textOf(exception) != text:
        return False
    members = getattr(exception, "exceptions", ())
    return not (isinstance(exception, BaseExceptionGroup) and members)


def _asItWas(packed: Packed, exception: BaseException, text: str) -> BaseException:
    """
    Rebuild an exception once more, without a call of C{__init__} that changes its arguments: one
    that composes the text from them would compose it from the text.

    @param exception: the exception as it was rebuilt. It is returned if nothing better is to be
        had, as where its text tells the process or the time.
    """
    if type(packed) is tuple:
        return exception
    again: object = _ExceptionUnpickler(BytesIO(packed)).load()
    return again if isinstance(again, BaseException) and textOf(again) == text else exception


class _ExceptionUnpickler(Unpickler):
    """
    Rebuilds exceptions with the arguments that they had.
    """

    def find_class(self, module: str, name: str) -> Any:
        """
        Find a class or a function.
        """
        found = super().find_class(module, name)
        if not (isinstance(found, type) and issubclass(found, BaseException)):
            return found
        if found.__reduce__ is not BaseException.__reduce__:
            # It says itself what it is rebuilt from.
            return found
        return partial(_remade, found)


def _remade(kind: type[BaseException], *args: object) -> BaseException:
    made = kind(*args)
    if made.args == args:
        return made
    bare = kind.__new__(kind, *args)
    bare.args = args
    # What its C{__init__} has set is there. What was set when it was pickled replaces that.
    bare.__dict__.update(made.__dict__)
    return bare


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


def withoutCatcher(error: BaseException) -> BaseException:
    """
    @return: an exception, without the entry of the function that caught it in its traceback.
    """
    trace = error.__traceback__
    return error if trace is None else error.with_traceback(trace.tb_next)


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
