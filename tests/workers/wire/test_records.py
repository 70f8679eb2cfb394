"""
A record that was changed, repeated, moved or left out is refused, and so is one that is too large.
"""

from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynqueue._workers.wire.records import (
    DATA,
    HANDSHAKE_LIMIT,
    HELLO,
    MAC_SIZE,
    RECORD_LIMIT,
    Mac,
    Record,
    RecordReader,
    RecordWriter,
)
from asynqueue.errors import ProtocolError

KEY = bytes(range(32))


def makeSecure() -> tuple[RecordWriter, RecordReader]:
    writer, reader = RecordWriter(), RecordReader()
    writer.secure(KEY)
    reader.secure(KEY)
    return writer, reader


def readAll(reader: RecordReader, data: bytes) -> list[Record]:
    reader.add(data)
    records = []
    while (record := reader.next()) is not None:
        records.append(record)
    return records


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 50))
def test_recordsArriveWholeFromWhateverPieces(bodies: list[bytes], size: int) -> None:
    writer, reader = makeSecure()
    data = b"".join(writer.write(DATA, body) for body in bodies)
    records = []
    for start in range(0, len(data), size):
        records += readAll(reader, data[start : start + size])
    assert records == [Record(DATA, body) for body in bodies]


@given(st.binary(max_size=64), st.lists(st.lists(st.binary(max_size=200), max_size=3), max_size=3))
def test_theMacIsAnHmacOfTheRecordsNumberAndBytes(key: bytes, records: list[list[bytes]]) -> None:
    mac = Mac(key)
    for number, parts in enumerate(records):
        whole = number.to_bytes(8, "little") + b"".join(parts)
        assert mac.next(*parts) == hmac.digest(key, whole, "sha256")[:MAC_SIZE]


@given(st.data())
def test_aChangedRecordIsRefused(data: st.DataObject) -> None:
    writer, reader = makeSecure()
    record = bytearray(writer.write(DATA, b"some body"))
    # A changed length only makes the reader wait for more, or is refused for its size.
    position = data.draw(st.integers(4, len(record) - 1))
    record[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ProtocolError, match="MAC"):
        readAll(reader, bytes(record))


@pytest.mark.parametrize("order", [(0, 0), (1, 0), (0, 2), (2,)])
def test_aRecordInAnotherPlaceIsRefused(order: tuple[int, ...]) -> None:
    writer, reader = makeSecure()
    records = [writer.write(DATA, bytes([number])) for number in range(3)]
    with pytest.raises(ProtocolError, match="repeated, or moved"):
        readAll(reader, b"".join(records[number] for number in order))


def test_aRecordOfAnotherConnectionIsRefused() -> None:
    writer, reader = makeSecure()
    writer.secure(bytes(32))
    with pytest.raises(ProtocolError, match="MAC"):
        readAll(reader, writer.write(DATA, b"old"))


@pytest.mark.parametrize(("isSecure", "limit"), [(False, HANDSHAKE_LIMIT), (True, RECORD_LIMIT)])
def test_aRecordOverTheLimitIsRefusedByItsLength(isSecure: bool, limit: int) -> None:
    reader = RecordReader()
    if isSecure:
        reader.secure(KEY)
    reader.add(limit.to_bytes(4, "little") + b"\1")
    assert reader.next() is None
    reader = RecordReader()
    if isSecure:
        reader.secure(KEY)
    reader.add((limit + 1).to_bytes(4, "little") + b"\1")
    with pytest.raises(ProtocolError, match=str(limit)):
        reader.next()


def test_anAnswerOfAnotherKindOfServerIsRefused() -> None:
    reader = RecordReader()
    reader.add(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(ProtocolError):
        reader.next()


def test_beforeTheKeysAreKnownThereIsNoMac() -> None:
    assert readAll(RecordReader(), RecordWriter().write(HELLO, b"{}")) == [Record(HELLO, b"{}")]
