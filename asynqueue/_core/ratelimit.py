"""
Limits how many starts there may be in a length of time.
"""

from __future__ import annotations

import math
from collections import deque

from asynqueue._core.checks import checkCount, checkSeconds


class RateLimit:
    """
    Allows at most C{rate} starts in any window of C{per} seconds, wherever it begins. A start that
    is exactly C{per} seconds old is no longer in the window.

    A burst that is smaller than the rate adds a token bucket of C{burst} tokens, which is refilled
    at C{rate / per} tokens a second. So no more than the burst start at once, and the others follow
    at the average pace. As in the "virtual scheduling" of ITU-T I.371, the bucket is represented by
    the moment when it will be full again, which is fixed and needs no clock. With a burst as large
    as the rate, the window is the stricter of the two and decides alone.

    The limit knows no clock. The caller says what time it is, in seconds of a clock that does not
    go back. If it goes back all the same, a start counts as if it were at the latest time known.

    @ivar rate: how many starts there may be in a window.
    @ivar per: the length of the window, in seconds.
    @ivar burst: how many starts there may be at once.
    """

    __slots__ = ("_anchor", "_latest", "_since", "_starts", "burst", "per", "rate")

    def __init__(self, rate: int, per: float = 1.0, burst: int | None = None) -> None:
        """
        @param rate: how many may begin within the window.
        @param per: the length of the window, in seconds.
        @param burst: how many may begin at once. Default: C{rate}, so that the window alone
            decides.
        @raise ValueError: if the rate or the burst is not a positive integer, or C{per} is not
            positive and finite.
        @raise TypeError: if C{per} is not a number.
        """
        burst = rate if burst is None else burst
        checkCount("rate", rate)
        checkCount("burst", burst)
        checkSeconds("per", per, positive=True, finite=True)
        self.rate = rate
        self.per = per
        self.burst = min(burst, rate)
        self._starts: deque[float] = deque(maxlen=rate)
        self._latest = -math.inf
        # The bucket is full again `_since` refills after `_anchor`. A number of refills is exact,
        # while a sum of times is not.
        self._anchor = -math.inf
        self._since = 0

    def __repr__(self) -> str:
        return f"<RateLimit: {self.rate} in {self.per} seconds, {self.burst} at once>"

    def earliest(self) -> float:
        """
        Return the time of the next start that is allowed. L{take} succeeds from then on, and not
        before.
        """
        starts = self._starts
        earliest = starts[0] + self.per if len(starts) == self.rate else -math.inf
        if self.burst < self.rate:
            earliest = max(earliest, self._refilled(self._since + 1 - self.burst))
        return earliest

    def take(self, now: float) -> bool:
        """
        Count a start now, if it is allowed.

        @return: whether it is allowed.
        """
        if self.earliest() > now:
            return False
        now = self._latest = max(now, self._latest)
        if self._refilled(self._since) <= now:
            self._anchor = now
            self._since = 1
        else:
            self._since += 1
        self._starts.append(now)
        return True

    def changed(self, rate: int, per: float, burst: int | None = None) -> RateLimit:
        """
        Make a limit with other numbers that knows of the latest starts here, up to this limit's
        rate. Its bucket is as full as this one's was at the latest start.

        @return: the new limit.
        @raise ValueError: as the constructor does.
        """
        other = RateLimit(rate, per, burst)
        if self._starts:
            other._starts.extend(self._starts)
            other._latest = self._latest
            missing = (self._refilled(self._since) - self._latest) * self.rate / self.per
            tokens = min(max(0.0, self.burst - missing), other.burst)
            missing = other.burst - tokens
            other._since = math.ceil(missing)
            other._anchor = self._latest - (other._since - missing) * other.per / other.rate
        return other

    def isIdle(self, now: float) -> bool:
        """
        Return whether this limit allows as much as a new one, so that it can be forgotten.
        """
        # A bucket takes burst * per / rate seconds to fill, which is no longer than a window.
        return self._latest + self.per <= now

    def _refilled(self, tokens: int) -> float:
        return self._anchor + tokens * self.per / self.rate
