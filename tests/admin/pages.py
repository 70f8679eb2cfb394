"""
A page about queues, asked in memory.
"""

from __future__ import annotations

import json
import re
from html import unescape
from html.parser import HTMLParser
from typing import Any, NamedTuple
from urllib.parse import urlencode

from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from asynqueue.admin import Access, AdminSite
from asynqueue.admin.web import GuardedSite
from tests.admin.cases import AdminCase

HOST = "127.0.0.1:8100"


class Wire(StringTransport):
    """
    A browser's end.

    @ivar aborting: whether the connection was cut off.
    """

    aborting = False

    def abortConnection(self) -> None:
        self.aborting = True


class Response(NamedTuple):
    """
    @ivar headers: the last value of each, by the name in lower case.
    """

    code: int
    headers: dict[str, str]
    body: str

    @property
    def data(self) -> Any:
        """
        What a twin for programs says.
        """
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """
        What a reader sees, more or less.
        """
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", self.body)).split())

    @property
    def forms(self) -> list[Form]:
        """
        The forms, in their order.
        """
        parser = _Forms()
        parser.feed(self.body)
        return parser.forms

    def button(self, text: str, title: str = "") -> tuple[Form, str]:
        """
        @return: the first button with a text, and perhaps a title: its form, and what it carries.
        """
        for form in self.forms:
            for shown, told, value in form.buttons:
                if shown == text and title in told:
                    return form, value
        raise AssertionError(f"there is no button {text!r} {title!r} in {self.text}")


class Form(NamedTuple):
    """
    @ivar buttons: the text, the title and the value of each.
    """

    action: str
    hidden: dict[str, str]
    buttons: list[tuple[str, str, str]]


class _Forms(HTMLParser):
    """
    Finds the forms of a page.
    """

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._button: dict[str, str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(found["action"], {}, []))
        elif tag == "input" and found["type"] == "hidden":
            self.forms[-1].hidden[found["name"]] = found["value"]
        elif tag == "button":
            self._button = found

    def handle_data(self, data: str) -> None:
        if self._button is not None and "value" in self._button:
            found = (data, self._button.get("title", ""), self._button["value"])
            self.forms[-1].buttons.append(found)
        self._button = None


class PageCase(AdminCase):
    """
    Tests of a page that a program serves itself.
    """

    def setUp(self) -> None:
        super().setUp()
        self.access: Access | None = Access("ann")
        self.page: AdminSite | None = None

    def serve(self, *queues: Any, **options: Any) -> AdminSite:
        """
        Serve the page.
        """
        page = AdminSite(*queues, login=lambda _: self.access, reactor=self.clock, **options)
        self.site = GuardedSite(page, [HOST], reactor=self.clock)
        self.addCleanup(page.close)
        return page

    def connect(self) -> tuple[Any, Wire]:
        """
        @return: the server's end of a new connection, and a browser's.
        """
        channel = self.site.buildProtocol(None)
        assert channel is not None
        wire = Wire()
        channel.makeConnection(wire)
        return channel, wire

    def send(
        self, method: str, path: str, *headers: str, body: bytes = b"", host: str = HOST
    ) -> Response:
        """
        @return: the answer to a request.
        """
        channel, wire = self.connect()
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers]
        if body:
            lines += [
                f"Content-Length: {len(body)}",
                "Content-Type: application/x-www-form-urlencoded",
            ]
        channel.dataReceived("\r\n".join([*lines, "", ""]).encode() + body)
        for _ in range(200):
            if channel in self.site._reading or wire.disconnecting:
                break
            self.clock.advance(0)
        channel.connectionLost(Failure(ConnectionDone()))
        head, _, rest = wire.value().partition(b"\r\n\r\n")
        first, *others = head.decode().split("\r\n")
        found = dict(line.lower().split(": ", 1)[:1] + line.split(": ", 1)[1:] for line in others)
        return Response(int(first.split()[1]), found, rest.decode())

    def get_(self, path: str, *headers: str) -> Response:
        """
        @return: the page at an address.
        """
        return self.send("GET", path, *headers)

    def see(self, path: str) -> Any:
        """
        @return: what the twin of a page says.
        """
        response = self.get_(f"{path}{'&' if '?' in path else '?'}format=json")
        self.assertEqual(response.code, 200, response.body)
        return response.data

    def post(self, action: str, *headers: str, **fields: Any) -> Response:
        """
        Send a form.
        """
        return self.send("POST", action, *headers, body=urlencode(fields, doseq=True).encode())

    def push(self, page: Response, text: str, title: str = "", **fields: Any) -> Response:
        """
        Press a button of a page, with what is typed and chosen.
        """
        form, value = page.button(text, title)
        return self.post(form.action, **{**form.hidden, "act": value, **fields})

    def follow(self, response: Response) -> Response:
        """
        @return: the page that a browser is sent to.
        """
        self.assertEqual(response.code, 303, response.body)
        return self.get_(response.headers["location"])
