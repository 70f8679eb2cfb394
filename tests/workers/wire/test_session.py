"""
A session loses nothing and repeats nothing, wherever its connections are cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pickle import PickleBuffer
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynqueue._runner import framing
from asynqueue._runner.framing import OpenFrame, Segments, Sink, decode, encode
from asynqueue._workers.wire import session as sessions
from asynqueue._workers.wire.session import ABANDONED, WINDOW, Session
from asynqueue.errors import ProtocolError

LIMIT = 1 << 20


class Pair:
    """
    Two sessions, and what is on its way between them.
    """

    def __init__(self) -> None:
        self.near, self.far = Session(LIMIT), Session(LIMIT)
        # Bytes, or C{None} for the mark of an abandoned frame.
        self.flying: list[tuple[Session, int, bytes | None]] = []
        self.arrived: dict[Session, list[Any]] = {self.near: [], self.far: []}
        self.expected: dict[Session, list[Any]] = {self.near: [], self.far: []}
        # The messages of the frames that were begun, and their bytes that were not added.
        self._begun: dict[Session, tuple[Any, bytes]] = {}
        # What is to arrive after those.
        self._behind: dict[Session, list[Any]] = {self.near: [], self.far: []}

    def put(self, session: Session, message: Any) -> None:
        session.put(encode([message]))
        isBehind = session in self._begun
        (self._behind[session] if isBehind else self.expected[self.other(session)]).append(message)

    def begin(self, session: Session, message: Any) -> None:
        if session not in self._begun:
            whole = b"".join(encode([message]))
            session.beginFrame([whole[:20]], len(whole) - 20)
            self._begun[session] = message, whole[20:]

    def proceed(self, session: Session, size: int) -> None:
        if session in self._begun:
            message, left = self._begun[session]
            self._begun[session] = message, left[size:]
            session.continueFrame(memoryview(left[:size]))
            if len(left) <= size:
                self._leave(session, isWhole=True)

    def abandon(self, session: Session) -> None:
        session.abandonFrame()
        if session in self._begun:
            self._leave(session, isWhole=False)

    def _leave(self, session: Session, isWhole: bool) -> None:
        message, _ = self._begun.pop(session)
        self.expected[self.other(session)] += [message] * isWhole + self._behind[session]
        self._behind[session] = []

    def other(self, session: Session) -> Session:
        return self.far if session is self.near else self.near

    def transmit(self, session: Session, count: int) -> None:
        start, pieces = session.take(count)
        isMark = any(piece is ABANDONED for piece in pieces)
        assert not isMark or len(pieces) == 1
        self.flying.append((self.other(session), start, None if isMark else b"".join(pieces)))

    def deliver(self) -> None:
        if self.flying:
            session, start, data = self.flying.pop(0)
            if data is None:
                session.receiveAbandonment(start)
                return
            for frame in session.receive(start, memoryview(data)):
                self.arrived[session] += decode(frame)

    def cut(self) -> None:
        self.flying.clear()
        self.near.resume(self.far.received)
        self.far.resume(self.near.received)

    def finish(self) -> None:
        self.abandon(self.near)
        self.abandon(self.far)
        self.cut()
        while self.near.hasWaiting or self.far.hasWaiting:
            for session in (self.near, self.far):
                self.transmit(session, 1 << 16)
                self.deliver()
                self.other(session).heard(session.received)
                session.heard(self.other(session).received)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.booleans(), st.integers(0, 300)),
        st.tuples(st.just("begin"), st.booleans(), st.integers(0, 300)),
        st.tuples(st.just("continue"), st.booleans(), st.integers(1, 200)),
        st.tuples(st.just("abandon"), st.booleans(), st.just(0)),
        st.tuples(st.just("transmit"), st.booleans(), st.integers(1, 200)),
        st.tuples(st.just("deliver"), st.booleans(), st.just(0)),
        st.tuples(st.just("hear"), st.booleans(), st.just(0)),
        st.tuples(st.just("cut"), st.booleans(), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS)
def test_everyMessageArrivesOnceInOrderWhateverIsCut(steps: Any) -> None:
    pair = Pair()
    for number, (step, isNear, size) in enumerate(steps):
        session = pair.near if isNear else pair.far
        if step == "put":
            pair.put(session, (number, "x" * size))
        elif step == "begin":
            pair.begin(session, (number, "x" * size))
        elif step == "continue":
            pair.proceed(session, size)
        elif step == "abandon":
            pair.abandon(session)
        elif step == "transmit":
            pair.transmit(session, size)
        elif step == "deliver":
            pair.deliver()
        elif step == "hear":
            session.heard(pair.other(session).received)
        else:
            pair.cut()
    pair.finish()
    assert pair.arrived == pair.expected
    assert pair.near.keptBytes == pair.far.keptBytes == 0


@given(st.data())
def test_bytesThatHadArrivedAreSkipped(data: Any) -> None:
    pair = Pair()
    for number in range(4):
        pair.near.put(encode([(number,)]))
    _, pieces = pair.near.take(1 << 16)
    whole = b"".join(pieces)
    first = data.draw(st.integers(0, len(whole)))
    again = data.draw(st.integers(0, first))
    frames = pair.far.receive(0, memoryview(whole)[:first])
    frames += pair.far.receive(again, memoryview(whole)[again:])
    assert [message for frame in frames for message in decode(frame)] == [(n,) for n in range(4)]


@contextmanager
def tiny() -> Iterator[None]:
    """
    With so little scratch space, a few bytes make a large frame.
    """
    with mock.patch.object(framing, "SCRATCH", 256), mock.patch.object(sessions, "SCRATCH", 256):
        yield


class Passing:
    """
    A session that passes large frames on, and what came out of it in order.
    """

    def __init__(self, isPassed: bool) -> None:
        self.session = Session(LIMIT, self._offer)
        self.isPassed = isPassed
        # Whole frames, or the bytes of frames that were passed on.
        self.out: list[list[Any] | bytearray] = []

    def _offer(self, frames: list[Segments], opened: OpenFrame) -> Sink | None:
        self.out += map(decode, frames)
        frames.clear()
        if not self.isPassed:
            return None
        passed = bytearray(opened.head + opened.body)
        self.out.append(passed)
        return passed.extend

    def receive(self, start: int, data: bytes) -> None:
        self.out += map(decode, self.session.receive(start, memoryview(data)))

    def messages(self) -> list[Any]:
        messages = []
        for part in self.out:
            if isinstance(part, bytearray):
                (frame,) = Session(LIMIT).receive(0, memoryview(part))
                messages += decode(frame)
            else:
                messages += part
        return [(number, bytes(value)) for number, value in messages]


@given(st.lists(st.integers(0, 1000), max_size=12), st.booleans(), st.data())
def test_aLargeFrameIsPassedOnInItsPlaceWhateverTheCuts(
    sizes: list[int], isPassed: bool, data: Any
) -> None:
    sent = [(number, bytes([number]) * size) for number, size in enumerate(sizes)]
    whole = b"".join(
        piece for number, value in sent for piece in encode([(number, PickleBuffer(value))])
    )
    with tiny():
        far = Passing(isPassed)
        while far.session.received < len(whole):
            start = data.draw(st.integers(0, far.session.received))
            end = far.session.received + data.draw(st.integers(1, 700))
            far.receive(start, whole[start:end])
        assert far.messages() == sent
    passed = sum(isinstance(part, bytearray) for part in far.out)
    assert passed == (len(sizes) if isPassed else 0)


@given(st.integers(1, 3000), st.integers(0, 2000))
def test_whatFollowsAnAbandonedFrameArrives(shown: int, size: int) -> None:
    whole = b"".join(encode([(1, PickleBuffer(bytes(3000)))]))
    with tiny():
        session = Session(LIMIT)
        assert session.receive(0, memoryview(whole[:shown])) == []
        for _ in range(2):
            session.receiveAbandonment(shown)
        frames = session.receive(shown + 1, memoryview(b"".join(encode([(2, "x" * size)]))))
    assert [decode(frame) for frame in frames] == [[(2, "x" * size)]]


def test_anAbandonmentOfNothingIsRefused() -> None:
    session = Session(LIMIT)
    with pytest.raises(ProtocolError, match="given up"):
        session.receiveAbandonment(0)
    with pytest.raises(ProtocolError, match="number 3"):
        session.receiveAbandonment(3)


def test_aFrameThatWasPassedOnCannotBeAbandoned() -> None:
    session = Session(LIMIT, lambda frames, opened: lambda piece: None)
    whole = b"".join(encode([(1, PickleBuffer(bytes(3000)))]))
    session.receive(0, memoryview(whole[:1000]))
    with pytest.raises(ProtocolError, match="given up"):
        session.receiveAbandonment(1000)


def test_missingBytesAreRefused() -> None:
    with pytest.raises(ProtocolError, match="number 5"):
        Session(LIMIT).receive(5, memoryview(b"abc"))


@pytest.mark.parametrize("received", [-1, 4])
def test_anImpossibleAcknowledgementIsRefused(received: int) -> None:
    session = Session(LIMIT)
    session.put([b"abcdef"])
    session.take(3)
    with pytest.raises(ProtocolError):
        session.heard(received)
    with pytest.raises(ProtocolError):
        session.resume(received)


def test_aFrameOverTheLimitIsRefused() -> None:
    session = Session(1000)
    with pytest.raises(ProtocolError, match="limit"):
        session.receive(0, memoryview(b"".join(encode([("x" * 2000,)]))))


def test_noMoreThanTheWindowIsOnItsWay() -> None:
    session = Session(LIMIT)
    session.put([bytes(WINDOW + 10)])
    taken = 0
    while session.hasWaiting:
        taken += sum(map(len, session.take(1 << 20)[1]))
    assert taken == WINDOW
    session.heard(4)
    assert sum(map(len, session.take(1 << 20)[1])) == 4


def test_whatWasAcknowledgedIsNotKept() -> None:
    session = Session(LIMIT)
    session.put([b"abcdef"])
    session.take(6)
    session.heard(4)
    assert session.keptBytes == 2
    session.resume(5)
    start, pieces = session.take(6)
    assert (start, b"".join(pieces)) == (5, b"f")
