"""
What a queue's observers are still to be told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from asynqueue.queue.events import Event
from asynqueue.queue.queued import QueuedTask

Observer = Callable[[Event], Any]


class News:
    """
    Notes events where they happen, and tells of them where it is safe: observers may do to the
    queue whatever they like.

    @ivar observers: those who are told. As long as there are none, nothing is to be noted.
    """

    log = Logger()

    __slots__ = ("_isTelling", "_noted", "_seconds", "observers")

    def __init__(self, seconds: Callable[[], float]) -> None:
        """
        @param seconds: gives the time.
        """
        self._seconds = seconds
        self._isTelling = False
        # Each with those who were observers when it happened.
        self._noted: deque[tuple[Event, tuple[Observer, ...]]] = deque()
        self.observers: tuple[Observer, ...] = ()

    def add(self, observer: Observer) -> None:
        """
        One more is told from now on.

        @raise TypeError: if it cannot be called.
        """
        if not callable(observer):
            raise TypeError(f"an observer is called with each event, but {observer!r} cannot be")
        if observer not in self.observers:
            self.observers += (observer,)

    def remove(self, observer: Observer) -> None:
        """
        One is told nothing more.

        @raise ValueError: if it was not told before.
        """
        if observer not in self.observers:
            raise ValueError(f"{observer!r} does not observe this queue")
        self.observers = tuple(other for other in self.observers if other != observer)
        if not self.observers:
            self._noted.clear()

    def note(
        self,
        kind: str,
        task: QueuedTask | None = None,
        worker: Any = None,
        reason: BaseException | None = None,
    ) -> None:
        """
        Something has happened.
        """
        self._noted.append((Event(kind, self._seconds(), task, worker, reason), self.observers))

    def tell(self) -> None:
        """
        Tell of all that was noted. What an observer causes is told after what it was being told,
        so that all hear everything in the same order.
        """
        if self._isTelling:
            return
        self._isTelling = True
        try:
            while self._noted:
                event, observers = self._noted.popleft()
                for observer in observers:
                    self._tellOne(observer, event)
        finally:
            self._isTelling = False

    def _tellOne(self, observer: Observer, event: Event) -> None:
        if observer not in self.observers:
            return
        try:
            observer(event)
        except Exception:
            self.log.failure("{observer} failed to hear of {event}", observer=observer, event=event)
