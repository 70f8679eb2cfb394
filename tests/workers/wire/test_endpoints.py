"""
Without TLS no address leads off this machine, however it is written.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock

from asynqueue._workers.wire.endpoints import clientEndpoint, serverEndpoint
from asynqueue.errors import ExtraMissing
from asynqueue.wire import writeCertificates


@pytest.mark.parametrize(
    "address",
    [
        "tcp:example.com:7411",
        "tcp:localhost.example.com:7411",
        "tcp:LOCALHOST.:7411",
        "tcp:192.0.2.1:7411",
        "tcp:0.0.0.0:7411",
        "tcp:0:7411",
        "tcp:2130706433:7411",
        "tcp:127.1:7411",
        r"tcp:\:\::7411",
        r"tcp:2001\:db8\:\:1:7411",
        "tcp:host=example.com:port=7411",
        "tcp:port=7411:host=192.0.2.1",
    ],
)
def test_aClientIsNotLedOffThisMachine(address: str) -> None:
    with pytest.raises(ValueError, match="leads off this machine"):
        clientEndpoint(MemoryReactorClock(), address)


@pytest.mark.parametrize(
    "address",
    [
        "tcp:7411:interface=0.0.0.0",
        "tcp:7411:0.0.0.0",
        r"tcp:7411:interface=\:\:",
        "tcp:7411:interface=192.0.2.1",
        "tcp:7411:interface=example.com",
        "tcp:port=7411:interface=localhost.example.com",
    ],
)
def test_aServerDoesNotListenWhereOthersReachIt(address: str) -> None:
    with pytest.raises(ValueError, match="leads off this machine"):
        serverEndpoint(MemoryReactorClock(), address)


@pytest.mark.parametrize("address", ["tcp:7411", "tcp:7411:interface=", "tcp:port=7411"])
def test_aServerDoesNotListenOnAllInterfaces(address: str) -> None:
    with pytest.raises(ValueError, match="listens on all interfaces"):
        serverEndpoint(MemoryReactorClock(), address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "what",
        "ssl:127.0.0.1:7411",
        "tcp",
        "tcp:127.0.0.1",
        "tcp:127.0.0.1:seven",
        "tcp:127.0.0.1:7411:5:192.0.2.1:more",
        # Twisted would connect to the first host, and the second one would be checked.
        "tcp:192.0.2.1:7411:host=127.0.0.1",
        "tcp:host=192.0.2.1:host=127.0.0.1:port=7411",
        "tcp:127.0.0.1:7411:colour=red",
        "unix",
        "unix:/run/socket:path=/run/other",
    ],
)
def test_whatIsNotAnAddressIsRefused(address: str) -> None:
    with pytest.raises(ValueError, match="not an address of a server"):
        clientEndpoint(MemoryReactorClock(), address)


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("tcp:7411:interface=127.0.0.1", "127.0.0.1"),
        ("tcp:7411:127.0.0.3", "127.0.0.3"),
        (r"tcp:interface=\:\:1:port=7411", "::1"),
        # A name might stand for another machine.
        ("tcp:7411:interface=localhost", "127.0.0.1"),
    ],
)
def test_aLoopbackAddressIsUsedAsItWasChecked(address: str, host: str) -> None:
    reactor = MemoryReactorClock()
    serverEndpoint(reactor, address).listen(_factory())
    [(port, _, _, interface)] = reactor.tcpServers
    assert (port, interface) == (7411, host)


def test_aUnixSocketIsUsed(tmp_path: Path) -> None:
    reactor = MemoryReactorClock()
    serverEndpoint(reactor, rf"unix:{tmp_path}/a\:b:mode=600").listen(_factory())
    clientEndpoint(reactor, rf"unix:{tmp_path}/a\:b").connect(_factory())
    assert reactor.unixServers[0][0] == f"{tmp_path}/a:b"
    assert reactor.unixServers[0][3] == 0o600
    assert reactor.unixClients[0][0] == f"{tmp_path}/a:b"


def test_aPathThatTheSystemDoesNotTakeIsRefused() -> None:
    for make in (clientEndpoint, serverEndpoint):
        make(MemoryReactorClock(), "unix:/" + "x" * 100)
        with pytest.raises(ValueError, match="has 108 bytes"):
            make(MemoryReactorClock(), "unix:/" + "x" * 107)


def test_aUnixSocketNeedsNoTls(tmp_path: Path) -> None:
    for make in (clientEndpoint, serverEndpoint):
        with pytest.raises(ValueError, match="needs no TLS"):
            make(MemoryReactorClock(), "unix:/run/socket", str(tmp_path))


def test_aMissingExtraIsNamed(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "OpenSSL", None)
    monkeypatch.delitem(sys.modules, "asynqueue._workers.wire.tls", raising=False)
    with pytest.raises(ExtraMissing, match=r"pip install 'asynqueue2\[tls\]'"):
        serverEndpoint(MemoryReactorClock(), "tcp:7411", tmp_path)


class TestFolder:
    """
    What the folder with the certificates has to hold.
    """

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        writeCertificates(tmp_path / "made")
        return tmp_path / "made" / "server"

    def opens(self, folder: Path) -> None:
        serverEndpoint(MemoryReactorClock(), "tcp:7411:interface=0.0.0.0", folder)

    def test_withTlsAnyInterfaceWillDo(self, folder: Path) -> None:
        self.opens(folder)
        clientEndpoint(MemoryReactorClock(), "tcp:example.com:7411", folder)

    def test_aKeyThatOthersCanReadIsRefused(self, folder: Path) -> None:
        os.chmod(folder / "key.pem", 0o640)
        with pytest.raises(ValueError, match="can be read or changed by others"):
            self.opens(folder)

    @pytest.mark.parametrize("name", ["ca.pem", "cert.pem", "key.pem"])
    def test_aFileThatIsNotThereIsNamed(self, folder: Path, name: str) -> None:
        os.unlink(folder / name)
        with pytest.raises(FileNotFoundError, match=name):
            self.opens(folder)

    @pytest.mark.parametrize("name", ["ca.pem", "cert.pem", "key.pem"])
    @pytest.mark.parametrize("text", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAA\n"])
    def test_aFileThatHoldsSomethingElseIsNamed(self, folder: Path, name: str, text: str) -> None:
        (folder / name).write_text(text)
        with pytest.raises(ValueError, match=f"{name} holds no "):
            self.opens(folder)

    def test_aKeyOfAnotherCertificateIsRefused(self, folder: Path) -> None:
        (folder / "key.pem").write_bytes((folder.parent / "client" / "key.pem").read_bytes())
        with pytest.raises(ValueError, match="another key than that of"):
            self.opens(folder)

    def test_anEncryptedKeyIsRefusedWithoutAsking(self, folder: Path) -> None:
        from cryptography.hazmat.primitives.serialization import (
            BestAvailableEncryption,
            Encoding,
            PrivateFormat,
            load_pem_private_key,
        )

        path = folder / "key.pem"
        key = load_pem_private_key(path.read_bytes(), None)
        form = PrivateFormat.PKCS8
        path.write_bytes(key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"pw")))
        with pytest.raises(ValueError, match="is encrypted"):
            self.opens(folder)


def _factory() -> Any:
    from twisted.internet.protocol import Factory, Protocol

    return Factory.forProtocol(Protocol)
