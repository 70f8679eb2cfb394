"""
The clock that waits are measured with: anything that provides Twisted's C{IReactorTime}, such as a
reactor or a C{twisted.internet.task.Clock}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twisted.internet.interfaces import IReactorFromThreads, IReactorTime

__all__ = ["IReactorTime", "callFromAnyThread", "checkSeconds", "defaultReactor"]


def defaultReactor() -> IReactorTime:
    """
    Get the global reactor, for an object that was constructed without one.

    The first call installs Twisted's default reactor, unless the program has installed another
    before.

    @return: the global reactor.
    """
    from twisted.internet import reactor

    return cast(IReactorTime, reactor)


def callFromAnyThread(reactor: object, function: Callable[[], object]) -> None:
    """
    Have a function called in the reactor's thread soon, from whichever thread and in the middle of
    whatever: from where the garbage collector works, for one.

    @param reactor: a reactor. A clock without threads has the function called at once.
    @param function: what to call, without arguments.
    """
    if IReactorFromThreads.providedBy(reactor):
        reactor.callFromThread(function)
    else:
        function()


def checkSeconds(name: str, seconds: float) -> float:
    """
    Refuse a length of time that cannot be waited for.

    @param name: what the length of time is called, for the error's text.
    @param seconds: the length of time, in seconds. Infinity is allowed.
    @return: C{seconds}, unchanged.
    @raise ValueError: if it is negative or not a number.
    """
    if not seconds >= 0:
        raise ValueError(f"{name} is {seconds!r}, but it must be 0 or more seconds")
    return seconds
