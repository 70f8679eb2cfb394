"""
Which results are iterations.
"""

from __future__ import annotations

from typing import Any


def isIterator(value: Any) -> bool:
    """
    Tell whether a call's result is to be iterated over, rather than brought back whole.

    @param value: anything.
    @return: C{True} for an iterator: an object with C{__iter__} and C{__next__}, such as a
        generator, a file or what C{map} and C{zip} return. C{False} for containers, which have no
        C{__next__}, and for anything else.
    """
    kind = type(value)
    return hasattr(kind, "__next__") and hasattr(kind, "__iter__")


def isAsyncIterator(value: Any) -> bool:
    """
    Tell whether an object is an asynchronous iterator.

    @param value: anything.
    @return: C{True} for an object with C{__aiter__} and C{__anext__}, such as an asynchronous
        generator.
    """
    kind = type(value)
    return hasattr(kind, "__anext__") and hasattr(kind, "__aiter__")
