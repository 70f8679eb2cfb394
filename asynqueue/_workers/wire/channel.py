"""
The channel to a runner behind a server.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IProtocol, IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue._core.retry import backoff
from asynqueue._core.states import Table, nextState
from asynqueue._runner.exceptions import describe, rebuild
from asynqueue._runner.messages import CALL, QUIT, RAISED, Message
from asynqueue._workers.wire.conversation import (
    DRAINING,
    KILL,
    LEAVE,
    NUDGE,
    RUNNER_LOST,
    SECURE,
    TERMINATE,
    Connection,
    Conversation,
)
from asynqueue._workers.wire.endpoints import WireEndpoint
from asynqueue._workers.wire.handshake import (
    Attach,
    Handshake,
    Hello,
    SessionUnknown,
    decodeWelcome,
    encodeWish,
)
from asynqueue._workers.wire.records import ATTACH, SIGNAL, Record
from asynqueue.errors import (
    AsynQueueError,
    ConnectionLost,
    ConnectionRefused,
    PayloadTooLarge,
    ProtocolError,
    WorkerDied,
    WorkerRecycled,
)
from asynqueue.interfaces import IChannel

FIRST_WAIT: Final = 0.05
LONGEST_WAIT: Final = 5.0
"""How many seconds to wait before the second try to connect, and before each try at the most."""

KILL_SECONDS: Final = 2.0
"""How long a server may take to tell that it has killed a runner."""

NEW: Final = "NEW"
CONNECTING: Final = "CONNECTING"
LIVE: Final = "LIVE"
CUT: Final = "CUT"
ENDING: Final = "ENDING"
OVER: Final = "OVER"

WIRE: Final[Table] = {
    NEW: {"open": CONNECTING},
    # There is no session yet. The server may not even be there.
    CONNECTING: {"welcome": LIVE, "end": ENDING, "lose": OVER},
    # The session has a connection.
    LIVE: {"cut": CUT, "lose": OVER},
    # The session has none, and is to be resumed before the server forgets it.
    CUT: {"welcome": LIVE, "end": ENDING, "lose": OVER},
    # The session is lost in the reactor's next turn, whatever comes before that.
    ENDING: {"lose": OVER},
    OVER: {},
}


class Dialer:
    """
    Connects to one server again and again, with back-off and jitter, and says once that it cannot.
    The channels of one worker and its companions share it.

    @ivar welcomed: is called with the server's hello when a session was agreed.
    @ivar trouble: why the last try failed; C{None} if it did not.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        endpoint: WireEndpoint,
        address: str,
        key: bytes,
        hello: Hello,
        random: Random,
    ) -> None:
        self.reactor = reactor
        self.address = address
        self.hello = hello
        self._endpoint = endpoint
        self._key = key
        self._delays = backoff(FIRST_WAIT, LONGEST_WAIT, factor=2.0, random=random)
        self._failures = 0
        self._countedUntil = 0.0
        self.welcomed: Callable[[Hello], None] = lambda peer: None
        self.trouble: Exception | None = None

    def connect(
        self,
        secured: Callable[[Connection], None],
        closed: Callable[[Connection, Exception], None],
    ) -> Deferred[IProtocol]:
        """
        Try to connect once.
        """

        def build() -> Connection:
            handshake = Handshake(self._key, self.hello, isServer=False)
            return Connection(self.reactor, handshake, secured, closed, self._endpoint.reasonOf)

        return self._endpoint.connect(Factory.forProtocol(build))

    def wait(self, reason: Exception) -> float:
        """
        Count a try that failed.

        @return: how many seconds to wait before the next one.
        """
        now = self.reactor.seconds()
        self.trouble = reason
        isFirst = self._failures == 0
        if isFirst or now >= self._countedUntil:
            # The channels try at about the same time, and find the same.
            self._failures += 1
            self._countedUntil = now + self._delays(self._failures)
        if isFirst:
            self.log.warn(
                "the server at {address} cannot be reached and is tried again, because {reason}",
                address=self.address,
                reason=reason,
            )
        return self._delays(self._failures)

    def succeeded(self, peer: Hello) -> None:
        """
        Start over, because a session was agreed.
        """
        if self._failures:
            self.log.info("the server at {address} is there", address=self.address)
        self._failures = 0
        self.trouble = None
        self.welcomed(peer)


