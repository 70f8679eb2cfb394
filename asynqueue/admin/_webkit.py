"""
The guard in front of the pages of a small web server. L{asynqueue.admin.web} tells what it does.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Final, NamedTuple, cast

from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, ITCPTransport
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

LOOPBACK_NAMES: Final = ("127.0.0.1", "localhost")

HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
        # With "no-referrer" a browser would send "Origin: null" with a page's own forms.
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
)
"""The headers of each response, unless a page sets one of the same name."""

MOST_REMEMBERED: Final = 4096
"""For how many characters it is remembered how they are shown."""

_ONLY_READ: Final = (b"GET", b"HEAD")
_UNSEEN: Final = ("Cc", "Cf", "Cs", "Zl", "Zp")
_METHODS: Final = (*_ONLY_READ, b"POST")


@dataclass(frozen=True)
class Limits:
    """
    The limits for clients.

    @ivar body: how many bytes a request's body may have. Below 100,000 Twisted keeps a body in
        memory, and above in a file.
    @ivar connections: how many connections may be open at once.
    @ivar requestSeconds: how long a client may take to send a whole request, from the connection's
        beginning or the end of the answer before.
    @ivar closeSeconds: how long a client may take to read the rest of an answer after which the
        connection is closed.
    """

    body: int = 96 * 1024
    connections: int = 100
    requestSeconds: float = 15.0
    closeSeconds: float = 5.0


class Refusal(NamedTuple):
    """
    Why a request is turned away.

    @ivar code: the response's status.
    @ivar why: one sentence, which the response shows.
    """

    code: HTTPStatus
    why: str


def hostsOf(port: int, names: Iterable[str] = LOOPBACK_NAMES) -> list[str]:
    """
    Name a server as browsers do.

    @param port: the port where the server listens.
    @param names: the names by which it is reached.
    @return: the values that a browser sends as Host.
    """
    # A browser leaves the usual port out.
    return [name if port == 80 else f"{name}:{port}" for name in names]


def refusalOf(
    hosts: Iterable[str] | None,
    limits: Limits,
    headers: Headers,
    method: bytes | None,
    length: int | None,
) -> Refusal | None:
    """
    Look at the headers of a request.

    @param hosts: the values that it may have as Host; C{None} if any will do.
    @param method: how it asks; C{None} if that is not known, which counts as a change.
    @param length: how many bytes its body has; C{None} if that is not known.
    @return: why it is turned away; C{None} if it is welcome.
    """
    told = [host.lower() for host in _texts(headers, "Host")]
    if len(told) != 1 or (hosts is not None and told[0] not in hosts):
        why = "This server does not answer under the name by which you ask."
        return Refusal(HTTPStatus.MISDIRECTED_REQUEST, why)
    if not _isOwn(told[0], headers, method):
        return Refusal(HTTPStatus.FORBIDDEN, "Another site's page sent this, so nothing was done.")
    if method is not None and method not in _METHODS:
        return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "Pages are got, and forms are posted.")
    if length is None:
        return Refusal(HTTPStatus.LENGTH_REQUIRED, "The length of the body is to be told.")
    if length > limits.body:
        why = f"The body has {length} bytes; at most {limits.body} are taken."
        return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, why)
    return None


def _isOwn(host: str, headers: Headers, method: bytes | None) -> bool:
    """
    Tell whether a request comes from a page of this server, from its user, or from a program that
    is no browser. A browser names the origin of the page in at least one of two headers.
    """
    origins = _texts(headers, "Origin")
    sites = _texts(headers, "Sec-Fetch-Site")
    isOpening = (
        method in _ONLY_READ
        and _texts(headers, "Sec-Fetch-Mode") == ["navigate"]
        and _texts(headers, "Sec-Fetch-Dest") == ["document"]
    )
    # Another port of the same machine is the same site, and not the same origin.
    isOwnSite = isOpening or all(site in ("same-origin", "none") for site in sites)
    return isOwnSite and all(
        origin in (f"http://{host}", f"https://{host}") for origin in map(str.lower, origins)
    )


def _texts(headers: Headers, name: str) -> list[str]:
    # A value that is not in UTF-8 is to be no surprise, and equals nothing.
    return [value.decode("latin-1") for value in headers.getRawHeaders(name.encode(), [])]


class GuardedChannel(HTTPChannel):
    """
    One connection. C{GuardedSite} makes it.
    """

    transport: ITCPTransport
    _isRefused = False
    _abort: IDelayedCall | None = None

    @property
    def _site(self) -> GuardedSite:
        return cast(GuardedSite, self.factory)

    def connectionMade(self) -> None:
        super().connectionMade()  # type: ignore[no-untyped-call]
        self._site.noteReading(self)

    def resetTimeout(self) -> None:
        """
        Do nothing: a client has no more time because some bytes of it came.
        """

    def allHeadersReceived(self) -> None:
        """
        Turn a request with a body away before the body comes. L{GuardedRequest} turns away those
        without one.
        """
        if self.length != 0:
            headers = self.requests[-1].requestHeaders
            refusal = self._site.refusal(headers, None, self.length)
            if refusal is not None:
                self._refuse(refusal)
                return
        super().allHeadersReceived()  # type: ignore[no-untyped-call]

    def _refuse(self, refusal: Refusal) -> None:
        self._isRefused = True
        shown = refusal.why.encode() + b"\n"
        headers = Headers({name: [value] for name, value in self._site.headers.items()})
        headers.setRawHeaders("Content-Type", ["text/plain; charset=utf-8"])
        headers.setRawHeaders("Content-Length", [str(len(shown))])
        headers.setRawHeaders("Connection", ["close"])
        code, phrase = b"%d" % refusal.code, refusal.code.phrase.encode()
        self.writeHeaders(b"HTTP/1.1", code, phrase, headers)  # type: ignore[no-untyped-call]
        self.transport.write(shown)
        # A connection that is closed while the client still sends is reset, and then the client may
        # not see the answer.
        self.setTimeout(self._site.limits.closeSeconds)  # type: ignore[no-untyped-call]

    def rawDataReceived(self, data: bytes) -> None:
        if not self._isRefused:
            super().rawDataReceived(data)

    def allContentReceived(self) -> None:
        self._site.noteAnswering(self)
        super().allContentReceived()  # type: ignore[no-untyped-call]

    def requestDone(self, request: Request) -> None:
        # The next request may have come already, and begins within the call.
        self._site.noteReading(self)
        super().requestDone(request)  # type: ignore[no-untyped-call]

    def timeoutConnection(self) -> None:
        self.loseConnection()

    def loseConnection(self) -> None:
        """
        Close the connection when what was written is sent, or when the client has not read it in
        time.
        """
        super().loseConnection()  # type: ignore[no-untyped-call]
        if self._abort is None:
            seconds = self._site.limits.closeSeconds
            self._abort = self._site.reactor.callLater(seconds, self.transport.abortConnection)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self._site.noteLost(self)
        if self._abort is not None and self._abort.active():
            self._abort.cancel()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]


class GuardedRequest(Request):
    """
    A request that has come whole. C{GuardedSite} makes it.
    """

    def process(self) -> None:
        """
        Turn the request away, or have a resource answer it.
        """
        site = cast(GuardedSite, self.channel.factory)
        for name, value in site.headers.items():
            self.responseHeaders.setRawHeaders(name, [value])
        refusal = site.refusal(self.requestHeaders, self.method, 0)
        if refusal is None:
            super().process()  # type: ignore[no-untyped-call]
            return
        self.setResponseCode(refusal.code, refusal.code.phrase.encode())
        self.responseHeaders.setRawHeaders("Content-Type", ["text/plain; charset=utf-8"])
        if refusal.code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.responseHeaders.setRawHeaders("Allow", [b", ".join(_METHODS)])
        self.write(refusal.why.encode() + b"\n")  # type: ignore[no-untyped-call]
        self.finish()  # type: ignore[no-untyped-call]


class GuardedSite(Site):
    """
    Guards resources as this module says. It speaks HTTP/1.1 and no HTTP/2, whose connections have
    other limits.

    @ivar hosts: the values that a request may have as Host, in lower case. While it is empty,
        no request is answered. See L{hostsOf}.
    @ivar limits: the limits for clients.
    @ivar headers: the headers of each response.
    """

    protocol = GuardedChannel  # type: ignore[assignment]

    def __init__(
        self,
        resource: IResource,
        hosts: Iterable[str] = (),
        limits: Limits = Limits(),
        headers: Mapping[str, str] = HEADERS,
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        @param resource: the root of the guarded pages.
        @param hosts: the values that a request may have as Host.
        @param limits: the limits for clients.
        @param headers: the headers of each response.
        @param reactor: gives the time. Default: the global reactor.
        """
        super().__init__(  # type: ignore[no-untyped-call]
            resource, GuardedRequest, timeout=limits.requestSeconds, reactor=reactor
        )
        self.hosts = set(hosts)
        self.limits = limits
        self.headers = headers
        # The channels that wait for a whole request. The first has waited longest.
        self._reading: dict[GuardedChannel, None] = {}
        self._answering: set[GuardedChannel] = set()

    def refusal(self, headers: Headers, method: bytes | None, length: int | None) -> Refusal | None:
        """
        See L{refusalOf}.
        """
        return refusalOf(self.hosts, self.limits, headers, method, length)

    def acceptableProtocols(self) -> list[bytes]:
        """
        Return the one protocol that is spoken, HTTP/1.1.
        """
        return [b"http/1.1"]

    def buildProtocol(  # type: ignore[override]
        self, addr: IAddress | None
    ) -> GuardedChannel | None:
        """
        Return a new channel; C{None}, at which the transport closes the connection, if there is no
        room for it.
        """
        if len(self._reading) + len(self._answering) >= self.limits.connections:
            if not self._reading:
                return None
            oldest = next(iter(self._reading))
            self.noteLost(oldest)
            oldest.transport.abortConnection()
        channel: GuardedChannel = super().buildProtocol(addr)  # type: ignore[no-untyped-call]
        return channel

    def noteReading(self, channel: GuardedChannel) -> None:
        """
        Remember that a channel waits for a whole request.
        """
        self.noteLost(channel)
        self._reading[channel] = None

    def noteAnswering(self, channel: GuardedChannel) -> None:
        """
        Remember that a channel has a whole request, which is answered now.
        """
        self.noteLost(channel)
        self._answering.add(channel)

    def noteLost(self, channel: GuardedChannel) -> None:
        """
        Forget a channel.
        """
        self._reading.pop(channel, None)
        self._answering.discard(channel)


def visible(text: str) -> str:
    """
    Return a text in which each control character, and each character that changes the direction of
    others or shows nothing, is replaced by its number, as in C{[U+202E]}. Line breaks stay, and so
    do the joiners that letters and emoji need.
    """
    return text.translate(_VISIBLE)


class _Visible(dict[int, str]):
    """
    What is shown for each character, by its number. Those that were asked for are remembered.
    """

    def __missing__(self, number: int) -> str:
        character = shown = chr(number)
        if character not in "\n\u200c\u200d" and unicodedata.category(character) in _UNSEEN:
            shown = f"[U+{number:04X}]"
        if len(self) < MOST_REMEMBERED:
            self[number] = shown
        return shown


_VISIBLE: Final = _Visible()
