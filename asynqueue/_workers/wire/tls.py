"""
TLS 1.3 between a server and its clients, each of which shows a certificate to the other.

This module needs the extra C{tls}, so it is imported only when TLS is asked for.
"""

from __future__ import annotations

import os
import re
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from service_identity.cryptography import (
    verify_certificate_hostname,
    verify_certificate_ip_address,
)
from service_identity.exceptions import CertificateError, VerificationError
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue._workers.wire.keys import readSecret
from asynqueue.errors import ConnectionRefused, ProtocolError, WorkerError

CA_FILE: Final = "ca.pem"
CERTIFICATE_FILE: Final = "cert.pem"
KEY_FILE: Final = "key.pem"

_DEFECTS: Final = {
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is signed by itself, and not by a CA in " + CA_FILE,
    19: "it is signed by a CA that is not in " + CA_FILE,
    20: "it is signed by a CA that is not in " + CA_FILE,
    21: "it is signed by a CA that is not in " + CA_FILE,
    23: "it was revoked",
    26: "it is not for this purpose: a server needs a server's certificate, a client a client's",
}
"""What C{X509_verify_cert} finds wrong with a certificate, by its number."""

_TLS_HANDSHAKE: Final = b"\x16"
_UNEXPECTED_MESSAGE: Final = b"\x15\x03\x03\0\x02\x02\x0a"
"""How a client's first bytes begin, and an alert."""

_OWN: Final = "asynqueue"
"""Marks the errors with which this side refuses a certificate."""

_REASONS: Final[tuple[tuple[str, type[WorkerError], str], ...]] = (
    (
        "alert (access denied|bad certificate|certificate .*|unknown ca|unsupported certificate)",
        ConnectionRefused,
        "the other side refuses this side's certificate: {}",
    ),
    (
        "peer did not return a certificate",
        ConnectionRefused,
        "the other side shows no certificate",
    ),
    (
        "alert protocol version|unsupported protocol|no protocols available",
        ProtocolError,
        "the other side does not speak TLS 1.3",
    ),
    (
        "http request|https proxy request|packet length too long|record layer failure|"
        "unknown protocol|wrong version number",
        ProtocolError,
        "the other side does not speak TLS",
    ),
)
"""What OpenSSL's errors say to the user. The first pattern that is found counts."""


def _refusal(why: str) -> SSL.Error:
    """
    @return: the error with which a certificate is refused. It is pyOpenSSL's, because Twisted
        passes only those on.
    """
    return SSL.Error([(_OWN, "", why)])


class _ServerTransport(TLSMemoryBIOProtocol):
    """
    Tells a client that does not speak TLS so, because OpenSSL only closes the connection.
    """

    _hasBegun = False

    def dataReceived(self, data: bytes) -> None:
        if not self._hasBegun and not data.startswith(_TLS_HANDSHAKE):
            assert self.transport is not None
            self.transport.write(_UNEXPECTED_MESSAGE)
        self._hasBegun = True
        super().dataReceived(data)  # type: ignore[no-untyped-call]


@implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
class Tls:
    """
    One side's certificate, its key, and the CAs of which one has to have signed the other side's
    certificate. A connection uses what is in the files when it is made. If they are not sound then,
    it uses what was in them before.
    """

    log = Logger()

    def __init__(self, folder: str | os.PathLike[str], host: str | None = None) -> None:
        """
        Read the files C{ca.pem}, C{cert.pem} and C{key.pem}.

        @param folder: where they are.
        @param host: the name or IP address that the server's certificate has to be for; C{None} on
            the server's side.
        @raise ValueError: if a file does not hold what it should, or others can read the key.
        @raise OSError: if a file cannot be read.
        """
        self._place = Path(folder)
        self._host = host
        self._stamps = self._look()
        self._context = self._load()

    def _look(self) -> list[tuple[int, int, int]]:
        """
        @return: what changes when the files do.
        """
        stats = [os.stat(self._place / name) for name in (CA_FILE, CERTIFICATE_FILE, KEY_FILE)]
        return [(each.st_ino, each.st_size, each.st_mtime_ns) for each in stats]

    def _present(self) -> SSL.Context:
        """
        @return: the context for a new connection.
        """
        try:
            stamps = self._look()
            if stamps != self._stamps:
                self._stamps = stamps
                self._context = self._load()
                self.log.info("the certificates in {place} were read again", place=self._place)
        except (ValueError, OSError) as error:
            self.log.warn("the certificates from before are used, because {why}", why=error)
        return self._context

    def _load(self) -> SSL.Context:
        """
        @raise ValueError: if a file does not hold what it should, or others can read the key.
        @raise OSError: if a file cannot be read.
        """
        place, context = self._place, SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        # A session that goes on later would skip the certificates.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_options(SSL.OP_NO_TICKET)
        _checkKey(place / KEY_FILE)
        for name, load, what in (
            (CA_FILE, context.load_verify_locations, "no certificate"),
            (CERTIFICATE_FILE, context.use_certificate_chain_file, "no certificate"),
            (
                KEY_FILE,
                context.use_privatekey_file,
                f"another key than that of {CERTIFICATE_FILE}",
            ),
        ):
            with open(place / name, "rb"):
                # OpenSSL would not say why it cannot be read.
                pass
            try:
                load(os.fspath(place / name))
            except SSL.Error as error:
                raise ValueError(f"{place / name} holds {what}") from error
        mode = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT | SSL.VERIFY_CLIENT_ONCE
        context.set_verify(mode, self._verify)
        return context

    def _verify(
        self, connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int
    ) -> bool:
        """
        @param ok: whether OpenSSL finds the certificate good, apart from whose it is.
        @raise SSL.Error: if it is not good. This ends the handshake.
        """
        if not ok:
            which = "the other side's certificate" if depth == 0 else "the certificate of its CA"
            raise _refusal(f"{which} is refused: {_DEFECTS.get(error, f'error {error}')}")
        if depth == 0 and self._host is not None:
            self._verifyHost(certificate.to_cryptography(), self._host)
        return True

    @staticmethod
    def _verifyHost(certificate: x509.Certificate, host: str) -> None:
        try:
            if _isAddress(host):
                verify_certificate_ip_address(certificate, host)
            else:
                verify_certificate_hostname(certificate, host)
        except (VerificationError, CertificateError) as error:
            raise _refusal(f"the server's certificate is not for {host}") from error

    # Twisted's interfaces -------------------------------------------------------------------------

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """
        See C{IOpenSSLClientConnectionCreator}.
        """
        connection = SSL.Connection(self._present(), None)
        assert self._host is not None
        if not _isAddress(self._host):
            connection.set_tlsext_host_name(self._host.encode("idna"))
        return connection

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """
        See C{IOpenSSLServerConnectionCreator}.
        """
        return SSL.Connection(self._present(), None)

    # Endpoints ------------------------------------------------------------------------------------

    def clientEndpoint(self, endpoint: IStreamClientEndpoint) -> IStreamClientEndpoint:
        """
        @return: an endpoint that connects over another one.
        """
        return wrapClientTLS(self, endpoint)

    def serverFactory(self, factory: Factory) -> TLSMemoryBIOFactory:
        """
        @return: a factory for the connections of a server, which passes on what they carry.
        """
        wrapped = TLSMemoryBIOFactory(self, False, factory)
        wrapped.protocol = _ServerTransport
        return wrapped


def reasonOf(failure: Failure) -> Exception | None:
    """
    Say why TLS ended a connection.

    @return: a C{ConnectionRefused} if a certificate is refused, a C{ProtocolError} if there is
        something else in the way, or C{None} if it was not TLS.
    """
    error = failure.value
    if not isinstance(error, SSL.Error):
        return None
    details = error.args[0] if error.args and isinstance(error.args[0], list) else []
    if details and details[0][0] == _OWN:
        return ConnectionRefused(details[0][2])
    text = ", ".join(str(each[2]) for each in details) or "the connection was closed"
    for pattern, kind, why in _REASONS:
        if found := re.search(pattern, text):
            return kind(why.format(*found.groups()))
    return ProtocolError(f"TLS failed: {text}")


def _isAddress(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _checkKey(path: Path) -> None:
    data = readSecret(path)
    try:
        load_pem_private_key(data, None)
    except TypeError as error:
        # OpenSSL would ask for the password at the terminal.
        raise ValueError(f"{path} is encrypted, and a server has nobody to ask") from error
    except ValueError as error:
        raise ValueError(f"{path} holds no private key") from error
