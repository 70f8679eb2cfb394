"""
The handshake of a connection: both sides say hello, and each proves that it knows the key.

::

    client                                server
    HELLO (version, nonce, limits) ---->
           <---- HELLO (version, nonce, limits, what it offers)
           <---- PROOF = HMAC(key, "server" + both hellos)
    PROOF = HMAC(key, "client" + both hellos) ---->
           from here on each record has a MAC
    ATTACH (client, session or none, bytes received) ---->
           <---- WELCOME (session, bytes received)

The keys of the MACs are made of the shared key and both hellos, which have a nonce each, so that
they are new with each connection. The MACs are of the best kind that both hellos name. The bodies
of these records are JSON, because JSON builds nothing but plain values. Nothing here does I/O.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import platform
import secrets
from dataclasses import asdict, dataclass, field
from dataclasses import fields as dataclassFields
from typing import TYPE_CHECKING, Final

from asynqueue._runner.codecs import CODECS
from asynqueue._runner.messages import VERSION as MESSAGES
from asynqueue._workers.wire.records import (
    ATTACH,
    HELLO,
    MACS,
    PROOF,
    REFUSED,
    WELCOME,
    Mac,
    Record,
    availableMacs,
)
from asynqueue.errors import ConnectionRefused, ProtocolError, ServerBusy, WorkerStartError

if TYPE_CHECKING:
    from asynqueue.interfaces import JSONObject

VERSION: Final = f"3.{MESSAGES}"
"""The version of the wire, and that of the messages that it carries. The sides must agree."""

PRODUCT: Final = "asynqueue"
LARGEST: Final = 1 << 30
"""Bytes that one frame of messages may have, unless a side says otherwise: 1 GiB."""

KEY_SIZE: Final = 32


@dataclass(frozen=True, slots=True)
class Hello:
    """
    The facts that a side tells of itself.

    @ivar largest: how many bytes a frame of messages to it may have.
    @ivar heartbeat: after how many seconds at the most it sends something.
    @ivar processes: how many runners a server offers to each client.
    @ivar keep: for how many seconds a server keeps a session whose connection was cut.
    @ivar series: the series that a server offers.
    @ivar macs: the kinds of MACs that it can make, names in L{MACS}.
    """

    largest: int = LARGEST
    heartbeat: float = 5.0
    processes: int = 0
    keep: float = 0.0
    series: tuple[str, ...] = ()
    macs: tuple[str, ...] = field(default_factory=availableMacs)
    product: str = PRODUCT
    version: str = VERSION
    python: str = platform.python_version()
    nonce: str = ""

    def encode(self) -> bytes:
        """
        @return: the record's body.
        """
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, body: bytes) -> Hello:
        """
        @raise ProtocolError: if these are no hello's bytes.
        """
        fields = readObject(body)
        if fields.get("product") != PRODUCT:
            raise ProtocolError("the other side does not speak the language of asynqueue")
        # Another version may say other things. What is compared is the version alone.
        version = fields.get("version")
        if version != VERSION:
            return cls(version=str(version), python=str(fields.get("python")))
        try:
            texts = {name: tuple(map(str, fields.get(name, ()))) for name in ("series", "macs")}
            hello = cls(**{**fields, **texts})
            isSound = (
                isinstance(hello.largest, int)
                and hello.largest >= 1 << 16
                and isinstance(hello.processes, int)
                and hello.heartbeat > 0
                and hello.keep >= 0
                and len(bytes.fromhex(hello.nonce)) == KEY_SIZE
            )
        except (TypeError, ValueError) as error:
            raise ProtocolError(f"the other side's hello makes no sense: {error}") from error
        if not isSound:
            raise ProtocolError("the other side's hello has a number out of range")
        return hello


def readObject(body: bytes) -> JSONObject:
    """
    Decode a JSON object.

    @raise ProtocolError: if the bytes are none.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a record that should be JSON is not: {error}") from error
    if not isinstance(value, dict):
        raise ProtocolError("a record that should be a JSON object is not")
    return value


Outgoing = list[tuple[int, bytes]]
"""Records to send: kinds and bodies."""


