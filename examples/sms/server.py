"""
The server: C{python -m examples.sms.server --gateway http://127.0.0.1:8101/}.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.task import react
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)

from asynqueue.admin.web import GuardedSite, hostsOf
from asynqueue.errors import StoreError
from examples.sms.client import GatewayClient
from examples.sms.options import (
    MOST_AT_ONCE,
    MOST_IN_A_SECOND,
    Parser,
    endWithParent,
    webAddress,
    whole,
)
from examples.sms.texting import Settings, Texting
from examples.sms.web import Root

LOOPBACK = "127.0.0.1"


def parseArguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """
    @param arguments: the command's. Default: those of this process.
    """
    parser = Parser(
        "python -m examples.sms.server",
        "A server with a form for telephone numbers and a text, which it texts through a gateway.",
    )
    add = parser.add_argument
    add("--gateway", required=True, type=webAddress, help="the address that takes messages")
    add("--port", type=whole(0, 65535), default=8100, help="0 for any; default: 8100")
    add("--store", default="jobs.db", help="the file that keeps the messages")
    add("--width", type=whole(0, MOST_AT_ONCE), default=5, help="requests at once; default: 5")
    most = MOST_IN_A_SECOND
    add("--limit", type=whole(1, most), default=10, help="requests a second; default: 10")
    add("--attempts", type=whole(1, 1000), default=8, help="for each message; default: 8")
    return parser.parse_args(arguments)


async def serve(reactor: Any, command: argparse.Namespace) -> None:
    """
    Serve until a signal comes; then let what is underway arrive.

    @raise SystemExit: if it cannot begin.
    """
    client = GatewayClient(command.gateway, command.limit, reactor)
    settings = Settings(command.store, command.width, command.limit, command.attempts)
    try:
        texting = Texting(client.send, settings, reactor, client.setLimit)
        site = GuardedSite(Root(texting), reactor=reactor)
        port = await TCP4ServerEndpoint(reactor, command.port, interface=LOOPBACK).listen(site)
    except (StoreError, CannotListenError) as error:
        raise SystemExit(f"The server cannot begin: {error}") from error

    site.hosts.update(hostsOf(port.getHost().port))

    async def stop() -> None:
        await port.stopListening()
        await texting.stopService()
        await client.close()

    reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(stop()))
    endWithParent(command.parent, reactor.stop, reactor)
    texting.startService()
    print(f"The server is at http://{LOOPBACK}:{port.getHost().port}/", flush=True)
    await Deferred()


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run the server until SIGTERM or Ctrl-C.

    @raise SystemExit: when it has ended.
    """
    command = parseArguments(arguments)
    quietly = LogLevelFilterPredicate(defaultLogLevel=LogLevel.warn)
    observer = FilteringLogObserver(textFileLogObserver(sys.stderr), [quietly])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    react(lambda reactor: Deferred.fromCoroutine(serve(reactor, command)))


if __name__ == "__main__":
    main()
