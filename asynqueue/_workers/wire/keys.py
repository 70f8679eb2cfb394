"""
The secret that a server and its clients share, and the file that it is kept in.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Sequence
from typing import Final, TypeAlias

from asynqueue.errors import ExtraMissing

KEY_BYTES: Final = 32
LARGEST_FILE: Final = 1 << 16
PREFIX: Final = "asynqueue-key-"

LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1")


Key: TypeAlias = str | bytes | os.PathLike[str]
"""A key itself, or the path of the file that it is in."""


def newKey() -> str:
    """
    Make a secret for a server and its clients.

    @return: a line of text, with 256 random bits.
    """
    return PREFIX + secrets.token_urlsafe(KEY_BYTES)


def keyBytes(key: Key) -> bytes:
    """
    Get the bytes of a key.

    @param key: the key itself, as C{newKey} made it, or the path of the file that it is in. A text
        that does not begin as keys do is a path.
    @return: the bytes.
    @raise ValueError: if there is no key in it, or others can read the file.
    @raise OSError: if the file cannot be read.
    """
    if isinstance(key, bytes):
        return _checked(key, "the key")
    if isinstance(key, str) and key.startswith(PREFIX):
        return _checked(key.encode(), "the key")
    return readKey(key)


def readKey(path: str | os.PathLike[str]) -> bytes:
    """
    Read a key from a file.

    @raise ValueError: if there is no key in it, or others can read it.
    @raise OSError: if it cannot be read.
    """
    return _checked(readSecret(path), f"the key file {os.fspath(path)}")


def readSecret(path: str | os.PathLike[str]) -> bytes:
    """
    Read a small file that nobody else may read.

    @raise ValueError: if others can read it.
    @raise OSError: if it cannot be read.
    """
    with open(path, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ValueError(
                f"the key file {os.fspath(path)} can be read or changed by others (mode "
                f"{stat.S_IMODE(mode):04o}): run chmod 600 on it"
            )
        return file.read(LARGEST_FILE)


def writeSecret(path: str | os.PathLike[str], data: bytes) -> None:
    """
    Write a new file, which only its owner can read.

    @raise FileExistsError: if the file exists already.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)


def writeKey(path: str | os.PathLike[str]) -> None:
    """
    Make a new key in a new file, which only its owner can read.

    @raise FileExistsError: if the file exists already.
    """
    writeSecret(path, f"{newKey()}\n".encode())


def writeCertificates(
    folder: str | os.PathLike[str], hosts: Sequence[str] = LOCAL_HOSTS, days: int = 365
) -> None:
    """
    Make a CA, and certificates to try TLS with, in a new folder. Its folder C{server} is for a
    server, its folder C{client} for the clients, and C{ca-key.pem} can sign more certificates. Only
    the owner can read the folder.

    @param folder: the path of the folder to make.
    @param hosts: the names and IP addresses by which clients reach the server. Default: those of
        the loopback interface.
    @param days: for how many days the certificates are valid. Default: 365.
    @raise FileExistsError: if the folder is there already.
    @raise ValueError: if a host's name or the number of days is not valid.
    @raise ExtraMissing: if TLS is not installed.
    """
    try:
        from asynqueue._workers.wire.certificates import writeFolders
    except ImportError as error:
        raise ExtraMissing("TLS", "tls") from error
    writeFolders(folder, hosts, days)


def _checked(data: bytes, what: str) -> bytes:
    key = data.strip()
    if len(key) < KEY_BYTES:
        raise ValueError(
            f"{what} has {len(key)} characters, and needs at least {KEY_BYTES}: make one with "
            "'asynqueue key new'"
        )
    return key
