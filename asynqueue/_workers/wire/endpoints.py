"""
Addresses of servers, as Twisted's endpoint descriptions, which of them stay on this machine, and
how a server takes connections there.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol

_WHY = (
    "without TLS, which is not offered yet, everybody on the way could read the calls and their "
    "results. Use a loopback address or a Unix socket, and lead it to the other machine through "
    "a tunnel, such as ssh -L"
)


class AcceptingFactory(Factory):
    """
    Asks for a protocol for each connection that comes, and closes the connection if there is none.
    """

    noisy = False

    def __init__(self, accept: Callable[[], Protocol | None]) -> None:
        self._accept = accept

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        return self._accept()


def clientEndpoint(reactor: Any, address: str) -> Any:
    """
    Make the endpoint to connect to a server with.

    @param address: a description such as C{'tcp:127.0.0.1:7411'} or C{'unix:/run/me/socket'}.
    @raise ValueError: if it is none, or leads off this machine.
    """
    kind, parts, named = _parse(address)
    if kind == "tcp":
        _checkHost(address, named.get("host", parts[0] if parts else ""))
    return _made(clientFromString, reactor, address)


def serverEndpoint(reactor: Any, address: str) -> Any:
    """
    Make the endpoint to listen at.

    @param address: a description such as C{'tcp:7411:interface=127.0.0.1'} or
        C{'unix:/run/me/socket:mode=600'}.
    @raise ValueError: if it is none, or other machines could connect to it.
    """
    kind, _, named = _parse(address)
    if kind == "tcp":
        if "interface" not in named:
            raise ValueError(
                f"{address!r} listens on all interfaces: add :interface=127.0.0.1, because {_WHY}"
            )
        _checkHost(address, named["interface"])
    return _made(serverFromString, reactor, address)


def _parse(address: str) -> tuple[str, list[str], dict[str, str]]:
    kind, *fields = address.replace("\\:", "\0").split(":")
    if kind not in ("tcp", "unix"):
        raise ValueError(
            f"{address!r} is not an address of a server: it has to begin with tcp: or unix:"
        )
    parts = [field.replace("\0", ":") for field in fields if "=" not in field]
    named = dict(field.replace("\0", ":").split("=", 1) for field in fields if "=" in field)
    return kind, parts, named


def _checkHost(address: str, host: str) -> None:
    if host == "localhost":
        return
    try:
        isLoopback = ip_address(host).is_loopback
    except ValueError:
        isLoopback = False
    if not isLoopback:
        raise ValueError(f"{address!r} leads off this machine: {_WHY}")


def _made(make: Any, reactor: Any, address: str) -> Any:
    try:
        return make(reactor, address)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{address!r} is not an address of a server: {error}") from error
