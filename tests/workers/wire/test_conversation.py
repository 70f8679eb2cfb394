"""
How much of a session crosses a connection at once, and how much of it is handed on at once.
"""

from __future__ import annotations

import struct
from pickle import PickleBuffer
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.task import Clock

from asynqueue._runner.framing import encode
from asynqueue._workers.wire.conversation import Conversation
from asynqueue._workers.wire.handshake import Hello
from asynqueue._workers.wire.records import ACK, DATA, LARGE_PIECE, PIECE, Record


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
