"""
The report: figures and tables, however they are shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from heapq import nsmallest
from typing import Any, Final

from examples.weblog.agents import browsersAndSystems
from examples.weblog.records import textOf
from examples.weblog.summary import Summary

TOP: Final = 15
"""How many rows a table has, where nobody says otherwise."""

_MOST_HOURS: Final = 10 * 24
"""A timeline of more hours than that is told by the day."""

_CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx")


@dataclass(frozen=True)
class Count:
    """
    A row of a table.
    """

    name: str
    requests: int


@dataclass(frozen=True)
class Offender:
    """
    An address that misbehaves.

    @ivar rules: the names of those that it breaks.
    """

    address: str
    requests: int
    rules: list[str]


@dataclass(frozen=True)
class Moment:
    """
    A part of the timeline.

    @ivar start: its beginning, in ISO 8601 and UTC.
    @ivar requests: all of them.
    @ivar classes: those of each class of status, such as C{2xx}.
    """

    start: str
    requests: int
    classes: dict[str, int]


@dataclass(frozen=True)
class Report:
    """
    The report on a summary. Tables have the greatest counts first, and equal counts in the order of
    their names.

    @ivar isPartial: whether the reading was not finished.
    @ivar first: the minute of the earliest request, in ISO 8601 and UTC; C{None} without any.
    @ivar last: that of the latest.
    @ivar malformedByInput: how many malformed lines each input has that has any.
    @ivar visitors: the number of addresses.
    @ivar bytes: the number of bytes that were sent.
    @ivar files: static files, which pages are made of. L{pages} has the other paths.
    @ivar browsers: browsers, and other programs, as their user agents name them.
    @ivar systems: the systems that those run on.
    @ivar hosts: virtual hosts, where the logs name them.
    @ivar unit: of the timeline: C{"hour"} or C{"day"}.
    @ivar misbehaving: the number of addresses that misbehave.
    @ivar offenders: the misbehaving addresses with the most requests.
    """

    isPartial: bool
    inputs: list[str]
    failures: dict[str, str]
    first: str | None
    last: str | None
    requests: int
    malformed: int
    malformedExamples: list[str]
    malformedByInput: dict[str, int]
    visitors: int
    bytes: int
    classes: dict[str, int]
    statuses: list[Count]
    unit: str
    timeline: list[Moment]
    pages: list[Count]
    files: list[Count]
    missing: list[Count]
    referrers: list[Count]
    agents: list[Count]
    browsers: list[Count]
    systems: list[Count]
    hosts: list[Count]
    addresses: list[Count]
    misbehaving: int
    offenders: list[Offender]

    def asDictionary(self) -> dict[str, Any]:
        """
        @return: what JSON can be made of. C{isPartial} is called C{partial} there, and
            C{malformedExamples} and C{malformedByInput} have underscores.
        """
        made = asdict(self)
        made["partial"] = made.pop("isPartial")
        made["malformed_examples"] = made.pop("malformedExamples")
        made["malformed_by_input"] = made.pop("malformedByInput")
        return made


def makeReport(summary: Summary, top: int = TOP) -> Report:
    """
    @param top: how many rows each table may have.
    """
    aggregate = summary.aggregate
    unit, timeline = _makeTimeline(aggregate.hours)
    browsers, systems = browsersAndSystems(aggregate.agents)
    offenders = Counter({address: aggregate.addresses[address] for address in summary.bad})
    return Report(
        isPartial=summary.isPartial,
        inputs=list(summary.inputs),
        failures=dict(summary.failures),
        first=_minuteText(summary.first),
        last=_minuteText(summary.last),
        requests=aggregate.requests,
        malformed=aggregate.malformed,
        malformedExamples=[textOf(line) for line in aggregate.examples],
        malformedByInput={name: count for name, count in summary.malformed.items() if count},
        visitors=len(aggregate.addresses),
        bytes=aggregate.sent,
        classes=_classesOf(_byClass(aggregate.hours)),
        statuses=_table(aggregate.statuses, len(aggregate.statuses)),
        unit=unit,
        timeline=timeline,
        pages=_table(aggregate.pages, top),
        files=_table(aggregate.files, top),
        missing=_table(aggregate.missing, top),
        referrers=_table(aggregate.referrers, top),
        agents=_table(aggregate.agents, top),
        browsers=_table(browsers, top),
        systems=_table(systems, top),
        hosts=_table(aggregate.hosts, top),
        addresses=_table(aggregate.addresses, top),
        misbehaving=len(summary.bad),
        offenders=[
            Offender(textOf(address), count, sorted(summary.bad[address]))
            for address, count in _greatest(offenders, top)
        ],
    )


def _table(counts: Counter[bytes], top: int) -> list[Count]:
    return [Count(textOf(name), count) for name, count in _greatest(counts, top)]


def _greatest(counts: Counter[bytes], top: int) -> list[tuple[bytes, int]]:
    return nsmallest(top, counts.items(), key=lambda item: (-item[1], item[0]))


def _byClass(hours: Counter[tuple[int, int]]) -> dict[int, int]:
    totals: dict[int, int] = {}
    for (_, digit), count in hours.items():
        totals[digit] = totals.get(digit, 0) + count
    return totals


def _classesOf(counts: Mapping[int, int]) -> dict[str, int]:
    """
    Name classes of status; odd ones, such as that of 999, are shown only if there are any.
    """
    named = dict.fromkeys(_CLASSES, 0)
    for digit, count in sorted(counts.items()):
        named[f"{digit}xx"] = count
    return named


def _makeTimeline(hours: Counter[tuple[int, int]]) -> tuple[str, list[Moment]]:
    if not hours:
        return "hour", []
    numbers = [hour for hour, _ in hours]
    isLong = max(numbers) - min(numbers) >= _MOST_HOURS
    length = 24 if isLong else 1
    parts: dict[int, dict[int, int]] = {}
    for (hour, digit), count in hours.items():
        part = parts.setdefault(hour // length, {})
        part[digit] = part.get(digit, 0) + count
    return "day" if isLong else "hour", [
        _makeMoment(number * length, parts.get(number, {})) for number in _span(parts)
    ]


def foldTimeline(timeline: Sequence[Moment], unit: str, most: int) -> tuple[str, list[Moment]]:
    """
    Sum up a timeline by a longer unit, so that it is short enough to read.

    @param unit: its unit.
    @param most: how many moments it may have.
    @return: the shortest unit that does, and the timeline by it. If none does, the longest one.
    """
    folded = list(timeline)
    for longer, startOf in _LONGER_UNITS:
        if len(folded) <= most:
            break
        if longer == unit:
            continue
        parts: dict[str, list[Moment]] = {}
        for moment in timeline:
            parts.setdefault(startOf(moment.start[:10]), []).append(moment)
        unit, folded = longer, [_sumOf(start, moments) for start, moments in parts.items()]
    return unit, folded


def _weekOf(day: str) -> str:
    moment = date.fromisoformat(day)
    return (moment - timedelta(days=moment.weekday())).isoformat()


_LONGER_UNITS: Final[Sequence[tuple[str, Callable[[str], str]]]] = (
    ("day", lambda day: day),
    ("week", _weekOf),
    ("month", lambda day: f"{day[:7]}-01"),
    ("year", lambda day: f"{day[:4]}-01-01"),
    ("century", lambda day: f"{day[:2]}00-01-01"),
)


def _sumOf(day: str, moments: Sequence[Moment]) -> Moment:
    classes: Counter[str] = Counter()
    for moment in moments:
        classes.update(moment.classes)
    return Moment(f"{day}T00:00Z", classes.total(), dict(classes))


def _span(parts: Mapping[int, Any]) -> list[int]:
    """
    The numbers of all parts, those between without requests included, unless there are too many
    for a chart: a single line may claim to be of the year 1970.
    """
    first, last = min(parts), max(parts)
    return list(range(first, last + 1)) if last - first < 4 * 366 else sorted(parts)


def _minuteText(minute: int | None) -> str | None:
    if minute is None:
        return None
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(minutes=minute):%Y-%m-%dT%H:%M}Z"


def _makeMoment(hour: int, counts: Mapping[int, int]) -> Moment:
    # The seconds are added, because a conversion may fail before 1970.
    start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=hour)
    return Moment(f"{start:%Y-%m-%dT%H:%M}Z", sum(counts.values()), _classesOf(counts))
