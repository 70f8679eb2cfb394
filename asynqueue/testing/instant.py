"""
Time that stands still, in which all that can be done is done at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Clock
from zope.interface import implementer

_T = TypeVar("_T")


@implementer(IReactorTime)
class InstantReactor:
    """
    Has what is to be done without delay done before L{operate} returns, and leaves the rest to a
    clock.

    @ivar isHeld: whether that which can be held is held.
    """

    def __init__(self, clock: Clock) -> None:
        self.isHeld = False
        self._held: dict[Callable[[], object], None] = {}
        self._clock = clock
        # A list of what is due, whose own time never goes on.
        self._due = Clock()
        self._isOperating = False

    def seconds(self) -> float:
        """
        See C{twisted.internet.interfaces.IReactorTime}.
        """
        return self._clock.seconds()

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kwargs: object
    ) -> IDelayedCall:
        """
        See C{twisted.internet.interfaces.IReactorTime}.
        """
        if delay > 0:
            return self._clock.callLater(delay, self.operate, callable, *args, **kwargs)
        return self._due.callLater(0, callable, *args, **kwargs)

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """
        See C{twisted.internet.interfaces.IReactorTime}.
        """
        return [*self._due.getDelayedCalls(), *self._clock.getDelayedCalls()]

    def operate(self, function: Callable[..., _T], *args: Any, **kw: Any) -> _T:
        """
        Call a function, then do everything that is due. What is called by the function, or done
        because it is due, does not operate by itself: it adds to what is due. So things that lead
        to one another do not lead to a deep recursion.

        @return: what the function returns.
        """
        if self._isOperating:
            return function(*args, **kw)
        self._isOperating = True
        try:
            try:
                return function(*args, **kw)
            finally:
                self._due.advance(0)
        finally:
            self._isOperating = False

    def unlessHeld(self, function: Callable[[], object]) -> None:
        """
        Call a function now; or, if things are held, once when they are released.
        """
        if self.isHeld:
            self._held[function] = None
        else:
            function()

    def release(self) -> None:
        """
        Call what was held, and do everything that is due.
        """
        self.isHeld = False
        self.operate(self._callHeld)

    def _callHeld(self) -> None:
        held, self._held = self._held, {}
        for function in held:
            function()
