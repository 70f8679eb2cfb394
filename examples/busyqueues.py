"""
The program of L{examples.busy}: the queues, what comes into them, and the page.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)

from asynqueue import ProcessQueue, ResizableDispatchQueue, Retry
from asynqueue.admin import Access, AdminSite, OneTimeLogin
from asynqueue.admin.web import GuardedSite, hostsOf
from examples.busy import crash, parse, rows, thumbnail, transcode

LOOPBACK: Final = "127.0.0.1"

SERIES: Final = ("films", "parser", "pictures", "reports")
"""What the worker processes are qualified for."""

FEED_SECONDS: Final = 0.5
"""How often new work comes."""

MOST_WAITING: Final = 3000
"""If so many tasks wait, no more come."""


class Busy:
    """
    The two queues, and what comes into them.
    """

    def __init__(self, reactor: Any, store: Path) -> None:
        self._reactor = reactor
        self._random = random.Random(1)
        self._number = 0
        self.calls = ProcessQueue(3, series=SERIES, drainTimeout=1.0, reactor=reactor)
        self.mails = ResizableDispatchQueue(
            self._send,
            width=4,
            rate=6,
            store=store,
            storedAs="send a mail",
            retry=Retry(2),
            reactor=reactor,
        )

    async def _send(self, mail: dict[str, Any]) -> None:
        await deferLater(self._reactor, self._random.uniform(0.1, 0.9))
        if mail["number"] % 11 == 0:
            raise ConnectionError("the mail server does not answer")
        if mail["number"] % 17 == 0:
            raise ValueError(f"<{mail['to']}> is not an address")

    def feed(self) -> None:
        """
        Put some of everything.
        """
        if len(self.calls) < MOST_WAITING:
            for _ in range(self._random.randrange(2, 24)):
                self._number += 1
                self._call()
        if self.mails.size().pending < MOST_WAITING:
            mail = {"number": self._number, "to": f"reader{self._number}@mail.example"}
            self.mails.put(mail).addErrback(_known)

    def _call(self) -> None:
        number, call = self._number, self.calls.call
        name = f"picture-{number}.jpeg"
        if number % 97 == 0:
            d: Any = call(crash)
        elif number % 173 == 0:
            d = call(transcode, f"film-{number}.mkv", 24, series="films", niceness=5)
        elif number % 13 == 0:
            d = call(parse, "12" if number % 2 else "twelve", series="parser")
        elif number % 211 == 0:
            d = call(parse, "1", series="no worker for this")
        else:
            seconds = self._random.uniform(0.02, 0.2)
            d = call(thumbnail, name, seconds, series="pictures")
        d.addErrback(_known)

    async def read(self) -> None:
        """
        Take the items of a stream slowly.
        """
        items = await self.calls.call(rows, 10**9, series="reports")
        async for _ in items:
            await deferLater(self._reactor, 0.2)


def _known(failure: Any) -> None:
    """
    The page shows what has failed.
    """


async def serve(reactor: Any, port: int, store: Path) -> None:
    """
    Run until a signal comes.

    @raise SystemExit: if the port is taken.
    """
    busy = Busy(reactor, store)
    busy.calls.admin(name="calls", show=["arguments"])
    busy.mails.admin(name="mails", show=["arguments"])
    login = OneTimeLogin()
    queues = [
        busy.calls.administered(name="calls", show=["arguments"], history=50),
        busy.mails.administered(name="mails", show=["arguments"], history=50),
    ]
    page = AdminSite(*queues, login=login, reactor=reactor)
    site = GuardedSite(page, reactor=reactor)
    feeding = LoopingCall(busy.feed)
    reading = Deferred.fromCoroutine(busy.read())
    reading.addErrback(_known)

    async def stop() -> None:
        feeding.stop()
        page.close()
        reading.cancel()
        await busy.mails.stop(cancelUnderway=True)

    reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(stop()))
    try:
        listening = await TCP4ServerEndpoint(reactor, port, interface=LOOPBACK).listen(site)
    except CannotListenError as error:
        raise SystemExit(f"The page cannot be served: {error}") from error
    site.hosts.update(hostsOf(listening.getHost().port))
    feeding.start(FEED_SECONDS)
    address = f"http://{LOOPBACK}:{listening.getHost().port}/"
    print(f"Open {address}?token={login.makeToken(Access('you'))}")
    print("The link is good once. Ctrl-C ends this.", flush=True)
    await Deferred()


def run(port: int) -> None:
    """
    Run the program until SIGTERM or Ctrl-C.

    @param port: the port of the page, or 0 for any.
    """
    from twisted.internet import reactor

    quietly = LogLevelFilterPredicate(defaultLogLevel=LogLevel.critical)
    observer = FilteringLogObserver(textFileLogObserver(sys.stderr), [quietly])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    installed: Any = reactor
    failures: list[Any] = []

    def failed(failure: Any) -> None:
        failures.append(failure)
        installed.stop()

    with TemporaryDirectory() as folder:
        store = Path(folder, "mails.db")
        installed.callWhenRunning(
            lambda: Deferred.fromCoroutine(serve(installed, port, store)).addErrback(failed)
        )
        installed.run()
    for failure in failures:
        failure.raiseException()
