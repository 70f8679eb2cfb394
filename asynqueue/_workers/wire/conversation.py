"""
What both sides of a session do alike: one connection, and the conversation that goes on over one
connection after another.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO
from pickle import Unpickler
from typing import Any, Final, NoReturn

from twisted.internet.interfaces import (
    IDelayedCall,
    IPushProducer,
    IReactorTime,
    IWriteDescriptor,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue._core.states import Table, nextState
from asynqueue._runner.framing import OpenFrame, Segments, Sink, encodeTexts, tooLarge
from asynqueue._runner.messages import Message
from asynqueue._workers.wire.handshake import UNFIT, Handshake, encodeRefusal
from asynqueue._workers.wire.records import (
    ABANDON,
    ACK,
    DATA,
    LARGE_PIECE,
    PIECE,
    REFUSED,
    SIGNAL,
    ForeignProtocol,
    Record,
    RecordReader,
    RecordWriter,
)
from asynqueue._workers.wire.session import ABANDONED, Session
from asynqueue.errors import AsynQueueError, ConnectionRefused, ProtocolError

HANDSHAKE_SECONDS: Final = 2.0
"""How long the other side may take to prove that it knows the key."""

SILENT_INTERVALS: Final = 3
"""After how many of the other side's intervals without a word the connection is given up."""

ACK_SECONDS: Final = 0.1
"""How long an acknowledgement may wait for messages to travel with."""

ACK_BYTES: Final = 1 << 18
"""How many bytes may wait for one."""

FIRST_PIECE: Final = 1 << 10
"""How many bytes of messages the first record of a connection carries at the most."""

FAST: Final = 50e6
"""How many bytes a second a fast connection carries at least. The largest piece takes 5 ms then."""

RUNNER_LOST: Final = 101
"""C{(RUNNER_LOST, described, lastBegun)}. The server's last message of a session: the runner has
ended."""

DRAINING: Final = 102
"""C{(DRAINING,)}. The server shuts down and takes no more calls."""

NUDGE: Final = 1
TERMINATE: Final = 2
KILL: Final = 3
LEAVE: Final = 4
"""What a client has a server do with a runner, past the messages. With C{LEAVE} the client gives
the whole session up, and will not resume it."""

_DATA: Final = struct.Struct("<QQQ")
_ACK: Final = struct.Struct("<QQ")


class _PlainUnpickler(Unpickler):
    """
    Builds nothing but numbers, texts, bytes and containers of them. Messages are made of these, and
    the values in them are packed. So no message has code run by being read.
    """

    def find_class(self, module: str, name: str) -> NoReturn:
        raise ProtocolError(f"a message refers to {module}.{name}, which none has to")


def _decode(segments: Segments) -> list[Message]:
    """
    @raise ProtocolError: if these are no messages.
    """
    try:
        messages = _PlainUnpickler(BytesIO(segments[0]), buffers=segments[1:]).load()
    except Exception as error:
        raise ProtocolError(f"a frame could not be read: {error!r}") from error
    if type(messages) is not list:
        raise ProtocolError("a frame holds no list of messages")
    for message in messages:
        if type(message) is not tuple or not message or type(message[0]) is not int:
            raise ProtocolError("a frame holds something that is no message")
    return messages


def _decodeAll(frames: list[Segments]) -> list[Message]:
    return [message for frame in frames for message in _decode(frame)]


SHAKING: Final = "SHAKING"
SECURE: Final = "SECURE"
CLOSED: Final = "CLOSED"

CONNECTION: Final[Table] = {
    # The other side has not proved yet that it knows the key.
    SHAKING: {"secure": SECURE, "close": CLOSED},
    # Each record has a MAC.
    SECURE: {"close": CLOSED},
    CLOSED: {"close": CLOSED},
}


