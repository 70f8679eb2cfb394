"""
Tells systemd that a program is ready, that it works, and that it ends.

systemd gives a unit of C{Type=notify} the path of a datagram socket in C{NOTIFY_SOCKET}. With
C{WatchdogSec} it also says in C{WATCHDOG_USEC} within how many microseconds it has to hear from the
program.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Final
from weakref import ref

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from asynqueue._core.states import Table, nextState
from asynqueue._lifecycle import StopCall
from asynqueue._reactor import perReactor

SEND_SECONDS: Final = 0.5
"""How long the reactor is held up, at the most, if systemd takes no message."""

IDLE: Final = "IDLE"
STARTING: Final = "STARTING"
READY: Final = "READY"
STOPPING: Final = "STOPPING"

NOTIFIER: Final[Table] = {
    # There is no service.
    IDLE: {"start": STARTING},
    # Services are being started. The reactor may not run yet.
    STARTING: {"run": READY, "stop": STOPPING, "end": IDLE},
    READY: {"stop": STOPPING, "end": IDLE},
    # The program ends. Services may still drain.
    STOPPING: {"stop": STOPPING, "end": IDLE},
}


class SystemdNotifier:
    """
    Tells systemd of the services that run on one reactor. Where systemd has not asked for that, it
    does nothing.

    @ivar state: a state of L{NOTIFIER}.
    """

    log = Logger()

    def __init__(self, reactor: IReactorTime, environ: Mapping[str, str] = os.environ) -> None:
        """
        @param environ: where systemd says what it wants.
        """
        self.state: str = IDLE
        self._reactor = ref(reactor)
        self._environ = environ
        self._services = 0
        self._hasFailed = False
        self._stopCall: StopCall | None = None
        self._beat: IDelayedCall | None = None

    def serviceStarted(self) -> None:
        """
        A service takes on work. When the reactor runs, systemd is told that the program is ready.
        """
        self._services += 1
        reactor = self._reactor()
        if self._services > 1 or reactor is None:
            return
        self._move("start")
        self._stopCall = StopCall(reactor, "before", self.stopping)
        if hasattr(reactor, "callWhenRunning"):
            reactor.callWhenRunning(self._runs)
        else:
            self._runs()

    def serviceEnded(self) -> None:
        """
        Nothing is left of a service that was started.
        """
        self._services -= 1
        if self._services:
            return
        self._move("end")
        if self._stopCall is not None:
            self._stopCall.forget()
            self._stopCall = None
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None

    def stopping(self) -> None:
        """
        The program is about to end.
        """
        if self.state in (STARTING, READY):
            self._move("stop")
            self._send("STOPPING=1")

    def _move(self, event: str) -> None:
        self.state = nextState(NOTIFIER, self.state, event, self)

    def _runs(self) -> None:
        if self.state == STARTING:
            self._move("run")
            self._send("READY=1")
            self._beatLater()

    def _beatLater(self) -> None:
        seconds, reactor = self._watchdogSeconds(), self._reactor()
        if seconds is not None and reactor is not None:
            # Twice as often as it is wanted, as systemd advises.
            self._beat = reactor.callLater(seconds / 2, self._beats)

    def _beats(self) -> None:
        self._send("WATCHDOG=1")
        self._beatLater()

    def _watchdogSeconds(self) -> float | None:
        pid = self._environ.get("WATCHDOG_PID", "")
        microseconds = self._environ.get("WATCHDOG_USEC", "")
        isMeant = pid in ("", str(os.getpid()))
        if not (isMeant and microseconds.isdecimal() and int(microseconds)):
            return None
        return int(microseconds) / 1_000_000

    def _send(self, message: str) -> None:
        path = self._environ.get("NOTIFY_SOCKET", "")
        if not path.startswith(("/", "@")):
            return
        # A name that begins with a null byte lies in no folder.
        address = "\0" + path[1:] if path.startswith("@") else path
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(SEND_SECONDS)
                sender.sendto(message.encode(), address)
        except OSError as error:
            if not self._hasFailed:
                self.log.warn(
                    "systemd cannot be told {message}: {error}", message=message, error=error
                )
            self._hasFailed = True


notifierOf = perReactor(SystemdNotifier)
"""Returns the one L{SystemdNotifier} of a reactor."""
