"""
How much of a session crosses a connection at once, and how much of it is handed on at once.
"""

from __future__ import annotations

import struct
from pickle import PickleBuffer
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.interfaces import IWriteDescriptor
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from asynqueue._runner.framing import encode
from asynqueue._workers.wire.conversation import Connection, Conversation
from asynqueue._workers.wire.handshake import Handshake, Hello
from asynqueue._workers.wire.records import ACK, ATTACH, DATA, LARGE_PIECE, PIECE, Record


class Link:
    """
    A connection that has come through the handshake, and takes whatever is written.
    """

    def __init__(self) -> None:
        self.handshake = SimpleNamespace(peer=Hello())
        self.heard: Any = None
        self.heardAll: Any = None
        self.isFull = False
        self.sizes: list[int] = []
        self.piece = PIECE

    def write(self, kind: int, *parts: bytes) -> None:
        if kind == DATA:
            self.sizes.append(sum(map(len, parts[1:])))

    def setPiece(self, size: int) -> None:
        self.piece = size

    def settled(self) -> None:
        pass


def makeLink() -> Any:
    """
    @return: such a connection, in place of a real one.
    """
    return Link()


def refuse(reason: Exception) -> None:
    raise AssertionError(reason)


class Sending:
    """
    A conversation that has more to send than it may before it is acknowledged.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.link = makeLink()
        self.conversation: Any = Conversation(
            self.clock, 1 << 30, 5.0, lambda messages, hasBuffers: None, refuse, refuse
        )
        self.conversation.attach(self.link, 0)
        self.conversation.send([(1, PickleBuffer(bytes(40 << 20)))])
        self.acknowledged = 0

    def acknowledge(self, size: int, seconds: float) -> list[int]:
        """
        @return: the sizes of the records that are sent then.
        """
        self.clock.advance(seconds)
        self.acknowledged += size
        self.link.sizes.clear()
        self.link.heard(Record(ACK, struct.pack("<QQ", self.acknowledged, 0)))
        return list(self.link.sizes)


def test_aNewConnectionCarriesSmallPieces() -> None:
    sending = Sending()
    assert max(sending.link.sizes) == PIECE
    assert sending.link.piece == PIECE


def test_aFastConnectionCarriesLargePiecesUntilItIsSlow() -> None:
    sending = Sending()
    sending.acknowledge(1 << 20, 0.01)
    assert sending.acknowledge(1 << 20, 0.01) == [LARGE_PIECE] * 4
    assert sending.link.piece == LARGE_PIECE
    sending.acknowledge(1 << 20, 1.0)
    assert sending.acknowledge(1 << 20, 0.01) == [PIECE] * 16
    assert sending.acknowledge(1 << 20, 0.01) == [LARGE_PIECE] * 4


def test_aFewBytesSayNothingOfTheSpeed() -> None:
    sending = Sending()
    for _ in range(3):
        assert sending.acknowledge(PIECE, 0.0001) == [PIECE]
    assert sending.link.piece == PIECE


@pytest.mark.parametrize("seconds", [0.01, 1.0])
def test_theNextConnectionCarriesSmallPiecesAgain(seconds: float) -> None:
    sending = Sending()
    sending.acknowledge(1 << 20, seconds)
    link = makeLink()
    sending.conversation.connection = None
    sending.conversation.attach(link, sending.acknowledged)
    assert max(link.sizes) == PIECE


@implementer(IWriteDescriptor)
class PushedTransport(StringTransport):
    """
    A transport that can be told to send, and takes more when it has sent something.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pushed: list[bytes] = []

    def doWrite(self) -> None:
        self.pushed.append(self.value())
        self.clear()
        assert self.producer is not None
        self.producer.resumeProducing()

    def connectionLost(self, reason: Any) -> None:
        pass

    def fileno(self) -> int:
        return -1

    def logPrefix(self) -> str:
        return "test"


def connect(transport: Any) -> Connection:
    def fail(*args: Any) -> Any:
        raise AssertionError(args)

    handshake = Handshake(b"k" * 32, Hello(), isServer=False)
    connection = Connection(Clock(), handshake, fail, fail, fail)
    connection.makeConnection(transport)
    return connection


def test_aRecordLeavesAtOnceWhereTheTransportCanBeTold() -> None:
    transport = PushedTransport()
    connection = connect(transport)
    more = [b"second"]
    connection.pump = lambda: connection.write(ATTACH, more.pop()) if more else None
    connection.write(ATTACH, b"first")
    assert len(transport.pushed) == 2
    assert transport.pushed[1].endswith(b"first")
    # What is written while the transport sends leaves with its next turn, or with the next record.
    assert transport.value().endswith(b"second")
    connection.write(ATTACH, b"third")
    assert b"second" in transport.pushed[2]
    assert transport.pushed[2].endswith(b"third")


def test_aRecordIsLeftToATransportThatCannotBeTold() -> None:
    transport = StringTransport()
    connect(transport).write(ATTACH, b"first")
    assert transport.value().endswith(b"first")


def dataOf(start: int, *frames: list[Any]) -> Record:
    body = b"".join(piece for frame in frames for piece in encode(frame))
    return Record(DATA, struct.pack("<QQQ", start, 0, 0) + body)


class Hearing:
    """
    A conversation, and what it hands on.
    """

    def __init__(self) -> None:
        self.arrived: list[tuple[list[Any], bool]] = []
        self.broken: list[Exception] = []
        self.link = makeLink()
        conversation: Any = Conversation(
            Clock(), 1 << 20, 5.0, self.arrive, refuse, self.broken.append
        )
        conversation.attach(self.link, 0)

    def arrive(self, messages: list[Any], hasBuffers: bool) -> None:
        self.arrived.append((messages, hasBuffers))


def test_theMessagesOfRecordsThatCameTogetherAreHandedOnTogether() -> None:
    hearing = Hearing()
    first = dataOf(0, [(1,)], [(2,), (3,)])
    hearing.link.heard(first)
    hearing.link.heard(dataOf(len(first.body) - 24, [(4,)]))
    assert hearing.arrived == []
    hearing.link.heardAll()
    assert hearing.arrived == [([(1,), (2,), (3,), (4,)], False)]


def test_itIsSaidThatThereAreBuffersInAMessage() -> None:
    hearing = Hearing()
    first = dataOf(0, [(1, PickleBuffer(b"buffer"))])
    hearing.link.heard(first)
    hearing.link.heardAll()
    hearing.link.heard(dataOf(len(first.body) - 24, [(2,)]))
    hearing.link.heardAll()
    assert hearing.arrived == [([(1, b"buffer")], True), ([(2,)], False)]


@pytest.mark.parametrize("nonsense", [(1,), [2], [()], [("text",)]])
def test_theMessagesBeforeNonsenseAreHandedOn(nonsense: Any) -> None:
    hearing = Hearing()
    first = dataOf(0, [(1,)])
    hearing.link.heard(first)
    hearing.link.heard(dataOf(len(first.body) - 24, nonsense))
    assert hearing.arrived == [([(1,)], False)]
    assert "a frame" in str(hearing.broken[0])
