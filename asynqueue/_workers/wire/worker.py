"""
A worker behind a server.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Hashable, Iterable
from random import Random
from typing import Any, ClassVar

from asynqueue._core.checks import checkCount, checkSeconds
from asynqueue._reactor import defaultReactor
from asynqueue._runner.logs import levels
from asynqueue._workers.channelworker import ChannelWorker
from asynqueue._workers.events import Offered, WorkerEvent
from asynqueue._workers.wire.channel import Dialer, WireChannel
from asynqueue._workers.wire.endpoints import clientEndpoint
from asynqueue._workers.wire.handshake import LARGEST, Attach, Hello
from asynqueue._workers.wire.keys import keyBytes
from asynqueue.interfaces import IChannel


class RemoteWorker(ChannelWorker):
    """
    Runs tasks in a process behind a server, which C{asynqueue serve} or a L{RemoteService} is.

    The worker connects as soon as it is made, and tries again for ever, with back-off. When a
    connection is cut, the session goes on over the next one: no call is lost, and none runs twice.
    If that takes longer than the server keeps a session, or the server was restarted, the tasks
    that may have begun fail with C{ConnectionLost}, or run again if they are C{idempotent} or have
    retries left. Those that had not begun go back into the queue.

    If the server has several processes, the queue that this worker is attached to gets as many
    workers, for it attaches the other ones itself. They leave the queue together with this one.

    A server with another key or another version makes the worker give up.
    """

    cQualified: ClassVar[list[Hashable]] = ["remote"]

    def __init__(
        self,
        address: str,
        key: Any,
        series: Iterable[Hashable] = (),
        raw: bool = False,
        callStats: bool = False,
        forwardLogs: bool = True,
        largest: int = LARGEST,
        heartbeat: float = 5.0,
        reactor: Any = None,
        random: Random | None = None,
    ) -> None:
        """
        Begin to connect.

        @param address: where the server is, as a description of Twisted's: C{tcp} with a loopback
            address, or C{unix}. Another host is refused, because the wire has no TLS yet.
        @param key: the key that the server has, or the path of its file.
        @param series: the series that this worker is qualified for, besides C{None}, C{'remote'}
            and those that the server offers.
        @param raw: whether an iterator that a task returns is brought back as it is, where the call
            does not say. Default: C{False}; its items are streamed.
        @param callStats: whether to keep the times that C{stats} returns. Default: C{False}.
        @param forwardLogs: whether what tasks log is logged in this process, too. Default: C{True}.
        @param largest: how many bytes the server may send in one message. Default: 1 GiB.
        @param heartbeat: after how many seconds at the most this side sends something. A server
            that is silent for three times its own interval is taken to be gone. Default: 5.
        @param reactor: the reactor. Default: the global reactor.
        @param random: gives the jitter of the back-off.
        @raise ValueError: if the address or a number is not valid, or there is no key, or others
            can read its file.
        @raise OSError: if the key's file cannot be read.
        """
        reactor = defaultReactor() if reactor is None else reactor
        hello = Hello(
            largest=checkCount("largest", largest, least=1 << 16),
            heartbeat=checkSeconds("heartbeat", heartbeat, positive=True, finite=True),
        )
        endpoint = clientEndpoint(reactor, address)
        dialer = Dialer(
            reactor, endpoint, address, keyBytes(key), hello, Random() if random is None else random
        )
        client = secrets.token_hex(16)

        def makeChannel(welcomed: Callable[[Hello], None]) -> IChannel:
            wish = Attach(client, raw=raw, logLevels=levels() if forwardLogs else None)
            return WireChannel(dialer, wish, welcomed)

        self.address = address
        self._makeWireChannel = makeChannel
        self._callStats = callStats
        self._offer: Hello | None = None
        self._companions = 0
        super().__init__(series, callStats, reactor)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self.address}: {self.state}>"

    def makeChannel(self) -> IChannel:
        """
        Make the channel to one new runner behind the server.
        """
        return self._makeWireChannel(self._welcomed)

    def setListener(self, listener: Callable[[list[WorkerEvent]], None]) -> None:
        """
        See L{IPoolWorker<asynqueue.interfaces.IPoolWorker>}. The listener hears of what the server
        offers as soon as that is known.
        """
        super().setListener(listener)
        self._tellOffer()

    def _welcomed(self, peer: Hello) -> None:
        self._offer = peer
        self._tellOffer()

    def _tellOffer(self) -> None:
        """
        Tell the queue of the server's series and of its other processes.
        """
        offer = self._offer
        if offer is None or self._listener is self._standalone:
            return
        new: list[Hashable] = [each for each in offer.series if each not in self.iQualified]
        self.iQualified += new
        channelMaker, series = self._makeWireChannel, self.iQualified
        companions = [
            Companion(self.address, channelMaker, series, self._callStats, self._reactor)
            for _ in range(offer.processes - 1 - self._companions)
        ]
        self._companions += len(companions)
        if new or companions:
            self._report([Offered(new, companions)])


class Companion(ChannelWorker):
    """
    One of the other workers behind the server of a L{RemoteWorker}, which makes them for its queue.
    """

    cQualified: ClassVar[list[Hashable]] = ["remote"]

    def __init__(
        self,
        address: str,
        makeWireChannel: Callable[[Callable[[Hello], None]], IChannel],
        series: Iterable[Hashable],
        callStats: bool,
        reactor: Any,
    ) -> None:
        self.address = address
        self._makeWireChannel = makeWireChannel
        super().__init__(series, callStats, reactor)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self.address}: {self.state}>"

    def makeChannel(self) -> IChannel:
        """
        Make the channel to one new runner behind the server.
        """
        return self._makeWireChannel(lambda peer: None)