@implementer(IChannel)
class WireChannel:
    """
    A session with a server, and the runner that the server has for it.

    @ivar state: a state of L{WIRE}.
    """

    isMortal = True
    pid = None

    log = Logger()

    def __init__(self, dialer: Dialer, wish: Attach) -> None:
        """
        @param wish: what the session is to be like.
        """
        self.state: str = NEW
        self._dialer = dialer
        self._reactor = dialer.reactor
        self._wish = wish
        self._name = ""
        self._keep = 0.0
        self._receiver: Any = None
        hello = dialer.hello
        self._conversation = Conversation(
            self._reactor,
            hello.largest,
            hello.heartbeat,
            self._arrived,
            self._cut,
            self._broken,
            acknowledged=self._acknowledged,
        )
        # What came before the session was there.
        self._early: list[list[Message]] = []
        # The calls of which it is not known that they have arrived: numbers, and where they end.
        self._calls: deque[tuple[int, int]] = deque()
        self._lastAccepted = 0
        self._lastBegun: int | None = None
        # What the server is to do with the runner, again after each cut.
        self._signal: int | None = None
        self._attempt: Deferred[IProtocol] | None = None
        # The connection that is in the handshake.
        self._pending: Connection | None = None
        self._retry: IDelayedCall | None = None
        self._limit: IDelayedCall | None = None

    # IChannel -------------------------------------------------------------------------------------

    @property
    def lastBegun(self) -> int:
        """
        The number of the last call that began, or when the session is lost, of the last one that
        may have begun.
        """
        return self._conversation.begun if self._lastBegun is None else self._lastBegun

    def open(self, receiver: Any) -> None:
        """
        Begin to connect.
        """
        self._receiver = receiver
        self._move("open")
        self._retry = self._reactor.callLater(0, self._connect)

    def send(self, messages: list[Message]) -> None:
        """
        Send messages.
        """
        if self.state in (ENDING, OVER):
            return
        if self.state == CONNECTING:
            if messages[-1][0] == QUIT:
                # There is no runner that could end.
                self._loseSoon(self._lossOf("the worker stopped before the server was reached"))
            else:
                self._early.append(messages)
            return
        self._conversation.send(messages)
        for message in messages:
            if message[0] == CALL:
                self._calls.append((message[1], self._conversation.session.end))

    def nudge(self) -> None:
        """
        Have the runner look at its messages.
        """
        if self._signal is None:
            self._conversation.signal(NUDGE)

    def dump(self) -> None:
        """
        Do nothing: what a remote process writes there cannot be read here.
        """

    def stacks(self) -> str | None:
        """
        Return C{None}. A remote runner tells it in a message.
        """
        return None

    def terminate(self) -> None:
        """
        Have the server send the runner SIGTERM.
        """
        self._demand(TERMINATE)

    def kill(self) -> None:
        """
        Have the server kill the runner. The session is over at once if there is no connection.
        """
        if self.state == LIVE:
            self._demand(KILL)
            if self._limit is None:
                self._limit = self._reactor.callLater(KILL_SECONDS, self._notKilled)
        elif self.state not in (ENDING, OVER):
            self._loseSoon(self._lossOf("the worker was crashed"))

    def residentKilobytes(self) -> int | None:
        """
        Return C{None}, because the runner's memory is another machine's.
        """
        return None

    def _demand(self, signal: int) -> None:
        if self.state != OVER:
            self._signal = signal
            self._conversation.signal(signal)

    def _notKilled(self) -> None:
        self._limit = None
        self._lose(self._lossOf("the server did not tell that it killed the runner"))

    def _move(self, event: str) -> None:
        self.state = nextState(WIRE, self.state, event, self)

    # Connecting -----------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._retry = None
        attempt = self._attempt = self._dialer.connect(self._secured, self._failed)
        attempt.addCallbacks(self._connected, self._notConnected)

    def _connected(self, connection: Connection) -> None:
        self._attempt, self._pending = None, connection

    def _notConnected(self, failure: Failure) -> None:
        self._attempt = None
        if failure.check(CancelledError) is None and self.state not in (ENDING, OVER):
            self._tryAgain(ProtocolError(failure.getErrorMessage()))

    def _secured(self, connection: Connection) -> None:
        if self.state in (ENDING, OVER):
            connection.finish()
            return
        connection.heard = lambda record: self._attached(connection, record)
        wish = Attach(
            self._wish.client,
            self._name,
            self._conversation.session.received,
            self._wish.raw,
            self._wish.logLevels,
            self._wish.pickler,
        )
        connection.write(ATTACH, encodeWish(wish))

    def _attached(self, connection: Connection, record: Record) -> None:
        welcome = decodeWelcome(record)
        if self.state in (ENDING, OVER):
            # The server would keep the session for as long as a client may resume it.
            connection.write(SIGNAL, bytes([LEAVE]))
            connection.finish()
            return
        if self._name not in ("", welcome.session):
            raise ProtocolError("the server resumed another session")
        isNew = self._name == ""
        self._name = welcome.session
        peer = connection.handshake.peer
        assert peer is not None
        self._keep = peer.keep
        self._pending = None
        self._stopTimers()
        self._move("welcome")
        self._conversation.attach(connection, welcome.received)
        if self._signal is not None:
            self._conversation.signal(self._signal)
        elif not isNew:
            # A nudge may have been lost with the connection.
            self._conversation.signal(NUDGE)
        early, self._early = self._early, []
        for messages in early:
            self._sendEarly(messages)
        self._dialer.succeeded(peer)

    def _sendEarly(self, messages: list[Message]) -> None:
        try:
            self.send(messages)
        except PayloadTooLarge as error:
            if len(messages) > 1:
                for message in messages:
                    self._sendEarly([message])
            elif messages[0][0] == CALL:
                answer = (RAISED, messages[0][1], 0.0, describe(error))
                self._reactor.callLater(0, self._receiver.received, [answer])

    def _failed(self, connection: Connection, reason: Exception) -> None:
        """
        A connection is gone before there was a session over it.
        """
        if self.state in (ENDING, OVER):
            return
        if self.state == CUT and isinstance(reason, ConnectionRefused):
            if isinstance(reason, SessionUnknown):
                why = "the server does not have the session any more"
                self._lose(self._lossOf(why, reason.begun))
            else:
                self._lose(self._lossOf(str(reason)))
        elif isinstance(reason, ConnectionRefused):
            self._lose(ConnectionRefused(f"{self._dialer.address}: {reason}"))
        elif isinstance(reason, ProtocolError) and connection.handshake.peer is None:
            self._tryAgain(
                ProtocolError(f"the server there does not answer as asynqueue does: {reason}")
            )
        else:
            self._tryAgain(reason)

    def _tryAgain(self, reason: Exception) -> None:
        if self._retry is None:
            self._retry = self._reactor.callLater(self._dialer.wait(reason), self._connect)

    # The session ----------------------------------------------------------------------------------

    def _acknowledged(self) -> None:
        calls, acknowledged = self._calls, self._conversation.session.acknowledged
        while calls and calls[0][1] <= acknowledged:
            self._lastAccepted = calls.popleft()[0]

    def _arrived(self, messages: list[Message], hasBuffers: bool) -> None:
        start = 0
        for index in [n for n, message in enumerate(messages) if message[0] >= RUNNER_LOST]:
            if start < index:
                self._receiver.received(messages[start:index])
            self._told(messages[index])
            start = index + 1
        if start < len(messages):
            self._receiver.received(messages[start:] if start else messages)

    def _told(self, message: Message) -> None:
        """
        The server itself says something.
        """
        if self.state == OVER:
            return
        if message[0] == DRAINING:
            self._receiver.retire(
                WorkerRecycled(f"the server at {self._dialer.address} shuts down")
            )
            return
        _, described, begun = message
        reason = rebuild(described)
        self._lastBegun = begun
        if not isinstance(reason, AsynQueueError):
            reason = WorkerDied()
        # The server closes the connection when it knows that all has arrived.
        self._conversation.part(lambda: self._lose(reason))

    def _cut(self, reason: Exception) -> None:
        """
        The connection is gone. The session is not.
        """
        self._move("cut")
        self.log.debug("{address}: {reason}", address=self._dialer.address, reason=reason)
        if self._limit is not None:
            # The server was to kill the runner.
            return
        self._limit = self._reactor.callLater(self._keep, self._tooLate, reason)
        self._retry = self._reactor.callLater(0, self._connect)

    def _tooLate(self, reason: Exception) -> None:
        self._limit = None
        self._lose(self._lossOf(f"{reason}, and was not resumed within {self._keep:g} seconds"))

    def _broken(self, reason: Exception) -> None:
        self._lose(self._lossOf(f"its messages made no sense: {reason}"))

    # The end --------------------------------------------------------------------------------------

    def _lossOf(self, why: str, lastBegun: int | None = None) -> ConnectionLost:
        """
        Make the error of a session that is lost without the server saying how its runner ended.

        @param lastBegun: the number of the last call that began, if the server still knew it.
        """
        session = self._conversation.session
        begun = self._conversation.begun
        if lastBegun is not None:
            self._lastBegun = begun = max(begun, lastBegun)
        # A call whose last byte never left has not begun.
        mayHaveBegun = [number for number, end in self._calls if end <= session.farthest]
        if self._lastBegun is None:
            self._lastBegun = max([self._lastAccepted, begun, *mayHaveBegun])
        return ConnectionLost(
            self._dialer.address, why, lastAccepted=self._lastAccepted, lastBegun=begun
        )

    def _loseSoon(self, reason: Exception) -> None:
        """
        End the channel in the reactor's next turn, because the caller is not to hear of it yet.
        """
        self._move("end")
        self._stopTimers()
        self._limit = self._reactor.callLater(0, self._lose, reason)

    def _lose(self, reason: Exception) -> None:
        if self.state == OVER:
            return
        if self._limit is not None and not self._limit.active():
            self._limit = None
        self._stopTimers()
        self._move("lose")
        self._conversation.close()
        if self._attempt is not None:
            self._attempt.cancel()
        # A server that was asked for a session answers soon, and has to hear that it is not wanted.
        if self._pending is not None and self._pending.state != SECURE:
            self._pending.abort(reason)
        self._receiver.lost(reason)

    def _stopTimers(self) -> None:
        for timer in (self._retry, self._limit):
            if timer is not None and timer.active():
                timer.cancel()
        self._retry = self._limit = None
