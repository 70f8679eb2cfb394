"""
Policies that say which failures are tried again, how often and when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from asynqueue._core.checks import checkCount, checkSeconds

Delays = Callable[[int], float]
"""Takes the number of attempts in a row that have failed, and returns how many seconds to wait.
C{twisted.application.internet.backoffPolicy} returns such a callable."""


def backoff(
    initial: float = 1.0,
    longest: float = 60.0,
    factor: float = 1.5,
    jitter: float = 0.5,
    random: Random | None = None,
) -> Delays:
    """
    Make delays that grow from one failure to the next.

    The delay after the C{n}th failure is C{initial * factor ** (n - 1)} seconds, at most
    C{longest}. A part of it is random, so that attempts that failed together are not repeated
    together.

    @param initial: the first delay, in seconds.
    @param longest: the longest delay, in seconds.
    @param factor: how much longer each delay is than the one before, 1.0 or more.
    @param jitter: the part of a delay that is random, from 0.0 to 1.0. With a jitter of 0.5, a
        delay of 10 seconds becomes one of 5 to 10 seconds.
    @param random: the source of random numbers. Default: a generator of its own.
    @return: the delays.
    @raise ValueError: if one of the numbers is out of its range.
    """
    if not 0 <= initial <= longest:
        raise ValueError(f"initial and longest must be seconds, 0 <= {initial!r} <= {longest!r}")
    if not factor >= 1:
        raise ValueError(f"factor must be 1.0 or more, not {factor!r}")
    if not 0 <= jitter <= 1:
        raise ValueError(f"jitter must be from 0.0 to 1.0, not {jitter!r}")
    chance = Random() if random is None else random

    def delay(failures: int) -> float:
        try:
            wait = min(longest, initial * factor ** (max(failures, 1) - 1))
        except OverflowError:
            wait = longest
        return wait * (1.0 - jitter * chance.random())

    return delay


@dataclass(frozen=True, slots=True)
class Retry:
    """
    A policy of repeating what has failed.

    @ivar attempts: how many attempts there are in all, the first one included.
    @ivar delays: how long to wait after each failure; see L{backoff}.
    @ivar errors: the types of exceptions that are worth another attempt. Any iterable of types may
        be given, or one type; this is a tuple.
    @ivar isWorthwhile: takes an exception of one of these types, and returns whether it is worth
        another attempt.
    """

    attempts: int = 3
    delays: Delays = field(default_factory=backoff)
    errors: Iterable[type[BaseException]] | type[BaseException] = (Exception,)
    isWorthwhile: Callable[[BaseException], bool] = lambda error: True

    def __post_init__(self) -> None:
        """
        @raise TypeError: if the errors are not types of exceptions.
        @raise ValueError: if the attempts are not a positive integer.
        """
        checkCount("attempts", self.attempts)
        errors = self.errors
        kinds = (errors,) if isinstance(errors, type) else errors
        if not isinstance(kinds, Iterable) or not all(map(_isErrorType, kinds := tuple(kinds))):
            raise TypeError(f"errors must be types of exceptions, not {errors!r}")
        # isinstance() takes no list.
        object.__setattr__(self, "errors", kinds)

    def delayAfter(self, error: BaseException, attempts: int) -> float | None:
        """
        Decide whether there is another attempt, and when.

        @param error: why the latest attempt failed.
        @param attempts: how many attempts there have been.
        @return: how many seconds to wait before the next attempt, or C{None} if there is none.
        """
        kinds: Any = self.errors
        if attempts >= self.attempts or not isinstance(error, kinds):
            return None
        return self.delays(attempts) if self.isWorthwhile(error) else None

    def decide(self, error: BaseException, attempts: int) -> tuple[BaseException, float | None]:
        """
        Do what L{delayAfter} does. If the policy itself fails, its error takes the place of the
        other, which becomes its cause, so that whoever waits hears of both.

        @return: the error, and the delay.
        """
        try:
            delay = self.delayAfter(error, attempts)
            return error, checkSeconds("the delay", delay, finite=True, optional=True)
        except BaseException as broken:
            if broken is not error:
                broken.__cause__ = error
            return broken, None


def _isErrorType(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)
