"""
Keep track of Deferreds: wait until all of them, or one, or fewer than some, have fired.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from asynqueue._core.checks import checkSeconds
from asynqueue._reactor import defaultReactor
from asynqueue._waiters import Waiters

_T = TypeVar("_T")


class DeferredTracker:
    """
    Counts Deferreds that have not fired yet, and tells when there are few enough of them.

    The results of the tracked Deferreds pass through unchanged, and a Failure stays unhandled until
    somebody else handles it.

    A tracker does not poll. When a tracked Deferred fires, the waits fire in the order of asking,
    before that Deferred's later callbacks run. Each wait fires only if its condition still holds
    when its turn comes: if several wait for fewer than N, and a callback of the first one puts
    another Deferred, the second one goes on waiting.
    """

    def __init__(
        self,
        interval: float | None = None,
        backoff: float | None = None,
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        @param interval: has no effect. AsynQueue 0.9 polled, and this was a setting of it.
        @param backoff: has no effect, likewise.
        @param reactor: the clock for timeouts. Default: the global reactor.
        """
        self._reactor = defaultReactor() if reactor is None else reactor
        self._count: int | None = 0
        self._waiters: Waiters[bool] = Waiters()

    @property
    def dCount(self) -> int | None:
        """
        How many Deferreds and other wait conditions are tracked now; C{None} after L{quitWaiting}.
        """
        return self._count

    def put(self, d: Deferred[_T]) -> Deferred[_T]:
        """
        Track a Deferred until it fires.

        @param d: the Deferred. A Deferred that has fired already counts as firing now. After
            L{quitWaiting} it is left untouched.
        @return: the same Deferred.
        """
        if self._count is None:
            return d
        addBoth = d.addBoth
        self.addWait()
        addBoth(self._passThrough)
        return d

    def addWait(self) -> None:
        """
        Add a wait condition, which counts as one more tracked Deferred until L{removeWait} is
        called.
        """
        if self._count is not None:
            self._count += 1

    def removeWait(self) -> None:
        """
        Remove a wait condition, as if one tracked Deferred had fired.

        Call this once for each L{addWait}. A call too many takes the place of a tracked Deferred
        that has not fired yet; if there is none, the call has no effect. The count is never
        negative.
        """
        if not self._count:
            return
        self._count -= 1
        self._waiters.fireWhere(self._isFewerThan, True)

    def quitWaiting(self) -> None:
        """
        Track nothing any more, for ever. Every wait fires with C{True} now, and every later one
        does so at once.
        """
        self._count = None
        self._waiters.fire(True)

    def notWaiting(self) -> bool:
        """
        Tell whether nothing is tracked.
        """
        return not self._count

    def deferToAll(self, timeout: float | None = None) -> Deferred[bool]:
        """
        Wait until nothing is tracked.

        @param timeout: how long to wait at most, in seconds. Default: for ever.
        @return: a Deferred that fires with C{True} when that is so, at once if it is so already, or
            with C{False} on timeout. Cancelling it ends the wait.
        @raise ValueError: if the timeout is negative.
        """
        return self._wait(self.notWaiting(), 1, timeout)

    def deferToAny(self, timeout: float | None = None) -> Deferred[bool]:
        """
        Wait until any tracked Deferred fires after this call, whether it was put before or after.

        @param timeout: how long to wait at most, in seconds. Default: for ever.
        @return: a Deferred that fires with C{True} when one fires or is removed, at once if nothing
            is tracked, or with C{False} on timeout. Cancelling it ends the wait.
        @raise ValueError: if the timeout is negative.
        """
        return self._wait(self.notWaiting(), math.inf, timeout)

    def deferUntilFewer(self, N: float, timeout: float | None = None) -> Deferred[bool]:
        """
        Wait until fewer than N Deferreds are tracked. Deferreds put meanwhile count as well.

        @param N: a number, which need not be whole. The Deferred does not fire for 0 or less,
            except on timeout or by L{quitWaiting}.
        @param timeout: how long to wait at most, in seconds. Default: for ever.
        @return: a Deferred that fires with C{True} when that is so, at once if it is so already, or
            with C{False} on timeout. Cancelling it ends the wait.
        @raise TypeError: if C{N} is not a number.
        @raise ValueError: if the timeout is negative.
        """
        if not isinstance(N, Real) or math.isnan(N):
            raise TypeError(f"N must be a number, not {N!r}")
        return self._wait(self._isFewerThan(N), N, timeout)

    def _isFewerThan(self, limit: float) -> bool:
        return self._count is None or self._count < limit

    def _passThrough(self, result: _T) -> _T:
        self.removeWait()
        return result

    def _wait(self, isSo: bool, limit: float, timeout: float | None) -> Deferred[bool]:
        checkSeconds("timeout", timeout, optional=True)
        if isSo:
            return succeed(True)
        d = self._waiters.add(limit)
        if timeout is not None:
            call = self._reactor.callLater(timeout, self._waiters.fireOne, d, False)
            d.addBoth(_cancelCall, call)
        return d


def _cancelCall(result: _T, call: IDelayedCall) -> _T:
    if call.active():
        call.cancel()
    return result


class DeferredPool:
    """
    Tells when all of the Deferreds that were added have fired: a service's C{stopService} waits for
    that.

    The results of the Deferreds pass through unchanged, and a Failure stays unhandled until
    somebody else handles it. A pool needs no reactor, and knows no timeouts; see
    L{DeferredTracker} for those.
    """

    def __init__(self) -> None:
        self._outstanding = 0
        self._waiting: Waiters[None] = Waiters()

    def __repr__(self) -> str:
        outstanding, waiting = self.status()
        return f"<DeferredPool: {outstanding} outstanding, {waiting} waiting>"

    def add(self, d: Deferred[_T]) -> Deferred[_T]:
        """
        Wait for a Deferred, too.

        @param d: the Deferred. A Deferred that has fired already counts as firing now. One added
            twice counts twice. Only the callbacks that it has already count as part of it.
        @return: the same Deferred.
        """
        self._outstanding += 1
        return d.addBoth(self._fired)

    def notifyWhenEmpty(self, testImmediately: bool = True) -> Deferred[None]:
        """
        Wait until nothing is outstanding.

        @param testImmediately: whether a pool that is empty now will do. Otherwise it has to become
            empty after this call.
        @return: a Deferred that fires with C{None} when nothing is outstanding. Several of them
            fire in the order of asking, each only if the pool is still empty when its turn comes:
            if a callback of one adds a Deferred, the others wait for that, too. Cancelling it ends
            the wait.
        """
        if testImmediately and not self._outstanding:
            return succeed(None)
        return self._waiting.add()

    def status(self) -> tuple[int, int]:
        """
        Return how many Deferreds are outstanding, and how many wait until there are none.
        """
        return self._outstanding, len(self._waiting)

    def _fired(self, result: _T) -> _T:
        self._outstanding -= 1
        # A wait that begins meanwhile lasts until the pool becomes empty once more.
        if not self._outstanding:
            self._waiting.fireWhere(lambda _: not self._outstanding, None)
        return result
