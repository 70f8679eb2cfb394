"""
From any thread to the reactor's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime

from asynqueue.deferreds.clock import callFromAnyThread


class Mailbox:
    """
    Has functions called in the reactor's thread, in the order in which they were posted. However
    many are posted before the reactor comes to it, it is woken once.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._posted: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._isRung = False

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """
        Have something called soon. This may be called in any thread.

        @param function: what to call. It is not to raise.
        """
        self._posted.append((function, args))
        # Two threads that ring at the same time wake the reactor twice, and do no other harm.
        if not self._isRung:
            self._isRung = True
            callFromAnyThread(self._reactor, self._call)

    def _call(self) -> None:
        """
        Call what is there now; what is posted meanwhile has to wait for the reactor's next turn.
        """
        try:
            for _ in range(len(self._posted)):
                function, args = self._posted.popleft()
                function(*args)
        finally:
            # In this order: whoever posts now either is seen here or sees that it has to ring.
            self._isRung = False
            if self._posted:
                self._isRung = True
                self._reactor.callLater(0, self._call)
