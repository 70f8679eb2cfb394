"""
Waiting for a while.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from asynqueue.deferreds import Delay, IReactorTime


def deferToDelay(seconds: float, reactor: IReactorTime | None = None) -> Deferred[None]:
    """
    Wait.

    @param seconds: how long; 0 is until the next reactor turn.
    @param reactor: the clock to wait with. Default: the global reactor.
    @return: a Deferred that fires with C{None} when the time is over. It can be cancelled.
    @raise ValueError: if C{seconds} is negative.
    """
    return Delay(reactor=reactor)(seconds)
