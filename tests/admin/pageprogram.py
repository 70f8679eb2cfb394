"""
A program that serves the page of a queue in which much waits, until its input ends.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Protocol
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react

from asynqueue import TaskQueue
from asynqueue.admin import Access, AdminSite, OneTimeLogin
from asynqueue.admin.web import GuardedSite, hostsOf
from asynqueue.testing import InlineWorker

EVIL = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>\u202eabc"


class Evil:
    """
    An argument whose C{repr} is markup.
    """

    def __repr__(self) -> str:
        return EVIL


class Input(Protocol):
    """
    Each line that comes puts a call. The end ends the program.
    """

    def __init__(self, queue: TaskQueue, over: Deferred[None]) -> None:
        self._queue = queue
        self._over = over

    def dataReceived(self, data: bytes) -> None:
        for _ in range(data.count(b"\n")):
            self._queue.call(len, "new").addErrback(lambda _: None)

    def connectionLost(self, reason: Any = None) -> None:
        self._over.callback(None)


async def main(reactor: Any) -> None:
    """
    Serve.
    """
    queue = TaskQueue(InlineWorker("mails"))
    queue.pause()
    for number in range(60):
        queue.call(len, f"mail {number}", series="mails").addErrback(lambda _: None)
    queue.call(len, Evil(), series=EVIL, doNext=True).addErrback(lambda _: None)
    login = OneTimeLogin()
    page = AdminSite(queue, login=login, show=["arguments"], history=20)
    site = GuardedSite(page, reactor=reactor)
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(site)
    number = port.getHost().port
    site.hosts.update(hostsOf(number))
    over: Deferred[None] = Deferred()
    StandardIO(Input(queue, over))
    sys.stdout.write(f"http://127.0.0.1:{number}/?token={login.makeToken(Access('ann'))}\n")
    sys.stdout.flush()
    await over
    page.close()


if __name__ == "__main__":
    react(main)
