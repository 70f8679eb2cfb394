"""
Waiting until nothing is outstanding.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

from twisted.internet.defer import Deferred, succeed

_T = TypeVar("_T")


class DeferredPool:
    """
    I know how many of the Deferreds that were added to me have not fired yet, and tell when there
    are none: what a service's C{stopService} waits for.

    I leave the Deferreds alone: their results pass through me unchanged, and a Failure stays
    unhandled until somebody else handles it. I need no reactor, and know no timeouts; see
    L{DeferredTracker<asynqueue.deferreds.tracker.DeferredTracker>} for those.
    """

    def __init__(self) -> None:
        self._outstanding = 0
        self._waiting: OrderedDict[Deferred[None], None] = OrderedDict()

    def __repr__(self) -> str:
        outstanding, waiting = self.status()
        return f"<DeferredPool: {outstanding} outstanding, {waiting} waiting>"

    def add(self, d: Deferred[_T]) -> Deferred[_T]:
        """
        Wait for a Deferred, too.

        @param d: the Deferred. One that has fired already counts as firing now. One that is added
            twice counts twice. Only those callbacks count as part of it that were there before.
        @return: the same Deferred.
        """
        self._outstanding += 1
        return d.addBoth(self._fired)

    def notifyWhenEmpty(self, testImmediately: bool = True) -> Deferred[None]:
        """
        @param testImmediately: whether a pool that is empty now will do. Otherwise it has to become
            empty after this call.
        @return: a Deferred that fires with C{None} when nothing is outstanding. Those that wait for
            that fire in the order of asking, each only if it is still so at its turn: where a
            callback of one adds a Deferred, the others wait for that, too. Cancelling it ends the
            wait.
        """
        if testImmediately and not self._outstanding:
            return succeed(None)
        d: Deferred[None] = Deferred(self._waiting.pop)
        self._waiting[d] = None
        return d

    def status(self) -> tuple[int, int]:
        """
        @return: how many Deferreds are outstanding, and how many wait for there to be none.
        """
        return self._outstanding, len(self._waiting)

    def _fired(self, result: _T) -> _T:
        self._outstanding -= 1
        # Those who begin to wait in the meantime wait for it to become empty once more.
        for d in tuple(self._waiting) if not self._outstanding else ():
            if not self._outstanding and d in self._waiting:
                del self._waiting[d]
                d.callback(None)
        return result
