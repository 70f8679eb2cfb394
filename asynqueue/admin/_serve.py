"""
C{asynqueue admin}: serves the page about this user's programs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)

from asynqueue._reactor import IReactor, defaultReactor
from asynqueue.admin._programs import FoundPrograms
from asynqueue.admin._webkit import GuardedSite, hostsOf
from asynqueue.admin.client import socketFolder
from asynqueue.admin.login import Access, OneTimeLogin
from asynqueue.admin.site import AdminSite
from asynqueue.errors import AdminError

LOOPBACK: Final = "127.0.0.1"


class PageServer:
    """
    Serves the page on the loopback interface.
    """

    def __init__(
        self,
        reactor: IReactor,
        say: Callable[[str], object],
        path: str | None = None,
        port: int = 0,
        readOnly: bool = False,
    ) -> None:
        """
        @param say: is called with each line that the user is told.
        @param path: the socket of the one program to show. Default: all programs.
        @param port: the port; 0 for any.
        @param readOnly: whether nobody may change anything.
        """
        self._reactor = reactor
        self._say = say
        self._port = port
        self._full = Access("you", ()) if readOnly else Access("you")
        self._login = OneTimeLogin(spent=self._spent, clock=reactor.seconds)
        self._programs = FoundPrograms(reactor, path)
        self._site = AdminSite(login=self._login, programs=self._programs, reactor=reactor)
        # No interface says that the address of a port has a number.
        self._listening: Any = None

    async def start(self) -> None:
        """
        Listen, and tell the user where.

        @raise AdminError: if that is not possible.
        """
        # The folder of the sockets has to be this user's.
        socketFolder()
        site = GuardedSite(self._site, reactor=self._reactor)
        endpoint = TCP4ServerEndpoint(self._reactor, self._port, interface=LOOPBACK)
        try:
            self._listening = await endpoint.listen(site)
        except CannotListenError as error:
            raise AdminError(f"cannot listen at port {self._port}: {error.socketError}") from error
        site.hosts.update(hostsOf(self._listening.getHost().port))
        self._say(f"Open {self._link(self._full)}")
        if self._full.acts:
            self._say(f"  or, only to look, {self._link(LOOKING)}")
        self._say("Each link is good once. Ctrl-C ends this.")

    def _link(self, access: Access) -> str:
        port = self._listening.getHost().port
        return f"http://{LOOPBACK}:{port}/?token={self._login.makeToken(access)}"

    def _spent(self, access: Access) -> None:
        self._say(f"The link was used. For another browser: {self._link(access)}")

    async def stop(self) -> None:
        """
        Listen no more, and leave the programs.
        """
        self._site.close()
        if self._listening is not None:
            await self._listening.stopListening()


LOOKING: Final = Access("a guest", ())
"""The purpose of the second link."""


def run(path: str | None, port: int, readOnly: bool) -> None:
    """
    Do what C{asynqueue admin} does, until SIGINT or SIGTERM.

    @raise AdminError: if it cannot begin.
    """
    reactor = defaultReactor()
    quietly = LogLevelFilterPredicate(defaultLogLevel=LogLevel.warn)
    observer = FilteringLogObserver(textFileLogObserver(sys.stderr), [quietly])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    server = PageServer(reactor, _say, path, port, readOnly)
    failed: list[AdminError] = []

    async def start() -> None:
        try:
            await server.start()
        except AdminError as error:
            failed.append(error)
            reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(start()))
    reactor.addSystemEventTrigger(
        "before", "shutdown", lambda: Deferred.fromCoroutine(server.stop())
    )
    reactor.run()
    if failed:
        raise failed[0]


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
