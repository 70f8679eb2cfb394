"""
The sums over the rows of a block, and their combination over all blocks.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from examples.weblog.known import Finding
from examples.weblog.parse import (
    ADDRESS,
    AGENT,
    HOST,
    MINUTE,
    REFERRER,
    REQUEST,
    SIZE,
    STATUS,
    ZONE,
    ParsedLines,
    Row,
    isStatic,
    minuteOf,
    pathOf,
)
from examples.weblog.rules import FLOOD, INJECTION, findFloods, findInjections, judgeRequest

MOST_EXAMPLES: Final = 5
"""How many malformed lines are kept, and how many bytes of each."""
LONGEST_EXAMPLE: Final = 500

REFUSED: Final = b"400"
"""The least status of a request that was not served."""

Minutes = dict[int, Counter[bytes]]
"""How many requests each address sent, by minute."""


@dataclass
class Aggregate:
    """
    Sums over lines. All counters are integers, so the sums do not depend on how the lines were cut
    into blocks.

    @ivar requests: the number of well-formed lines.
    @ivar malformed: the number of the other lines, except blank ones.
    @ivar examples: the first malformed lines.
    @ivar sent: the sum of the bytes that were sent, as far as the lines say.
    @ivar statuses: requests by status.
    @ivar hours: requests by hour since 1970 in UTC and first digit of the status.
    @ivar addresses: requests by address.
    @ivar pages: requests that were served, by path without its query, except those for files.
    @ivar files: the same of static files, such as images and scripts.
    @ivar missing: requests that were answered with 404, by path without its query.
    @ivar referrers: requests by referrer without its query, except those without a referrer.
    @ivar agents: requests by user agent, except those without one.
    @ivar hosts: requests by virtual host, where the lines name it.
    """

    requests: int = 0
    malformed: int = 0
    examples: list[bytes] = field(default_factory=list)
    sent: int = 0
    statuses: Counter[bytes] = field(default_factory=Counter)
    hours: Counter[tuple[int, int]] = field(default_factory=Counter)
    addresses: Counter[bytes] = field(default_factory=Counter)
    pages: Counter[bytes] = field(default_factory=Counter)
    files: Counter[bytes] = field(default_factory=Counter)
    missing: Counter[bytes] = field(default_factory=Counter)
    referrers: Counter[bytes] = field(default_factory=Counter)
    agents: Counter[bytes] = field(default_factory=Counter)
    hosts: Counter[bytes] = field(default_factory=Counter)

    def merge(self, other: Aggregate) -> None:
        """
        Add what came after.
        """
        self.requests += other.requests
        self.malformed += other.malformed
        self.sent += other.sent
        self.examples += other.examples[: MOST_EXAMPLES - len(self.examples)]
        for name in _COUNTERS:
            getattr(self, name).update(getattr(other, name))


_COUNTERS = (
    *("statuses", "hours", "addresses", "pages", "files", "missing", "referrers", "agents"),
    "hosts",
)


@dataclass
class Parsed:
    """
    The result of a block.

    @ivar aggregate: its sums.
    @ivar findings: addresses that broke a rule.
    @ivar edges: its first and its last minute, which the blocks beside it may share.
    @ivar understood: how many lines are well formed.
    """

    aggregate: Aggregate
    findings: set[Finding]
    edges: Minutes
    understood: int = 0


def summarise(lines: ParsedLines, flood: int) -> Parsed:
    """
    Sum up the lines of a block.

    @param flood: how many requests an address may send within a minute.
    """
    aggregate = Aggregate(
        requests=len(lines.rows),
        malformed=len(lines.malformed),
        examples=[line[:LONGEST_EXAMPLE] for line in lines.malformed[:MOST_EXAMPLES]],
    )
    if not lines.rows:
        return Parsed(aggregate, set(), {}, 0)
    # Counting whole columns is done in C.
    columns = tuple(zip(*lines.rows, strict=True))
    aggregate.addresses = Counter(columns[ADDRESS])
    aggregate.sent = sum(map(int, [size for size in columns[SIZE] if size != b"-"]))
    aggregate.agents = _named(Counter(columns[AGENT]))
    aggregate.hosts = _named(Counter(columns[HOST]))
    aggregate.referrers = _withoutQueries(_named(Counter(columns[REFERRER])))
    _countTimes(aggregate, columns)
    answered = Counter(zip(columns[REQUEST], columns[STATUS], strict=True))
    _countPages(aggregate, answered)
    findings = _judge(columns, answered) | _judgeNames(columns)
    edges = _findFloods(columns, flood, findings)
    return Parsed(aggregate, findings, edges, len(lines.rows))


def _countTimes(aggregate: Aggregate, columns: tuple[Row, ...]) -> None:
    times = Counter(zip(columns[MINUTE], columns[ZONE], columns[STATUS], strict=True))
    for (minute, zone, status), count in times.items():
        aggregate.statuses[status] += count
        aggregate.hours[_minute(minute, zone) // 60, status[0] - ord("0")] += count


def _countPages(aggregate: Aggregate, answered: Counter[tuple[bytes, bytes]]) -> None:
    for (request, status), count in answered.items():
        if status < REFUSED:
            path = pathOf(request)
            (aggregate.files if isStatic(path) else aggregate.pages)[path] += count
        elif status == b"404":
            aggregate.missing[pathOf(request)] += count


def _judge(columns: tuple[Row, ...], answered: Counter[tuple[bytes, bytes]]) -> set[Finding]:
    bad = {
        (request, status): rules
        for request, status in answered
        if (rules := judgeRequest(request, status >= REFUSED))
    }
    if not bad:
        return set()
    pairs = zip(columns[REQUEST], columns[STATUS], strict=True)
    return {
        (address, rule)
        for address, pair in zip(columns[ADDRESS], pairs, strict=True)
        if pair in bad
        for rule in bad[pair]
    }


def _judgeNames(columns: tuple[Row, ...]) -> set[Finding]:
    """
    Find injections in the referrers and the agents, which programs that write logs may execute.
    """
    bad = findInjections({*columns[REFERRER], *columns[AGENT]})
    if not bad:
        return set()
    named = zip(columns[ADDRESS], columns[REFERRER], columns[AGENT], strict=True)
    return {(address, INJECTION) for address, *names in named if not bad.isdisjoint(names)}


def _findFloods(columns: tuple[Row, ...], limit: int, findings: set[Finding]) -> Minutes:
    """
    Find the floods within a block, and return the minutes at its edges.
    """
    dates = Counter(zip(columns[MINUTE], columns[ZONE], strict=True))
    numbers = {date: _minute(*date) for date in dates}
    totals: Counter[int] = Counter()
    for date, count in dates.items():
        totals[numbers[date]] += count
    edges: Minutes = {number: Counter() for number in (min(totals), max(totals))}
    # Most minutes have not even so many requests in all.
    looked = {d: n for d, n in numbers.items() if n in edges or totals[n] > limit}
    sent = Counter(
        (looked[date], address)
        for date, address in zip(
            zip(columns[MINUTE], columns[ZONE], strict=True), columns[ADDRESS], strict=True
        )
        if date in looked
    )
    for (number, address), count in sent.items():
        if number in edges:
            edges[number][address] = count
        elif count > limit:
            findings.add((address, FLOOD))
    return edges


def _minute(minute: bytes, zone: bytes) -> int:
    number = minuteOf(minute, zone)
    # Rows with impossible dates are none.
    assert number is not None
    return number


def _named(counts: Counter[bytes]) -> Counter[bytes]:
    for nothing in (b"", b"-"):
        counts.pop(nothing, None)
    return counts


def _withoutQueries(counts: Counter[bytes]) -> Counter[bytes]:
    shortened: Counter[bytes] = Counter()
    for text, count in counts.items():
        shortened[text.partition(b"?")[0]] += count
    return shortened


class Edges:
    """
    Puts together the minutes that the blocks of a file share, so that a flood is found wherever the
    file was cut. A file's lines are taken to be in the order of their dates, but for some within a
    minute.
    """

    def __init__(self, limit: int) -> None:
        """
        @param limit: how many requests an address may send within a minute.
        """
        self._limit = limit
        self._open: Minutes = {}

    def add(self, edges: Minutes) -> set[Finding]:
        """
        The next block's edges.

        @return: the addresses that have sent too much by now.
        """
        if not edges:
            return set()
        findings: set[Finding] = set()
        for minute, counts in edges.items():
            total = self._open.setdefault(minute, Counter())
            total.update(counts)
            flooding = findFloods(total, self._limit)
            findings.update((address, FLOOD) for address in flooding)
        # A minute before this block's last one is over, even if this block is all within it.
        last = max(edges)
        self._open = {m: counts for m, counts in self._open.items() if m >= last}
        return findings
