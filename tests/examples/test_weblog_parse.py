"""
Parsing web logs: what is a line, and what its fields mean.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.weblog.parse import dateOf, minuteOf, parseLines, pathOf
from tests.examples.weblogs import logs, makeLine, readPlainly


@given(logs, st.sampled_from([b"", b"\n", b"\r\n"]))
def test_rowsAndMalformedLinesAreThoseOfAPlainReader(text: bytes, end: bytes) -> None:
    data = text + end
    rows, malformed = readPlainly(data)
    found = parseLines(data)
    assert found.rows == rows
    assert found.malformed == malformed


@given(st.lists(st.sampled_from([makeLine(), b"broken\n", b"\n", b"\r\n", b"  \n"]), max_size=30))
def test_everyLineCountsOnce(lines: list[bytes]) -> None:
    found = parseLines(b"".join(lines))
    assert len(found.rows) == lines.count(makeLine())
    assert len(found.malformed) == lines.count(b"broken\n") + lines.count(b"  \n")


def test_fieldsAreThoseOfTheLine() -> None:
    (row,) = parseLines(makeLine(request=r"GET /\"a\" HTTP/1.1", referrer="r", agent="a")).rows
    assert row[:9] == (
        b"192.0.2.1",
        b"10/Oct/2024:13:55",
        b"36",
        b"+0200",
        rb"GET /\"a\" HTTP/1.1",
        b"200",
        b"512",
        b"r",
        b"a",
    )
    assert dateOf(row) == "2024-10-10T13:55:36+02:00"


def test_commonFormatHasNoReferrerAndNoAgent() -> None:
    line = b'192.0.2.1 - joe [10/Oct/2024:13:55:36 +0200] "GET / HTTP/1.0" 200 -\n'
    (row,) = parseLines(line).rows
    assert (row[7], row[8]) == (b"", b"")


def test_lineThatWasCutOffInItsLastFieldIsMalformed() -> None:
    line = makeLine()[:-3]
    assert parseLines(line).malformed == [line]


@pytest.mark.parametrize(
    "after", [" 0.123", ' 12 "x"', ' "-"', ' "example.org" 0.1', ' "a\\"b"', " "]
)
def test_commonFormatMayHaveFieldsBehindIt(after: str) -> None:
    line = f'192.0.2.1 - - [10/Oct/2024:13:55:36 +0200] "GET / HTTP/1.0" 200 5{after}\r\n'
    (row,) = parseLines(line.encode()).rows
    assert row[4:9] == (b"GET / HTTP/1.0", b"200", b"5", b"", b"")


@pytest.mark.parametrize("user", ["John Smith", "", '""', "a [b", "J. - S."])
def test_userMayHaveAnyName(user: str) -> None:
    line = f'192.0.2.1 - {user} [10/Oct/2024:13:55:36 +0200] "GET / HTTP/1.0" 200 5\n'
    assert [row[0] for row in parseLines(line.encode()).rows] == [b"192.0.2.1"]


def test_clientIsTheFirstOfSeveralAddresses() -> None:
    assert [row[0] for row in parseLines(makeLine("192.0.2.1, 10.0.0.1,::1")).rows] == [
        b"192.0.2.1"
    ]


def test_longMalformedLineTakesNoLongTime() -> None:
    for line in (b"a - " + b"b " * 200_000, b"a, " * 200_000, b"a - b [" * 100_000):
        assert parseLines(line).rows == []


def test_longQuotedFieldTakesNoLongTime() -> None:
    # Patterns that backtrack would take ages to see that there is no end.
    line = makeLine(agent="\\\\" * 50_000)[:-2]
    assert parseLines(line).malformed == [line]


@pytest.mark.parametrize(
    ("minute", "zone", "expected"),
    [
        (b"01/Jan/1970:00:01", b"+0000", 1),
        (b"01/Jan/1970:02:01", b"+0200", 1),
        (b"31/Dec/1969:23:01", b"-0130", 31),
        (b"29/Feb/2024:00:00", b"+0000", 28_486_080),
        (b"29/Feb/2023:00:00", b"+0000", None),
        (b"31/Dec/1969:23:59", b"+0000", None),
        (b"01/Jan/0001:00:00", b"+2359", None),
        (b"31/Dec/9999:23:59", b"-2359", None),
        (b"01/Jan/2024:00:00", b"+9900", None),
    ],
)
def test_minutesAreInUTC(minute: bytes, zone: bytes, expected: int | None) -> None:
    assert minuteOf(minute, zone) == expected


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (b"GET /a?b=c HTTP/1.1", b"/a"),
        (b"GET /a b?c HTTP/1.1", b"/a b"),
        (b"GET /caf%C3%A9%20a HTTP/1.1", "/café a".encode()),
        (b"GET /a?b=%20 c HTTP/1.1", b"/a"),
        (b"\\x16\\x03", b"\\x16\\x03"),
        (b"", b""),
    ],
)
def test_pathIsDecodedAndWithoutQuery(request_: bytes, path: bytes) -> None:
    assert pathOf(request_) == path
