"""
Addresses of servers, as Twisted's endpoint descriptions, which of them stay on this machine, and
how connections are made and taken there.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    clientFromString,
    quoteStringArgument,
    serverFromString,
)
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocol, IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from asynqueue.errors import ExtraMissing, ProtocolError

if TYPE_CHECKING:
    from asynqueue._workers.wire.tls import Tls

TlsFolder = str | os.PathLike[str] | None

_T = TypeVar("_T")
_Make: TypeAlias = Callable[[IReactorTime, str, dict[str, str]], _T]
"""Makes an endpoint of the kind and the fields of a description."""

_WHY: Final = (
    "without TLS everybody on the way could read the calls and their results. Give tls=FOLDER "
    "(serve --tls FOLDER), or use a loopback address or a Unix socket"
)

_SERVER_FIELDS: Final = {
    "tcp": ("port", "interface", "backlog"),
    "unix": ("address", "mode", "backlog", "lockfile"),
}
_CLIENT_FIELDS: Final = {
    "tcp": ("host", "port", "timeout", "bindAddress"),
    "unix": ("path", "timeout", "lockfile"),
}
"""What a description may say, in the order in which it may leave the names out."""

CONNECT_SECONDS: Final = 30

HIGHEST_PORT: Final = 65_535

LONGEST_UNIX_PATH: Final = 107 if sys.platform == "linux" else 103


class AcceptingFactory(Factory):
    """
    Asks for a protocol for each connection that comes, and closes the connection if there is none.
    """

    noisy = False

    def __init__(self, accept: Callable[[], Protocol | None]) -> None:
        self._accept = accept

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        return self._accept()


class WireEndpoint:
    """
    Where a server is or is to be, for either side, with TLS or without.
    """

    # The one side connects to it, the other listens there.
    def __init__(self, endpoint: Any, tls: Tls | None) -> None:
        self._endpoint = endpoint
        self._tls = tls

    def connect(self, factory: Factory) -> Deferred[IProtocol]:
        """
        Connect to the server.

        @return: a Deferred that fires with the factory's protocol, before TLS is agreed.
        """
        endpoint = self._endpoint if self._tls is None else self._tls.clientEndpoint(self._endpoint)
        connected: Deferred[IProtocol] = endpoint.connect(factory)
        return connected

    def listen(self, factory: Factory) -> Deferred[IListeningPort]:
        """
        Take connections.

        @return: a Deferred that fires with the port.
        """
        wrapped = factory if self._tls is None else self._tls.serverFactory(factory)
        listening: Deferred[IListeningPort] = self._endpoint.listen(wrapped)
        return listening

    def reasonOf(self, failure: Failure) -> Exception:
        """
        Say why a connection was closed.
        """
        reason = None
        if self._tls is not None:
            from asynqueue._workers.wire.tls import reasonOf

            reason = reasonOf(failure)
        return reason or ProtocolError(f"the connection was closed: {failure.getErrorMessage()}")


def clientEndpoint(reactor: IReactorTime, address: str, tls: TlsFolder = None) -> WireEndpoint:
    """
    Make the endpoint to connect to a server with.

    @param address: a description such as C{'tcp:127.0.0.1:7411'} or C{'unix:/run/me/socket'}.
    @param tls: the folder with the certificates; C{None} for no TLS.
    @raise ValueError: if it is none, or leads off this machine without TLS, or the folder does not
        hold what it should.
    @raise OSError: if a file in the folder cannot be read.
    """
    kind, fields = _parse(address, _CLIENT_FIELDS)
    if kind == "unix":
        _checkUnix(address, fields.get("path"), tls)
        return WireEndpoint(
            _made(_fromString(clientFromString), reactor, address, kind, fields), None
        )
    for name in ("host", "port"):
        if not fields.get(name):
            raise ValueError(f"{address!r} is not an address of a server: it has no {name}")
    host = fields["host"]
    if tls is None:
        fields["host"] = _loopback(address, host)
    endpoint = _made(_hostnameEndpoint, reactor, address, kind, fields)
    return WireEndpoint(endpoint, None if tls is None else _openTls(tls, host))


def serverEndpoint(reactor: IReactorTime, address: str, tls: TlsFolder = None) -> WireEndpoint:
    """
    Make the endpoint to listen at.

    @param address: a description such as C{'tcp:7411:interface=127.0.0.1'} or
        C{'unix:/run/me/socket:mode=600'}.
    @param tls: the folder with the certificates; C{None} for no TLS.
    @raise ValueError: if it is none, or other machines could connect to it without TLS, or the
        folder does not hold what it should.
    @raise OSError: if a file in the folder cannot be read.
    """
    kind, fields = _parse(address, _SERVER_FIELDS)
    if kind == "unix":
        _checkUnix(address, fields.get("address"), tls)
    elif tls is None:
        if not fields.get("interface"):
            raise ValueError(
                f"{address!r} listens on all interfaces: add :interface=127.0.0.1, because {_WHY}"
            )
        fields["interface"] = _loopback(address, fields["interface"])
    endpoint = _made(_fromString(serverFromString), reactor, address, kind, fields)
    return WireEndpoint(endpoint, None if tls is None else _openTls(tls, None))


def _parse(address: str, known: dict[str, tuple[str, ...]]) -> tuple[str, dict[str, str]]:
    """
    Take a description apart. What is checked and what is used then come of the same parts.
    """
    kind, *parts = re.split(r"(?<!\\):", address)
    if kind not in known:
        raise ValueError(
            f"{address!r} is not an address of a server: it has to begin with tcp: or unix:"
        )
    names = known[kind]
    fields: dict[str, str] = {}
    for position, part in enumerate(parts):
        name, *value = re.split(r"(?<!\\)=", part, maxsplit=1)
        if not value and position < len(names):
            name, value = names[position], [name]
        if not value or name not in names:
            raise ValueError(
                f"{address!r} is not an address of a server: it has an unknown part {part!r}"
            )
        if name in fields:
            raise ValueError(f"{address!r} is not an address of a server: it says {name} twice")
        fields[name] = re.sub(r"\\(.)", r"\1", value[0])
    port = fields.get("port", "0")
    if not (port.isdecimal() and int(port) <= HIGHEST_PORT):
        raise ValueError(
            f"{address!r} is not an address of a server: its port must be from 0 to {HIGHEST_PORT}"
        )
    return kind, fields


def _loopback(address: str, host: str) -> str:
    """
    @return: the IP address that a host stands for.
    @raise ValueError: if it is not certain to be on this machine.
    """
    if host == "localhost":
        # What else a name stands for depends on the system.
        return "127.0.0.1"
    try:
        isLoopback = ip_address(host).is_loopback
    except ValueError:
        isLoopback = False
    if not isLoopback:
        raise ValueError(f"{address!r} leads off this machine: {_WHY}")
    return host


def _checkUnix(address: str, path: str | None, tls: TlsFolder) -> None:
    if not path:
        raise ValueError(f"{address!r} is not an address of a server: it has no path")
    size = len(os.fsencode(path))
    if size > LONGEST_UNIX_PATH:
        raise ValueError(
            f"{address!r} is not an address of a server: its path has {size} bytes, and the "
            f"system allows {LONGEST_UNIX_PATH} for a Unix socket"
        )
    if tls is not None:
        raise ValueError(
            f"{address!r} is a Unix socket, which needs no TLS and has no host name to check"
        )


def _openTls(folder: str | os.PathLike[str], host: str | None) -> Tls:
    try:
        from asynqueue._workers.wire.tls import Tls
    except ImportError as error:
        raise ExtraMissing("TLS", "tls") from error
    return Tls(folder, host)


def _hostnameEndpoint(reactor: IReactorTime, kind: str, fields: dict[str, str]) -> HostnameEndpoint:
    bind = fields.get("bindAddress")
    return HostnameEndpoint(
        reactor,
        fields["host"],
        int(fields["port"]),
        timeout=int(fields.get("timeout", CONNECT_SECONDS)),
        bindAddress=None if bind is None else (bind, 0),
    )


def _fromString(make: Callable[[IReactorTime, str], _T]) -> _Make[_T]:
    def made(reactor: IReactorTime, kind: str, fields: dict[str, str]) -> _T:
        parts = [f"{name}={quoteStringArgument(value)}" for name, value in fields.items()]
        return make(reactor, ":".join([kind, *parts]))

    return made


def _made(
    make: _Make[_T], reactor: IReactorTime, address: str, kind: str, fields: dict[str, str]
) -> _T:
    try:
        return make(reactor, kind, fields)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{address!r} is not an address of a server: {error}") from error
