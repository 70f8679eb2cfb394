"""
Two queues under mixed load, with the page on which they are seen and steered::

    python -m examples.busy

It prints the address of the page. Ctrl-C ends it. C{asynqueue top} and C{asynqueue admin} find the
queues as well.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
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

from asynqueue import ProcessQueue, ResizableDispatchQueue, Retry, report
from asynqueue.admin import Access, AdminSite, OneTimeLogin
from asynqueue.admin.web import GuardedSite, hostsOf

LOOPBACK: Final = "127.0.0.1"

SERIES: Final = ("films", "parser", "pictures", "reports")
"""What the worker processes are qualified for."""

FEED_SECONDS: Final = 0.5
"""How often new work comes."""

MOST_WAITING: Final = 3000
"""If so many tasks wait, no more come."""


# What the worker processes do ---------------------------------------------------------------------


def thumbnail(name: str, seconds: float) -> str:
    """
    Take a moment.
    """
    time.sleep(seconds)
    return f"{name} is small now"


def transcode(name: str, steps: int) -> str:
    """
    Take long, and tell how far it is.
    """
    for done in range(steps):
        report(done, steps)
        time.sleep(0.25)
    return f"{name} is transcoded"


def parse(text: str) -> int:
    """
    Fail unless a text is a number.
    """
    return int(text)


def crash() -> None:
    """
    End the process, as a fault in a library might.
    """
    os._exit(3)


def rows(count: int) -> Iterator[int]:
    """
    Yield items, faster than anybody takes them.
    """
    yield from range(count)


# The program --------------------------------------------------------------------------------------


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


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run the program until SIGTERM or Ctrl-C.
    """
    parser = argparse.ArgumentParser("python -m examples.busy", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="the port of the page (any)")
    command = parser.parse_args(arguments)
    if not 0 <= command.port <= 65535:
        parser.error(f"--port must be from 0 to 65535, not {command.port}")
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
            lambda: Deferred.fromCoroutine(serve(installed, command.port, store)).addErrback(failed)
        )
        installed.run()
    for failure in failures:
        failure.raiseException()


if __name__ == "__main__":
    # The end of the process frees everything. To look for garbage among all modules before takes as
    # long as half of their imports.
    atexit.register(gc.freeze)
    main()
