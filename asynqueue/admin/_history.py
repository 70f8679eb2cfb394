"""
The base of the views of queues that others have, with a history of what has ended lately: the last
few, and how many in each second.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Cooperator

from asynqueue._core.checks import checkCount
from asynqueue._observers import Event, ObserverList
from asynqueue.admin.administrable import Showing
from asynqueue.admin.api import checkShow
from asynqueue.interfaces import JSONObject

SECONDS: Final = 60
"""For how many seconds it is told how many ended in each."""

LAST: Final = 50
"""How many that ended are remembered while somebody looks."""


class Inspection:
    """
    The base of the views of queues that others have. It has a history of what ended while somebody
    looks, or always if it is to remember.

    @ivar name: the queue's name in requests.
    @ivar kind: the name of the queue's class.
    @ivar isReadOnly: whether it can only be looked at.
    @ivar verbs: what can be asked.
    @ivar history: the history, or C{None} while there is none.
    """

    verbs: dict[str, Callable[..., object]]

    def __init__(
        self, queue: object, showing: Showing, observers: ObserverList, reactor: IReactorTime
    ) -> None:
        """
        @param queue: the queue, which this does not keep.
        @param showing: what is to be shown of it.
        @param observers: those of the queue.
        @param reactor: gives the queue's time.
        @raise AdminError: if C{show} names something that there is not.
        @raise ValueError: if C{history} is not an integer of 0 or more.
        """
        self.name = showing.name
        self.kind = type(queue).__name__
        self.isReadOnly = showing.isReadOnly
        self.history: History | None = None
        self._show = checkShow(showing.show)
        self._observers = observers
        self._seconds = reactor.seconds
        self._last = checkCount("history", showing.history, least=0)
        self._inTurns = Cooperator(scheduler=partial(reactor.callLater, 0)).coiterate
        self.observe(False)

    def observe(self, isWatched: bool) -> None:
        """
        Begin a history, or end it, as is needed now. See L{IAdministered}.
        """
        if isWatched or self._last:
            if self.history is None:
                self.history = History(self._seconds, self._last or LAST)
                self._observers.add(self._observe)
        elif self.history is not None:
            self._observers.remove(self._observe)
            self.history = None

    def forget(self) -> None:
        """
        Observe nothing any more.
        """
        self._last = 0
        self.observe(False)

    def _observe(self, event: Event) -> None:
        """
        Note in the history what ends.
        """
        raise NotImplementedError

    def _lastEnded(self) -> list[JSONObject]:
        """
        @return: what is told of the tasks or jobs that ended last.
        """
        return [] if self.history is None else self.history.last()

    def _findEnded(self, id: int) -> JSONObject | None:
        """
        @return: what is told of a task or a job, if it has ended lately.
        """
        return next((facts for facts in self._lastEnded() if facts["id"] == id), None)

    def _summaryOfEnded(self) -> JSONObject | None:
        return None if self.history is None else self.history.summary()


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
        self._last: deque[tuple[float, JSONObject]] = deque(maxlen=last)
        self._began = seconds()
        # How many ended in each of the last seconds; and the number of the last one.
        self._rates: deque[int] = deque([0], maxlen=SECONDS)
        self._second = int(self._began)

    def ended(self, state: str, facts: JSONObject) -> None:
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

    def last(self) -> list[JSONObject]:
        """
        @return: the last ones that ended, the latest first, and how many seconds ago.
        """
        now = self._seconds()
        return [{**facts, "ago": now - time} for time, facts in reversed(self._last)]

    def summary(self) -> JSONObject:
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
