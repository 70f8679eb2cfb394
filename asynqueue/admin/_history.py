"""
What a queue has ended lately: the last few, and how many in each second.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final

from asynqueue._core.checks import checkCount
from asynqueue._observers import Event, ObserverList

SECONDS: Final = 60
"""For how many seconds it is told how many ended in each."""

LAST: Final = 50
"""How many that ended are remembered while somebody looks."""


class HistoryKeeper:
    """
    Has a history while somebody looks, or always if it is to remember.

    @ivar history: the history, or C{None} while there is none.
    """

    def __init__(
        self,
        observers: ObserverList,
        observer: Callable[[Event], None],
        seconds: Callable[[], float],
        last: int,
    ) -> None:
        """
        @param observers: those of the queue.
        @param observer: notes in the history what ends.
        @param seconds: gives the time.
        @param last: how many are remembered even while nobody looks.
        """
        self.history: History | None = None
        self._observers = observers
        self._observer = observer
        self._seconds = seconds
        self._last = checkCount("history", last, least=0)

    def observe(self, isWatched: bool) -> None:
        """
        Begin a history, or end it, as is needed now.
        """
        if isWatched or self._last:
            if self.history is None:
                self.history = History(self._seconds, self._last or LAST)
                self._observers.add(self._observer)
        elif self.history is not None:
            self._observers.remove(self._observer)
            self.history = None

    def find(self, task: int) -> dict[str, Any] | None:
        """
        @param task: the number of a task or a job.
        @return: what is told of it, if it has ended lately.
        """
        last = [] if self.history is None else self.history.last()
        return next((facts for facts in last if facts["id"] == task), None)

    def forget(self) -> None:
        """
        Observe nothing any more.
        """
        self._last = 0
        self.observe(False)


class History:
    """
    Remembers what has ended, from when it was made.

    @ivar counts: how many have ended in each state.
    """

    def __init__(self, seconds: Callable[[], float], last: int = LAST) -> None:
        """
        @param seconds: gives the time.
        @param last: how many are remembered.
        """
        self.counts: Counter[str] = Counter()
        self._seconds = seconds
        self._last: deque[tuple[float, dict[str, Any]]] = deque(maxlen=last)
        self._began = seconds()
        # How many ended in each of the last seconds; and the number of the last one.
        self._rates: deque[int] = deque([0], maxlen=SECONDS)
        self._second = int(self._began)

    def ended(self, state: str, facts: dict[str, Any]) -> None:
        """
        Note that something has ended.

        @param state: its state now.
        @param facts: what is told of it.
        """
        now = self._seconds()
        self.counts[state] += 1
        self._advance(now)
        self._rates[-1] += 1
        self._last.append((now, facts))

    def last(self) -> list[dict[str, Any]]:
        """
        @return: the last ones that ended, the latest first, and how many seconds ago.
        """
        now = self._seconds()
        return [{**facts, "ago": now - time} for time, facts in reversed(self._last)]

    def summary(self) -> dict[str, Any]:
        """
        @return: how many have ended, since when in seconds, and in each of the last seconds.
        """
        now = self._seconds()
        self._advance(now)
        return {"for": now - self._began, "counts": dict(self.counts), "rates": [*self._rates]}

    def _advance(self, now: float) -> None:
        second = int(now)
        # A wall clock may be set back, or forward by years.
        for _ in range(min(second - self._second, SECONDS)):
            self._rates.append(0)
        self._second = second
