"""
Two sides that fit together agree on keys. Others refuse each other, and say why.
"""

from __future__ import annotations

import json
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynqueue._workers.wire import records as recordsModule
from asynqueue._workers.wire.handshake import (
    BUSY,
    UNFIT,
    UNKNOWN,
    VERSION,
    Attach,
    Handshake,
    Hello,
    SessionUnknown,
    Welcome,
    decodeAttach,
    decodeWelcome,
    encodeRefusal,
    encodeWish,
    refusalIn,
)
from asynqueue._workers.wire.records import (
    ATTACH,
    GMAC,
    HELLO,
    HMAC_SHA256,
    PROOF,
    REFUSED,
    WELCOME,
    Gmac,
    Hmac,
    Mac,
    Record,
)
from asynqueue.errors import ConnectionRefused, ProtocolError, ServerBusy

KEY = b"k" * 32


def shake(client: Handshake, server: Handshake) -> None:
    toServer, toClient = deque(client.start()), deque(server.start())
    while toServer or toClient:
        if toServer:
            toClient += server.receive(Record(*toServer.popleft()))
        else:
            toServer += client.receive(Record(*toClient.popleft()))


def makeSides(clientKey: bytes = KEY) -> tuple[Handshake, Handshake]:
    client = Handshake(clientKey, Hello(), isServer=False)
    return client, Handshake(KEY, Hello(processes=4, series=("gpu",)), isServer=True)


def macsOf(side: Handshake) -> list[bytes]:
    """
    @return: the MACs of the first records in both directions, if these were the same.
    """
    return [mac.next(b"record") for mac in side.macs()]


def test_bothSidesGetTheSameKeys() -> None:
    client, server = makeSides()
    shake(client, server)
    assert client.isDone
    assert server.isDone
    made = macsOf(client)
    assert made == macsOf(server)[::-1]
    assert len(set(made)) == 2
    assert client.peer is not None
    assert (client.peer.processes, client.peer.series) == (4, ("gpu",))


def test_theKeysAreNewWithEachConnection() -> None:
    first, second = makeSides(), makeSides()
    shake(*first)
    shake(*second)
    assert not {*macsOf(first[0])} & {*macsOf(second[0])}


@pytest.mark.parametrize(
    ("mine", "theirs", "chosen"),
    [
        ((GMAC, HMAC_SHA256), (HMAC_SHA256, GMAC), Gmac),
        ((GMAC, HMAC_SHA256), (HMAC_SHA256,), Hmac),
        ((HMAC_SHA256,), (GMAC, HMAC_SHA256, "of the future"), Hmac),
    ],
)
def test_theMacsAreOfTheBestKindThatBothSidesHave(
    mine: tuple[str, ...], theirs: tuple[str, ...], chosen: type[Mac]
) -> None:
    client = Handshake(KEY, Hello(macs=mine), isServer=False)
    server = Handshake(KEY, Hello(macs=theirs), isServer=True)
    shake(client, server)
    for mac in (*client.macs(), *server.macs()):
        assert type(mac) is chosen
    assert macsOf(client) == macsOf(server)[::-1]


def test_sidesWithoutAMacInCommonRefuseEachOther() -> None:
    client = Handshake(KEY, Hello(macs=("of the past",)), isServer=False)
    _, server = makeSides()
    with pytest.raises(ConnectionRefused, match="MACs"):
        shake(client, server)


def test_withoutTheExtraThereIsStillAMac(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ImportError("No module named 'cryptography'")

    monkeypatch.setattr(recordsModule, "_aesGcm", missing)
    assert Hello().macs == (HMAC_SHA256,)


def test_aClientWithAnotherKeyRefusesTheServer() -> None:
    client, server = makeSides(b"other" * 8)
    with pytest.raises(ConnectionRefused, match="the server's key"):
        shake(client, server)
    assert not client.isDone
    assert not server.isDone


def test_aClientThatOnlyClaimsToKnowTheKeyIsRefused() -> None:
    client, server = makeSides(b"other" * 8)
    server.receive(Record(*client.start()[0]))
    with pytest.raises(ConnectionRefused, match="the client's key"):
        server.receive(Record(PROOF, bytes(32)))
    assert not server.isDone


def test_theServersProofIsNotTheClients() -> None:
    client, server = makeSides()
    proof = server.receive(Record(*client.start()[0]))[1]
    with pytest.raises(ConnectionRefused):
        server.receive(Record(*proof))


@pytest.mark.parametrize("isServer", [False, True])
def test_anotherVersionIsRefusedWithBothNamed(isServer: bool) -> None:
    side = Handshake(KEY, Hello(), isServer)
    body = json.dumps(
        {"product": "asynqueue", "version": "7.9", "python": "4.0", "new": 1}
    ).encode()
    with pytest.raises(ConnectionRefused, match=r"version 7\.9 .*Python 4\.0") as caught:
        side.receive(Record(HELLO, body))
    assert f"version {VERSION}" in str(caught.value)


@pytest.mark.parametrize("kind", [PROOF, ATTACH, WELCOME, 99])
def test_aRecordOutOfTurnIsRefused(kind: int) -> None:
    with pytest.raises(ProtocolError):
        Handshake(KEY, Hello(), isServer=True).receive(Record(kind, b""))


@given(st.binary(max_size=60) | st.text(max_size=30).map(lambda text: json.dumps(text).encode()))
def test_aHelloThatMakesNoSenseIsRefused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        Handshake(KEY, Hello(), isServer=True).receive(Record(HELLO, body))


@pytest.mark.parametrize(
    "change",
    [{"largest": 1}, {"largest": "x"}, {"heartbeat": 0}, {"nonce": "ab"}, {"keep": None}, {"x": 1}],
)
def test_aHelloWithAValueOutOfRangeIsRefused(change: dict[str, object]) -> None:
    fields = json.loads(Handshake(KEY, Hello(), isServer=False).start()[0][1])
    with pytest.raises(ProtocolError):
        Hello.decode(json.dumps({**fields, **change}).encode())


@pytest.mark.parametrize(
    ("code", "kind"),
    [(BUSY, ServerBusy), (UNKNOWN, SessionUnknown), (UNFIT, ConnectionRefused)],
)
def test_aRefusalHasAType(code: str, kind: type[Exception]) -> None:
    error = refusalIn(encodeRefusal(code, "no \x1b[31m room"))
    assert type(error) is kind
    assert "no ?[31m room" in str(error)
    with pytest.raises(kind):
        decodeWelcome(Record(REFUSED, encodeRefusal(code, "no")))


def test_wishesArriveAsTheyWere() -> None:
    attach = Attach("me", "session", 7, raw=True, logLevels={"": 30})
    assert decodeAttach(Record(ATTACH, encodeWish(attach))) == attach
    welcome = Welcome("session", 9)
    assert decodeWelcome(Record(WELCOME, encodeWish(welcome))) == welcome


@pytest.mark.parametrize(
    "change", [{"received": -1}, {"received": True}, {"session": 1}, {"client": ""}, {"more": 1}]
)
def test_aWishThatMakesNoSenseIsRefused(change: dict[str, object]) -> None:
    fields = {**json.loads(encodeWish(Attach("me"))), **change}
    with pytest.raises(ProtocolError):
        decodeAttach(Record(ATTACH, json.dumps(fields).encode()))
