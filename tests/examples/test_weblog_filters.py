"""
Filters: a report is about the requests that pass all of them, and malformed lines still count.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from examples.weblog.blocks import DataBlock
from examples.weblog.cli import parseArguments
from examples.weblog.filters import Filters, readMinute
from examples.weblog.settings import DEFAULT_LINES
from examples.weblog.work import parseBlock
from tests.examples.weblogs import makeLine

LOG = b"".join(
    [
        makeLine("192.0.2.1", request="GET /shop/a?b HTTP/1.1"),
        makeLine("192.0.2.2", request="GET /shop%2Fb HTTP/1.1", status=404),
        makeLine("::1", date="10/Oct/2024:13:56:00 +0200", status=503),
        b"broken\n",
    ]
)


@pytest.mark.parametrize(
    ("filters", "addresses"),
    [
        ({}, [b"192.0.2.1", b"192.0.2.2", b"::1"]),
        ({"status": "404"}, [b"192.0.2.2"]),
        ({"status": "5XX"}, [b"::1"]),
        ({"path": "/shop/*"}, [b"192.0.2.1", b"192.0.2.2"]),
        ({"path": "/shop/*", "status": "2xx"}, [b"192.0.2.1"]),
        ({"host": "192.0.2.*"}, [b"192.0.2.1", b"192.0.2.2"]),
        ({"host": "192"}, []),
        ({"since": readMinute("2024-10-10T11:56")}, [b"::1"]),
        ({"until": readMinute("2024-10-10T13:56+02:00")}, [b"192.0.2.1", b"192.0.2.2"]),
        ({"since": readMinute("2024-10-11")}, []),
    ],
)
def test_onlyRequestsThatPassCount(filters: dict[str, Any], addresses: list[bytes]) -> None:
    options = replace(DEFAULT_LINES, filters=Filters(**filters))
    found = parseBlock(DataBlock(LOG, 0), 300, options)
    assert sorted(found.aggregate.addresses) == addresses
    assert found.aggregate.requests == len(addresses)
    # A log of which nothing passes is understood all the same.
    assert (found.understood, found.aggregate.malformed) == (3, 1)


def test_filtersAreOptionsOfTheCommand() -> None:
    line = "x --since 1970-01-01T00:05 --until 1970-01-02 --status 4xx --path /a* --host ::1"
    found = parseArguments(line.split()).settings.lines.filters
    assert found == Filters(5, 1440, "4xx", "/a*", "::1")


@pytest.mark.parametrize(
    "option", ["--since=x", "--until=2024-13-01", "--status=40", "--status=a.."]
)
def test_filtersThatMakeNoSenseAreRefused(option: str) -> None:
    with pytest.raises(SystemExit):
        parseArguments(["x", option])
