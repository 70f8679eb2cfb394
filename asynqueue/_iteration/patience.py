"""
Which streams are worth waiting for when a worker or a queue stops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from asynqueue._iteration.sources import ItemSource

IDLE_SECONDS: Final = 2.0
"""For how long, in seconds, a stop waits for a taker that takes none of the items there are."""

_LOOKS: Final = 4
"""How often it looks in that time."""


class StreamPatience:
    """
    Waits for the streams that are being consumed, and gives up the others.

    A stream whose taker waits for the next item is waited for, however long the far side needs. A
    stream is given up at once if no item of it was ever taken and no taker waits. It is given up
    after L{IDLE_SECONDS} without a taken item if its taker is busy elsewhere or has paused.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        giveUp: Callable[[ItemSource], None],
        lookAgain: Callable[[], object],
    ) -> None:
        """
        @param giveUp: is called with each stream that is given up.
        @param lookAgain: is called when it is time to call L{look} again, though nothing happened.
        """
        self._reactor = reactor
        self._giveUp = giveUp
        self._lookAgain = lookAgain
        # For each stream how often its taker had taken, and since when it has not taken again.
        self._seen: dict[ItemSource, tuple[int, float]] = {}
        self._givenUp: set[ItemSource] = set()
        self._timer: IDelayedCall | None = None

    def look(self, sources: Iterable[ItemSource]) -> bool:
        """
        Give up the streams that are not being consumed.

        @param sources: the streams. An iteration that is over and was taken to its end makes no
            difference.
        @return: whether there is still one to wait for.
        """
        isWaiting = False
        for source in list(sources):
            if source in self._givenUp or (source.isOver and not source.items):
                continue
            if self._isTaken(source):
                isWaiting = True
            else:
                self._givenUp.add(source)
                self._giveUp(source)
        if isWaiting and self._timer is None:
            self._timer = self._reactor.callLater(IDLE_SECONDS / _LOOKS, self._due)
        elif not isWaiting:
            self.end()
        return isWaiting

    def lookSoon(self) -> None:
        """
        Call C{lookAgain} in the reactor's next turn, because a stream has changed.
        """
        if self._timer is not None:
            self._timer.reset(0)

    def end(self) -> None:
        """
        Look no more.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _isTaken(self, source: ItemSource) -> bool:
        now = self._reactor.seconds()
        isAwaited = source.listener is not None and not source.isPaused
        if not source.takings and not isAwaited and not source.isPaused:
            return False
        takings, since = self._seen.get(source, (-1, now))
        if isAwaited or takings != source.takings:
            self._seen[source] = source.takings, now
            return True
        return now - since < IDLE_SECONDS

    def _due(self) -> None:
        self._timer = None
        self._lookAgain()
