"""
A gateway that only pretends to send: C{python -m examples.sms.gateway}.

It is slow, answers 429 to whatever comes faster than its limit, and fails at random. It remembers
in a file what came, so that the messages can be counted whatever happens to anybody.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import react
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from asynqueue.rdq import RateLimit
from examples.sms.options import MOST_IN_A_SECOND, Parser, endWithParent, real, whole

LOOPBACK = "127.0.0.1"

_SAYS = {200: b"sent", 429: b"too fast", 500: b"broken"}


class Record:
    """
    The requests that came: C{(time, id, status)}, in memory and in a file, one JSON array a line.
    """

    def __init__(self, path: Path) -> None:
        self.sent: Counter[str] = Counter()
        self.attempts: Counter[str] = Counter()
        self.answers: Counter[int] = Counter()
        if path.exists():
            for number, line in enumerate(path.read_text().splitlines(), 1):
                try:
                    _, id, status = json.loads(line)
                except (ValueError, TypeError) as error:
                    raise ValueError(f"line {number} of {path} is not a record") from error
                self._count(id, status)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def add(self, time: float, id: str, status: int) -> None:
        """
        A message came, and this is what is answered.
        """
        os.write(self._file, json.dumps([time, id, status]).encode() + b"\n")
        self._count(id, status)

    def _count(self, id: str, status: int) -> None:
        self.attempts[id] += 1
        self.answers[status] += 1
        if status == 200:
            self.sent[id] += 1

    def summary(self) -> dict[str, Any]:
        """
        @return: the number of different messages that were sent, the number of those that were sent
            more than once, how often they were, and the number of answers by status.
        """
        return {
            "messages": len(self.sent),
            "duplicates": self.sent.total() - len(self.sent),
            "answers": dict(self.answers),
        }


class Gateway(Resource):
    """
    Takes messages by POST.
    """

    isLeaf = True

    def __init__(self, command: argparse.Namespace, reactor: IReactorTime) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.record = Record(command.record)
        self._limit = RateLimit(command.limit)
        self._failures = command.failures
        self._latency = command.latency
        self._seed = command.seed
        self._reactor = reactor

    def render_POST(self, request: Request) -> int | bytes:
        """
        Decide what becomes of a message, write that down, and answer after a while.
        """
        try:
            id = str(json.loads(_bodyOf(request))["id"])
        except (ValueError, KeyError, TypeError):
            request.setResponseCode(400)
            return b"no message"
        now = self._reactor.seconds()
        # The same messages fail each time, however they are mixed.
        chance = Random(f"{self._seed} {id} {self.record.attempts[id]}")
        if not self._limit.take(now):
            status = 429
        elif chance.random() < self._failures:
            status = 500
        else:
            status = 200
        self.record.add(now, id, status)
        over: Deferred[None] = request.notifyFinish()
        # The client may be killed before.
        over.addErrback(lambda _: None)
        latency = self._latency * (0.5 + chance.random())
        self._reactor.callLater(latency, self._answer, request, status, over)
        return NOT_DONE_YET

    def _answer(self, request: Request, status: int, over: Deferred[None]) -> None:
        if not over.called:
            request.setResponseCode(status)
            request.write(_SAYS[status])
            request.finish()


def _bodyOf(request: Request) -> bytes:
    assert request.content is not None
    body: bytes = request.content.read()
    return body


class Count(Resource):
    """
    Says what came, as JSON.
    """

    isLeaf = True

    def __init__(self, record: Record) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._record = record

    def render_GET(self, request: Request) -> bytes:
        """
        See L{Record.summary}.
        """
        request.setHeader("Content-Type", "application/json")
        return json.dumps(self._record.summary()).encode()


def parseArguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """
    @param arguments: the command's. Default: those of this process.
    """
    parser = Parser(
        "python -m examples.sms.gateway",
        "A gateway that only pretends to send. It is slow, answers 429 to whatever comes faster "
        "than its limit, and fails at random. It remembers in a file what came.",
    )
    add = parser.add_argument
    add("--port", type=whole(0, 65535), default=8101, help="0 for any; default: 8101")
    most = MOST_IN_A_SECOND
    add("--limit", type=whole(1, most), default=10, help="messages a second; default: 10")
    add("--failures", type=real(0, 1), default=0.2, help="what part of them fails; default: 0.2")
    add("--latency", type=real(0, 3600), default=0.3, help="seconds; default: 0.3")
    add("--seed", type=int, default=1, help="decides which fail")
    add("--record", type=Path, default=Path("gateway.jsonl"), help="the file of what came")
    return parser.parse_args(arguments)


async def serve(reactor: Any, command: argparse.Namespace) -> None:
    """
    Take messages until a signal comes.

    @raise SystemExit: if it cannot begin.
    """
    root = Resource()
    endpoint = TCP4ServerEndpoint(reactor, command.port, interface=LOOPBACK)
    try:
        gateway = Gateway(command, reactor)
        port = await endpoint.listen(Site(root))
    except (OSError, ValueError, CannotListenError) as error:
        raise SystemExit(f"The gateway cannot begin: {error}") from error
    root.putChild(b"", gateway)
    root.putChild(b"count", Count(gateway.record))
    endWithParent(command.parent, reactor.stop, reactor)
    print(f"The gateway is at http://{LOOPBACK}:{port.getHost().port}/", flush=True)
    await Deferred()


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run the gateway until SIGTERM or Ctrl-C.

    @raise SystemExit: when it has ended.
    """
    command = parseArguments(arguments)
    react(lambda reactor: Deferred.fromCoroutine(serve(reactor, command)))


if __name__ == "__main__":
    main()
