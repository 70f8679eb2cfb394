"""
A worker behind a server.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Hashable, Iterable, Mapping
from random import Random
from typing import Any, ClassVar, Final

from twisted.internet.interfaces import IReactorTime

from asynqueue._core.checks import checkCount, checkSeconds
from asynqueue._core.groups import Capacity
from asynqueue._reactor import defaultReactor
from asynqueue._runner.codecs import CODECS, PicklerName
from asynqueue._runner.logs import levels
from asynqueue._workers.channelworker import ChannelWorker
from asynqueue._workers.events import Offered, WorkerEvent
from asynqueue._workers.startmethods import packerFor
from asynqueue._workers.wire.channel import Dialer, WireChannel
from asynqueue._workers.wire.endpoints import TlsFolder, clientEndpoint
from asynqueue._workers.wire.handshake import LARGEST, Attach, Hello
from asynqueue._workers.wire.keys import Key, keyBytes
from asynqueue.errors import textOf
from asynqueue.interfaces import IChannel

AHEAD_TASKS: Final = 512
"""How many tiny tasks one runner may hold. They travel in several frames at once, so that the
runner works on one while this side makes the next."""


class Companion(ChannelWorker):
    """
    Runs tasks in one of the processes behind a server. A L{RemoteWorker} makes one for each process
    but the first, for the queue that it is attached to.

    @ivar address: where the server is.
    """

    cQualified: ClassVar[list[Hashable]] = ["remote"]

    def __init__(
        self,
        dialer: Dialer,
        makeWish: Callable[[], Attach],
        series: Iterable[Hashable],
        callStats: bool,
        pickler: PicklerName,
        reactor: IReactorTime,
    ) -> None:
        """
        @param dialer: connects to the server.
        @param makeWish: says what the next session is to be like.
        """
        self.address = dialer.address
        self._dialer = dialer
        self._makeWish = makeWish
        self.packer = packerFor(pickler)
        self.codec = CODECS[pickler]
        self._pickler: PicklerName = pickler
        self._callStats = callStats
        super().__init__(series, callStats, reactor)
        self.capacity = Capacity(slots=1, aheadSeconds=0.05, aheadTasks=AHEAD_TASKS)

    def __repr__(self) -> str:
        trouble = "" if self.trouble is None else f", cannot reach the server: {self.trouble}"
        return f"<{type(self).__name__} at {self.address}: {self.state}{trouble}>"

    @property
    def trouble(self) -> Exception | None:
        """
        Why the server could not be reached when that was last tried, or C{None} if it was reached
        or not tried yet. The worker tries again.
        """
        return self._dialer.trouble

    def place(self) -> Mapping[str, Any]:
        """
        @return: the server's C{address}, how the C{session} with it is, and the C{trouble} if it
            cannot be reached.
        """
        assert isinstance(self._channel, WireChannel)
        trouble = None if self.trouble is None else textOf(self.trouble)
        return {"address": self.address, "session": self._channel.state, "trouble": trouble}

    def makeChannel(self) -> IChannel:
        """
        Make the channel to one new runner behind the server.
        """
        return WireChannel(self._dialer, self._makeWish())


class RemoteWorker(Companion):
    """
    Runs tasks in a process behind a server, which C{asynqueue serve} or a L{RemoteService} is.

    The worker connects as soon as it is made, and tries again for ever, with back-off. When a
    connection is cut, the session goes on over the next one: no call is lost, and none runs twice.
    If that takes longer than the server keeps a session, or the server was restarted, the tasks
    that may have begun fail with C{ConnectionLost}, or run again if they are C{idempotent} or have
    retries left. Tasks that had not begun go back into the queue.

    If the server has several processes, the queue that this worker is attached to gets as many
    workers, for it attaches the other ones itself. They leave the queue together with this one.

    A server with another key or another version makes the worker give up, and so does a certificate
    that either side refuses.
    """

    def __init__(
        self,
        address: str,
        key: Key,
        series: Iterable[Hashable] = (),
        raw: bool = False,
        callStats: bool = False,
        forwardLogs: bool = True,
        tls: TlsFolder = None,
        largest: int = LARGEST,
        heartbeat: float = 5.0,
        reactor: IReactorTime | None = None,
        random: Random | None = None,
        pickler: PicklerName = "pickle",
    ) -> None:
        """
        Begin to connect.

        @param address: where the server is, as a description of Twisted's: C{tcp} or C{unix}.
            Without TLS, C{tcp} needs a loopback address.
        @param key: the key that the server has, or the path of its file.
        @param series: the series that this worker is qualified for, besides C{None}, C{'remote'}
            and those that the server offers.
        @param raw: whether an iterator that a task returns is brought back as it is, where the call
            does not say. Default: C{False}; its items are streamed.
        @param callStats: whether to keep the times that C{stats} returns. Default: C{False}.
        @param forwardLogs: whether what tasks log is logged in this process, too. Default: C{True}.
        @param tls: the folder with this program's certificates, C{ca.pem}, C{cert.pem} and
            C{key.pem}. The server then has to show a certificate for the host in C{address} that
            the CA has signed. Default: no TLS.
        @param largest: how many bytes the server may send in one message. Default: 1 GiB.
        @param heartbeat: after how many seconds at the most this side sends something. A server
            that is silent for three times its own interval is taken to be gone. Default: 5.
        @param reactor: the reactor. Default: the global reactor.
        @param random: gives the jitter of the back-off.
        @param pickler: C{"pickle"}, or C{"cloudpickle"} to send functions and classes by value that
            the server cannot import. It needs C{cloudpickle}, too. Default: C{"pickle"}.
        @raise ValueError: if the address or a number is not valid, there is no key, others can read
            a key's file, a file in the folder does not hold what it should, or there is no such
            pickler.
        @raise OSError: if a file cannot be read.
        @raise ExtraMissing: if TLS or the pickler is not installed.
        """
        reactor = defaultReactor() if reactor is None else reactor
        hello = Hello(
            largest=checkCount("largest", largest, least=1 << 16),
            heartbeat=checkSeconds("heartbeat", heartbeat, positive=True, finite=True),
        )
        endpoint = clientEndpoint(reactor, address, tls)
        dialer = Dialer(
            reactor, endpoint, address, keyBytes(key), hello, Random() if random is None else random
        )
        client = secrets.token_hex(16)

        def makeWish() -> Attach:
            return Attach(
                client, raw=raw, logLevels=levels() if forwardLogs else None, pickler=pickler
            )

        self._offer: Hello | None = None
        self._companions = 0
        dialer.welcomed = self._welcomed
        super().__init__(dialer, makeWish, series, callStats, pickler, reactor)

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
        companions = [
            Companion(
                self._dialer,
                self._makeWish,
                self.iQualified,
                self._callStats,
                self._pickler,
                self._reactor,
            )
            for _ in range(offer.processes - 1 - self._companions)
        ]
        self._companions += len(companions)
        if new or companions:
            self._report([Offered(new, companions)])
