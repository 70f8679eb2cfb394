"""
Items on their way from one thread to an iterator in another.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.python.failure import Failure


class WouldWait(Exception):
    """
    There is nothing now, and the caller must not wait.
    """


class Handover:
    """
    A buffer between threads. All methods may be called in any thread.

    @ivar window: how many items count as full; infinity if none do. What is put beyond that is
        kept all the same.
    """

    def __init__(self, window: float, roomMade: Callable[[], None]) -> None:
        """
        @param roomMade: called in the taking thread when the buffer was full and half of it has
            been taken.
        """
        self.window = window
        self._roomMade = roomMade
        self._items: deque[Any] = deque()
        # Reentrant, as the garbage collector may end an iteration at any time.
        self._changed = threading.Condition(threading.RLock())
        self._failure: Failure | None = None
        self._isEnded = False
        self._wasFull = False

    def __len__(self) -> int:
        return len(self._items)

    @property
    def isEnded(self) -> bool:
        """
        Whether nothing more can be put.
        """
        return self._isEnded

    def put(self, item: Any) -> bool:
        """
        @return: whether there is room for another.
        """
        with self._changed:
            if not self._isEnded:
                self._items.append(item)
                self._changed.notify_all()
            return self.hasRoom()

    def hasRoom(self) -> bool:
        """
        Look whether there is room. If not, it will be told when there is.
        """
        with self._changed:
            if len(self._items) >= self.window:
                self._wasFull = True
            return not self._wasFull

    def waitForRoom(self) -> bool:
        """
        @return: whether there is room; not if the end came first.
        """
        with self._changed:
            while not self._isEnded and len(self._items) >= self.window:
                self._changed.wait()
            return not self._isEnded

    def end(self, failure: Failure | None = None) -> None:
        """
        Nothing more will come. What is in the buffer can still be taken, and a failure after it. No
        effect if it has ended.
        """
        with self._changed:
            if not self._isEnded:
                self._isEnded = True
                self._failure = failure
                self._changed.notify_all()

    def drop(self) -> None:
        """
        Nothing more is wanted: end, and forget what is in the buffer.
        """
        with self._changed:
            self._isEnded = True
            self._failure = None
            self._items.clear()
            self._changed.notify_all()

    def take(self, mayWait: bool) -> Any:
        """
        Take an item, and wait for it if there is none.

        @param mayWait: whether the caller can wait.
        @raise WouldWait: if there is none and the caller cannot wait.
        @raise StopIteration: at the end. If that is a failure, it is raised instead, once.
        """
        with self._changed:
            while not self._items and not self._isEnded:
                if not mayWait:
                    raise WouldWait
                self._changed.wait()
            if not self._items:
                failure, self._failure = self._failure, None
                if failure is not None:
                    failure.raiseException()
                raise StopIteration
            item = self._items.popleft()
            isRoomMade = self._wasFull and len(self._items) <= self.window // 2
            if isRoomMade:
                self._wasFull = False
            self._changed.notify_all()
        if isRoomMade:
            self._roomMade()
        return item
