"""
Tells browsers that what they show has changed: server-sent events.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request
from zope.interface import implementer

from asynqueue._core.states import Table, nextState
from asynqueue.admin._programs import Programs
from asynqueue.admin.login import Access
from asynqueue.errors import AdminError
from asynqueue.interfaces import JSONObject

DEBOUNCE_SECONDS: Final = 0.25
"""How many seconds lie at least between two events."""

IDLE_SECONDS: Final = 5.0
"""What is at rest is looked at again after so many seconds, because workers may change."""

SLOW_SECONDS: Final = 10.0
"""A browser that takes nothing for so many seconds is dropped."""

MOST: Final = 32
"""How many browsers may listen at once."""


@implementer(IPushProducer)
class EventStream:
    """
    One browser that listens.

    @ivar seen: what it was told last of each queue.
    """

    def __init__(self, request: Request, program: str, queue: str, reactor: IReactorTime) -> None:
        """
        @param program: the key of the program that it shows; empty for all.
        @param queue: the name of the queue that it shows; empty for all.
        """
        self.seen: Mapping[str, str] | None = None
        self._request = request
        self._program = program
        self._queue = queue
        self._reactor = reactor
        self._drop: IDelayedCall | None = None

    def begin(self) -> None:
        """
        Answer, and go on answering.
        """
        self._request.setHeader("Content-Type", "text/event-stream; charset=utf-8")
        self._request.registerProducer(self, True)
        self._request.write(b"retry: 2000\n\n")

    def tell(self, known: Mapping[str, str]) -> None:
        """
        Send an event if what it shows has changed.

        @param known: all queues, by program and name.
        """
        own = f"{self._program}/{self._queue}"
        shown = {own: known.get(own, "")} if self._program else known
        if self._drop is None and shown != self.seen:
            isFirst, self.seen = self.seen is None, shown
            if not isFirst:
                self._request.write(b"event: changed\ndata: 1\n\n")

    def pauseProducing(self) -> None:
        if self._drop is None:
            self._drop = self._reactor.callLater(SLOW_SECONDS, self.abort)

    def resumeProducing(self) -> None:
        drop, self._drop = self._drop, None
        if drop is not None and drop.active():
            drop.cancel()

    def stopProducing(self) -> None:
        self.resumeProducing()

    def abort(self) -> None:
        """
        Drop the browser.
        """
        transport: Any = self._request.transport
        transport.abortConnection()

    def end(self) -> None:
        """
        End the answer.
        """
        self.resumeProducing()
        self._request.unregisterProducer()
        self._request.finish()


IDLE: Final = "IDLE"
WAITING: Final = "WAITING"
LOOKING: Final = "LOOKING"

LOOKS: Final[Table] = {
    # Nobody listens.
    IDLE: {"wait": WAITING},
    # The programs are looked at in a moment.
    WAITING: {"look": LOOKING, "idle": IDLE},
    # The programs were asked. No other look begins before they have answered.
    LOOKING: {"wait": WAITING, "idle": IDLE},
}


class EventStreams:
    """
    Looks at the programs as long as browsers listen.

    @ivar state: a state of L{LOOKS}.
    """

    log = Logger()

    def __init__(self, programs: Programs, reactor: IReactorTime) -> None:
        """
        @param programs: those that are shown.
        @param reactor: gives the time.
        """
        self._programs = programs
        self._reactor = reactor
        self.state: str = IDLE
        self._streams: dict[EventStream, Access] = {}
        self._tick: IDelayedCall | None = None

    @property
    def isFull(self) -> bool:
        """
        Whether no other browser can listen.
        """
        return len(self._streams) >= MOST

    def add(self, request: Request, access: Access, program: str, queue: str) -> None:
        """
        Tell a browser of changes from now on.
        """
        stream = EventStream(request, program, queue, self._reactor)
        self._streams[stream] = access
        request.notifyFinish().addBoth(self._gone, stream)
        stream.begin()
        if self.state == IDLE:
            self._wait()

    def close(self) -> None:
        """
        Tell nobody any more.
        """
        for stream in [*self._streams]:
            stream.end()

    def _gone(self, reason: object, stream: EventStream) -> None:
        stream.stopProducing()
        self._streams.pop(stream, None)
        if not self._streams and self._tick is not None:
            self._move("idle")
            self._tick.cancel()
            self._tick = None

    def _move(self, event: str) -> None:
        self.state = nextState(LOOKS, self.state, event, self)

    def _wait(self) -> None:
        self._move("wait")
        self._tick = self._reactor.callLater(DEBOUNCE_SECONDS, self._look)

    def _look(self) -> None:
        self._move("look")
        self._tick = None
        looked = Deferred.fromCoroutine(self._ask())
        looked.addCallbacks(self._tell, self._failed)
        looked.addBoth(self._looked)

    async def _ask(self) -> dict[str, str]:
        known = {}
        access = next(iter(self._streams.values()))
        now = self._reactor.seconds()
        for program in await self._programs.look():
            try:
                reply = await program.ask({"do": "queues"}, access)
            except AdminError:
                continue
            for summary in reply.get("result", ()):
                known[f"{program.key}/{summary['name']}"] = fingerprint(summary, now)
        return known

    def _tell(self, known: Mapping[str, str]) -> None:
        for stream in [*self._streams]:
            stream.tell(known)

    def _failed(self, failure: Failure) -> None:
        if failure.check(AdminError) is None:
            self.log.failure("the programs could not be looked at", failure)

    def _looked(self, _: object) -> None:
        if self._streams:
            self._wait()
        else:
            self._move("idle")


def fingerprint(summary: JSONObject, now: float) -> str:
    """
    @param summary: what is known of a queue.
    @param now: the time in seconds.
    @return: a text that is another one if a page about the queue looks different. What is underway
        or waits does so each second.
    """
    facts = {name: value for name, value in summary.items() if name not in ("waited", "ended")}
    ended = summary["ended"] or {"counts": {}, "rates": []}
    isMoving = summary["pending"] or summary["underway"] or any(ended["rates"])
    second = int(now) if isMoving else int(now / IDLE_SECONDS)
    return json.dumps([facts, ended["counts"], second], sort_keys=True)