class Handshake:
    """
    One side's part in the handshake, up to where the MACs begin.

    @ivar peer: the other side's hello, once it is here.
    @ivar isDone: whether the other side has proved that it knows the key.
    """

    def __init__(self, key: bytes, hello: Hello, isServer: bool) -> None:
        """
        @param key: the secret that both sides know.
        @param hello: what this side says of itself, without a nonce.
        """
        self.peer: Hello | None = None
        self.isDone = False
        self._key = key
        self._macs = hello.macs
        self._mac: type[Mac] | None = None
        self._isServer = isServer
        nonce = secrets.token_hex(KEY_SIZE)
        self._hello = Hello(**{**asdict(hello), "nonce": nonce}).encode()
        self._transcript = b""

    def start(self) -> Outgoing:
        """
        @return: what a side sends before it has heard anything.
        """
        return [] if self._isServer else [(HELLO, self._hello)]

    def receive(self, record: Record) -> Outgoing:
        """
        @return: what to send in answer.
        @raise ConnectionRefused: if the sides do not fit together, or the other side refuses.
        @raise ProtocolError: if the record makes no sense now.
        """
        if record.kind == REFUSED:
            raise refusalIn(bytes(record.body))
        if record.kind == HELLO and self.peer is None:
            return self._heard(bytes(record.body))
        if record.kind == PROOF and self.peer is not None and not self.isDone:
            return self._checked(bytes(record.body))
        raise ProtocolError(f"a record of kind {record.kind} came in the middle of the handshake")

    def _heard(self, body: bytes) -> Outgoing:
        peer = self.peer = Hello.decode(body)
        if peer.version != VERSION:
            raise ConnectionRefused(
                f"{'the client' if self._isServer else 'the server'} speaks version "
                f"{peer.version} of the wire (on Python {peer.python}), "
                f"{'the server' if self._isServer else 'this side'} speaks version {VERSION} "
                f"(on Python {platform.python_version()})"
            )
        both = [name for name in MACS if name in self._macs and name in peer.macs]
        if not both:
            raise ConnectionRefused("the two sides can make no MACs of the same kind")
        self._mac = MACS[both[0]]
        client, server = (body, self._hello) if self._isServer else (self._hello, body)
        self._transcript = hashlib.sha256(client).digest() + hashlib.sha256(server).digest()
        if self._isServer:
            return [(HELLO, self._hello), (PROOF, self._derived(b"server"))]
        return []

    def _checked(self, proof: bytes) -> Outgoing:
        other = b"client" if self._isServer else b"server"
        if not hmac.compare_digest(proof, self._derived(other)):
            raise ConnectionRefused(
                "the client's key is not the server's"
                if self._isServer
                else "the server's key is not the one that this side was given"
            )
        self.isDone = True
        return [] if self._isServer else [(PROOF, self._derived(b"client"))]

    def macs(self) -> tuple[Mac, Mac]:
        """
        @return: what makes the MACs of what this side sends, and of what it receives. To be called
            when the handshake L{isDone}.
        """
        assert self._mac is not None
        toServer = self._mac(self._derived(b"to server"))
        toClient = self._mac(self._derived(b"to client"))
        return (toClient, toServer) if self._isServer else (toServer, toClient)

    def _derived(self, label: bytes) -> bytes:
        return hmac.digest(self._key, label + b"\0" + self._transcript, "sha256")


BUSY: Final = "busy"
UNKNOWN: Final = "unknown"
UNFIT: Final = "unfit"
"""Why a server refuses: it may take it later, does not know the session, or never takes it."""


class SessionUnknown(ConnectionRefused):
    """
    The server does not have the session that is to be resumed.

    @ivar begun: the number of the session's last call that had begun, or C{None} if the server does
        not know that either.
    """

    begun: int | None = None


_REFUSALS: Final[dict[str, type[WorkerStartError]]] = {
    BUSY: ServerBusy,
    UNKNOWN: SessionUnknown,
}


def encodeRefusal(code: str, why: str, begun: int | None = None) -> bytes:
    """
    @param code: C{BUSY}, C{UNKNOWN} or C{UNFIT}.
    @param begun: of a session that is unknown, the number of the last call that had begun, if the
        server knows it.
    @return: the record's body.
    """
    return json.dumps({"code": code, "why": why, "begun": begun}).encode()


def refusalIn(body: bytes) -> WorkerStartError:
    """
    @return: the error that a refusal means. Its text is made harmless for a terminal.
    @raise ProtocolError: if the body makes no sense.
    """
    fields = readObject(body)
    why = "".join(c if c.isprintable() else "?" for c in str(fields.get("why"))[:500])
    kind = _REFUSALS.get(str(fields.get("code")), ConnectionRefused)
    error = kind(f"the server refuses the connection: {why}")
    begun = fields.get("begun")
    if isinstance(error, SessionUnknown) and type(begun) is int and begun >= 0:
        error.begun = begun
    return error


@dataclass(frozen=True, slots=True)
class Attach:
    """
    A client's wish for a session.

    @ivar client: says which connections belong to the same worker and its companions.
    @ivar session: the session to resume, or an empty text for a new one.
    @ivar received: how many bytes of the session's messages have arrived.
    @ivar raw: whether iterators come back as they are, where a call does not say.
    @ivar logLevels: the levels of the loggers whose records are sent to the client, by name;
        C{None} to send none.
    @ivar pickler: what calls and results are pickled with, a name in L{CODECS}.
    """

    client: str
    session: str = ""
    received: int = 0
    raw: bool = False
    logLevels: dict[str, int] | None = None
    pickler: str = "pickle"


@dataclass(frozen=True, slots=True)
class Welcome:
    """
    A server's answer.

    @ivar session: the session's name.
    @ivar received: how many bytes of the session's messages have arrived.
    """

    session: str
    received: int = 0


def encodeWish(wish: Attach | Welcome) -> bytes:
    """
    @return: the record's body.
    """
    return json.dumps(asdict(wish)).encode()


def decodeAttach(record: Record) -> Attach:
    """
    @raise ProtocolError: if the record is no wish for a session.
    """
    wish = Attach(**_fields(record, ATTACH, Attach))
    levels = wish.logLevels
    if not (isinstance(wish.client, str) and 0 < len(wish.client) <= 64) or not (
        levels is None or isinstance(levels, dict)
    ):
        raise ProtocolError("a wish for a session has a value of another type")
    if wish.pickler not in tuple(CODECS):
        raise ProtocolError("a wish for a session names an unknown pickler")
    return wish


def decodeWelcome(record: Record) -> Welcome:
    """
    @raise WorkerStartError: if the record is a refusal.
    @raise ProtocolError: if it makes no sense.
    """
    if record.kind == REFUSED:
        raise refusalIn(bytes(record.body))
    return Welcome(**_fields(record, WELCOME, Welcome))


def _fields(record: Record, kind: int, shape: type[Attach] | type[Welcome]) -> JSONObject:
    if record.kind != kind:
        raise ProtocolError(f"a record of kind {record.kind} came before the session was agreed")
    fields = readObject(bytes(record.body))
    if fields.keys() != {field.name for field in dataclassFields(shape)}:
        raise ProtocolError("a record of the handshake has other fields than it should")
    received = fields["received"]
    if not isinstance(fields["session"], str) or type(received) is not int or received < 0:
        raise ProtocolError("a record of the handshake has a value out of range")
    return fields
