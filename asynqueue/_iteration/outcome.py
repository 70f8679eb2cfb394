"""
One outcome for everybody who asks, however often and whenever.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure


class Outcome:
    """
    A result, perhaps a failure, that is there once and for all. A failure that nobody ever asks for
    is logged, as any unhandled one.
    """

    def __init__(self) -> None:
        self._waiters: list[Deferred[Any]] = []
        self._result: Any = None
        self._unclaimed: Deferred[Any] | None = None
        self.isSettled = False

    def settle(self, result: Any = None) -> None:
        """
        Give the result. What is given later has no effect.
        """
        if self.isSettled:
            return
        self.isSettled = True
        self._result = result
        if isinstance(result, Failure) and not self._waiters:
            self._unclaimed = fail(result)
        while self._waiters:
            self._waiters.pop(0).callback(result)

    def wait(self) -> Deferred[Any]:
        """
        @return: a Deferred that fires with the result. Cancelling it ends only this wait.
        """
        if not self.isSettled:
            d: Deferred[Any] = Deferred(self._waiters.remove)
            self._waiters.append(d)
            return d
        if self._unclaimed is not None:
            self._unclaimed.addErrback(lambda _: None)
            self._unclaimed = None
        if isinstance(self._result, Failure):
            return fail(self._result)
        return succeed(self._result)