@implementer(IPushProducer)
class Connection(Protocol):
    """
    One connection: bytes become records, and the other side has to prove that it knows the key.

    @ivar state: a state of L{CONNECTION}.
    @ivar heard: takes each record after the handshake.
    @ivar heardAll: is called when it has taken all that have come.
    @ivar closed: is called once, with the reason, when the connection is gone or given up.
    @ivar pump: is called when the transport takes more.
    @ivar isFull: whether the transport takes no more for now.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        handshake: Handshake,
        secured: Callable[[Connection], None],
        closed: Callable[[Connection, Exception], None],
        reasonOf: Callable[[Failure], Exception],
    ) -> None:
        """
        @param secured: is called when the handshake is done. It sets C{heard}.
        @param reasonOf: says why the transport closed the connection.
        """
        self.state: str = SHAKING
        self.handshake = handshake
        self.heard: Callable[[Record], None] = self._unexpected
        self.heardAll: Callable[[], None] = lambda: None
        self.closed = closed
        self.pump: Callable[[], None] = lambda: None
        self.isFull = False
        self._reactor = reactor
        self._secured = secured
        self._reasonOf = reasonOf
        self._reader = RecordReader()
        self._writer = RecordWriter()
        self._timer: IDelayedCall | None = None
        # Whether the transport can be told to send what it has, and is not doing so.
        self._mayPush = False

    def connectionMade(self) -> None:
        self._timer = self._reactor.callLater(HANDSHAKE_SECONDS, self._isLate)
        setNoDelay = getattr(self.transport, "setTcpNoDelay", None)
        if setNoDelay is not None:
            setNoDelay(True)
        self._transport.registerProducer(self, True)
        self._mayPush = IWriteDescriptor.providedBy(self.transport)
        for record in self.handshake.start():
            self.write(*record)

    @property
    def _transport(self) -> Any:
        # No interface has all that is asked of it.
        return self.transport

    def _isLate(self) -> None:
        self._timer = None
        if self.state == CLOSED:
            self._transport.abortConnection()
        else:
            why = f"the handshake was not over after {HANDSHAKE_SECONDS:g} seconds"
            self.abort(ProtocolError(why))

    def _unexpected(self, record: Record) -> None:
        raise ProtocolError(f"a record of kind {record.kind} came too early")

    def settled(self) -> None:
        """
        Stop the clock that limits the handshake, because the session is agreed.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def write(self, kind: int, *parts: bytes | memoryview) -> None:
        """
        Send a record.
        """
        if self.state == CLOSED:
            return
        self._transport.writeSequence(self._writer.write(kind, *parts))
        if self._mayPush:
            # The reactor would do it in its next turn, which makes a call take a twentieth longer.
            # If the connection is lost, the reactor finds the same, and tells it.
            self._mayPush = False
            self._transport.doWrite()
            self._mayPush = True

    def setPiece(self, size: int) -> None:
        """
        Read so many bytes at once, and be full when so many wait to be sent.
        """
        self._transport.bufferSize = size

    def dataReceived(self, data: bytes) -> None:
        """
        Handle the records that are complete.
        """
        self._reader.add(data)
        try:
            self._read()
        except (ConnectionRefused, ForeignProtocol) as error:
            # A peer that speaks TLS hears from this that this side does not.
            self.refuse(UNFIT, str(error), error)
        except AsynQueueError as error:
            self.abort(error)

    def _read(self) -> None:
        try:
            while self.state != CLOSED and (record := self._reader.next()) is not None:
                if self.state == SECURE:
                    self.heard(record)
                else:
                    self._shake(record)
        finally:
            self.heardAll()

    def _shake(self, record: Record) -> None:
        handshake = self.handshake
        for answer in handshake.receive(record):
            self.write(*answer)
        if handshake.isDone:
            mine, theirs = handshake.macs()
            self._writer.secure(mine)
            self._reader.secure(theirs)
            self.state = nextState(CONNECTION, self.state, "secure", self)
            self._secured(self)

    def refuse(self, code: str, why: str, reason: Exception, begun: int | None = None) -> None:
        """
        Say why the connection is refused, and close it.
        """
        self.write(REFUSED, encodeRefusal(code, why, begun))
        self._leave(reason)

    def finish(self) -> None:
        """
        Close the connection after what was written.
        """
        if self.state != CLOSED:
            self._leave(ProtocolError("this side has closed the connection"))

    def _leave(self, reason: Exception) -> None:
        self._transport.unregisterProducer()
        self._close(reason)
        # A peer that does not end TLS, or reads nothing, is not waited for.
        self._timer = self._reactor.callLater(HANDSHAKE_SECONDS, self._isLate)
        self._transport.loseConnection()

    def linger(self, closed: Callable[[], None]) -> None:
        """
        Leave it to the other side to close the connection. If this side did, while something comes
        that it has not read, the system would throw away what was written last.

        @param closed: is called when the connection is closed.
        """
        self.heard = lambda record: None
        self.closed = lambda connection, reason: closed()
        self.settled()
        self._timer = self._reactor.callLater(HANDSHAKE_SECONDS, self._isLate)

    def abort(self, reason: Exception) -> None:
        """
        Give the connection up at once.
        """
        if self.state != CLOSED:
            self._transport.abortConnection()
            self._close(reason)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The other side, or the system, has closed the connection.
        """
        self.settled()
        self._close(self._reasonOf(reason))

    def _close(self, reason: Exception) -> None:
        if self.state == CLOSED:
            return
        self.state = nextState(CONNECTION, self.state, "close", self)
        self.settled()
        self.closed(self, reason)

    # IPushProducer, for what this side sends ------------------------------------------------------

    def pauseProducing(self) -> None:
        self.isFull = True

    def resumeProducing(self) -> None:
        self.isFull = False
        self.pump()

    def stopProducing(self) -> None:
        self.isFull = True


class Conversation:
    """
    A session and, while there is one, the connection that it crosses.

    @ivar session: the session.
    @ivar connection: the present connection, or C{None}.
    @ivar begun: the number of the last call that is known to have begun.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        largest: int,
        heartbeat: float,
        arrived: Callable[[list[Message], bool], None],
        cut: Callable[[Exception], None],
        broken: Callable[[Exception], None],
        signalled: Callable[[int], None] = lambda signal: None,
        acknowledged: Callable[[], None] = lambda: None,
        passOn: Callable[[list[Message], OpenFrame], Sink | None] | None = None,
    ) -> None:
        """
        @param largest: how many bytes a frame of the other side's may have.
        @param heartbeat: after how many seconds at the most this side sends something.
        @param arrived: takes the messages, and whether there are large buffers in them.
        @param cut: is called, with the reason, when the connection is gone.
        @param broken: is called, with the reason, when the messages make no sense, so that the
            session cannot go on.
        @param signalled: takes the client's signals.
        @param acknowledged: is called when the other side said what has arrived.
        @param passOn: is asked what takes the bytes of a frame's buffers while they arrive. It gets
            the frame's messages with empty buffers. If it returns C{None}, the messages arrive
            whole.
        """
        self.session = Session(largest, None if passOn is None else self._offer)
        self._passOn = passOn
        self.connection: Connection | None = None
        self.begun = 0
        self._reactor = reactor
        self._heartbeat = heartbeat
        self._arrived = arrived
        self._cut = cut
        self._broken = broken
        self._signalled = signalled
        self._acknowledged = acknowledged
        self._peerLargest = largest
        self._silence = float("inf")
        self._lastHeard = self._lastSaid = 0.0
        self._told = (0, 0)
        # How many bytes of messages the present connection took.
        self._crossed = 0
        self._piece = PIECE
        # How many bytes had crossed in both directions, and when, as the speed was measured last.
        self._measured = (0, 0.0)
        self._beat: IDelayedCall | None = None
        self._ackTimer: IDelayedCall | None = None
        self._isHeld = False
        # What the records have brought that came together, and whether there are buffers in it.
        self._gathered: list[Message] = []
        self._hasBuffers = False

    def attach(self, connection: Connection, received: int) -> None:
        """
        Go on over a new connection.

        @param received: how many bytes of this side's have arrived at the other side.
        @raise ProtocolError: if it cannot be so many.
        """
        peer = connection.handshake.peer
        assert peer is not None
        self.session.resume(received)
        connection.settled()
        self.connection = connection
        connection.heard = self._heard
        connection.heardAll = self._deliver
        connection.closed = self._closed
        connection.pump = self._pump
        self._peerLargest = peer.largest
        self._silence = SILENT_INTERVALS * peer.heartbeat
        self._lastHeard = self._lastSaid = self._reactor.seconds()
        self._beat = self._reactor.callLater(self._tick, self._look)
        # The handshake has told it.
        self._told = (self.session.received, self.begun)
        self._crossed = 0
        self._piece = PIECE
        self._measured = (self.session.received + self.session.acknowledged, self._lastHeard)
        self._pump()

    @property
    def _tick(self) -> float:
        return min(self._heartbeat, self._silence / SILENT_INTERVALS) / 2

    def send(self, messages: list[Message]) -> None:
        """
        Send messages now, or after the next connection is made.

        @raise PayloadTooLarge: if they have more bytes than the other side takes in one frame.
        """
        self.session.put(encodeTexts(messages, self._peerLargest))
        self._pump()

    def beginFrame(self, opened: OpenFrame) -> None:
        """
        Send the beginning of a frame whose other bytes are going to follow through
        L{continueFrame}. What L{send} gets then waits until the frame is whole.

        @raise PayloadTooLarge: if it has more bytes than the other side takes in one frame.
        """
        left = sum(opened.sizes)
        if len(opened.body) + left > self._peerLargest:
            raise tooLarge(len(opened.body) + left, self._peerLargest)
        self.session.beginFrame([opened.head, opened.body], left)
        self._pump()

    def continueFrame(self, piece: memoryview) -> None:
        """
        Send more of a frame. The bytes must not change any more.
        """
        self.session.continueFrame(piece)
        self._pump()

    def abandonFrame(self) -> None:
        """
        Have the other side forget the frame that was begun, if it is not whole.
        """
        self.session.abandonFrame()
        self._pump()

    def signal(self, number: int) -> None:
        """
        Have the server do something with the runner, past the messages.
        """
        if self.connection is not None:
            self._said(SIGNAL, bytes([number]))

    def tellBegun(self) -> None:
        """
        Tell at once which call was the last that began, and what has arrived.
        """
        if self.connection is not None and self._told != self._news():
            self._tell()

    def holdAcknowledgements(self, isHeld: bool) -> None:
        """
        Acknowledge nothing for now, so that the other side soon stops sending, or do so again.
        """
        if isHeld != self._isHeld:
            self._isHeld = isHeld
            if not isHeld:
                self.tellBegun()

    def close(self) -> None:
        """
        Leave the connection, after what was sent. L{cut} is not called.
        """
        connection, self.connection = self.connection, None
        self._stopTimers()
        if connection is not None:
            connection.closed = lambda connection, reason: None
            connection.finish()

    def part(self, closed: Callable[[], None]) -> None:
        """
        Acknowledge all that has come, and leave it to the other side to close the connection.

        @param closed: is called when it is closed.
        """
        connection, self.connection = self.connection, None
        self._stopTimers()
        if connection is None:
            closed()
        else:
            connection.write(ACK, _ACK.pack(*self._news()))
            connection.linger(closed)

    # What is sent ---------------------------------------------------------------------------------

    def _said(self, kind: int, *parts: bytes | memoryview) -> None:
        assert self.connection is not None
        self._lastSaid = self._reactor.seconds()
        self.connection.write(kind, *parts)

    def _pump(self) -> None:
        """
        Send as much as the transport takes.
        """
        session = self.session
        while session.hasWaiting and self.connection is not None and not self.connection.isFull:
            # A record counts when it has arrived whole. So about half of the bytes count that cross
            # a connection before it is cut.
            start, pieces = session.take(min(self._piece, FIRST_PIECE + self._crossed))
            self._crossed += session.cursor - start
            self._told = self._news()
            head = _DATA.pack(start, *self._told)
            if pieces[0] is ABANDONED:
                self._said(ABANDON, head)
            else:
                self._said(DATA, head, *pieces)

    def _news(self) -> tuple[int, int]:
        """
        What has arrived, and which call has begun, as far as the other side is to know now.
        """
        return self._told[0] if self._isHeld else self.session.received, self.begun

    def _tell(self) -> None:
        self._told = self._news()
        self._said(ACK, _ACK.pack(*self._told))

    def _tellLater(self) -> None:
        self._ackTimer = None
        self.tellBegun()

    def _look(self) -> None:
        """
        Send a heartbeat if it is time, and give a silent connection up.
        """
        now = self._reactor.seconds()
        self._beat = self._reactor.callLater(self._tick, self._look)
        assert self.connection is not None
        if now - self._lastSaid >= self._heartbeat / 2:
            self._tell()
        if now - self._lastHeard > self._silence:
            self.connection.abort(ProtocolError(f"nothing was heard for {self._silence:g} seconds"))

    # What arrives ---------------------------------------------------------------------------------

    def _heard(self, record: Record) -> None:
        self._lastHeard = self._reactor.seconds()
        try:
            if record.kind == DATA:
                start, received, begun = _DATA.unpack_from(record.body)
                self._understood(received, begun)
                self._receive(start, memoryview(record.body)[_DATA.size :])
            elif record.kind == ABANDON:
                start, received, begun = _DATA.unpack(record.body)
                self._understood(received, begun)
                self._receive(start, None)
            elif record.kind == ACK:
                self._understood(*_ACK.unpack(record.body))
            elif record.kind == SIGNAL and len(record.body) == 1:
                self._signalled(record.body[0])
            else:
                raise ProtocolError(f"a record of kind {record.kind} makes no sense now")
        except struct.error as error:
            raise ProtocolError(f"a record is too short: {error}") from error
        self._measure()

    def _receive(self, start: int, data: memoryview | None) -> None:
        """
        @param data: the bytes; C{None} for the mark of an abandoned frame.
        """
        frames: list[Segments] = []
        try:
            if data is None:
                self.session.receiveAbandonment(start)
            else:
                frames = self.session.receive(start, data)
            messages = _decodeAll(frames)
        except ProtocolError as error:
            # Another connection would not mend it.
            self._deliver()
            self._broken(error)
            return
        self._acknowledgeSoon()
        self._gather(messages, frames)

    def _gather(self, messages: list[Message], frames: list[Segments]) -> None:
        self._gathered += messages
        self._hasBuffers = self._hasBuffers or any(len(frame) > 1 for frame in frames)

    def _deliver(self) -> None:
        """
        Hand on what has arrived, all at once, because each time costs as much as a few calls.
        """
        if self._gathered:
            messages, self._gathered = self._gathered, []
            hasBuffers, self._hasBuffers = self._hasBuffers, False
            self._arrived(messages, hasBuffers)

    def _offer(self, frames: list[Segments], opened: OpenFrame) -> Sink | None:
        assert self._passOn is not None
        self._gather(_decodeAll(frames), frames)
        frames.clear()
        self._deliver()
        return self._passOn(_decode(opened.emptied()), opened)

    def _understood(self, received: int, begun: int) -> None:
        self.session.heard(received)
        # A client begins nothing, and says 0.
        self.begun = max(self.begun, begun)
        self._pump()
        self._acknowledged()

    def _measure(self) -> None:
        """
        Have larger pieces cross a connection that is fast, because each takes time of its own.
        """
        crossed, seconds = self.session.received + self.session.acknowledged, self._lastHeard
        count = crossed - self._measured[0]
        if count >= LARGE_PIECE and self.connection is not None:
            isFast = count >= FAST * (seconds - self._measured[1])
            self._measured = (crossed, seconds)
            if isFast != (self._piece == LARGE_PIECE):
                self._piece = LARGE_PIECE if isFast else PIECE
                self.connection.setPiece(self._piece)

    def _acknowledgeSoon(self) -> None:
        if self.connection is None:
            return
        if self.session.received - self._told[0] >= ACK_BYTES:
            self.tellBegun()
        elif self._ackTimer is None:
            self._ackTimer = self._reactor.callLater(ACK_SECONDS, self._tellLater)

    def _closed(self, connection: Connection, reason: Exception) -> None:
        if connection is self.connection:
            self.connection = None
            self._stopTimers()
            self._cut(reason)

    def _stopTimers(self) -> None:
        for timer in (self._beat, self._ackTimer):
            if timer is not None:
                timer.cancel()
        self._beat = self._ackTimer = None
