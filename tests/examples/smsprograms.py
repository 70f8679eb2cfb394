"""
The server and the gateway of C{examples/sms} as processes, and a browser of sorts.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from html import unescape
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

ROOT = Path(__file__).parents[2]

PATIENCE = 30.0
"""How many seconds to wait for what should come soon, before the test fails."""


class Program:
    """
    One of the two, running.

    @ivar address: where it listens; an empty text if it does not.
    """

    def __init__(self, module: str, *options: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"examples.sms.{module}", "--port", "0", *map(str, options)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().rpartition(" ")[2].strip()

    def end(self, number: int) -> tuple[int, str]:
        """
        Send it a signal, and wait for its end.

        @return: its exit status, and what it wrote to its standard error.
        """
        self.process.send_signal(number)
        _, complaint = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, complaint

    def clear(self) -> None:
        """
        Leave nothing of it, whatever happened.
        """
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=PATIENCE)


class Shown(NamedTuple):
    """
    The response that a browser got.
    """

    code: int
    page: str
    location: str | None = None


def ask(address: str, fields: dict[str, str] | None = None, **headers: str) -> Shown:
    """
    Get a page, or send a form.
    """
    place = urlsplit(address)
    connection = HTTPConnection(place.netloc, timeout=PATIENCE)
    try:
        if fields is None:
            connection.request("GET", place.path, headers=headers)
        else:
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", place.path, urlencode(fields), {**kind, **headers})
        answer = connection.getresponse()
        page = answer.read().decode()
        return Shown(answer.status, page, answer.getheader("Location"))
    finally:
        connection.close()


def sendForm(address: str, numbers: list[str], text: str) -> Shown:
    """
    Fill in the form.
    """
    return ask(address, {"form": uuid4().hex, "numbers": "\n".join(numbers), "text": text})


def order(address: str, name: str, **fields: object) -> Shown:
    """
    Press one of the operator's buttons, and say that it is meant.
    """
    texts = {key: str(value) for key, value in fields.items()}
    return ask(f"{address}status", {"order": name, "sure": "yes", **texts})


def readStatus(address: str) -> tuple[dict[str, str], dict[str, list[list[str]]]]:
    """
    @return: what the status page tells, and the rows of its tables, as texts.
    """
    head, *sections = ask(f"{address}status").page.split("<h2>")
    facts = dict(re.findall(r"<tr><th>(.*?)</th><td>(.*?)</td></tr>", head))
    tables = {}
    for section in sections:
        title, _, rest = section.partition("</h2>")
        rows = re.findall(r"<tr>(<td.*?)</tr>", rest, re.DOTALL)
        tables[title] = [[unescape(cell) for cell in _CELL.findall(row)] for row in rows]
    return facts, tables


_CELL = re.compile(r'<td class="text">(.*?)</td>', re.DOTALL)


class Came(NamedTuple):
    """
    One request, as the gateway has recorded it.
    """

    time: float
    id: str
    status: int


def readRecord(path: Path) -> list[Came]:
    """
    @return: all requests that came to the gateway, in their order.
    """
    return [Came(*json.loads(line)) for line in path.read_text().splitlines()]


def countSent(came: list[Came]) -> Counter[str]:
    """
    @return: how often each message was sent.
    """
    return Counter(each.id for each in came if each.status == 200)


def mostInASecond(came: list[Came]) -> int:
    """
    @return: how many requests came in that second which had the most of them, wherever it begins.
    """
    times = sorted(each.time for each in came)
    first = most = 0
    for last, latest in enumerate(times):
        while times[first] <= latest - 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def waitUntil(isSo: Callable[[], bool], what: str) -> None:
    """
    Look again and again.
    """
    end = time.monotonic() + PATIENCE
    while not isSo():
        assert time.monotonic() < end, f"waited {PATIENCE} seconds for {what}"
        time.sleep(0.02)
