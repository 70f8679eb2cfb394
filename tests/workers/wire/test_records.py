"""
A record that was changed, repeated, moved or left out is refused, and so is one that is too large.
"""

from __future__ import annotations

import hmac

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM
from hypothesis import given
from hypothesis import strategies as st

from asynqueue._workers.wire.records import (
    DATA,
    HANDSHAKE_LIMIT,
    HELLO,
    MAC_SIZE,
    MACS,
    RECORD_LIMIT,
    Gmac,
    Hmac,
    Mac,
    Record,
    RecordReader,
    RecordWriter,
)
from asynqueue.errors import ProtocolError

KEY = bytes(range(32))


eachMac = pytest.mark.parametrize("makeMac", MACS.values(), ids=MACS)


def makeSecure(makeMac: type[Mac]) -> tuple[RecordWriter, RecordReader]:
    writer, reader = RecordWriter(), RecordReader()
    writer.secure(makeMac(KEY))
    reader.secure(makeMac(KEY))
    return writer, reader


def readAll(reader: RecordReader, data: bytes) -> list[Record]:
    reader.add(data)
    records = []
    while (record := reader.next()) is not None:
        records.append(record)
    return records


@eachMac
@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 50))
def test_recordsArriveWholeFromWhateverPieces(
    makeMac: type[Mac], bodies: list[bytes], size: int
) -> None:
    writer, reader = makeSecure(makeMac)
    data = b"".join(piece for body in bodies for piece in writer.write(DATA, body))
    records = []
    for start in range(0, len(data), size):
        records += readAll(reader, data[start : start + size])
    assert records == [Record(DATA, body) for body in bodies]


@given(st.binary(max_size=64), st.lists(st.binary(max_size=200), max_size=3))
def test_anHmacIsThatOfTheRecordsNumberAndBytes(key: bytes, records: list[bytes]) -> None:
    mac = Hmac(key)
    for number, record in enumerate(records):
        whole = number.to_bytes(8, "little") + record
        assert mac.next(record) == hmac.digest(key, whole, "sha256")[:MAC_SIZE]


@given(st.binary(min_size=32, max_size=32), st.lists(st.binary(max_size=200), max_size=3))
def test_aGmacIsThatOfTheBytesWithTheRecordsNumberAsItsNonce(
    key: bytes, records: list[bytes]
) -> None:
    mac = Gmac(key)
    for number, record in enumerate(records):
        encryptor = Cipher(AES(key), GCM(number.to_bytes(12, "little"))).encryptor()
        encryptor.authenticate_additional_data(record)
        encryptor.finalize()
        assert mac.next(record) == encryptor.tag


@eachMac
@given(st.data())
def test_aChangedRecordIsRefused(makeMac: type[Mac], data: st.DataObject) -> None:
    writer, reader = makeSecure(makeMac)
    record = bytearray(b"".join(writer.write(DATA, b"some body")))
    # A changed length only makes the reader wait for more, or is refused for its size.
    position = data.draw(st.integers(4, len(record) - 1))
    record[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ProtocolError, match="MAC"):
        readAll(reader, bytes(record))


@eachMac
@pytest.mark.parametrize("order", [(0, 0), (1, 0), (0, 2), (2,)])
def test_aRecordInAnotherPlaceIsRefused(makeMac: type[Mac], order: tuple[int, ...]) -> None:
    writer, reader = makeSecure(makeMac)
    records = [b"".join(writer.write(DATA, bytes([number]))) for number in range(3)]
    with pytest.raises(ProtocolError, match="repeated, or moved"):
        readAll(reader, b"".join(records[number] for number in order))


@eachMac
def test_aRecordOfAnotherConnectionIsRefused(makeMac: type[Mac]) -> None:
    writer, reader = makeSecure(makeMac)
    writer.secure(makeMac(bytes(32)))
    with pytest.raises(ProtocolError, match="MAC"):
        readAll(reader, b"".join(writer.write(DATA, b"old")))


@pytest.mark.parametrize(("isSecure", "limit"), [(False, HANDSHAKE_LIMIT), (True, RECORD_LIMIT)])
def test_aRecordOverTheLimitIsRefusedByItsLength(isSecure: bool, limit: int) -> None:
    reader = RecordReader()
    if isSecure:
        reader.secure(Hmac(KEY))
    reader.add(limit.to_bytes(4, "little") + b"\1")
    assert reader.next() is None
    reader = RecordReader()
    if isSecure:
        reader.secure(Hmac(KEY))
    reader.add((limit + 1).to_bytes(4, "little") + b"\1")
    with pytest.raises(ProtocolError, match=str(limit)):
        reader.next()


def test_anAnswerOfAnotherKindOfServerIsRefused() -> None:
    reader = RecordReader()
    reader.add(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(ProtocolError):
        reader.next()


def test_beforeTheKeysAreKnownThereIsNoMac() -> None:
    written = b"".join(RecordWriter().write(HELLO, b"{}"))
    assert readAll(RecordReader(), written) == [Record(HELLO, b"{}")]
