"""
A clock that stops as a reactor does, with system events and signals.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

HANDLED = (signal.SIGINT, signal.SIGTERM)


class EndingClock(Clock):
    """
    The methods of a reactor that have to do with its end, added to a clock.
    """

    _exitSignal: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.triggers: list[tuple[str, Callable[..., Any]]] = []
        self.heard: list[int] = []

    def addSystemEventTrigger(self, phase: str, event: str, function: Callable[..., Any]) -> Any:
        assert event == "shutdown"
        trigger = (phase, function)
        self.triggers.append(trigger)
        return trigger

    def removeSystemEventTrigger(self, trigger: Any) -> None:
        self.triggers.remove(trigger)

    def sigInt(self, number: int, frame: object) -> None:
        """
        Handle a signal as a reactor does, which cannot stop twice.
        """
        self.heard.append(number)

    def stop(self, number: int | None = None) -> Deferred[None]:
        """
        Stop, perhaps because of a signal.

        @return: a Deferred that fires after the last turn.
        """
        self._exitSignal = number
        return DeferredList(self._fire("before")).addCallback(self._stopped)

    def _stopped(self, _: object) -> None:
        self._fire("during")

    def _fire(self, phase: str) -> list[Deferred[Any]]:
        results = []
        while found := [trigger for trigger in self.triggers if trigger[0] == phase]:
            self.triggers.remove(found[0])
            results.append(maybeDeferred(found[0][1]))
        return results

    def handleSignals(self, case: SynchronousTestCase) -> None:
        """
        Handle the signals during a test, in place of the handlers that the test runner has set.
        """
        for number in HANDLED:
            case.addCleanup(signal.signal, number, signal.getsignal(number))
            signal.signal(number, self.sigInt)
