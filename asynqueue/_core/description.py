"""
Describes calls and values in one line, for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from reprlib import Repr
from traceback import format_exception
from typing import Final

from asynqueue._core.task import functionName
from asynqueue.errors import textOf

SHORT: Final = 80
"""How many characters of a value are shown within a sentence."""

LONGEST: Final = 60
"""How many characters of one string, number or object are shown."""

LONGEST_ERROR: Final = 1000
"""How many characters of one exception's text are shown."""

MOST: Final = 6
"""How many items of one container are shown."""

MOST_ARGUMENTS: Final = 12
"""How many arguments of one call are shown."""


def describeCall(
    function: object,
    args: Iterable[object] = (),
    kwargs: Mapping[str, object] | None = None,
    instance: object = None,
) -> str:
    """
    Describe a call as you would write it::

        fetch('http://example.org/', timeout=30)

    Long arguments are shortened, and a value whose C{repr} fails is named by its type. Nothing that
    the arguments do makes this raise.

    @param function: the callable, or its name.
    @param args: its positional arguments.
    @param kwargs: its keyword arguments.
    @param instance: the object to show as the owner of the function, which is its method.
    """
    every = [("", value) for value in args]
    every += [(f"{name}=", value) for name, value in (kwargs or {}).items()]
    described = [name + describeValue(value) for name, value in every[:MOST_ARGUMENTS]]
    if len(every) > MOST_ARGUMENTS:
        described.append("...")
    owner = "" if instance is None else f"{describeValue(instance)}."
    return f"{owner}{describeFunction(function)}({', '.join(described)})"


def describeFunction(function: object) -> str:
    """
    @param function: a callable, or its name.
    @return: its name.
    """
    if isinstance(function, str):
        return function
    try:
        return functionName(function)
    except Exception:
        return _typeOf(function)


def describeValue(value: object) -> str:
    """
    @return: the C{repr} of a value, shortened if it is long.
    """
    describer = Repr()
    describer.maxlevel = 3
    describer.maxstring = describer.maxlong = describer.maxother = LONGEST
    describer.maxtuple = describer.maxlist = describer.maxdict = MOST
    describer.maxset = describer.maxfrozenset = describer.maxdeque = describer.maxarray = MOST
    try:
        return describer.repr(value)
    except Exception:
        return _typeOf(value)


def shortly(value: object) -> str:
    """
    @return: the description of a value, cut off after L{SHORT} characters.
    """
    text = describeValue(value)
    return text if len(text) <= SHORT else f"{text[: SHORT - 3]}..."


def withCause(text: str, error: BaseException | None) -> str:
    """
    @param text: an exception's traceback, without that of its cause.
    @param error: the exception.
    @return: both tracebacks. The cause of what happened to a task elsewhere has the stack there.
    """
    if error is None or error.__cause__ is None:
        return text
    return f"{''.join(format_exception(error.__cause__))}\nThis caused:\n\n{text}"


def describeError(error: BaseException | None) -> str:
    """
    @return: an exception's type and text, as they end a traceback. A very long text is cut off.
    """
    name, text = type(error).__name__, textOf(error)
    if len(text) > LONGEST_ERROR:
        text = f"{text[:LONGEST_ERROR]}..."
    return f"{name}: {text}" if text else name


def _typeOf(value: object) -> str:
    return f"<{type(value).__name__} at {id(value):#x}>"
