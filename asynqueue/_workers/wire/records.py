"""
Records: what crosses one connection, each with a length and, once both sides know the connection's
keys, with a MAC.

A record is its body's length (4 bytes) and its kind (1 byte, both little-endian), the body, and a
MAC of 16 bytes. The MAC covers the number of the record, counted from 0 in each direction, so that
a record that was changed, left out, repeated, or moved is refused. Nothing here does I/O, and
nothing is unpickled here.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, Final, NamedTuple

from asynqueue.errors import ProtocolError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HANDSHAKE_LIMIT: Final = 4096
"""Bytes that a record's body may have before the peer has proved that it knows the key."""

PIECE: Final = 1 << 16
"""Bytes of messages that one record carries at the most. At 100 Mbit/s it takes 5 ms, so that no
heartbeat or signal waits for longer behind a large message."""

LARGE_PIECE: Final = 1 << 18
"""The same for a fast connection."""

RECORD_LIMIT: Final = LARGE_PIECE + 64
"""Bytes that a record's body may have after that."""

MAC_SIZE: Final = 16

# Kinds, before the keys are known and after.
HELLO: Final = 1
PROOF: Final = 2
REFUSED: Final = 3
ATTACH: Final = 4
WELCOME: Final = 5
DATA: Final = 6
ACK: Final = 7
SIGNAL: Final = 8
ABANDON: Final = 9

_HEAD: Final = struct.Struct("<IB")
_NUMBER: Final = struct.Struct("<Q")
_BLOCK: Final = 64
"""Bytes that SHA-256 takes in at once. A key has no more."""


_OTHERS: Final = (
    (b"\x15\x03", "TLS"),
    (b"\x16\x03", "TLS"),
    (b"HTTP/", "HTTP"),
    (b"GET ", "HTTP"),
    (b"HEAD ", "HTTP"),
    (b"POST ", "HTTP"),
    (b"SSH-", "SSH"),
)
"""How other protocols begin. Each of these would be the head of a record that is too large."""


class ForeignProtocol(ProtocolError):
    """
    The other side speaks another protocol.
    """


class Record(NamedTuple):
    """
    One record that has arrived.
    """

    kind: int
    body: bytes | memoryview


class Hmac:
    """
    Makes the MACs of one direction of a connection: the first 16 bytes of an HMAC-SHA-256, as RFC
    2104 says. C{hmac} would take in the key again for each record, or take four times as long to
    copy what has taken it in.

    @ivar number: the number of the next record.
    """

    def __init__(self, key: bytes) -> None:
        self._inner, self._outer = (
            sha256(bytes(byte ^ pad for byte in key.ljust(_BLOCK, b"\0"))) for pad in (0x36, 0x5C)
        )
        self.number = 0

    def next(self, record: bytes | memoryview) -> bytes:
        """
        Make the MAC of the next record.
        """
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(_NUMBER.pack(self.number))
        inner.update(record)
        outer.update(inner.digest())
        self.number += 1
        return outer.digest()[:MAC_SIZE]


class Gmac:
    """
    Makes the MACs of one direction of a connection: GMAC with AES-256, as NIST SP 800-38D says. The
    record's number is the nonce, so no nonce comes twice with a key. 64 KiB take a twentieth of the
    time of an HMAC-SHA-256 where the processor has instructions for both.

    @ivar number: the number of the next record.
    """

    def __init__(self, key: bytes) -> None:
        self._mac = _aesGcm()(key).encrypt
        self.number = 0

    def next(self, record: bytes | memoryview) -> bytes:
        """
        Make the MAC of the next record.
        """
        mac: bytes = self._mac(self.number.to_bytes(12, "little"), b"", record)
        self.number += 1
        return mac


@cache
def _aesGcm() -> type[AESGCM]:
    """
    @raise ImportError: if the extra C{tls} is not installed.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM


HMAC_SHA256: Final = "hmac-sha256"
GMAC: Final = "aes-256-gmac"

Mac = Hmac | Gmac

MACS: Final[Mapping[str, type[Mac]]] = {GMAC: Gmac, HMAC_SHA256: Hmac}
"""The kinds of MACs by their names, the best one first."""


def availableMacs() -> tuple[str, ...]:
    """
    @return: the names of those that can be made here.
    """
    try:
        _aesGcm()
    except ImportError:
        return (HMAC_SHA256,)
    return tuple(MACS)


class RecordWriter:
    """
    Makes the records of one direction of a connection.
    """

    def __init__(self) -> None:
        self._mac: Mac | None = None

    def secure(self, mac: Mac) -> None:
        """
        Add a MAC to each record from now on.
        """
        self._mac = mac

    def write(self, kind: int, *parts: bytes | memoryview) -> list[bytes]:
        """
        @param parts: the body, in pieces.
        @return: the bytes to send, in pieces.
        """
        record = b"".join([_HEAD.pack(sum(map(len, parts)), kind), *parts])
        return [record] if self._mac is None else [record, self._mac.next(record)]


class RecordReader:
    """
    Puts the records of one direction of a connection together, from bytes in whatever pieces.
    """

    def __init__(self) -> None:
        self._mac: Mac | None = None
        self._limit = HANDSHAKE_LIMIT
        # What came and was not read yet. It is put together only when a record is whole.
        self._pieces: list[bytes | memoryview] = []
        self._size = 0
        # How many bytes the next record has, or its head as long as that has not come.
        self._needed = _HEAD.size

    def secure(self, mac: Mac) -> None:
        """
        Demand a MAC of each record from now on, also of those whose bytes are here already.
        """
        self._mac = mac
        self._limit = RECORD_LIMIT

    def add(self, data: bytes) -> None:
        """
        Add bytes that have arrived.
        """
        self._pieces.append(data)
        self._size += len(data)

    def next(self) -> Record | None:
        """
        @return: the next record, or C{None} if it has not arrived whole. Its body is a part of the
            bytes that arrived, not a copy.
        @raise ForeignProtocol: if the other side speaks another protocol.
        @raise ProtocolError: if what arrived is no record, or is too large, or its MAC is not that
            of this record at this place.
        """
        if self._size < self._needed:
            return None
        data = self._joined()
        size, kind = _HEAD.unpack_from(data)
        if size > self._limit:
            if self._mac is None:
                self._checkProtocol(data)
            raise ProtocolError(
                f"a record claims to have {size} bytes, and may have {self._limit} bytes now"
            )
        end = _HEAD.size + size
        whole = self._needed = end if self._mac is None else end + MAC_SIZE
        if len(data) < whole:
            return None
        mac = self._mac
        if mac is not None and not compare_digest(data[end:whole], mac.next(data[:end])):
            raise ProtocolError(
                f"record {mac.number - 1} of the connection does not have the right MAC: it was "
                "changed, repeated, or moved on the way"
            )
        self._pieces = [data[whole:]] if len(data) > whole else []
        self._size = len(data) - whole
        self._needed = _HEAD.size
        return Record(kind, data[_HEAD.size : end])

    def _joined(self) -> memoryview:
        """
        @return: all that is here, in one piece.
        """
        if len(self._pieces) > 1:
            self._pieces = [b"".join(self._pieces)]
        return memoryview(self._pieces[0])

    def _checkProtocol(self, data: memoryview) -> None:
        for beginning, name in _OTHERS:
            if data[: len(beginning)] == beginning:
                advice = ": give tls=FOLDER here, or take it away there" if name == "TLS" else ""
                raise ForeignProtocol(f"the other side speaks {name}{advice}")
