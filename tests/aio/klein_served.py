"""
A Klein application on Twisted's asyncio reactor. It asks itself for a page and prints it.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from twisted.internet import asyncioreactor


def main() -> None:
    asyncioreactor.install(asyncio.new_event_loop())
    from klein import Klein
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred
    from twisted.web.client import Agent, readBody
    from twisted.web.server import Site

    from asynqueue import ProcessQueue

    reactor: Any = installed
    loop: asyncio.AbstractEventLoop = reactor._asyncioEventloop
    app = Klein()
    queue = ProcessQueue(1)

    async def inAsyncio(text: str) -> bytes:
        result = await queue.call(len, text).asFuture(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return b"in asyncio %d" % result

    async def inTwisted(request: Any, text: str) -> bytes:
        return b"in Twisted %d" % await queue.call(len, text)

    def awaited(request: Any, text: str) -> Deferred[bytes]:
        return Deferred.fromFuture(asyncio.ensure_future(inAsyncio(text)))

    app.route("/twisted/<text>")(inTwisted)
    app.route("/asyncio/<text>")(awaited)

    async def ask() -> None:
        port = reactor.listenTCP(0, Site(app.resource()), interface="127.0.0.1")
        for name in (b"twisted", b"asyncio"):
            url = b"http://127.0.0.1:%d/%s/word" % (port.getHost().port, name)
            response: Any = await Agent(reactor).request(b"GET", url)
            sys.stdout.write((await readBody(response)).decode() + "\n")
        await port.stopListening()
        await queue.shutdown()

    def failed(failure: Any) -> None:
        sys.stdout.write(failure.getTraceback())

    def start() -> None:
        Deferred.fromCoroutine(ask()).addErrback(failed).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(start)
    reactor.run()
    loop.close()
