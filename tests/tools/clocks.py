"""
What the tests of waiting share: steps of a C{Clock}, and a look at what Deferreds fire with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

_T = TypeVar("_T")


def moveTo(clock: Clock, time: float) -> None:
    """
    Set the clock to exactly this time, where C{advance} would round, and run what is due.
    """
    clock.rightNow = time
    clock.advance(0)


def runNext(clock: Clock) -> None:
    """
    Run what is due next.
    """
    moveTo(clock, min(call.getTime() for call in clock.getDelayedCalls()))


def outcomes(d: Deferred[Any]) -> list[object]:
    """
    @return: a list that gets what the Deferred fires with, each time that it does. Instead of a
        Failure it gets the type of the exception.
    """
    fired: list[object] = []

    def note(result: object) -> None:
        fired.append(result.type if isinstance(result, Failure) else result)

    d.addBoth(note)
    return fired


def noting(notes: list[_T], note: _T) -> Callable[[object], None]:
    """
    @return: a callback that appends the note to the notes.
    """

    def append(_: object) -> None:
        notes.append(note)

    return append
