"""
How a call or a stream is ended that is not wanted any more: it is asked, then its runner gets
SIGTERM, then SIGKILL.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from asynqueue._workers.protocol import RunnerProtocol
from asynqueue.interfaces import IChannel


class Termination:
    """
    Ends calls and streams in one runner, each as gently as it lets itself be ended.

    @cvar askSeconds: how long a call may take to end after it was asked to.
    @cvar terminateSeconds: how long a runner may take to end after SIGTERM.
    @cvar endSeconds: how long a runner may take to end after it was told to quit.
    """

    askSeconds = 0.25
    terminateSeconds = 1.0
    endSeconds = 5.0

    def __init__(self, protocol: RunnerProtocol, channel: IChannel, reactor: IReactorTime) -> None:
        self._protocol = protocol
        self._channel = channel
        self._reactor = reactor
        self._timers: set[IDelayedCall] = set()
        self._ending: set[int] = set()
        self._isOver = False

    def begin(self, number: int) -> None:
        """
        Ask a call or a stream to end, and see to it that it does.
        """
        if self._isOver or number in self._ending:
            return
        self._ending.add(number)
        self._channel.send(self._protocol.cancel(number))
        self._channel.nudge()
        # A thread cannot be ended. It goes on, and nothing waits for it.
        if self._channel.isMortal:
            self._later(self.askSeconds, lambda: self._terminate(number))

    def expectEnd(self) -> None:
        """
        See to it that the runner ends, because it was told to quit.
        """
        self._later(self.endSeconds, self._channel.kill)

    def over(self) -> None:
        """
        Stop all timers, because the runner is gone.
        """
        self._isOver = True
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _terminate(self, number: int) -> None:
        if not self._protocol.has(number):
            self._ending.discard(number)
        elif self._protocol.mayRun(number, self._channel.lastBegun):
            self._channel.terminate()
            self._later(self.terminateSeconds, lambda: self._kill(number))
        else:
            # Another task is running, and must not be ended for the sake of this one.
            self._later(self.askSeconds, lambda: self._terminate(number))

    def _kill(self, number: int) -> None:
        self._ending.discard(number)
        if self._protocol.has(number):
            self._channel.kill()

    def _later(self, seconds: float, step: Callable[[], None]) -> None:
        def due() -> None:
            self._timers.discard(timer)
            step()

        timer = self._reactor.callLater(seconds, due)
        self._timers.add(timer)
