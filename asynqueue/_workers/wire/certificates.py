"""
Certificates to try TLS with: a CA, and what a server and its clients show to each other.

This module needs the extra C{tls}, so it is imported only when certificates are made.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from asynqueue._core.checks import checkCount
from asynqueue._workers.wire.keys import writeSecret
from asynqueue._workers.wire.tls import CA_FILE, CERTIFICATE_FILE, KEY_FILE

CA_KEY_FILE: Final = "ca-key.pem"

SKEW: Final = timedelta(minutes=5)
"""By how much the clock of another machine may be slow."""


class CertificateAuthority:
    """
    A CA that signs certificates as long as it is in memory, or with the key that it writes.
    """

    def __init__(self, days: int, now: datetime | None = None) -> None:
        """
        Make a CA.

        @param days: for how long its certificates are valid.
        @param now: from when on. Default: from now on.
        """
        checkCount("the number of days", days)
        self._begins = datetime.now(UTC) if now is None else now
        self._ends = self._begins + timedelta(days=days)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("asynqueue CA")
        usage = _usage(signsCertificates=True)
        builder = self._builder(self._name, self._key, self._begins, self._ends)
        builder = builder.add_extension(x509.BasicConstraints(True, 0), critical=True)
        builder = builder.add_extension(usage, critical=True)
        self._certificate = builder.sign(self._key, SHA256())

    def writeKey(self, path: str | os.PathLike[str]) -> None:
        """
        Write the key that signs certificates into a new file that only its owner can read.
        """
        writeSecret(path, _encoded(self._key))

    def issue(
        self,
        folder: str | os.PathLike[str],
        name: str,
        hosts: Sequence[str] = (),
        ends: datetime | None = None,
    ) -> None:
        """
        Make a new folder with a certificate, its key, and the CA's certificate.

        @param name: whose certificate it is, to be read by people.
        @param hosts: the names and IP addresses of the server that it is for. Without any, it is
            a client's.
        @param ends: until when it is valid. Default: as long as the CA's.
        @raise FileExistsError: if the folder is there already.
        @raise ValueError: if a host's name is not valid.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_name(name), key, self._begins, ends or self._ends)
        builder = builder.add_extension(x509.BasicConstraints(False, None), critical=True)
        builder = builder.add_extension(_usage(signsCertificates=False), critical=True)
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if hosts:
            names = x509.SubjectAlternativeName([_host(each) for each in hosts])
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(self._key, SHA256())
        place = Path(folder)
        place.mkdir(mode=0o700)
        (place / CA_FILE).write_bytes(self._certificate.public_bytes(Encoding.PEM))
        (place / CERTIFICATE_FILE).write_bytes(certificate.public_bytes(Encoding.PEM))
        writeSecret(place / KEY_FILE, _encoded(key))

    def _builder(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        begins: datetime,
        ends: datetime,
    ) -> x509.CertificateBuilder:
        public = self._key.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins - SKEW)
            .not_valid_after(ends)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False
            )
        )


def writeFolders(folder: str | os.PathLike[str], hosts: Sequence[str], days: int) -> None:
    """
    See L{writeCertificates<asynqueue.wire.writeCertificates>}.
    """
    authority = CertificateAuthority(days)
    for host in hosts:
        _host(host)
    place = Path(folder)
    place.mkdir(mode=0o700)
    authority.writeKey(place / CA_KEY_FILE)
    authority.issue(place / "server", "asynqueue server", hosts)
    authority.issue(place / "client", "asynqueue client")


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    try:
        name = host.encode("idna").decode()
    except ValueError:
        name = ""
    if not re.fullmatch(r"(\*\.)?[\w-]+(\.[\w-]+)*\.?", name, re.ASCII):
        raise ValueError(f"{host!r} is not the name of a host")
    return x509.DNSName(name)


def _usage(signsCertificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signsCertificates,
        key_cert_sign=signsCertificates,
        crl_sign=signsCertificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _encoded(key: ec.EllipticCurvePrivateKey) -> bytes:
    encoded: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return encoded
