"""
How many may start in a length of time.
"""

from __future__ import annotations

import math
from collections import deque


class RateLimit:
    """
    Allows at most so many starts in any window of a given length, wherever it begins: in the last
    C{per} seconds, the moment C{per} seconds ago not included.

    With a burst smaller than that number, no more than the burst start at once, and the others
    follow at the average pace: a token bucket of C{burst} tokens, refilled at C{rate / per} tokens
    a second, beside the window. It is kept as ITU-T I.371 keeps its "virtual scheduling": by when
    the bucket will be full again, which is a fixed moment and needs no clock. (With a burst as
    large as the rate the window is the stricter of the two, and decides alone.)

    It knows no clock: whoever asks says what time it is, in seconds of a clock that does not go
    back. Should it go back all the same, a start counts as if it were at the latest time known.

    @ivar rate: how many may start in a window.
    @ivar per: how long the window is, in seconds.
    @ivar burst: how many may start at once.
    """

    __slots__ = ("_anchor", "_latest", "_since", "_starts", "burst", "per", "rate")

    def __init__(self, rate: int, per: float = 1.0, burst: int | None = None) -> None:
        """
        @param burst: by default as many as C{rate}: the window alone decides.
        @raise ValueError: if the rate or the burst is not a positive integer, or C{per} is not a
            positive, finite number of seconds.
        """
        burst = rate if burst is None else burst
        for name, number in (("rate", rate), ("burst", burst)):
            if type(number) is not int or number < 1:
                raise ValueError(f"{name} must be a positive integer, not {number!r}")
        if not isinstance(per, int | float) or not 0 < per < math.inf:
            raise ValueError(f"per must be a positive number of seconds, not {per!r}")
        self.rate = rate
        self.per = per
        self.burst = min(burst, rate)
        self._starts: deque[float] = deque(maxlen=rate)
        self._latest = -math.inf
        # The bucket is full again `_since` refills after `_anchor`. A whole number of refills,
        # rather than a sum of them, is exact.
        self._anchor = -math.inf
        self._since = 0

    def __repr__(self) -> str:
        return f"<RateLimit: {self.rate} in {self.per} seconds, {self.burst} at once>"

    def earliest(self) -> float:
        """
        @return: when the next one may start. L{take} succeeds then and after, and not before.
        """
        starts = self._starts
        earliest = starts[0] + self.per if len(starts) == self.rate else -math.inf
        if self.burst < self.rate:
            earliest = max(earliest, self._refilled(self._since + 1 - self.burst))
        return earliest

    def take(self, now: float) -> bool:
        """
        Start one, if it may start.

        @return: whether it may.
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
        @return: a limit with other numbers that knows of my latest starts, of as many as my own
            rate is. Its bucket is as full as mine was at the latest start.
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
        @return: whether it forbids no more than a new one would, so that it can be forgotten.
        """
        # A bucket takes burst * per / rate seconds to fill, which is no longer than a window.
        return self._latest + self.per <= now

    def _refilled(self, tokens: int) -> float:
        return self._anchor + tokens * self.per / self.rate
