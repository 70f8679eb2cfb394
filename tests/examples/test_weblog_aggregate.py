"""
Sums over blocks: they do not depend on where a log was cut.
"""

from __future__ import annotations

import re
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from examples.weblog.aggregate import Aggregate, Edges, Parsed, summarise
from examples.weblog.blocks import DataBlock
from examples.weblog.known import Finding, forgetAll, learn
from examples.weblog.parse import parseLines
from examples.weblog.work import parseBlock
from tests.examples.weblogs import logs, makeLine

FLOOD = 3


def summariseAll(pieces: list[bytes]) -> tuple[Aggregate, set[Finding]]:
    """
    Sum up the pieces of one log.
    """
    total, findings, edges = Aggregate(), set[Finding](), Edges(FLOOD)
    for piece in pieces:
        parsed = summarise(parseLines(piece), FLOOD)
        total.merge(parsed.aggregate)
        findings |= parsed.findings | edges.add(parsed.edges)
    return total, findings


minutes = st.lists(st.tuples(st.integers(0, 5), st.sampled_from("abc")), max_size=40)


@st.composite
def cutLogs(draw: st.DrawFn) -> list[bytes]:
    """
    Draw the pieces of a log whose lines are in order.
    """
    times = sorted(draw(minutes))
    lines = [
        makeLine(f"host-{host}", f"10/Oct/2024:12:{minute:02}:00 +0000") for minute, host in times
    ]
    cuts = sorted(draw(st.lists(st.integers(0, len(lines)), max_size=4)))
    starts = [0, *cuts]
    stops = [*cuts, len(lines)]
    return [b"".join(lines[a:b]) for a, b in zip(starts, stops, strict=True)]


@given(cutLogs())
def test_floodsAreFoundWhereverTheLogIsCut(pieces: list[bytes]) -> None:
    counts = Counter(re.findall(rb"^(\S+) - - \[(\S{17})", b"".join(pieces), re.MULTILINE))
    _, findings = summariseAll(pieces)
    assert findings == {(host, "flood") for (host, _), count in counts.items() if count > FLOOD}


@given(st.lists(logs, max_size=4))
def test_sumsAreThoseOfTheWhole(pieces: list[bytes]) -> None:
    pieces = [piece + b"\n" for piece in pieces]
    total, _ = summariseAll(pieces)
    whole, _ = summariseAll([b"".join(pieces)])
    assert total == whole


def parse(*lines: bytes) -> Parsed:
    return summarise(parseLines(b"".join(lines)), FLOOD)


def test_countsAreOfWhatTheLinesSay() -> None:
    found = parse(
        makeLine("a", request="GET /x?y HTTP/1.1", size="10", referrer="http://r/?q", agent="A"),
        makeLine("b", request="GET /x HTTP/1.1", size="-", referrer="http://r/", agent="-"),
        makeLine("a", request="GET /no HTTP/1.1", status=404, size="5"),
        b"broken\n",
    ).aggregate
    assert (found.requests, found.malformed, found.sent) == (3, 1, 15)
    assert found.examples == [b"broken"]
    assert found.pages == {b"/x": 2}
    assert found.missing == {b"/no": 1}
    assert found.addresses == {b"a": 2, b"b": 1}
    assert found.referrers == {b"http://r/": 2}
    assert found.agents == {b"A": 1, b"curl/8.5.0": 1}
    assert found.statuses == {b"200": 2, b"404": 1}


def test_timelineIsInUTC() -> None:
    found = parse(
        makeLine(date="10/Oct/2024:01:30:00 +0200"), makeLine(date="09/Oct/2024:23:29:59 -0001")
    ).aggregate
    # 23:00 on the 9th, both of them.
    assert found.hours == {(480_143, 2): 2}


def test_malformedExamplesAreTheFirstOnes() -> None:
    lines = [b"broken %d\n" % number for number in range(20)]
    total, _ = summariseAll([b"".join(lines[:3]), b"".join(lines[3:])])
    assert total.examples == [line.strip() for line in lines[:5]]
    assert total.malformed == 20


def test_longMalformedLineIsShortened() -> None:
    assert parse(b"x" * 10_000).aggregate.examples == [b"x" * 500]


def test_knownFindingIsNotReportedAgainButCounted() -> None:
    block = DataBlock(makeLine("bad", request="GET /.env HTTP/1.1", status=404), 0)
    finding = (b"bad", "looks for secrets")
    try:
        assert parseBlock(block, FLOOD).findings == {finding}
        learn([finding])
        parsed = parseBlock(block, FLOOD)
    finally:
        forgetAll()
    assert parsed.findings == set()
    assert parsed.aggregate.addresses == {b"bad": 1}


def test_injectionInAReferrerOrAnAgentIsFound() -> None:
    found = parse(
        makeLine("a", agent="${jndi:ldap://x}"),
        makeLine("b", referrer="https://x/?q=%24%7BJNDI:x%7D"),
        makeLine("c", agent="() { :; }; /bin/id"),
        makeLine("d", agent="Mozilla/5.0 (X11; Linux)", referrer="https://x/western-union?select"),
    )
    assert found.findings == {(address, "injection") for address in (b"a", b"b", b"c")}
