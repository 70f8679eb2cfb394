"""
A proxy that does to a connection what a bad network does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from asynqueue._workers.wire.endpoints import AcceptingFactory

PASS: Final = "pass"
DUPLICATE: Final = "duplicate"
SWAP: Final = "swap"
SWALLOW: Final = "swallow"
TRICKLE: Final = "trickle"
REPLAY: Final = "replay"


class _Side(Protocol):
    """
    One of the two connections of a client's passage through the proxy.
    """

    def __init__(self, arrived: Callable[[bytes], None], lost: Callable[[Failure], None]) -> None:
        self._arrived = arrived
        self._lost = lost

    def dataReceived(self, data: bytes) -> None:
        self._arrived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost(reason)


class _Passage:
    """
    A client's connection to the proxy, and the proxy's to the server.
    """

    def __init__(self, proxy: FaultProxy) -> None:
        self._proxy = proxy
        self.near = _Side(lambda data: self._pass(data, isToServer=True), self._lost)
        self.far: Any = None
        self._isOver = False
        # What came before the server was reached, and what the next bytes overtake.
        self._early: list[bytes] = []
        self._overtaken = {True: b"", False: b""}

    def connect(self, endpoint: IStreamClientEndpoint) -> None:
        far = _Side(lambda data: self._pass(data, isToServer=False), self._lost)
        endpoint.connect(Factory.forProtocol(lambda: far)).addCallbacks(
            self._connected, lambda _: self.cut()
        )

    def _connected(self, far: Any) -> None:
        if self._isOver:
            far.transport.abortConnection()
            return
        self.far = far
        early, self._early = self._early, []
        for data in early:
            self._pass(data, isToServer=True)

    def _lost(self, reason: Failure) -> None:
        """
        End the one connection as the other has ended.
        """
        if reason.check(ConnectionDone) is None:
            self.cut()
        elif self._proxy.delay:
            self._proxy.later(self._proxy.delay, self._close)
        else:
            self._close()

    def _close(self) -> None:
        for transport in self._leave():
            # What was written still leaves.
            transport.loseConnection()

    def cut(self) -> None:
        for transport in self._leave():
            transport.abortConnection()

    def _leave(self) -> list[Any]:
        """
        Pass nothing on any more.

        @return: the transports.
        """
        if self._isOver:
            return []
        self._isOver = True
        self._proxy.passages.discard(self)
        transports = [side.transport for side in (self.near, self.far) if side is not None]
        return [transport for transport in transports if transport is not None]

    def _pass(self, data: bytes, isToServer: bool) -> None:
        proxy = self._proxy
        if self.far is None:
            self._early.append(data)
        elif proxy.delay:
            proxy.later(proxy.delay, self._send, data, isToServer)
        else:
            self._send(data, isToServer)

    def _send(self, data: bytes, isToServer: bool) -> None:
        proxy = self._proxy
        data += self._overtaken[isToServer]
        self._overtaken[isToServer] = b""
        fault = proxy.fault
        if fault in (DUPLICATE, SWAP, REPLAY):
            # Once.
            proxy.fault = PASS
        if fault == DUPLICATE:
            data += data
        elif fault == REPLAY:
            data += proxy.first
        elif fault == SWAP:
            self._overtaken[isToServer] = data
            return
        elif fault == SWALLOW:
            return
        elif fault == TRICKLE and len(data) > 1:
            proxy.later(proxy.trickleSeconds, self._send, data[1:], isToServer)
            data = data[:1]
        proxy.first = proxy.first or data
        self._write(data, isToServer)

    def _write(self, data: bytes, isToServer: bool) -> None:
        if self._isOver:
            return
        proxy, limit = self._proxy, self._proxy.cutAfter
        isLast = limit is not None and proxy.passed + len(data) >= limit
        if limit is not None and isLast:
            proxy.cutAfter = None
            data = data[: max(0, limit - proxy.passed)]
        proxy.passed += len(data)
        target: Any = (self.far if isToServer else self.near).transport
        target.write(data)
        if isLast:
            for transport in self._leave():
                if transport is target:
                    # What was written still leaves.
                    transport.loseConnection()
                else:
                    transport.abortConnection()


class FaultProxy:
    """
    Stands between clients and a server on this machine, and cuts, delays, duplicates, reorders,
    swallows or trickles the bytes that pass.

    @ivar fault: what is done with what comes next: C{'pass'}; C{'duplicate'}, C{'swap'} (with what
        follows) or C{'replay'} (append the first bytes that ever passed), each done once; C{
        'swallow'}; C{'trickle'}, one byte at a time.
    @ivar delay: for how many seconds everything is held up.
    @ivar trickleSeconds: how many seconds after each byte the next one passes.
    @ivar cutAfter: when so many bytes have passed since the proxy was made, it cuts the connection
        that the last one passed on, once. C{None} for never.
    @ivar passed: how many bytes have passed.
    @ivar isClosed: whether new connections are cut at once.
    """

    def __init__(self, reactor: IReactorTime, host: str, port: int) -> None:
        """
        @param reactor: the reactor to listen and connect with.
        @param host: where the server is.
        @param port: its port.
        """
        self.fault: str = PASS
        self.delay = 0.0
        self.trickleSeconds = 0.1
        self.cutAfter: int | None = None
        self.passed = 0
        self.isClosed = False
        self.passages: set[_Passage] = set()
        self.first = b""
        self._reactor = reactor
        self._endpoint = TCP4ClientEndpoint(reactor, host, port)
        self._port: Any = None
        self._timers: set[IDelayedCall] = set()

    def start(self) -> Deferred[int]:
        """
        Listen on a free port of the loopback interface.

        @return: a Deferred that fires with the port's number.
        """
        endpoint = TCP4ServerEndpoint(self._reactor, 0, interface="127.0.0.1")
        listening: Deferred[Any] = endpoint.listen(AcceptingFactory(self._accept))
        return listening.addCallback(self._listens)

    def _listens(self, port: Any) -> int:
        self._port = port
        number: int = port.getHost().port
        return number

    def _accept(self) -> Protocol | None:
        if self.isClosed:
            return None
        passage = _Passage(self)
        self.passages.add(passage)
        passage.connect(self._endpoint)
        return passage.near

    def cut(self) -> None:
        """
        Abort all connections that pass through.
        """
        for passage in list(self.passages):
            passage.cut()

    def stop(self) -> Deferred[Any]:
        """
        Cut everything and listen no more.

        @return: a Deferred that fires when that is done.
        """
        self.isClosed = True
        self.cut()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        stopped: Deferred[Any] = self._port.stopListening()
        return stopped

    def later(self, seconds: float, function: Callable[..., None], *args: object) -> None:
        """
        Call a function in so many seconds, unless the proxy is stopped before.
        """

        def due() -> None:
            self._timers.discard(timer)
            function(*args)

        timer = self._reactor.callLater(seconds, due)
        self._timers.add(timer)
