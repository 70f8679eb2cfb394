"""
The cancel termination: ask, SIGTERM, SIGKILL.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from asynqueue._workers.protocol import RunnerProtocol
from asynqueue.interfaces import IChannel


class Termination:
    """
    Ends a call or a stream that is not wanted any more, as gently as it lets itself be ended.

    @cvar askSeconds: how long it may take to heed the question.
    @cvar terminateSeconds: how long a runner may take to end after SIGTERM.
    @cvar endSeconds: how long a runner may take to end after it was told to quit.
    """

    askSeconds = 0.25
    terminateSeconds = 1.0
    endSeconds = 5.0

    def __init__(
        self, conversation: RunnerProtocol, channel: IChannel, reactor: IReactorTime
    ) -> None:
        self._protocol = conversation
        self._channel = channel
        self._reactor = reactor
        self._rungs: set[IDelayedCall] = set()
        self._climbing: set[int] = set()
        self._isOver = False

    def climb(self, number: int) -> None:
        """
        Begin with the lowest rung.

        @param number: the call or stream.
        """
        if self._isOver or number in self._climbing:
            return
        self._climbing.add(number)
        self._protocol.cancel(number)
        if not self._channel.isMortal:
            # What a thread is doing goes on; nobody waits for it.
            return
        self._later(self.askSeconds, lambda: self._terminate(number))

    def expectEnd(self) -> None:
        """
        The runner was told to quit: see to it that it does.
        """
        self._later(self.endSeconds, self._channel.kill)

    def over(self) -> None:
        """
        The runner is gone.
        """
        self._isOver = True
        for rung in self._rungs:
            rung.cancel()
        self._rungs.clear()

    def _terminate(self, number: int) -> None:
        if not self._protocol.has(number):
            self._climbing.discard(number)
            return
        if not self._protocol.mayRun(number):
            # Another task is running; its run is not to be ended for this one's sake.
            self._later(self.askSeconds, lambda: self._terminate(number))
            return
        self._channel.terminate()
        self._later(self.terminateSeconds, lambda: self._kill(number))

    def _kill(self, number: int) -> None:
        self._climbing.discard(number)
        if self._protocol.has(number):
            self._channel.kill()

    def _later(self, seconds: float, rung: Callable[[], None]) -> None:
        def climb() -> None:
            self._rungs.discard(call)
            rung()

        call = self._reactor.callLater(seconds, climb)
        self._rungs.add(call)
