"""
Running a coroutine in the reactor.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure


def runInReactor(work: Callable[[], Coroutine[Deferred[Any], Any, float]]) -> float:
    """
    Run the reactor until a coroutine is done, which can be done once in a process.

    @return: what it returns.
    @raise Exception: what it raises.
    """
    from twisted.internet import reactor

    installed: Any = reactor
    outcomes: list[Any] = []

    def begin() -> None:
        done = Deferred.fromCoroutine(work())
        done.addBoth(outcomes.append).addCallback(lambda _: installed.stop())

    installed.callWhenRunning(begin)
    installed.run()
    (outcome,) = outcomes
    if isinstance(outcome, Failure):
        outcome.raiseException()
    return float(outcome)
