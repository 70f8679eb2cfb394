"""
Talking to the gateway.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool, readBody
from twisted.web.http_headers import Headers

from examples.sms.messages import Message

PATIENCE = 30.0
"""How many seconds the gateway may take to answer."""

_Answer = TypeVar("_Answer")


class GatewayError(Exception):
    """
    The gateway has not taken a message, this time. It is worth another attempt.
    """


class MessageRefused(GatewayError):
    """
    The gateway does not want this message, and will not want it later.
    """


class Window:
    """
    Sees to it that no more than so many requests arrive in any second.

    The queue holds the rate at which jobs begin. A request that is late on its way, though, may
    arrive together with those that begin a second after it. So a request counts here until a second
    after its answer: by then, its arrival is at least a second ago, too.
    """

    def __init__(self, limit: int, reactor: IReactorTime, seconds: float = 1.0) -> None:
        self._limit = limit
        self._counting = 0
        self._waiting: dict[Deferred[None], None] = {}
        self._reactor = reactor
        self._seconds = seconds

    def setLimit(self, limit: int) -> None:
        """
        Change the limit. With a lower one, those that count already may be more for a while.
        """
        self._limit = limit
        self._admit()

    async def run(self, request: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """
        Make a request when there is room for it, in the order of asking.
        """
        admitted: Deferred[None] = Deferred(self._forget)
        self._waiting[admitted] = None
        self._admit()
        await admitted
        try:
            return await request()
        finally:
            self._reactor.callLater(self._seconds, self._release)

    def _forget(self, admitted: Deferred[None]) -> None:
        self._waiting.pop(admitted, None)

    def _release(self) -> None:
        self._counting -= 1
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._counting < self._limit:
            self._counting += 1
            admitted = next(iter(self._waiting))
            del self._waiting[admitted]
            admitted.callback(None)


class GatewayClient:
    """
    Sends messages.
    """

    def __init__(self, url: str, limit: int, reactor: Any) -> None:
        """
        @param url: where the gateway takes messages.
        @param limit: how many requests it allows in a second.
        """
        self._url = url.encode("ascii")
        self._reactor = reactor
        self._window = Window(limit, reactor)
        self._connections = HTTPConnectionPool(reactor)
        self._connections.maxPersistentPerHost = limit
        self._agent = Agent(reactor, connectTimeout=PATIENCE, pool=self._connections)

    def setLimit(self, limit: int) -> None:
        """
        Change how many requests the gateway allows in a second.
        """
        self._window.setLimit(limit)

    async def send(self, message: Message) -> str:
        """
        Send one message.

        @return: the gateway's answer.
        @raise GatewayError: if the gateway has not taken it. Errors of the connection are raised
            unchanged.
        """
        return await self._window.run(lambda: self._post(message))

    async def _post(self, message: Message) -> str:
        body = FileBodyProducer(BytesIO(json.dumps(message).encode()))
        headers = Headers({"Content-Type": ["application/json"]})
        asked = self._agent.request(b"POST", self._url, headers, body)
        response = await asked.addTimeout(PATIENCE, self._reactor)
        answer = (await readBody(response).addTimeout(PATIENCE, self._reactor)).decode()
        if response.code == 200:
            return answer
        isFinal = 400 <= response.code < 500 and response.code != 429
        error = MessageRefused if isFinal else GatewayError
        raise error(f"the gateway answers {response.code}: {answer}")

    def close(self) -> Deferred[None]:
        """
        @return: a Deferred that fires when no connection is left.
        """
        closed: Deferred[None] = self._connections.closeCachedConnections()
        return closed
