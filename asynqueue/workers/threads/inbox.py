"""
What is on its way to a thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

from asynqueue.universe.messages import CALL, Message


class Inbox:
    """
    Messages for a thread, which waits for them. Those that it has not taken can be taken back.
    """

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._changed = threading.Condition(threading.Lock())
        self._isClosed = False

    def put(self, messages: Iterable[Message]) -> None:
        """
        Add messages.
        """
        with self._changed:
            self._messages.extend(messages)
            self._changed.notify()

    def takeCalls(self, number: int | None = None) -> list[Message]:
        """
        @param number: the number of the one call to take out; C{None} for all.
        @return: the calls that were in here, and are not any more.
        """
        with self._changed:
            taken: list[Message] = []
            left: deque[Message] = deque()
            for message in self._messages:
                isWanted = message[0] == CALL and number in (None, message[1])
                (taken if isWanted else left).append(message)
            self._messages = left
            return taken

    def take(self, shouldWait: bool) -> list[Message]:
        """
        Take messages out, in order, up to the first call: the calls behind it can still be taken
        back.

        @param shouldWait: whether to wait if there are none. That ends when the inbox is closed.
        """
        with self._changed:
            while shouldWait and not self._messages and not self._isClosed:
                self._changed.wait()
            taken: list[Message] = []
            while self._messages and not (taken and taken[-1][0] == CALL):
                taken.append(self._messages.popleft())
            return taken

    def close(self) -> None:
        """
        Let whoever waits wait no longer.
        """
        with self._changed:
            self._isClosed = True
            self._changed.notify()
